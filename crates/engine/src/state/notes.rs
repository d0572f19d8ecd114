//! Provides the queues of which something was handed out since their progress was last written.

use std::collections::BTreeSet;

use crate::ids::{GroupId, SubscriptionKey, TopicId};

/// Queues whose leases are to be written with the next changes: no delivery waits for that.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    dirty: BTreeSet<(GroupId, TopicId, u16)>,
}

impl Notes {
    /// A lease of the queue has begun or changed; those of retries belong to queue 0.
    pub(crate) fn add(&mut self, key: SubscriptionKey, queue: u16) {
        self.dirty.insert((key.0, key.1, queue));
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.dirty.is_empty()
    }

    /// Takes the next queue.
    pub(crate) fn take(&mut self) -> Option<(GroupId, TopicId, u16)> {
        self.dirty.pop_first()
    }
}
