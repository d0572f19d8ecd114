//! Provides the oracle: it records operations and reports which of the broker's invariants they break.
//!
//! It knows nothing of how a broker works. Of each message it keeps what may be true: whether it exists, and
//! its place. An answer narrows that down; a crash before the answer leaves it open.

mod change;
mod story;

use std::collections::{BTreeMap, BTreeSet};

use engine::{MessageHandle, Place, ReceiptHandle};

use crate::operation::{Operation, place_text};
use story::{InGroup, Lease, Line, Possible, Reached, Story, fits};

/// An invariant is broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invariant {invariant} is broken: {what}")]
pub struct Violation {
    /// Its number in the list of the design.
    pub invariant: u8,
    /// What was seen.
    pub what: String,
}

fn broken<T>(invariant: u8, what: impl Into<String>) -> Result<T, Violation> {
    let what = what.into();
    Err(Violation { invariant, what })
}

/// How the oracle judges.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Which consumer groups are FIFO, by index.
    pub fifo: Vec<bool>,
    /// Whether operations come in the order in which deliveries were made.
    pub ordered: bool,
    /// Most deliveries of a message to a group.
    pub attempts_max: u16,
    /// How long messages are kept past their due time, in ms.
    pub retention_ms: u64,
}

/// Judges operations.
#[derive(Clone, Debug)]
pub struct Oracle {
    rules: Rules,
    stories: BTreeMap<u64, Story>,
    /// By group, topic and queue: first deliveries since the last crash.
    queues: BTreeMap<(usize, usize, u16), Reached>,
    /// By group, topic and message group.
    lines: BTreeMap<(usize, usize, u8), Line>,
    /// Messages known to exist and not yet delivered, by group and topic, in order of their due times.
    awaited: BTreeMap<(usize, usize), BTreeSet<(Place, u64)>>,
    turn: u64,
    latest_ms: u64,
    deliveries: u64,
}

