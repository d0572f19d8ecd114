//! Implements delivery of new messages in order, to groups that are not FIFO.

use crate::delivery::gather::{Gathered, ReceiveLimits, deliver};
use crate::engine::Engine;
use crate::error::Error;
use crate::state::progress::{Early, Slot, SlotState};
use crate::store::Store;

impl<S: Store> Engine<S> {
    pub(crate) fn take_fresh(
        &mut self,
        limits: ReceiveLimits<'_>,
        queue: u16,
        delivered: &mut Gathered,
    ) -> Result<(), Error> {
        let (mut has_read, mut has_leased) = (false, false);
        while !self.is_satisfied(limits, delivered) && !self.is_spent() {
            let wanted = limits.messages_max - delivered.messages.len();
            let Some(read) = self.next_due(limits.key, queue, wanted)? else {
                break;
            };
            has_read = true;
            let message = read.message;
            let is_done = read.known == Some(Early::Acked);
            if is_done || !limits.filter.passes(&message) {
                if !is_done {
                    self.note_skipped(limits.key);
                }
                self.stage
                    .progress
                    .insert((limits.key.0, limits.key.1, queue));
                continue;
            }
            let Some(subscription) = self.subscriptions.get_mut(&limits.key) else {
                break;
            };
            let generation = subscription.generation;
            let Some(progress) = subscription.queue(queue) else {
                break;
            };
            let slot = Slot {
                place: message.place,
                before: read.before,
                state: SlotState::Leased {
                    until_ms: limits.until_ms,
                    counts: true,
                },
                attempts: 1,
                returned: 0,
                line: 0,
                message: None,
            };
            progress.push(slot, 0);
            let crowded = progress.is_crowded();
            subscription.in_flight += 1;
            has_leased = true;
            delivered.push(deliver(limits.key, generation, queue, message, (1, 0)));
            if crowded {
                self.park_front(limits.key, queue);
            }
        }
        if has_leased {
            self.notes.add(limits.key, queue);
        }
        if has_read {
            self.note_reader(limits.key, queue);
        }
        Ok(())
    }
}
