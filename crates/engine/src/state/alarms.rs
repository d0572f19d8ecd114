//! Provides the alarms that were raised and not yet taken.

/// Something an operator has to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// A consumer group is unseen for long, and that means something for a topic's data.
    Unseen {
        /// The consumer group.
        group: String,
        /// The topic.
        topic: String,
        /// How long no consumer of the group has come, in ms.
        unseen_ms: u64,
        /// Whether data that the group has not read is gone now. If not, the group still keeps data on the disk that
        /// is past its retention.
        lost: bool,
    },
    /// The row of a message is damaged: the message is not delivered, those behind it are.
    Damaged {
        /// The topic.
        topic: String,
        /// The message queue.
        queue: u16,
        /// When the message is due, in ms of the engine clock.
        due_ms: u64,
        /// Its sequence.
        sequence: u64,
        /// Where the row lies and what is wrong with it.
        error: String,
    },
}
