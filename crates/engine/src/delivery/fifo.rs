//! Implements delivery to FIFO groups: one message of each message group at a time.

use std::collections::HashSet;

use crate::delivery::gather::{Gathered, ReceiveLimits, deliver};
use crate::engine::Engine;
use crate::error::Error;
use crate::state::subscription::{Recovered, Slot, SlotState, Subscription};
use crate::store::Store;

impl<S: Store> Engine<S> {
    pub(crate) fn take_fifo(
        &mut self,
        limits: ReceiveLimits<'_>,
        queue: u16,
        delivered: &mut Gathered,
    ) -> Result<(), Error> {
        self.fill_fifo(limits, queue)?;
        let reach_ms = self.frontier.reach_ms();
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
            if free && from_ms <= reach_ms {
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
        while !self.is_spent()
            && let Some(wanted) = room(self)
        {
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
