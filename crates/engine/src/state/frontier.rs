//! Provides the frontier: how far readers may read.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::ids::{SubscriptionKey, TopicId};
use crate::place::Place;

/// What is read up to a frontier of its own: a delayed message waits for the disk only with what is in its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Line {
    /// A message queue of a topic.
    Queue(TopicId, u16),
    /// The retry timeline of a consumer group on a topic.
    Retries(SubscriptionKey),
}

/// Changes that were applied but are not yet known to be durable.
#[derive(Clone, Debug)]
struct Unsynced {
    epoch: u64,
    /// Earliest due time of all lines.
    earliest_ms: u64,
    floor_ms: u64,
    lines: Vec<Line>,
}

/// How far readers may read.
///
/// Each line follows the engine clock, never goes back for those who were shown it, and stays below everything in
/// that line that is not durable yet, and below the floor of the last durable head record.
///
/// New messages get a place past what readers of their line were shown. What no line holds back, `shown_ms`, is the
/// base of that: only a line that was really read further needs an entry of its own.
#[derive(Debug)]
pub(crate) struct Frontier {
    /// How far every line may be read.
    shown_ms: u64,
    /// Lines that readers were shown further than `shown_ms`.
    read: FxHashMap<Line, u64>,
    stamp_ms: u64,
    floor_ms: u64,
    /// The floor found at the start: an earlier run may have shown what is due up to here.
    start_ms: u64,
    /// Earliest due time the stage touches, by line.
    staged: FxHashMap<Line, u64>,
    staged_ms: u64,
    /// Earliest due time that applied changes touch, by line and epoch.
    undurable: FxHashMap<Line, VecDeque<(u64, u64)>>,
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
            read: FxHashMap::default(),
            stamp_ms: 0,
            floor_ms,
            start_ms: floor_ms,
            staged: FxHashMap::default(),
            staged_ms: u64::MAX,
            undurable: FxHashMap::default(),
            unsynced: VecDeque::new(),
            applied: 0,
            durable: 0,
        }
    }

    /// Advances as far as `now_ms` allows.
    pub(crate) fn advance(&mut self, now_ms: u64) {
        self.stamp_ms = std::cmp::max(self.stamp_ms, now_ms);
        let unsynced = self.unsynced.iter().map(|unsynced| unsynced.earliest_ms);
        let earliest_ms = unsynced.chain([self.staged_ms]).min().unwrap_or(u64::MAX);
        let shown_ms = std::cmp::min(self.reach_ms(), earliest_ms.saturating_sub(1));
        if shown_ms > self.shown_ms {
            self.shown_ms = shown_ms;
            self.read.retain(|_, read_ms| *read_ms > shown_ms);
        }
    }

    /// The most that a reader of any line may see.
    pub(crate) fn reach_ms(&self) -> u64 {
        std::cmp::min(self.stamp_ms, self.floor_ms)
    }

    /// How far a line may be read.
    pub(crate) fn shown_ms(&self, line: Line) -> u64 {
        let undurable = self.undurable.get(&line).into_iter().flatten();
        let staged_ms = self.staged.get(&line).copied();
        let earliest_ms = undurable.map(|(_, due_ms)| *due_ms).chain(staged_ms).min();
        let below_ms = earliest_ms.unwrap_or(u64::MAX).saturating_sub(1);
        std::cmp::min(self.reach_ms(), below_ms)
    }

    /// The place up to which a line may be read.
    pub(crate) fn shown_place(&self, line: Line) -> Place {
        Place::end_of(self.shown_ms(line))
    }

    /// Shows a line to a reader: from now on nothing is written or removed up to where it may be read.
    pub(crate) fn show(&mut self, line: Line) {
        let shown_ms = self.shown_ms(line);
        if shown_ms > self.shown_ms {
            let before_ms = self.read.insert(line, shown_ms);
            debug_assert!(
                before_ms.is_none_or(|before_ms| before_ms <= shown_ms),
                "{line:?} was shown up to {before_ms:?} and is shown up to {shown_ms} now"
            );
        }
    }

    /// The epoch that has to be durable before a line that waits for the disk may be read further.
    pub(crate) fn blocking_epoch(&self, line: Line) -> Option<u64> {
        let applied = self.undurable.get(&line).and_then(VecDeque::front);
        let staged = self.staged.get(&line).map(|_| self.applied + 1);
        applied.map(|(epoch, _)| *epoch).or(staged)
    }

    /// The floor of the newest head record that is durable.
    pub(crate) fn floor_ms(&self) -> u64 {
        self.floor_ms
    }

    /// The last due time at which nothing may be written to a line or removed from it.
    pub(crate) fn closed_ms(&self, line: Line) -> u64 {
        let read_ms = self.read.get(&line).copied().unwrap_or_default();
        std::cmp::max(read_ms, self.closed_everywhere_ms())
    }

    /// The last due time at which nothing may be written to any line or removed from any.
    pub(crate) fn closed_everywhere_ms(&self) -> u64 {
        std::cmp::max(self.shown_ms, self.start_ms)
    }

    /// The earliest due time that may still be written to a line at `now_ms`.
    pub(crate) fn earliest_ms(&self, line: Line, now_ms: u64) -> u64 {
        std::cmp::max(now_ms, self.closed_ms(line).saturating_add(1))
    }

    /// Notes that the stage writes to a line, or removes from it, something due at `due_ms`.
    pub(crate) fn touch(&mut self, line: Line, due_ms: u64) {
        debug_assert!(
            due_ms > self.closed_ms(line),
            "{line:?} changes at {due_ms} and is closed up to {}",
            self.closed_ms(line)
        );
        self.staged_ms = std::cmp::min(self.staged_ms, due_ms);
        let staged_ms = self.staged.entry(line).or_insert(due_ms);
        *staged_ms = std::cmp::min(*staged_ms, due_ms);
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
        let mut lines = Vec::with_capacity(self.staged.len());
        for (line, due_ms) in self.staged.drain() {
            let undurable = self.undurable.entry(line).or_default();
            undurable.push_back((self.applied, due_ms));
            lines.push(line);
        }
        self.unsynced.push_back(Unsynced {
            epoch: self.applied,
            earliest_ms: self.staged_ms,
            floor_ms,
            lines,
        });
        self.staged_ms = u64::MAX;
    }

    /// Everything applied up to `epoch` is durable.
    pub(crate) fn durable(&mut self, epoch: u64) {
        while let Some(first) = self.unsynced.pop_front_if(|first| first.epoch <= epoch) {
            self.floor_ms = std::cmp::max(self.floor_ms, first.floor_ms);
            self.durable = first.epoch;
            for line in first.lines {
                let Some(undurable) = self.undurable.get_mut(&line) else {
                    continue;
                };
                undurable.pop_front();
                if undurable.is_empty() {
                    self.undurable.remove(&line);
                }
            }
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

    const ONE: Line = Line::Queue(1, 0);
    const OTHER: Line = Line::Retries((1, 1));

    fn advanced(frontier: &mut Frontier, now_ms: u64) -> u64 {
        frontier.advance(now_ms);
        frontier.show(ONE);
        assert!(frontier.shown_ms(ONE) >= frontier.shown_ms);
        std::cmp::max(frontier.shown_ms(ONE), frontier.shown_ms)
    }

    #[test]
    fn readers_stay_below_what_is_not_durable() {
        let mut frontier = Frontier::new(1_000);
        assert_eq!(
            advanced(&mut frontier, 1_500),
            1_000,
            "the stored floor holds readers back"
        );
        assert_eq!(frontier.earliest_ms(ONE, 900), 1_001);
        assert_eq!(
            advanced(&mut Frontier::new(1_000), 950),
            950,
            "the clock holds them back too"
        );
        frontier.touch(ONE, 1_500);
        frontier.applied(1_700);
        frontier.touch(ONE, 1_600);
        assert_eq!(advanced(&mut frontier, 1_500), 1_000);
        frontier.durable(1);
        assert_eq!(
            advanced(&mut frontier, 1_650),
            1_599,
            "the stage touches 1,600"
        );
        frontier.applied(1_900);
        frontier.durable(2);
        assert_eq!(advanced(&mut frontier, 1_650), 1_650);
        assert_eq!(advanced(&mut frontier, 1_600), 1_650, "it never goes back");
        assert_eq!(advanced(&mut frontier, 5_000), 1_900);
    }

    #[test]
    fn a_line_waits_for_no_other_line() {
        let mut frontier = Frontier::new(0);
        frontier.applied(2_000);
        frontier.durable(1);
        frontier.touch(ONE, 1_000);
        frontier.advance(1_200);
        let shown_ms = |frontier: &Frontier| (frontier.shown_ms(ONE), frontier.shown_ms(OTHER));
        assert_eq!(shown_ms(&frontier), (999, 1_200));
        let blocking = |frontier: &Frontier| [ONE, OTHER].map(|line| frontier.blocking_epoch(line));
        assert_eq!(blocking(&frontier), [Some(2), None]);
        assert_eq!(
            frontier.earliest_ms(OTHER, 1_100),
            1_100,
            "no reader has come"
        );
        frontier.show(OTHER);
        assert_eq!(frontier.earliest_ms(OTHER, 1_100), 1_201);
        assert_eq!(frontier.earliest_ms(ONE, 1_100), 1_100);
        frontier.applied(3_000);
        frontier.touch(ONE, 2_500);
        frontier.durable(2);
        frontier.advance(2_600);
        assert_eq!(shown_ms(&frontier), (2_499, 2_600));
        assert_eq!(blocking(&frontier), [Some(3), None]);
        frontier.show(OTHER);
        frontier.applied(3_000);
        frontier.durable(3);
        frontier.advance(2_600);
        assert_eq!(shown_ms(&frontier), (2_600, 2_600));
        assert!(frontier.read.is_empty() && frontier.undurable.is_empty());
    }
}
