//! Provides the state of a consumer group on a topic: positions, leases, retries.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::format::codec::{Reader, put_place, put_varint, read_place};
use crate::format::record::{MessageFields, read_message, seal};
use crate::limits::ACKED_AHEAD_MAX;
use crate::message::Message;
use crate::place::Place;
use crate::state::window::Window;

/// The state of a message that was read and not yet passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotState {
    /// Nothing is left to do; the position passes it as soon as it is in front.
    Done,
    /// With a consumer until `until_ms`.
    Leased { until_ms: u64 },
    /// In a FIFO group: may be delivered from `from_ms` on, once no earlier one of its message group is open.
    Open { from_ms: u64 },
}

/// A message between the position and the cursor of a queue.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) place: Place,
    pub(crate) state: SlotState,
    /// Deliveries so far.
    pub(crate) attempts: u16,
    /// Kept in FIFO groups, where a failed message stays in place.
    pub(crate) message: Option<Arc<Message>>,
}

/// What the record of a queue said about a message beyond the position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recovered {
    Done,
    Failed { attempts: u16, from_ms: u64 },
}

/// How far a group has come in one message queue.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Everything up to here is done, or waits on the retry timeline.
    pub(crate) position: Place,
    /// Everything up to here was read.
    pub(crate) cursor: Place,
    pub(crate) slots: VecDeque<Slot>,
    /// Read from the store and not yet looked at; all of it is due.
    pub(crate) ahead: VecDeque<Arc<Message>>,
    /// Beyond the cursor: what the record said, and acknowledgements of deliveries made before a restart.
    pub(crate) recovered: BTreeMap<Place, Recovered>,
    /// No lease ends before this.
    pub(crate) lease_end_ms: u64,
    /// Messages the position has passed.
    pub(crate) passed: u64,
}

impl Progress {
    pub(crate) fn starting_at(position: Place) -> Self {
        Self {
            position,
            cursor: position,
            slots: VecDeque::new(),
            ahead: VecDeque::new(),
            recovered: BTreeMap::new(),
            lease_end_ms: u64::MAX,
            passed: 0,
        }
    }

    pub(crate) fn slot(&mut self, place: Place) -> Option<&mut Slot> {
        let index = self
            .slots
            .binary_search_by_key(&place, |slot| slot.place)
            .ok()?;
        self.slots.get_mut(index)
    }

    /// Moves the position over everything in front that is done.
    pub(crate) fn settle(&mut self) {
        while self
            .slots
            .front()
            .is_some_and(|slot| slot.state == SlotState::Done)
        {
            if let Some(slot) = self.slots.pop_front() {
                self.position = slot.place;
                self.passed += 1;
            }
        }
    }

    pub(crate) fn encode(&self, retrying: u64, generation: u32, buffer: &mut Vec<u8>) {
        seal(buffer, |buffer| {
            put_varint(buffer, retrying);
            put_varint(buffer, u64::from(generation));
            put_place(buffer, self.position);
            put_varint(buffer, self.passed);
            let slots = self.slots.iter().filter_map(|slot| {
                let (failures, from_ms) = match slot.state {
                    SlotState::Done => return Some((slot.place, 0, 0)),
                    SlotState::Open { from_ms } => (slot.attempts, from_ms),
                    SlotState::Leased { .. } => (slot.attempts.saturating_sub(1), 0),
                };
                (failures > 0).then_some((slot.place, failures, from_ms))
            });
            let recovered = self
                .recovered
                .iter()
                .map(|(place, recovered)| match recovered {
                    Recovered::Done => (*place, 0, 0),
                    Recovered::Failed { attempts, from_ms } => (*place, *attempts, *from_ms),
                });
            let entries: Vec<_> = slots.chain(recovered).collect();
            put_varint(buffer, entries.len() as u64);
            let mut last_ms = self.position.due_ms;
            for (place, attempts, from_ms) in entries {
                put_varint(buffer, place.due_ms.saturating_sub(last_ms));
                last_ms = place.due_ms;
                put_varint(buffer, place.sequence);
                buffer.push(place.level);
                put_varint(buffer, u64::from(attempts));
                if attempts > 0 {
                    put_varint(buffer, from_ms);
                }
            }
        });
    }

