//! Provides the frontier: how far readers may read.

use std::collections::VecDeque;

/// Changes that were applied but are not yet known to be durable.
#[derive(Clone, Copy, Debug)]
struct Unsynced {
    epoch: u64,
    earliest_ms: u64,
    floor_ms: u64,
}

/// How far readers may read.
///
/// It follows the engine clock, never goes back, and stays below everything that is not durable yet,
/// and below the floor of the last durable head record.
#[derive(Debug)]
pub(crate) struct Frontier {
    shown_ms: u64,
    floor_ms: u64,
    /// The floor found at the start: an earlier run may have shown what is due up to here.
    start_ms: u64,
    /// Earliest due time the stage touches.
    staged_ms: u64,
    unsynced: VecDeque<Unsynced>,
    applied: u64,
    durable: u64,
}

impl Frontier {
    /// The frontier after a start: readers begin again with the clock, which may be before the stored floor,
    /// but nothing is written or removed up to that floor, for it may have been shown before.
    pub(crate) fn new(floor_ms: u64) -> Self {
        Self {
            shown_ms: 0,
            floor_ms,
            start_ms: floor_ms,
            staged_ms: u64::MAX,
            unsynced: VecDeque::new(),
            applied: 0,
            durable: 0,
        }
    }

    /// Advances as far as `now_ms` allows and returns the new frontier.
    pub(crate) fn advance(&mut self, now_ms: u64) -> u64 {
        let unsynced_ms = self
            .unsynced
            .iter()
            .map(|unsynced| unsynced.earliest_ms)
            .min()
            .unwrap_or(u64::MAX);
        let pending_ms = std::cmp::min(self.staged_ms, unsynced_ms).saturating_sub(1);
        let reach_ms = std::cmp::min(std::cmp::min(now_ms, self.floor_ms), pending_ms);
        self.shown_ms = std::cmp::max(self.shown_ms, reach_ms);
        self.shown_ms
    }

    pub(crate) fn shown_ms(&self) -> u64 {
        self.shown_ms
    }

    /// The floor of the newest head record that is durable.
    pub(crate) fn floor_ms(&self) -> u64 {
        self.floor_ms
    }

    /// The last due time at which nothing may be written or removed.
    pub(crate) fn closed_ms(&self) -> u64 {
        std::cmp::max(self.shown_ms, self.start_ms)
    }

    /// The earliest due time that may still be written at `now_ms`.
    pub(crate) fn earliest_ms(&self, now_ms: u64) -> u64 {
        std::cmp::max(now_ms, self.closed_ms().saturating_add(1))
    }

    /// Notes that the stage writes or removes something due at `due_ms`.
    pub(crate) fn touch(&mut self, due_ms: u64) {
        self.staged_ms = std::cmp::min(self.staged_ms, due_ms);
    }

    /// The floor the newest head record carries, durable or not.
    pub(crate) fn promised_ms(&self) -> u64 {
        self.unsynced
            .back()
            .map_or(self.floor_ms, |unsynced| unsynced.floor_ms)
    }

    /// The stage was applied with a head record of this floor.
    pub(crate) fn applied(&mut self, floor_ms: u64) {
        self.applied += 1;
        self.unsynced.push_back(Unsynced {
            epoch: self.applied,
            earliest_ms: self.staged_ms,
            floor_ms,
        });
        self.staged_ms = u64::MAX;
    }

    /// Everything applied up to `epoch` is durable.
    pub(crate) fn durable(&mut self, epoch: u64) {
        while let Some(first) = self.unsynced.front().copied() {
            if first.epoch > epoch {
                break;
            }
            self.floor_ms = std::cmp::max(self.floor_ms, first.floor_ms);
            self.durable = first.epoch;
            self.unsynced.pop_front();
        }
    }

    pub(crate) fn applied_epoch(&self) -> u64 {
        self.applied
    }

    pub(crate) fn durable_epoch(&self) -> u64 {
        self.durable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_stay_below_what_is_not_durable() {
        let mut frontier = Frontier::new(1_000);
        assert_eq!(
            frontier.advance(1_500),
            1_000,
            "the stored floor holds readers back"
        );
        assert_eq!(frontier.earliest_ms(900), 1_001);
        assert_eq!(
            Frontier::new(1_000).advance(950),
            950,
            "the clock holds them back too"
        );
        frontier.touch(1_500);
        frontier.applied(1_700);
        frontier.touch(1_600);
        assert_eq!(frontier.advance(1_500), 1_000);
        frontier.durable(1);
        assert_eq!(frontier.advance(1_650), 1_599, "the stage touches 1,600");
        frontier.applied(1_900);
        frontier.durable(2);
        assert_eq!(frontier.advance(1_650), 1_650);
        assert_eq!(frontier.advance(1_600), 1_650, "it never goes back");
        assert_eq!(frontier.advance(5_000), 1_900);
    }
}
