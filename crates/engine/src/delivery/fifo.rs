//! Implements delivery to FIFO groups: one message of each message group at a time, or a run of them to one consumer.

use std::collections::HashMap;
use std::sync::Arc;

use crate::delivery::gather::{Gathered, ReceiveLimits, deliver};
use crate::delivery::read::Read;
use crate::engine::Engine;
use crate::error::Error;
use crate::format::hash::text_hash;
use crate::ids::SubscriptionKey;
use crate::limits::BLOCKED_BYTES_MAX;
use crate::message::Message;
use crate::place::Place;
use crate::state::progress::{Early, Slot, SlotState};
use crate::store::{Store, StoreError};

/// Most messages that are read at once for a FIFO group.
const READ_AT_ONCE_MAX: usize = 32;
/// Open places that are looked at in a unit of work.
const PLACES_PER_UNIT: usize = 16;
/// Most units of work for a look at the open places of a queue, so that there is always something left to read on with.
const LOOK_UNITS_MAX: u64 = 128;

/// An open message: its place, and itself if it is kept.
type Open = (Place, Option<Arc<Message>>);

/// The message groups of which something is not done, by their hash.
#[derive(Default)]
struct Lines {
    /// Whether all of it that was read is delivered by this receive.
    delivered: HashMap<u64, bool>,
}

impl Lines {
    /// Whether the next message of a message group is free: none before it is open, or this receive delivers all of
    /// them as a run.
    fn is_free(&self, line: u64, run: bool) -> bool {
        self.delivered
            .get(&line)
            .is_none_or(|delivered| run && *delivered)
    }

    /// Notes whether the next message of a message group is delivered by this receive.
    fn pass(&mut self, line: u64, delivered: bool) {
        if line != 0 {
            self.delivered.insert(line, delivered);
        }
    }
}

impl<S: Store> Engine<S> {
    /// Delivers what was read before and is free, then reads on while more is wanted.
    pub(crate) fn take_fifo(
        &mut self,
        limits: ReceiveLimits<'_>,
        queue: u16,
        delivered: &mut Gathered,
    ) -> Result<(), Error> {
        let taken = self.take_free(limits, queue, delivered);
        self.note_reader(limits.key, queue);
        taken
    }

    fn take_free(
        &mut self,
        limits: ReceiveLimits<'_>,
        queue: u16,
        delivered: &mut Gathered,
    ) -> Result<(), Error> {
        let mut lines = self.take_open(limits, queue, delivered)?;
        while !self.is_satisfied(limits, delivered)
            && !self.is_spent()
            && self.has_room(limits.key, queue)
        {
            let wanted = limits.messages_max - delivered.messages.len();
            let wanted = std::cmp::min(wanted, READ_AT_ONCE_MAX);
            let Some(read) = self.next_due(limits.key, queue, wanted)? else {
                break;
            };
            let is_done = read.known == Some(Early::Acked);
            if is_done || !limits.filter.passes(&read.message) {
                if !is_done {
                    self.note_skipped(limits.key);
                }
                self.stage
                    .progress
                    .insert((limits.key.0, limits.key.1, queue));
                continue;
            }
            let line = line_of(&read.message);
            let message = Arc::clone(&read.message);
            let from_ms = self.add_open(limits.key, queue, read, line);
            let is_due = from_ms <= self.frontier.reach_ms();
            let is_delivered = is_due && lines.is_free(line, limits.run);
            lines.pass(line, is_delivered);
            if is_delivered {
                self.lease_open(limits, queue, message, delivered);
            }
        }
        Ok(())
    }

    /// Whether the window of open messages takes another one.
    fn has_room(&self, key: SubscriptionKey, queue: u16) -> bool {
        self.open_count(key, queue) < self.config.limits.fifo_window
    }

    /// How many messages of a queue were read and are not done.
    fn open_count(&self, key: SubscriptionKey, queue: u16) -> usize {
        let subscription = self.subscriptions.get(&key);
        subscription
            .and_then(|subscription| subscription.queues.get(usize::from(queue)))
            .map_or(0, |progress| progress.slots.len())
    }

