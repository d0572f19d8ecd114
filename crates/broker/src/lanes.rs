//! Provides the queues in which commands wait for their turn, one for each topic.

use std::collections::{HashMap, VecDeque};

use crate::command::Command;
use crate::limits::LANE_WEIGHT_MAX;

/// Commands by lane, taken from the lanes in turn, so that a burst on one topic does not delay another. A command that
/// weighs more than a turn allows costs its lane the turns after it.
#[derive(Debug)]
pub(crate) struct Lanes<S> {
    queues: HashMap<u64, Lane<S>>,
    turn: VecDeque<u64>,
    waiting: usize,
    /// Lanes of the commands taken since they were last asked for.
    taken: Vec<u64>,
}

#[derive(Debug)]
struct Lane<S> {
    commands: VecDeque<Command<S>>,
    /// Weight it may still have; less than 0 for what it had beyond its turn.
    left: i64,
}

impl<S> Default for Lanes<S> {
    fn default() -> Self {
        Self {
            queues: HashMap::new(),
            turn: VecDeque::new(),
            waiting: 0,
            taken: Vec::new(),
        }
    }
}

impl<S> Lanes<S> {
    pub(crate) fn push(&mut self, command: Command<S>) {
        let number = command.lane();
        let lane = self.queues.entry(number).or_insert_with(|| Lane {
            commands: VecDeque::new(),
            left: 0,
        });
        if lane.commands.is_empty() {
            self.turn.push_back(number);
        }
        lane.commands.push_back(command);
        self.waiting += 1;
    }

    pub(crate) fn pop(&mut self) -> Option<Command<S>> {
        loop {
            let number = *self.turn.front()?;
            let lane = self.queues.get_mut(&number)?;
            if lane.left <= 0 {
                lane.left = lane.left.saturating_add_unsigned(LANE_WEIGHT_MAX as u64);
            }
            if lane.left <= 0 {
                self.turn.rotate_left(1);
                continue;
            }
            let command = lane.commands.pop_front()?;
            self.waiting -= 1;
            self.taken.push(number);
            lane.left = lane.left.saturating_sub_unsigned(command.weight() as u64);
            if lane.commands.is_empty() {
                self.queues.remove(&number);
                self.turn.pop_front();
            } else if lane.left <= 0 {
                self.turn.rotate_left(1);
            }
            return Some(command);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// The lanes of the commands taken since the last call, one for each.
    pub(crate) fn taken(&mut self) -> std::vec::Drain<'_, u64> {
        self.taken.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Answer;

    fn command(lane: u64, weight: usize) -> Command<engine::MemoryStore> {
        Command::Other {
            lane,
            weight,
            work: Box::new(|_, _| Answer::Other(Box::new(drop))),
        }
    }

    #[test]
    fn a_burst_on_one_lane_lets_the_others_have_their_turn() {
        let mut lanes = Lanes::default();
        for _ in 0..1_000 {
            lanes.push(command(1, 16));
        }
        lanes.push(command(2, 16));
        lanes.push(command(3, 16));
        let order: Vec<_> = std::iter::from_fn(|| lanes.pop())
            .map(|command| command.lane())
            .collect();
        assert_eq!(order.len(), 1_002);
        assert_eq!(
            order.iter().position(|lane| *lane == 2),
            Some(LANE_WEIGHT_MAX / 16)
        );
        assert_eq!(
            order.iter().position(|lane| *lane == 3),
            Some(LANE_WEIGHT_MAX / 16 + 1)
        );
        assert!(lanes.is_empty());
    }

    #[test]
    fn large_commands_cost_their_lane_the_turns_after_them() {
        let mut lanes = Lanes::default();
        for _ in 0..3 {
            lanes.push(command(1, 4 * LANE_WEIGHT_MAX));
        }
        for _ in 0..2_048 {
            lanes.push(command(2, 1));
        }
        let order: Vec<_> = std::iter::from_fn(|| lanes.pop())
            .map(|command| command.lane())
            .collect();
        let large = order.iter().enumerate().filter(|(_, lane)| **lane == 1);
        let large: Vec<_> = large.map(|(at, _)| at).collect();
        // Between two of them the other lane has four turns.
        assert_eq!(large, [0, 1 + 4 * LANE_WEIGHT_MAX, 2 + 8 * LANE_WEIGHT_MAX]);
        assert_eq!(lanes.taken().count(), 2_051);
        assert_eq!(lanes.taken().count(), 0);
    }
}
