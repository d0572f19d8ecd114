//! Provides the alarms that were raised and not yet taken.

use std::collections::BTreeMap;

use crate::format::handle::TransactionHandle;
use crate::ids::{SubscriptionKey, TopicId};

/// Something an operator must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// No consumer of a group asked for anything of a topic for long, and that means something for a topic's data.
    Unseen {
        /// The consumer group.
        group: String,
        /// The topic.
        topic: String,
        /// How long that is, in ms.
        unseen_ms: u64,
        /// Whether data that the group has not read is gone now. If not, the group still keeps data on the disk that
        /// is past its retention.
        lost: bool,
    },
    /// The producer of a transaction was asked as often as it may be, or could not be asked for long, and the
    /// transaction is not ended. Its half message is kept, and no producer is asked any longer.
    TransactionGivenUp {
        /// The topic.
        topic: String,
        /// The id of the half message.
        message_id: String,
        /// Names the transaction, to end it.
        transaction: TransactionHandle,
        /// How often a producer was asked.
        checks: u32,
    },
    /// A group that is not FIFO reads a FIFO topic: it may get a message while an earlier one of its message group is
    /// with another consumer.
    Unordered {
        /// The consumer group.
        group: String,
        /// The topic.
        topic: String,
    },
    /// Consumers of a group ask for a topic with different filters, or their filter has changed: what one of them leaves
    /// out is skipped for the whole group.
    FiltersDiffer {
        /// The consumer group.
        group: String,
        /// The topic.
        topic: String,
    },
    /// Messages were dropped after their retention that no consumer group has read.
    NeverRead {
        /// The topic.
        topic: String,
        /// How many now; those of the same topic within the next hour are only counted.
        messages: u64,
    },
    /// Dead letters were dropped after their retention.
    DeadLettersDropped {
        /// The consumer group.
        group: String,
        /// How many now; those of the same group within the next hour are only counted.
        messages: u64,
    },
    /// The row of a message is damaged: the message is not delivered, later ones are.
    Damaged {
        /// The topic.
        topic: String,
        /// The message queue.
        queue: u16,
        /// When the message is due, in ms of the engine clock.
        due_ms: u64,
        /// Its sequence.
        sequence: u64,
        /// The row, and what is wrong with it.
        error: String,
    },
}

/// The alarms that were raised, and when subscriptions that hold data were last reported.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    raised: Vec<Alarm>,
    reported_ms: BTreeMap<SubscriptionKey, u64>,
    /// When the last drop of unread messages of a topic was reported, in ms.
    reported_drops_ms: BTreeMap<TopicId, u64>,
}

impl Alarms {
    pub(crate) fn raise(&mut self, alarm: Alarm) {
        self.raised.push(alarm);
    }

    /// Takes the alarms raised since the last call.
    pub(crate) fn take(&mut self) -> Vec<Alarm> {
        std::mem::take(&mut self.raised)
    }

    /// Whether a subscription that holds data is to be reported at `now_ms`: it was not within the last `every_ms`.
    pub(crate) fn report(&mut self, now_ms: u64, key: SubscriptionKey, every_ms: u64) -> bool {
        let last_ms = self.reported_ms.get(&key);
        let is_due = last_ms.is_none_or(|last_ms| now_ms >= last_ms + every_ms);
        if is_due {
            self.reported_ms.insert(key, now_ms);
        }
        is_due
    }
    /// Whether a drop of unread messages of a topic is to be reported at `now_ms`: none was within the last `every_ms`.
    pub(crate) fn report_topic(&mut self, now_ms: u64, topic: TopicId, every_ms: u64) -> bool {
        let last_ms = self.reported_drops_ms.get(&topic);
        let is_due = last_ms.is_none_or(|last_ms| now_ms >= last_ms + every_ms);
        if is_due {
            self.reported_drops_ms.insert(topic, now_ms);
        }
        is_due
    }
}
