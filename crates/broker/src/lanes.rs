//! Provides the queues in which commands wait for their turn, one for each topic.

use std::collections::{HashMap, VecDeque};

use crate::command::Command;
use crate::limits::LANE_WEIGHT_MAX;

/// Commands by lane, taken from the lanes in turn, so that a burst on one topic does not delay another.
#[derive(Debug)]
pub(crate) struct Lanes<S> {
    queues: HashMap<u64, VecDeque<Command<S>>>,
    turn: VecDeque<u64>,
    /// Messages' worth of commands the lane whose turn it is may still have.
    left: usize,
    waiting: usize,
}

impl<S> Default for Lanes<S> {
    fn default() -> Self {
        Self {
            queues: HashMap::new(),
            turn: VecDeque::new(),
            left: 0,
            waiting: 0,
        }
    }
}

impl<S> Lanes<S> {
    pub(crate) fn push(&mut self, command: Command<S>) {
        let lane = command.lane();
        let queue = self.queues.entry(lane).or_default();
        if queue.is_empty() {
            self.turn.push_back(lane);
        }
        queue.push_back(command);
        self.waiting += 1;
    }

    pub(crate) fn pop(&mut self) -> Option<Command<S>> {
        let lane = *self.turn.front()?;
        if self.left == 0 {
            self.left = LANE_WEIGHT_MAX;
        }
        let queue = self.queues.get_mut(&lane)?;
        let command = queue.pop_front();
        self.waiting -= usize::from(command.is_some());
        let weight = command.as_ref().map_or(1, Command::weight);
        self.left = self.left.saturating_sub(weight);
        if queue.is_empty() {
            self.queues.remove(&lane);
            self.turn.pop_front();
            self.left = 0;
        } else if self.left == 0 {
            self.turn.rotate_left(1);
        }
        command
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Answer;

    fn command(lane: u64) -> Command<engine::MemoryStore> {
        Command::Other {
            lane,
            work: Box::new(|_, _| Answer::Other(Box::new(drop))),
        }
    }

    #[test]
    fn a_burst_on_one_lane_lets_the_others_have_their_turn() {
        let mut lanes = Lanes::default();
        for _ in 0..1_000 {
            lanes.push(command(1));
        }
        lanes.push(command(2));
        lanes.push(command(3));
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
}
