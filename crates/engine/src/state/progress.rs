//! Provides how far a consumer group has come in one message queue, and the record that keeps it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::limits::{ACKED_LATELY_MAX, OPEN_PLACES_MAX};
use crate::message::Message;
use crate::place::Place;
use crate::state::ahead::Ahead;

/// The state of a message that was read and is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotState {
    /// With a consumer until `until_ms`; an end that does not count uses up no delivery.
    Leased { until_ms: u64, counts: bool },
    /// In a FIFO group: may be delivered from `from_ms` on, once no earlier one of its message group is open.
    Open { from_ms: u64 },
}

/// What the count of hand-backs grows by when a message is taken away from its consumer because an earlier one of its
/// message group failed: its own hand-backs are counted below it.
pub(crate) const RELEASED: u16 = 256;

/// A message that was read and is not done.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) place: Place,
    /// What was read directly before it.
    pub(crate) before: Place,
    pub(crate) state: SlotState,
    /// Deliveries so far.
    pub(crate) attempts: u16,
    /// How often it was handed back unworked since the last delivery that failed, and [`RELEASED`] times how often it
    /// was taken away from its consumer because an earlier one of its message group failed.
    pub(crate) returned: u16,
    /// The hash of its message group in a FIFO group; 0 for none.
    pub(crate) line: u64,
    /// Kept in FIFO groups while it is blocked and small; else it is read again.
    pub(crate) message: Option<Arc<Message>>,
}

impl Slot {
    pub(crate) fn is_leased(&self) -> bool {
        matches!(self.state, SlotState::Leased { .. })
    }

    /// Whether it is not with a consumer, and no delivery of it has failed.
    pub(crate) fn is_untried(&self) -> bool {
        !self.is_leased() && self.attempts == 0
    }

    /// Whether a delivery of it has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.attempts > u16::from(self.is_leased())
    }
}

/// What is known of a message beyond the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Early {
    /// Acknowledged by the handle of a delivery that a crash forgot.
    Acked,
    /// Failed before the restart, in a record of format 1.
    Failed { attempts: u16, from_ms: u64 },
}

/// How far a group has come in one message queue.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Everything up to here was read.
    pub(crate) cursor: Place,
    /// Messages the cursor has passed.
    pub(crate) read: u64,
    /// What was read and is not done, in order of place.
    pub(crate) slots: VecDeque<Slot>,
    /// Read from the store and not yet looked at; all of it is due.
    pub(crate) ahead: Ahead,
    /// What is known of messages beyond the cursor.
    pub(crate) early: BTreeMap<Place, Early>,
    /// Deliveries acknowledged of late, while others are open: place, attempt and how often it was handed back.
    lately: VecDeque<(Place, (u16, u16))>,
    /// No lease ends before this.
    pub(crate) lease_end_ms: u64,
    /// In a FIFO group: no open message that may be free may be delivered before this, in ms; `u64::MAX`: none.
    open_ms: u64,
    /// Bytes of the messages that slots keep.
    kept_bytes: usize,
}

impl Progress {
    pub(crate) fn starting_at(position: Place) -> Self {
        Self {
            cursor: position,
            read: 0,
            slots: VecDeque::new(),
            ahead: Ahead::default(),
            early: BTreeMap::new(),
            lately: VecDeque::new(),
            lease_end_ms: u64::MAX,
            open_ms: u64::MAX,
            kept_bytes: 0,
        }
    }

    /// Everything up to here is done, or waits on the retry timeline.
    pub(crate) fn position(&self) -> Place {
        self.slots.front().map_or(self.cursor, |slot| slot.before)
    }

    fn index(&self, place: Place) -> Option<usize> {
        self.slots
            .binary_search_by_key(&place, |slot| slot.place)
            .ok()
    }

    pub(crate) fn find(&self, place: Place) -> Option<&Slot> {
        self.slots.get(self.index(place)?)
    }

    pub(crate) fn slot(&mut self, place: Place) -> Option<&mut Slot> {
        let index = self.index(place)?;
        self.slots.get_mut(index)
    }

    /// Moves the cursor over a message; returns where it was, and what is known of the message.
    pub(crate) fn pass(&mut self, place: Place) -> (Place, Option<Early>) {
        let before = std::mem::replace(&mut self.cursor, place);
        self.read += 1;
        let known = self.early.remove(&place);
        // Entries of messages that were dropped with their partition are no longer needed.
        while let Some(entry) = self.early.first_entry() {
            if *entry.key() >= place {
                break;
            }
            entry.remove();
        }
        (before, known)
    }

    /// Keeps the place of a message the cursor has just passed.
    pub(crate) fn push(&mut self, mut slot: Slot, kept_bytes_max: usize) {
        if let Some(message) = &slot.message {
            let bytes = message.weight();
            if self.kept_bytes + bytes > kept_bytes_max {
                slot.message = None;
            } else {
                self.kept_bytes += bytes;
            }
        }
        if let SlotState::Leased { until_ms, .. } = slot.state {
            self.lease_end_ms = std::cmp::min(self.lease_end_ms, until_ms);
        }
        self.slots.push_back(slot);
    }

