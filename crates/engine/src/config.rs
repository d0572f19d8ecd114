//! Defines how a broker is set up.

use crate::ids::TopicKind;
use crate::limits::Limits;
use crate::message::DelayLevels;
use crate::place::PartitionId;

/// How a broker is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The limits that may be chosen.
    pub limits: Limits,
    /// The delay table.
    pub levels: DelayLevels,
    /// How long a message is kept past its due time, in ms.
    pub retention_ms: u64,
    /// A group unseen for this long no longer keeps data, in ms.
    pub group_idle_ms: u64,
    /// What a topic is created as when something is sent to it first; `None`: topics are made explicitly.
    pub auto_topic: Option<(TopicKind, u16)>,
    /// Whether a group is created when it first asks.
    pub auto_group: bool,
    /// How unfinished transactions are asked about.
    pub transactions: TransactionConfig,
}

impl Default for Config {
    /// 72 h retention, groups idle after 7 days, topics made explicitly, groups on first use.
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            levels: DelayLevels::default(),
            retention_ms: 72 * 3_600_000,
            group_idle_ms: 7 * 86_400_000,
            auto_topic: None,
            auto_group: true,
            transactions: TransactionConfig::default(),
        }
    }
}

impl Config {
    /// When a partition is past its retention, in ms.
    pub(crate) fn kept_until_ms(&self, partition: PartitionId) -> u64 {
        partition.end_ms().saturating_add(self.retention_ms)
    }
}

/// How unfinished transactions are asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionConfig {
    /// Wait before the first check, in ms.
    pub check_after_ms: u64,
    /// Wait between checks, in ms.
    pub check_every_ms: u64,
    /// Checks before a transaction is given up.
    pub checks_max: u32,
    /// How long an outcome is remembered, so that a repeated end gets the same answer, in ms.
    pub remember_ms: u64,
}

impl Default for TransactionConfig {
    /// 6 s, then every 30 s, 15 times, as Apache RocketMQ; outcomes are remembered for an hour.
    fn default() -> Self {
        Self {
            check_after_ms: 6_000,
            check_every_ms: 30_000,
            checks_max: 15,
            remember_ms: 3_600_000,
        }
    }
}
