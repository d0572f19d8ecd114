//! Provides the messages whose rows were found damaged.

use std::collections::BTreeSet;

use crate::ids::TopicId;
use crate::place::{MessageAt, PartitionId, Place};

/// Damaged messages that are skipped, by topic.
#[derive(Debug, Default)]
pub(crate) struct Damaged {
    messages: BTreeSet<MessageAt>,
}

impl Damaged {
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(crate) fn contains(&self, at: MessageAt) -> bool {
        self.messages.contains(&at)
    }

    pub(crate) fn add(&mut self, at: MessageAt) {
        self.messages.insert(at);
    }

    /// The damaged messages of a topic that are still on disk.
    pub(crate) fn of_topic(&self, topic: TopicId) -> impl Iterator<Item = Place> {
        let from = self.messages.range((topic, 0, Place::START)..);
        from.take_while(move |(of, _, _)| *of == topic)
            .map(|(_, _, place)| *place)
    }

    /// Forgets those of a partition that was dropped.
    pub(crate) fn remove_partition(&mut self, partition: PartitionId) {
        self.messages
            .retain(|(_, _, place)| place.partition() != partition);
    }
}
