//! Implements delivery from queues: in order, or for FIFO groups one message of each message group at a time.

use std::collections::HashSet;
use std::sync::Arc;

use crate::engine::Engine;
use crate::error::Error;
use crate::format::handle::ReceiptHandle;
use crate::ids::SubscriptionKey;
use crate::limits::RECEIVE_BYTES_MAX;
use crate::message::{Delivered, Message, TagFilter};
use crate::state::subscription::{Recovered, Slot, SlotState, Subscription};
use crate::store::Store;

/// What a delivery needs to know of the request.
#[derive(Clone, Copy)]
pub(crate) struct ReceiveLimits<'a> {
    pub(crate) key: SubscriptionKey,
    pub(crate) filter: &'a TagFilter,
    pub(crate) until_ms: u64,
    pub(crate) messages_max: usize,
}

/// What a receive has gathered so far.
#[derive(Default)]
pub(crate) struct Gathered {
    pub(crate) messages: Vec<Delivered>,
    bytes: usize,
}

impl Gathered {
    pub(crate) fn push(&mut self, delivery: Delivered) {
        self.bytes += delivery.message.weight();
        self.messages.push(delivery);
    }

    fn is_enough(&self, limits: ReceiveLimits<'_>) -> bool {
        self.messages.len() >= limits.messages_max || self.bytes >= RECEIVE_BYTES_MAX
    }
}

impl<S: Store> Engine<S> {
    pub(crate) fn is_satisfied(&self, limits: ReceiveLimits<'_>, taken: &Gathered) -> bool {
        let in_flight = self
            .subscriptions
            .get(&limits.key)
            .map_or(0, |subscription| subscription.in_flight);
        taken.is_enough(limits) || in_flight >= self.config.limits.in_flight_max
    }

    /// All queues, beginning with another one each time, so that none is starved.
    pub(crate) fn queues_in_turn(
        &mut self,
        key: SubscriptionKey,
    ) -> impl Iterator<Item = u16> + use<S> {
        let (count, first) = match self.subscriptions.get_mut(&key) {
            Some(subscription) => {
                let first = subscription.next_queue;
                subscription.next_queue = (first + 1) % std::cmp::max(subscription.queues.len(), 1);
                (subscription.queues.len(), first)
            }
            None => (0, 0),
        };
        (first..count)
            .chain(0..std::cmp::min(first, count))
            .filter_map(|queue| u16::try_from(queue).ok())
    }

    pub(crate) fn take_fresh(
        &mut self,
        limits: ReceiveLimits<'_>,
        queue: u16,
        delivered: &mut Gathered,
    ) -> Result<(), Error> {
        while !self.is_satisfied(limits, delivered) {
            let wanted = limits.messages_max - delivered.messages.len();
            let Some(message) = self.next_due(limits.key, queue, wanted)? else {
                break;
            };
            let Some(subscription) = self.subscriptions.get_mut(&limits.key) else {
                break;
            };
            let generation = subscription.generation;
            let Some(progress) = subscription.queue(queue) else {
                break;
            };
            let place = message.place;
            let known = progress.recovered.remove(&place);
            if known == Some(Recovered::Done) || !limits.filter.passes(&message) {
                progress.slots.push_back(Slot {
                    place,
                    state: SlotState::Done,
                    attempts: 0,
                    message: None,
                });
                progress.settle();
                self.stage
                    .progress
                    .insert((limits.key.0, limits.key.1, queue));
                continue;
            }
            let state = SlotState::Leased {
                until_ms: limits.until_ms,
            };
            progress.slots.push_back(Slot {
                place,
                state,
                attempts: 1,
                message: None,
            });
            progress.lease_end_ms = std::cmp::min(progress.lease_end_ms, limits.until_ms);
            let crowded = progress.is_crowded();
            subscription.in_flight += 1;
            delivered.push(deliver(limits.key, generation, queue, message, 1));
            if crowded {
                self.park_front(limits.key, queue);
            }
        }
        Ok(())
    }

    pub(crate) fn take_fifo(
        &mut self,
        limits: ReceiveLimits<'_>,
        queue: u16,
        delivered: &mut Gathered,
    ) -> Result<(), Error> {
        self.fill_fifo(limits, queue)?;
        let shown_ms = self.frontier.shown_ms();
        let in_flight_max = self.config.limits.in_flight_max;
        let Some(subscription) = self.subscriptions.get_mut(&limits.key) else {
            return Ok(());
        };
        let generation = subscription.generation;
        let Subscription {
            queues, in_flight, ..
        } = subscription;
        let Some(progress) = queues.get_mut(usize::from(queue)) else {
            return Ok(());
        };
        let mut blocked = HashSet::new();
        for slot in &mut progress.slots {
            if delivered.is_enough(limits) || *in_flight >= in_flight_max {
                break;
            }
            let Some(message) = slot
                .message
                .clone()
                .filter(|_| slot.state != SlotState::Done)
            else {
                continue;
            };
            let free = match &message.message_group {
                Some(group) => blocked.insert(group.clone()),
                None => true,
            };
            let SlotState::Open { from_ms } = slot.state else {
                continue;
            };
            if free && from_ms <= shown_ms {
                slot.state = SlotState::Leased {
                    until_ms: limits.until_ms,
                };
                slot.attempts += 1;
                progress.lease_end_ms = std::cmp::min(progress.lease_end_ms, limits.until_ms);
                *in_flight += 1;
                delivered.push(deliver(
                    limits.key,
                    generation,
                    queue,
                    message,
                    slot.attempts,
                ));
            }
        }
        Ok(())
    }

    /// Reads messages into the window a FIFO reader chooses from.
    fn fill_fifo(&mut self, limits: ReceiveLimits<'_>, queue: u16) -> Result<(), Error> {
        let room = |engine: &Self| {
            let progress = engine
                .subscriptions
                .get(&limits.key)?
                .queues
                .get(usize::from(queue))?;
            engine
                .config
                .limits
                .fifo_window
                .checked_sub(progress.slots.len())
                .filter(|room| *room > 0)
        };
        while let Some(wanted) = room(self) {
            let Some(message) = self.next_due(limits.key, queue, wanted)? else {
                break;
            };
            let Some(progress) = self
                .subscriptions
                .get_mut(&limits.key)
                .and_then(|subscription| subscription.queue(queue))
            else {
                break;
            };
            let place = message.place;
            let known = progress.recovered.remove(&place);
            let skipped = known == Some(Recovered::Done) || !limits.filter.passes(&message);
            let (state, attempts) = match known {
                _ if skipped => (SlotState::Done, 0),
                Some(Recovered::Failed { attempts, from_ms }) => {
                    (SlotState::Open { from_ms }, attempts)
                }
                _ => (SlotState::Open { from_ms: 0 }, 0),
            };
            progress.slots.push_back(Slot {
                place,
                state,
                attempts,
                message: (!skipped).then_some(message),
            });
            if skipped {
                progress.settle();
                self.stage
                    .progress
                    .insert((limits.key.0, limits.key.1, queue));
            }
        }
        Ok(())
    }
}

pub(crate) fn deliver(
    key: SubscriptionKey,
    generation: u32,
    queue: u16,
    message: Arc<Message>,
    attempt: u16,
) -> Delivered {
    let place = message.place;
    let handle = ReceiptHandle {
        topic: key.1,
        group: key.0,
        generation,
        queue,
        place,
        attempt,
        retry: None,
    };
    Delivered {
        message,
        queue,
        attempt,
        handle,
    }
}
