//! Defines the numbers of topics and consumer groups, and the kinds of topics.

use std::fmt;

/// Number of a topic, never reused.
pub type TopicId = u32;

/// Number of a consumer group, never reused.
pub type GroupId = u32;

/// A consumer group on a topic.
pub(crate) type SubscriptionKey = (GroupId, TopicId);

/// What a topic holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TopicKind {
    /// Messages delivered at once.
    Normal,
    /// Messages with a message group, delivered in order within it; they may be delayed too.
    Fifo,
    /// Messages with a due time.
    #[default]
    Delay,
    /// Messages that become visible when a transaction commits.
    Transaction,
    /// Any of these.
    Mixed,
}

impl fmt::Display for TopicKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Normal => "NORMAL",
            Self::Fifo => "FIFO",
            Self::Delay => "DELAY",
            Self::Transaction => "TRANSACTION",
            Self::Mixed => "MIXED",
        })
    }
}

impl TopicKind {
    pub(crate) fn code(self) -> u64 {
        match self {
            Self::Normal => 1,
            Self::Fifo => 2,
            Self::Delay => 3,
            Self::Transaction => 4,
            Self::Mixed => 5,
        }
    }

    pub(crate) fn of_code(code: u64) -> Result<Self, &'static str> {
        Ok(match code {
            1 => Self::Normal,
            2 => Self::Fifo,
            3 => Self::Delay,
            4 => Self::Transaction,
            5 => Self::Mixed,
            _ => return Err("a topic kind is unknown"),
        })
    }
}
