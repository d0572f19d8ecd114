//! Implements the bound on the memory of readers: what is held over it is given up by least recent use.

use crate::engine::Engine;
use crate::ids::{SubscriptionKey, TopicId};
use crate::state::frontier::Line;
use crate::state::memory::Holder;
use crate::state::progress::Progress;
use crate::state::work::row_units;
use crate::store::Store;

impl<S: Store> Engine<S> {
    /// Bytes of the messages held in memory for readers, over all topics: heads of queues, what was read ahead, blocked
    /// messages of FIFO groups, rows of retries.
    pub fn held_bytes(&self) -> u64 {
        self.memory.bytes() as u64
    }

    /// Notes what a group holds of a queue after it has read there.
    pub(crate) fn note_reader(&mut self, key: SubscriptionKey, queue: u16) {
        let subscription = self.subscriptions.get(&key);
        let progress = subscription.and_then(|sub| sub.queues.get(usize::from(queue)));
        let bytes = progress.map_or(0, Progress::held_bytes);
        let holder = Holder::Reader(key, queue);
        self.memory.resize(holder, bytes);
        self.memory.touch(holder);
    }

    /// Notes what a group holds of its retry timeline.
    pub(crate) fn note_retries(&mut self, key: SubscriptionKey) {
        let subscription = self.subscriptions.get(&key);
        let bytes = subscription.map_or(0, |subscription| subscription.retries.bytes());
        self.memory.resize(Holder::Retries(key), bytes);
    }

    /// Notes that a subscription and all that it held are gone.
    pub(crate) fn forget_held(&mut self, key: SubscriptionKey, queues: usize) {
        for queue in (0..=u16::MAX).take(queues) {
            self.memory.resize(Holder::Reader(key, queue), 0);
        }
        self.memory.resize(Holder::Retries(key), 0);
    }

    /// Gives up what was used least recently while more is held than the budget allows, never what is in use.
    pub(crate) fn make_room(&mut self, in_use: &[Holder]) {
        while self.memory.is_over() {
            let Some(holder) = self.memory.least_used(in_use) else {
                break;
            };
            self.give_up(holder);
        }
    }

    /// Makes room after a message was put into the head of a queue. A head that no reader has used for longer than
    /// others were takes room from no other one.
    pub(crate) fn make_room_for_head(&mut self, topic: TopicId, queue: u16) {
        let head = Holder::Head(topic, queue);
        while self.memory.is_over() {
            match self.memory.least_used(&[]) {
                Some(holder) if holder != head => self.give_up(holder),
                _ => return self.shrink_head(topic, queue),
            }
        }
    }

    /// Lets the head of a queue give up messages, the last ones first, until the budget is kept.
    pub(crate) fn shrink_head(&mut self, topic: TopicId, queue: u16) {
        // What waits for the disk stays known, or who waits for it would ask the store again and again.
        let shown_ms = self.frontier.shown_ms(Line::Queue(topic, queue));
        let state = self.catalog.topics.get_mut(&topic);
        let Some(window) = state.and_then(|state| state.queues.get_mut(usize::from(queue))) else {
            return;
        };
        while self.memory.is_over() && window.len() > 0 {
            window.shrink(shown_ms);
            self.memory
                .resize(Holder::Head(topic, queue), window.bytes());
        }
    }

    /// Lets a holder give up all its messages; they are read again when they are needed.
    fn give_up(&mut self, holder: Holder) {
        let before = self.memory.bytes();
        match holder {
            Holder::Head(topic, queue) => {
                let state = self.catalog.topics.get_mut(&topic);
                let window = state.and_then(|state| state.queues.get_mut(usize::from(queue)));
                if let Some(window) = window {
                    window.shed();
                }
            }
            Holder::Reader(key, queue) => {
                let subscription = self.subscriptions.get_mut(&key);
                if let Some(progress) = subscription.and_then(|sub| sub.queue(queue)) {
                    progress.shed();
                }
            }
            Holder::Retries(key) => {
                if let Some(subscription) = self.subscriptions.get_mut(&key) {
                    subscription.retries.shed();
                }
            }
        }
        self.memory.resize(holder, 0);
        self.spend(row_units(before - self.memory.bytes()));
    }
}
