//! Provides the state of a consumer group on a topic: its queues, retries and leases.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::format::codec::{Reader, put_near, put_place, put_varint, read_near, read_place};
use crate::format::record::{MessageFields, read_message, seal};
use crate::limits::RETRY_LEASES_KEPT_MAX;
use crate::message::Message;
use crate::place::Place;
use crate::state::filters::Filters;
use crate::state::progress::Progress;
use crate::state::progress_record::{put_step, read_short, read_step};
use crate::state::window::Window;

/// A message that failed and comes again.
#[derive(Clone, Debug)]
pub(crate) struct RetryRow {
    pub(crate) queue: u16,
    pub(crate) place: Place,
    /// The number of the delivery to come; 1 for a replay, and for what was handed back unworked.
    pub(crate) attempt: u16,
    /// How often it was handed back unworked since the last delivery that failed.
    pub(crate) returned: u16,
    /// Where the message is once its partition had to go; `None`: in its queue.
    pub(crate) inline: Option<Inline>,
}

/// The message of a row that has it itself.
#[derive(Clone, Debug)]
pub(crate) enum Inline {
    /// To be written.
    Held(Arc<Message>),
    /// It is in the row in the store, and is read when it is needed.
    Stored,
}

impl RetryRow {
    /// Bytes of a row in memory, about.
    pub(crate) const BYTES: usize = 160;

    /// The row as it is kept in memory: without the message.
    pub(crate) fn without_message(self) -> Self {
        Self {
            inline: self.inline.map(|_| Inline::Stored),
            ..self
        }
    }

    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        seal(buffer, |buffer| {
            put_varint(buffer, u64::from(self.queue));
            put_place(buffer, self.place);
            put_varint(buffer, u64::from(self.attempt));
            put_varint(buffer, u64::from(self.returned));
            if let Some(Inline::Held(message)) = &self.inline {
                MessageFields::of_stored(message, self.place).encode_bare(buffer);
            }
        });
    }

    pub(crate) fn read(reader: &mut Reader) -> Result<Self, &'static str> {
        let queue = u16::try_from(reader.varint()?).map_err(|_| "a queue is impossible")?;
        let place = read_place(reader)?;
        let attempt = read_short(reader)?;
        let returned = if reader.format() < 2 {
            0
        } else {
            read_short(reader)?
        };
        let inline = if reader.is_empty() {
            None
        } else {
            let message = read_message(reader, queue, place)?;
            Some(Inline::Held(Arc::new(message)))
        };
        Ok(Self {
            queue,
            place,
            attempt,
            returned,
            inline,
        })
    }
}

/// A retry that is with a consumer.
#[derive(Clone, Debug)]
pub(crate) struct RetryLease {
    pub(crate) row: RetryRow,
    pub(crate) until_ms: u64,
    /// Whether its end counts as a delivery that failed.
    pub(crate) counts: bool,
}

/// A first delivery whose lease made way: it is still with its consumer, and its row becomes visible when the lease
/// ends.
#[derive(Clone, Debug)]
pub(crate) struct Parked {
    /// Where the row is on the retry timeline.
    pub(crate) retry: Place,
    pub(crate) row: RetryRow,
    /// The delivery that its consumer has: attempt, returned.
    pub(crate) delivery: (u16, u16),
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
    /// When a consumer of the group last asked for something of the topic, in ms.
    pub(crate) seen_ms: u64,
    /// What the store has of that; `None`: as of the group.
    pub(crate) stored_seen_ms: Option<u64>,
    /// Whether it was reported to keep no order on a topic that is in order.
    pub(crate) is_reported_unordered: bool,
    pub(crate) filters: Filters,
}

impl Subscription {
    pub(crate) fn new(generation: u32, queues: u16, start: Place) -> Self {
        Self {
            generation,
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
            seen_ms: 0,
            stored_seen_ms: None,
            is_reported_unordered: false,
            filters: Filters::default(),
        }
    }

    pub(crate) fn queue(&mut self, queue: u16) -> Option<&mut Progress> {
        self.queues.get_mut(usize::from(queue))
    }

    /// Puts back what the record of a queue kept.
    pub(crate) fn restore_queue(&mut self, queue: u16, progress: Progress) {
        let leased = progress.slots.iter().filter(|slot| slot.is_leased());
        let leased = leased.count();
        if let Some(place) = self.queue(queue) {
            *place = progress;
            self.in_flight += leased;
        }
    }

    /// Puts back leases of retries.
    pub(crate) fn restore_leases(&mut self, leases: Vec<(Place, RetryLease)>) {
        for (retry, lease) in leases {
            self.retry_lease_end_ms = std::cmp::min(self.retry_lease_end_ms, lease.until_ms);
            self.in_flight += 1;
            self.retry_leases.insert(retry, lease);
        }
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

/// The record of a queue: what it keeps of the queue, and, in that of queue 0, of the whole subscription.
#[derive(Debug)]
pub(crate) struct ProgressRecord {
    /// Rows on the retry timeline.
    pub(crate) retrying: u64,
    pub(crate) generation: u32,
    pub(crate) progress: Progress,
    pub(crate) retry_leases: Vec<NotedLease>,
}

/// A lease of a retry, as a record keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotedLease {
    pub(crate) retry: Place,
    pub(crate) until_ms: u64,
    pub(crate) counts: bool,
}

impl Subscription {
    /// Appends the record of a queue.
    pub(crate) fn encode_progress(&self, queue: u16, progress: &Progress, buffer: &mut Vec<u8>) {
        seal(buffer, |buffer| {
            let retrying = if queue == 0 { self.retrying } else { 0 };
            put_varint(buffer, retrying);
            put_varint(buffer, u64::from(self.generation));
            progress.encode(buffer);
            let noted = if queue == 0 {
                self.retry_leases.len()
            } else {
                0
            };
            let noted = std::cmp::min(noted, RETRY_LEASES_KEPT_MAX);
            put_varint(buffer, noted as u64);
            let (mut last, mut last_ms) = (Place::START, 0);
            let skipped = self.retry_leases.len() - noted;
            for (retry, lease) in self.retry_leases.iter().skip(skipped) {
                put_step(buffer, last, *retry);
                put_near(buffer, last_ms, lease.until_ms);
                buffer.push(u8::from(lease.counts));
                (last, last_ms) = (*retry, lease.until_ms);
            }
        });
    }
}

impl ProgressRecord {
    pub(crate) fn read(reader: &mut Reader) -> Result<Self, &'static str> {
        let retrying = reader.count()?;
        let generation =
            u32::try_from(reader.varint()?).map_err(|_| "a generation is too large")?;
        let progress = Progress::read(reader)?;
        let mut retry_leases = Vec::new();
        let noted = if reader.format() < 2 {
            0
        } else {
            reader.length()?
        };
        let (mut last, mut last_ms) = (Place::START, 0);
        for _ in 0..noted {
            let retry = read_step(reader, last)?;
            let until_ms = read_near(reader, last_ms)?;
            let counts = reader.u8()? != 0;
            retry_leases.push(NotedLease {
                retry,
                until_ms,
                counts,
            });
            (last, last_ms) = (retry, until_ms);
        }
        Ok(Self {
            retrying,
            generation,
            progress,
            retry_leases,
        })
    }
}