    /// Delivers what was read before and is free; returns the message groups that have something open.
    fn take_open(
        &mut self,
        limits: ReceiveLimits<'_>,
        queue: u16,
        delivered: &mut Gathered,
    ) -> Result<Lines, Error> {
        loop {
            let wanted = limits.messages_max - delivered.messages.len();
            let (lines, ready) = self.ready_places(limits, queue, wanted);
            let looked = self.open_count(limits.key, queue) / PLACES_PER_UNIT;
            self.spend(std::cmp::min(looked as u64, LOOK_UNITS_MAX));
            let mut is_complete = true;
            for (place, kept) in ready {
                // The first one is delivered even if to find it has cost all that is left.
                let is_spent = self.is_spent() && !delivered.messages.is_empty();
                if self.is_satisfied(limits, delivered) || is_spent {
                    return Ok(lines);
                }
                let message = match kept {
                    Some(message) => Some(message),
                    None => self.read_open(limits.key, queue, place)?,
                };
                match message {
                    Some(message) => self.lease_open(limits, queue, message, delivered),
                    // The next of its message group is free now.
                    None => is_complete = false,
                }
            }
            if is_complete {
                if !self.is_satisfied(limits, delivered) {
                    self.note_looked(limits.key, queue);
                }
                return Ok(lines);
            }
        }
    }

    /// Everything that is open, free and due was delivered.
    fn note_looked(&mut self, key: SubscriptionKey, queue: u16) {
        let reach_ms = self.frontier.reach_ms();
        let progress = self
            .subscriptions
            .get_mut(&key)
            .and_then(|subscription| subscription.queue(queue));
        if let Some(progress) = progress {
            progress.note_looked(reach_ms);
        }
    }

    /// The open messages that may be delivered now, and the message groups that have something open.
    fn ready_places(
        &self,
        limits: ReceiveLimits<'_>,
        queue: u16,
        wanted: usize,
    ) -> (Lines, Vec<Open>) {
        let (mut lines, mut ready) = (Lines::default(), Vec::new());
        let reach_ms = self.frontier.reach_ms();
        let slots = self
            .subscriptions
            .get(&limits.key)
            .and_then(|subscription| subscription.queues.get(usize::from(queue)))
            .map(|progress| progress.slots.iter());
        for slot in slots.into_iter().flatten() {
            let is_due = matches!(slot.state, SlotState::Open { from_ms } if from_ms <= reach_ms);
            let is_ready = is_due && lines.is_free(slot.line, limits.run) && ready.len() < wanted;
            lines.pass(slot.line, is_ready);
            if is_ready {
                ready.push((slot.place, slot.message.clone()));
            }
        }
        (lines, ready)
    }

    /// Reads an open message again; one that is gone is done.
    fn read_open(
        &mut self,
        key: SubscriptionKey,
        queue: u16,
        place: Place,
    ) -> Result<Option<Arc<Message>>, StoreError> {
        let found = self.find_message(key.1, queue, place)?;
        if found.is_none() {
            if self.partitions.holds(place.partition(), key.1) {
                self.note_missing((key.1, queue, place));
            }
            self.finish_slot(key, (queue, place));
        }
        Ok(found.map(Arc::new))
    }

    /// Keeps the place of a message that was just read; returns from when on it may be delivered.
    fn add_open(&mut self, key: SubscriptionKey, queue: u16, read: Read, line: u64) -> u64 {
        let (attempts, from_ms) = match read.known {
            Some(Early::Failed { attempts, from_ms }) => (attempts, from_ms),
            _ => (0, 0),
        };
        let reach_ms = self.frontier.reach_ms();
        let progress = self
            .subscriptions
            .get_mut(&key)
            .and_then(|subscription| subscription.queue(queue));
        if let Some(progress) = progress {
            let slot = Slot {
                place: read.message.place,
                before: read.before,
                state: SlotState::Open { from_ms },
                attempts,
                returned: 0,
                line,
                message: Some(read.message),
            };
            progress.push(slot, BLOCKED_BYTES_MAX);
            if from_ms > reach_ms {
                progress.look_again_from(from_ms);
            }
        }
        from_ms
    }

    fn lease_open(
        &mut self,
        limits: ReceiveLimits<'_>,
        queue: u16,
        message: Arc<Message>,
        delivered: &mut Gathered,
    ) {
        let Some(subscription) = self.subscriptions.get_mut(&limits.key) else {
            return;
        };
        let generation = subscription.generation;
        let leased = subscription
            .queue(queue)
            .and_then(|progress| progress.lease(message.place, limits.until_ms));
        let Some(number) = leased else {
            return;
        };
        subscription.in_flight += 1;
        self.notes.add(limits.key, queue);
        delivered.push(deliver(limits.key, generation, queue, message, number));
    }
}

/// The hash of a message group; 0 for none.
fn line_of(message: &Message) -> u64 {
    let group = message.message_group.as_deref();
    group.map_or(0, |group| std::cmp::max(text_hash(group), 1))
}