    /// Leases an open message of a FIFO group; returns its place in the count of deliveries: attempt, returned.
    pub(crate) fn lease(&mut self, place: Place, until_ms: u64) -> Option<(u16, u16)> {
        let index = self.index(place)?;
        let slot = self.slots.get_mut(index)?;
        if let Some(message) = slot.message.take() {
            self.kept_bytes = self.kept_bytes.saturating_sub(message.weight());
        }
        slot.state = SlotState::Leased {
            until_ms,
            counts: true,
        };
        slot.attempts = slot.attempts.saturating_add(1);
        self.lease_end_ms = std::cmp::min(self.lease_end_ms, until_ms);
        Some((slot.attempts, slot.returned))
    }

    /// In a FIFO group: when an open message that may be free may be delivered first, in ms.
    pub(crate) fn next_open_ms(&self) -> Option<u64> {
        Some(self.open_ms).filter(|open_ms| *open_ms < u64::MAX)
    }

    /// An open message of a FIFO group may be delivered from `from_ms` on.
    pub(crate) fn look_again_from(&mut self, from_ms: u64) {
        self.open_ms = std::cmp::min(self.open_ms, from_ms);
    }

    /// Any open message of a FIFO group may be free.
    pub(crate) fn look_again(&mut self) {
        self.open_ms = self.open_from_ms().min().unwrap_or(u64::MAX);
    }

    /// Of the open messages that may be delivered up to `looked_ms`, none is free.
    pub(crate) fn note_looked(&mut self, looked_ms: u64) {
        let later_ms = self.open_from_ms().filter(|from_ms| *from_ms > looked_ms);
        self.open_ms = later_ms.min().unwrap_or(u64::MAX);
    }

    fn open_from_ms(&self) -> impl Iterator<Item = u64> {
        self.slots.iter().filter_map(|slot| match slot.state {
            SlotState::Open { from_ms } => Some(from_ms),
            SlotState::Leased { .. } => None,
        })
    }

    /// Whether an earlier message of the same message group is not done.
    pub(crate) fn follows(&self, place: Place) -> bool {
        let Some(slot) = self.find(place).filter(|slot| slot.line != 0) else {
            return false;
        };
        let mut earlier = self.slots.iter().take_while(|other| other.place < place);
        earlier.any(|other| other.line == slot.line)
    }

    /// Takes the messages of a message group that follow the one at `place` away from their consumer, for they come
    /// again after it; no consumer has worked on them. Returns how many.
    pub(crate) fn release_after(&mut self, place: Place) -> usize {
        let Some(index) = self.index(place) else {
            return 0;
        };
        self.release(index, index + 1)
    }

    /// As [`Progress::release_after`], with the one at `place`.
    pub(crate) fn release_from(&mut self, place: Place) -> usize {
        let Some(index) = self.index(place) else {
            return 0;
        };
        self.release(index, index)
    }

    /// Opens what is leased from slot `first` on in the message group of a slot.
    fn release(&mut self, of: usize, first: usize) -> usize {
        let line = self.slots.get(of).map_or(0, |slot| slot.line);
        if line == 0 {
            return 0;
        }
        let later = self.slots.iter_mut().skip(first);
        let mut released = 0;
        for slot in later.filter(|slot| slot.line == line && slot.is_leased()) {
            slot.state = SlotState::Open { from_ms: 0 };
            slot.attempts = slot.attempts.saturating_sub(1);
            // So that the handle of the delivery is void.
            slot.returned = slot.returned.wrapping_add(RELEASED);
            released += 1;
        }
        released
    }

    /// Takes away what is done; what it blocked may be free.
    pub(crate) fn remove(&mut self, place: Place) -> Option<Slot> {
        let index = self.index(place)?;
        let slot = self.slots.remove(index)?;
        if let Some(message) = &slot.message {
            self.kept_bytes = self.kept_bytes.saturating_sub(message.weight());
        }
        if self.slots.is_empty() {
            self.lately.clear();
        }
        if slot.line != 0 {
            self.look_again();
        }
        Some(slot)
    }

    /// Remembers the acknowledgement of a delivery, in case it is repeated: its attempt and how often it was handed
    /// back.
    pub(crate) fn note_acked(&mut self, place: Place, delivery: (u16, u16)) {
        if self.lately.len() >= ACKED_LATELY_MAX {
            self.lately.pop_front();
        }
        self.lately.push_back((place, delivery));
    }

    /// Whether this delivery was acknowledged of late.
    pub(crate) fn was_acked(&self, place: Place, delivery: (u16, u16)) -> bool {
        self.lately.contains(&(place, delivery))
    }

    /// The bytes of the messages that are held in memory.
    pub(crate) fn held_bytes(&self) -> usize {
        self.ahead.bytes() + self.kept_bytes
    }

    /// Gives up the messages that are held in memory: they are read again when they are needed.
    pub(crate) fn shed(&mut self) {
        self.ahead.clear();
        if self.kept_bytes > 0 {
            for slot in &mut self.slots {
                slot.message = None;
            }
            self.kept_bytes = 0;
        }
    }

    /// Whether so many messages are open that the lease in front should make way.
    pub(crate) fn is_crowded(&self) -> bool {
        self.slots.len() > OPEN_PLACES_MAX
    }
}