    pub(crate) fn read(reader: &mut Reader) -> Result<(Self, u32), &'static str> {
        let generation =
            u32::try_from(reader.varint()?).map_err(|_| "a generation is too large")?;
        let mut progress = Self::starting_at(read_place(reader)?);
        progress.passed = reader.count()?;
        let mut due_ms = progress.position.due_ms;
        for _ in 0..reader.length()? {
            due_ms = due_ms
                .checked_add(reader.varint()?)
                .ok_or("a due time is too large")?;
            let place = Place {
                due_ms,
                sequence: reader.varint()?,
                level: reader.u8()?,
            };
            let attempts =
                u16::try_from(reader.varint()?).map_err(|_| "an attempt count is too large")?;
            let recovered = if attempts == 0 {
                Recovered::Done
            } else {
                Recovered::Failed {
                    attempts,
                    from_ms: reader.varint()?,
                }
            };
            progress.recovered.insert(place, recovered);
        }
        Ok((progress, generation))
    }

    /// Whether so much beyond the position is open that the lease in front should make way.
    pub(crate) fn is_crowded(&self) -> bool {
        self.slots.len() > ACKED_AHEAD_MAX
    }
}

/// A message that failed and comes again.
#[derive(Clone, Debug)]
pub(crate) struct RetryRow {
    pub(crate) queue: u16,
    pub(crate) place: Place,
    /// The number of the delivery to come, 2 or more.
    pub(crate) attempt: u16,
    /// The message itself, once its partition had to go.
    pub(crate) inline: Option<Arc<Message>>,
}

impl RetryRow {
    pub(crate) fn weight(&self) -> usize {
        96 + self.inline.as_ref().map_or(0, |message| message.weight())
    }

    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        seal(buffer, |buffer| {
            put_varint(buffer, u64::from(self.queue));
            put_place(buffer, self.place);
            put_varint(buffer, u64::from(self.attempt));
            if let Some(message) = &self.inline {
                MessageFields::of_stored(message, self.place).encode_bare(buffer);
            }
        });
    }

    pub(crate) fn read(reader: &mut Reader) -> Result<Self, &'static str> {
        let queue = u16::try_from(reader.varint()?).map_err(|_| "a queue is impossible")?;
        let place = read_place(reader)?;
        let attempt =
            u16::try_from(reader.varint()?).map_err(|_| "an attempt count is too large")?;
        let inline = if reader.is_empty() {
            None
        } else {
            Some(Arc::new(read_message(reader, queue, place)?))
        };
        Ok(Self {
            queue,
            place,
            attempt,
            inline,
        })
    }
}

/// A retry that is with a consumer.
#[derive(Clone, Debug)]
pub(crate) struct RetryLease {
    pub(crate) row: RetryRow,
    pub(crate) until_ms: u64,
}

/// A first delivery whose lease made way: it is still with its consumer, and its row becomes visible when the lease
/// ends.
#[derive(Clone, Debug)]
pub(crate) struct Parked {
    /// Where the row is on the retry timeline.
    pub(crate) retry: Place,
    pub(crate) row: RetryRow,
}

/// One consumer group on one topic.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) generation: u32,
    pub(crate) queues: Vec<Progress>,
    /// The queue the next receive begins with.
    pub(crate) next_queue: usize,
    pub(crate) retries: Window<RetryRow>,
    pub(crate) retry_cursor: Place,
    pub(crate) retry_leases: BTreeMap<Place, RetryLease>,
    /// Leases that made way, by the sequence of the message, until the row is delivered.
    pub(crate) parked: HashMap<u64, Parked>,
    /// No lease of a retry ends before this.
    pub(crate) retry_lease_end_ms: u64,
    /// Rows on the retry timeline.
    pub(crate) retrying: u64,
    pub(crate) in_flight: usize,
    /// When leases are looked at next.
    pub(crate) lease_end_ms: Option<u64>,
}

impl Subscription {
    pub(crate) fn new(queues: u16, start: Place) -> Self {
        Self {
            generation: 1,
            queues: (0..queues).map(|_| Progress::starting_at(start)).collect(),
            next_queue: 0,
            retries: Window::default(),
            retry_cursor: Place::START,
            retry_leases: BTreeMap::new(),
            parked: HashMap::new(),
            retry_lease_end_ms: u64::MAX,
            retrying: 0,
            in_flight: 0,
            lease_end_ms: None,
        }
    }

    pub(crate) fn queue(&mut self, queue: u16) -> Option<&mut Progress> {
        self.queues.get_mut(usize::from(queue))
    }

    /// When the first lease may end, in ms.
    pub(crate) fn next_lease_end_ms(&self) -> Option<u64> {
        let fresh_ms = self
            .queues
            .iter()
            .map(|progress| progress.lease_end_ms)
            .min()
            .unwrap_or(u64::MAX);
        Some(std::cmp::min(fresh_ms, self.retry_lease_end_ms))
            .filter(|lease_end_ms| *lease_end_ms < u64::MAX)
    }
}
