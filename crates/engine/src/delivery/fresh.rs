//! Implements delivery of new messages in order, to groups that are not FIFO.

use crate::delivery::gather::{Gathered, ReceiveLimits, deliver};
use crate::engine::Engine;
use crate::error::Error;
use crate::state::subscription::{Recovered, Slot, SlotState};
use crate::store::Store;

impl<S: Store> Engine<S> {
    pub(crate) fn take_fresh(
        &mut self,
        limits: ReceiveLimits<'_>,
        queue: u16,
        delivered: &mut Gathered,
    ) -> Result<(), Error> {
        while !self.is_satisfied(limits, delivered) && !self.is_spent() {
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
}