impl Oracle {
    /// An oracle that has seen nothing.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            stories: BTreeMap::new(),
            queues: BTreeMap::new(),
            lines: BTreeMap::new(),
            awaited: BTreeMap::new(),
            turn: 1,
            latest_ms: 0,
            deliveries: 0,
        }
    }

    /// Deliveries seen.
    pub fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// The turn that goes on.
    pub fn turn(&self) -> u64 {
        self.turn
    }

    /// The latest instant of the engine clock that was recorded, in ms.
    pub fn latest_ms(&self) -> u64 {
        self.latest_ms
    }

    /// What is recorded from now on was done after what was recorded before; within a turn the order is not known.
    pub fn next_turn(&mut self, now_ms: u64) {
        self.turn += 1;
        self.latest_ms = std::cmp::max(self.latest_ms, now_ms);
    }

    /// The newest handle of a message, if it may still be changed and no change of it is open.
    pub fn handle_of(&self, number: u64) -> Option<MessageHandle> {
        let story = self.stories.get(&number)?;
        story.handle.filter(|_| story.asked.is_none())
    }

    /// The latest instant at which something may still become due, in ms.
    pub fn last_due_ms(&self) -> u64 {
        let placed = |possible: &Possible| match possible {
            Possible::At { due_ms, place } => Some(place.map_or(*due_ms, |place| place.due_ms)),
            _ => None,
        };
        let stories = self.stories.values();
        stories
            .flat_map(|story| story.possible.iter().filter_map(placed))
            .max()
            .unwrap_or(0)
    }

    /// The topic of a message.
    pub fn topic_of(&self, number: u64) -> Option<usize> {
        self.stories.get(&number).map(|story| story.topic)
    }

    /// A message that is due and was never delivered to a group, if there is one that surely exists.
    pub fn overdue(&self, group: usize, topic: usize, now_ms: u64) -> Option<u64> {
        let (place, number) = self.awaited.get(&(group, topic))?.first()?;
        (place.due_ms <= now_ms).then_some(*number)
    }

    /// The disk has damaged a message: it may come or not, and no answer may be that it was cancelled or moved.
    pub fn damaged(&mut self, number: u64) {
        self.forget(number);
        if let Some(story) = self.stories.get_mut(&number) {
            story.damaged = true;
        }
    }

    /// Records an operation.
    pub fn record(&mut self, operation: Operation) -> Result<(), Violation> {
        match operation {
            Operation::Sending {
                number,
                topic,
                message_group,
                asked_ms,
            } => {
                self.sending(number, (topic, message_group), asked_ms);
                Ok(())
            }
            Operation::Sent { number, handle } => self.placed_at(number, handle),
            Operation::Refused { number } => self.refused(number),
            Operation::Recalling { number } => self.asked(number, Possible::Cancelled),
            Operation::Moving { number, asked_ms } => {
                self.asked(number, Possible::not_before(asked_ms))
            }
            Operation::Recalled {
                number,
                verdict,
                now_ms,
            } => self.recalled(number, verdict, now_ms),
            Operation::Moved { number, handle } => self.moved(number, handle),
            Operation::NotMoved {
                number,
                verdict,
                now_ms,
            } => self.unchanged(number, verdict, now_ms),
            Operation::Delivered {
                number,
                group,
                handle,
                now_ms,
                until_ms,
                answer,
            } => {
                let turn = self.turn;
                let lease = Lease {
                    until_ms,
                    turn,
                    answer,
                };
                self.delivered(number, group, (handle, now_ms, lease))
            }
            Operation::Dead { number, group } => self.dead(number, group),
            Operation::Resetting { topic, group } => {
                self.resetting(topic, group);
                Ok(())
            }
            Operation::Ending { number, group }
            | Operation::Ended { number, group }
            | Operation::Acking { number, group }
            | Operation::Acked { number, group }
            | Operation::NotAcked { number, group } => self.ending(operation, number, group),
            Operation::Crashed { noted_turn } => {
                self.crashed(noted_turn);
                Ok(())
            }
        }
    }

    fn sending(&mut self, number: u64, (topic, message_group): (usize, Option<u8>), asked_ms: u64) {
        let story = Story {
            topic,
            message_group,
            possible: vec![Possible::Absent, Possible::not_before(asked_ms)],
            asked: None,
            handle: None,
            damaged: false,
            groups: vec![InGroup::default(); self.rules.fifo.len()],
            awaited: None,
        };
        self.stories.insert(number, story);
    }

    /// What a group has had of a topic may come to it again.
    fn resetting(&mut self, topic: usize, group: usize) {
        let stories = self.stories.values_mut();
        for story in stories.filter(|story| story.topic == topic) {
            if let Some(seen) = story.groups.get_mut(group) {
                seen.lease = None;
                seen.resets += 1;
            }
        }
    }

    /// What a consumer does with a delivery.
    fn ending(&mut self, operation: Operation, number: u64, group: usize) -> Result<(), Violation> {
        if matches!(operation, Operation::Ending { .. }) {
            self.run_ends(number, group);
        }
        let seen = self.in_group(number, group)?;
        match operation {
            Operation::Acked { .. } => {
                seen.acked = true;
                seen.acking = seen.acking.saturating_sub(1);
            }
            Operation::NotAcked { .. } => seen.acking = seen.acking.saturating_sub(1),
            Operation::Acking { .. } => {
                seen.lease = None;
                seen.acking += 1;
            }
            Operation::Ended { .. } => seen.ending = seen.ending.saturating_sub(1),
            _ => {
                seen.lease = None;
                seen.ending += 1;
            }
        }
        Ok(())
    }

    /// With everything drained: what surely exists has come to every group.
    pub fn finish(&self) -> Result<(), Violation> {
        for (number, story) in self.stories.iter().filter(|(_, story)| !story.damaged) {
            let sure = story
                .possible
                .iter()
                .all(|one| matches!(one, Possible::At { .. }));
            for (group, seen) in story.groups.iter().enumerate() {
                if sure && seen.deliveries == 0 && !seen.dead {
                    return broken(
                        2,
                        format!("message {number} never came to group {group}: {story:?}"),
                    );
                }
                let done = seen.acked
                    || seen.dead
                    || seen.resets > 0
                    || seen.maybe_acked
                    || seen.acking > 0;
                if seen.deliveries > 0 && !done {
                    return broken(
                        2,
                        format!("message {number} did not come again to group {group}: {seen:?}"),
                    );
                }
            }
        }
        Ok(())
    }

    fn story(&mut self, number: u64) -> Result<&mut Story, Violation> {
        match self.stories.get_mut(&number) {
            Some(story) => Ok(story),
            None => broken(2, format!("message {number} was never sent")),
        }
    }

    fn in_group(&mut self, number: u64, group: usize) -> Result<&mut InGroup, Violation> {
        match self.story(number)?.groups.get_mut(group) {
            Some(seen) => Ok(seen),
            None => broken(3, format!("there is no group {group}")),
        }
    }

    fn delivered(
        &mut self,
        number: u64,
        group: usize,
        (handle, now_ms, lease): (ReceiptHandle, u64, Lease),
    ) -> Result<(), Violation> {
        self.deliveries += 1;
        self.latest_ms = std::cmp::max(self.latest_ms, now_ms);
        let place = handle.place;
        if place.due_ms > now_ms {
            return broken(
                1,
                format!(
                    "message {number} came at {now_ms}, due {}",
                    place_text(place)
                ),
            );
        }
        let attempts_max = self.rules.attempts_max;
        let story = self.story(number)?;
        if !story.possible.iter().any(|one| fits(*one, place)) {
            let invariant = if story.possible.contains(&Possible::Cancelled) {
                4
            } else {
                1
            };
            return broken(
                invariant,
                format!("message {number} came at {}: {story:?}", place_text(place)),
            );
        }
        let (topic, name) = (story.topic, story.message_group);
        let Some(seen) = story.groups.get_mut(group) else {
            return broken(3, format!("there is no group {group}"));
        };
        let ended = [
            (seen.acked, "was acknowledged"),
            (seen.dead, "became a dead letter"),
        ];
        let ended = ended.into_iter().find(|(ended, _)| *ended);
        if let Some((_, how)) = ended.filter(|_| seen.resets == 0) {
            let what = format!("message {number} came again to group {group} after it {how}");
            return broken(3, what);
        }
        if let Some(held) = seen.lease
            && now_ms < held.until_ms
        {
            return broken(
                3,
                format!("message {number} came again to group {group} at {now_ms}, held: {held:?}"),
            );
        }
        if handle.attempt == 0 || handle.attempt > attempts_max {
            return broken(
                3,
                format!(
                    "message {number} came to group {group} as attempt {}",
                    handle.attempt
                ),
            );
        }
        // Handles outlive restarts, so what ends an earlier delivery may end this one.
        let was_reset = seen.resets > 0;
        seen.lease = Some(lease).filter(|_| !was_reset && seen.ending == 0 && seen.acking == 0);
        seen.maybe_acked = false;
        seen.deliveries += 1;
        self.narrow(number, place)?;
        if was_reset {
            return Ok(());
        }
        self.in_order(number, (group, topic), handle)?;
        match name.filter(|_| self.rules.fifo.get(group) == Some(&true)) {
            Some(name) => self.in_line(number, (group, topic, name), (place, now_ms, lease)),
            None => Ok(()),
        }
    }

    /// First deliveries of a queue come in its order.
    fn in_order(
        &mut self,
        number: u64,
        (group, topic): (usize, usize),
        handle: ReceiptHandle,
    ) -> Result<(), Violation> {
        let fifo = self.rules.fifo.get(group) == Some(&true);
        if !self.rules.ordered || handle.retry.is_some() || handle.attempt > 1 || fifo {
            return Ok(());
        }
        let reached = self.queues.entry((group, topic, handle.queue)).or_default();
        if reached.pass(self.turn, handle.place) {
            return Ok(());
        }
        let (place, before) = (place_text(handle.place), place_text(reached.before));
        broken(
            5,
            format!("message {number} at {place} came to group {group} after one at {before}"),
        )
    }

    /// What a message group has in flight came with one answer, and its messages come in order. One that comes again
    /// comes before all that follow it, but for those that came with it before.
    fn in_line(
        &mut self,
        number: u64,
        line: (usize, usize, u8),
        (place, now_ms, lease): (Place, u64, Lease),
    ) -> Result<(), Violation> {
        let known = self.lines.entry(line).or_default();
        let others: Vec<_> = known.came.iter().map(|(at, other)| (*at, *other)).collect();
        let in_order = known.pass(place, lease);
        known.came.insert(place, number);
        let mut is_first = true;
        for (at, before) in others.into_iter().filter(|(at, _)| *at != place) {
            let seen = self.in_group(before, line.0)?;
            let held = seen.lease.filter(|held| now_ms < held.until_ms);
            is_first &= (seen.acked || seen.dead) && seen.acking == 0 && seen.ending == 0;
            if is_first && let Some(known) = self.lines.get_mut(&line) {
                // Nothing of those before it is to come, and to look at them again and again would take too long.
                known.came.remove(&at);
            }
            if held.is_some_and(|held| held.answer != lease.answer) {
                return broken(
                    5,
                    format!("messages {before} and {number} of {line:?} are in flight"),
                );
            }
        }
        // What ends an earlier one, begun before, may take this one away as well.
        let earlier = self.lines.get(&line).map(|known| known.before(place));
        for before in earlier.unwrap_or_default() {
            if self.in_group(before, line.0)?.ending > 0 {
                self.in_group(number, line.0)?.lease = None;
            }
        }
        if !self.rules.ordered || in_order {
            return Ok(());
        }
        broken(
            5,
            format!("message {number} of {line:?} came after a later one"),
        )
    }

    /// A delivery of a message group ends, or may: what followed it in its answer may come again after it.
    fn run_ends(&mut self, number: u64, group: usize) {
        let story = self.stories.get(&number);
        let Some((topic, Some(name))) = story.map(|story| (story.topic, story.message_group))
        else {
            return;
        };
        let Some(line) = self.lines.get(&(group, topic, name)) else {
            return;
        };
        for other in line.after(number) {
            let seen = self
                .stories
                .get_mut(&other)
                .and_then(|story| story.groups.get_mut(group));
            if let Some(seen) = seen {
                seen.lease = None;
            }
        }
    }

    fn dead(&mut self, number: u64, group: usize) -> Result<(), Violation> {
        let seen = self.in_group(number, group)?;
        if seen.acked && seen.resets == 0 {
            return broken(
                3,
                format!("message {number} was acknowledged by group {group} and is a dead letter"),
            );
        }
        seen.dead = true;
        seen.lease = None;
        let story = self.story(number)?;
        if story
            .possible
            .iter()
            .all(|one| !matches!(one, Possible::At { .. }))
        {
            return broken(4, format!("message {number} is a dead letter: {story:?}"));
        }
        story
            .possible
            .retain(|one| matches!(one, Possible::At { .. }));
        let key = (group, story.topic);
        if let Some(place) = story.awaited
            && let Some(awaited) = self.awaited.get_mut(&key)
        {
            awaited.remove(&(place, number));
        }
        Ok(())
    }

    /// Leases that were given in turns up to `noted_turn` are on the disk, and hold on.
    fn crashed(&mut self, noted_turn: u64) {
        self.queues.clear();
        for line in self.lines.values_mut() {
            line.delivered.clear();
        }
        for story in self.stories.values_mut() {
            story.asked = None;
            for seen in &mut story.groups {
                seen.lease = seen.lease.filter(|lease| lease.turn <= noted_turn);
                seen.maybe_acked |= seen.acking > 0;
                seen.acking = 0;
                seen.ending = 0;
            }
        }
    }
}
