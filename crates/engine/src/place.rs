//! Defines the place of a message in its timeline, and the partitions of timelines.

use std::cmp::Ordering;

use crate::ids::TopicId;

/// Milliseconds of one hour, the narrowest partition.
pub(crate) const HOUR_MS: u64 = 3_600_000;

/// Widest rung of the partition ladder: 2^13 hours, enough for ten years of delay.
pub(crate) const LEVEL_MAX: u8 = 13;

/// The place of a message: the total order of a timeline is `(due_ms, sequence)`.
///
/// `level` says which partition holds the row. The sequence is unique in the whole broker, so it never
/// decides an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// When the message is due, in ms of the engine clock.
    pub due_ms: u64,
    /// The broker-wide number given in commit order.
    pub sequence: u64,
    /// The rung of the partition ladder the row was written to.
    pub level: u8,
}

impl Place {
    /// Before every message.
    pub const START: Self = Self {
        due_ms: 0,
        sequence: 0,
        level: 0,
    };

    /// After every message due at `due_ms` or before.
    pub const fn end_of(due_ms: u64) -> Self {
        Self {
            due_ms,
            sequence: u64::MAX,
            level: LEVEL_MAX,
        }
    }

    /// The partition that holds the row of this place.
    pub fn partition(self) -> PartitionId {
        PartitionId::covering(self.due_ms, self.level)
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due_ms, self.sequence, self.level).cmp(&(other.due_ms, other.sequence, other.level))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A message of a topic: topic, queue and place.
pub(crate) type MessageAt = (TopicId, u16, Place);

/// A message of a queue that is known: queue and place.
pub(crate) type InQueue = (u16, Place);

/// A span of due times whose messages, of all topics, share one keyspace and are dropped together.
///
/// Widths are powers of two of an hour. A message goes to the widest rung that is at most an eighth of
/// its remaining delay, so ten years of delay need few partitions, and a reader of the present merges at
/// most one partition of each rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionId {
    /// Hours since the Unix epoch at which the span starts.
    pub start_hour: u32,
    /// The span is `2^level` hours wide.
    pub level: u8,
}

impl PartitionId {
    /// The rung for a message with `delay_ms` still to go.
    pub fn level_for(delay_ms: u64) -> u8 {
        let hours = delay_ms / HOUR_MS / 8;
        match hours.checked_ilog2() {
            None => 0,
            Some(level) => {
                u8::try_from(level).map_or(LEVEL_MAX, |level| std::cmp::min(level, LEVEL_MAX))
            }
        }
    }

    /// The partition of rung `level` that covers `due_ms`.
    pub fn covering(due_ms: u64, level: u8) -> Self {
        let level = std::cmp::min(level, LEVEL_MAX);
        let hour = due_ms / HOUR_MS;
        let start = (hour >> level) << level;
        // 2^32 hours are 490,000 years: the longest delay keeps due times far below.
        Self {
            start_hour: u32::try_from(start).unwrap_or(u32::MAX),
            level,
        }
    }

    /// First due time of the span, in ms.
    pub fn start_ms(self) -> u64 {
        u64::from(self.start_hour) * HOUR_MS
    }

    /// First due time after the span, in ms.
    pub fn end_ms(self) -> u64 {
        self.start_ms() + self.width_ms()
    }

    /// Width of the span, in ms.
    pub fn width_ms(self) -> u64 {
        HOUR_MS << self.level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_keeps_to_an_eighth_of_the_delay_and_at_least_an_hour() {
        for (delay_h, width_h) in [
            (0, 1),
            (8, 1),
            (15, 1),
            (16, 2),
            (31, 2),
            (32, 4),
            (48, 4),
            (87_600, 8_192),
        ] {
            let level = PartitionId::level_for(delay_h * HOUR_MS);
            assert_eq!(1 << level, width_h, "{delay_h} h");
        }
    }

    #[test]
    fn a_partition_covers_the_due_time_it_was_chosen_for() {
        for level in 0..=LEVEL_MAX {
            for due_ms in [
                0,
                1,
                HOUR_MS - 1,
                HOUR_MS,
                1_795_000_000_123,
                2_110_000_000_000,
            ] {
                let partition = PartitionId::covering(due_ms, level);
                assert!(partition.start_ms() <= due_ms && due_ms < partition.end_ms());
            }
        }
    }

    #[test]
    fn ten_years_need_few_partitions() {
        let now_h = 498_000_u64;
        let mut partitions = std::collections::BTreeSet::new();
        for delay_h in 0..87_600_u64 {
            let level = PartitionId::level_for(delay_h * HOUR_MS);
            partitions.insert(PartitionId::covering((now_h + delay_h) * HOUR_MS, level));
        }
        assert!(partitions.len() <= 140, "{}", partitions.len());
    }
}
