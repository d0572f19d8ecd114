//! Implements recall and reschedule of messages that wait.

use crate::delivery::append::Target;
use crate::engine::Engine;
use crate::error::Error;
use crate::format::codec::{Reader, put_place, put_varint, read_place};
use crate::format::handle::MessageHandle;
use crate::format::hash::text_hash;
use crate::format::keys::{
    identities_gone_ms, identity_end_key, identity_key, index_key, timeline_key,
};
use crate::format::message_id::made_message_id;
use crate::format::record::{open, open_message, seal};
use crate::ids::TopicId;
use crate::limits::UPKEEP_ROUND_MS_MIN;
use crate::message::{Delivery, Message, Sent};
use crate::place::{HOUR_MS, Place};
use crate::state::frontier::Line;
use crate::state::memory::Holder;
use crate::store::{Space, Store, StoreError};

/// The answer to a recall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recall {
    /// It was waiting, or had been cancelled before: it is never delivered.
    Cancelled,
    /// Its due time has come, whether it was read or not.
    TooLate,
    /// There is no such message.
    Unknown,
}

/// The answer to a reschedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reschedule {
    /// It now waits for the new instant; older handles still name it.
    Moved(Sent),
    /// Its due time had come, whether it was read or not.
    TooLate,
    /// There is no such message.
    Unknown,
}

/// Where a rescheduled message is now.
#[derive(Clone, Copy)]
pub(crate) struct Moved {
    pub(crate) place: Place,
    /// The hour after which this may be forgotten.
    pub(crate) end_hour: u64,
}

/// Where the message of a handle is.
enum Whereabouts {
    Waiting {
        place: Place,
        message: Box<Message>,
        row_bytes: u64,
    },
    TooLate,
    Cancelled,
    Unknown,
}

impl<S: Store> Engine<S> {
    /// Cancels a message that waits.
    pub fn recall(&mut self, now_ms: u64, handle: &MessageHandle) -> Result<Recall, Error> {
        let now_ms = self.stamp(now_ms);
        Ok(match self.locate(now_ms, handle)? {
            Whereabouts::Waiting {
                place,
                message,
                row_bytes,
            } => {
                self.take_out(handle, place, &message, row_bytes)?;
                self.dedup.cancelled(handle.topic, &message);
                self.counters.traffic.recalled += 1;
                Recall::Cancelled
            }
            Whereabouts::Cancelled => Recall::Cancelled,
            Whereabouts::TooLate => Recall::TooLate,
            Whereabouts::Unknown => Recall::Unknown,
        })
    }

    /// Moves a message that waits to another instant, in one commit.
    pub fn reschedule(
        &mut self,
        now_ms: u64,
        handle: &MessageHandle,
        delivery: Delivery,
    ) -> Result<Reschedule, Error> {
        let moved = self.reschedule_as(now_ms, handle, delivery, |_| ())?;
        if let Reschedule::Moved(_) = moved {
            self.counters.traffic.rescheduled += 1;
        }
        Ok(moved)
    }

    /// Moves a message that waits, changed by `change`, under the identity it has.
    pub(crate) fn reschedule_as(
        &mut self,
        now_ms: u64,
        handle: &MessageHandle,
        delivery: Delivery,
        change: impl FnOnce(&mut Message),
    ) -> Result<Reschedule, Error> {
        let now_ms = self.stamp(now_ms);
        let due_ms = self.asked_due_ms(now_ms, delivery)?;
        let (old, mut message, row_bytes) = match self.locate(now_ms, handle)? {
            Whereabouts::Waiting {
                place,
                message,
                row_bytes,
            } => (place, message, row_bytes),
            Whereabouts::TooLate => return Ok(Reschedule::TooLate),
            Whereabouts::Cancelled | Whereabouts::Unknown => return Ok(Reschedule::Unknown),
        };
        let indexed = self.take_out(handle, old, &message, row_bytes)?;
        change(&mut message);
        let target = Target {
            topic: handle.topic,
            queue: handle.queue,
            due_ms,
        };
        let place = self.append_moved(now_ms, target, &message, indexed);
        self.note_moved(handle, old, place)?;
        self.dedup.moved(handle.topic, &message, place);
        Ok(Reschedule::Moved(Sent {
            handle: MessageHandle { place, ..*handle },
            repeated: false,
        }))
    }

    /// Writes where a message went, for handles that name one of its former places.
    ///
    /// The row is kept as long as the partition of any place the message has had: without it a handle whose due
    /// time is ahead would be taken for that of a cancelled message.
    fn note_moved(
        &mut self,
        handle: &MessageHandle,
        old: Place,
        place: Place,
    ) -> Result<(), StoreError> {
        let (topic, identity) = (handle.topic, handle.identity);
        let earlier = self.moved_to(topic, identity)?;
        let end_hour = [self.end_hour(old), self.end_hour(place)]
            .into_iter()
            .chain(earlier.map(|moved| moved.end_hour))
            .fold(0, std::cmp::max);
        self.partitions.identities_by(identities_gone_ms(end_hour));
        let batch = &mut self.stage.batch;
        batch.put(Space::Meta, &identity_key(topic, identity), |buffer| {
            seal(buffer, |buffer| {
                put_place(buffer, place);
                put_varint(buffer, end_hour);
            });
        });
        let end_key = identity_end_key(end_hour, topic, identity);
        batch.put(Space::Meta, &end_key, |_| ());
        Ok(())
    }

    /// The hour after which what is known of a message with this place may be forgotten.
    fn end_hour(&self, place: Place) -> u64 {
        self.config.kept_until_ms(place.partition()) / HOUR_MS + 1
    }

    /// The last due time at which nothing can be recalled or moved.
    pub(crate) fn settled_ms(&mut self, now_ms: u64) -> u64 {
        self.frontier.advance(now_ms);
        // Past `now_ms` no line was shown to anyone since the start.
        std::cmp::max(self.frontier.closed_everywhere_ms(), now_ms)
    }

    fn locate(&mut self, now_ms: u64, handle: &MessageHandle) -> Result<Whereabouts, Error> {
        let shown_ms = self.settled_ms(now_ms);
        let known = self
            .catalog
            .topics
            .get(&handle.topic)
            .is_some_and(|topic| handle.queue < topic.spec.queues);
        if !known
            || handle.identity >= self.head.next_sequence
            || handle.place.sequence >= self.head.next_sequence
        {
            return Ok(Whereabouts::Unknown);
        }
        if self.stage.removed.contains(&handle.place.sequence)
            || self.stage.appended.contains(&(handle.topic, handle.queue))
        {
            // The store does not know yet what this group of changes did to the message.
            self.apply(now_ms)?;
        }
        let mut place = handle.place;
        let mut found = self.row_at(handle, place)?;
        if found.is_none()
            && let Some(moved) = self.moved_to(handle.topic, handle.identity)?
        {
            place = moved.place;
            if !self.stage.removed.contains(&place.sequence) {
                found = self.row_at(handle, place)?;
            }
        }
        Ok(match found {
            Some(_) if place.due_ms <= shown_ms => Whereabouts::TooLate,
            Some((message, row_bytes)) => Whereabouts::Waiting {
                place,
                message: Box::new(message),
                row_bytes,
            },
            None if self.damaged.contains((handle.topic, handle.queue, place)) => {
                Whereabouts::Unknown
            }
            // Only a recall takes a message away before it is due.
            None if place.due_ms > shown_ms => Whereabouts::Cancelled,
            None => Whereabouts::Unknown,
        })
    }

    pub(crate) fn row_at(
        &mut self,
        handle: &MessageHandle,
        place: Place,
    ) -> Result<Option<(Message, u64)>, Error> {
        let key = timeline_key(handle.topic, handle.queue, place);
        let Some(value) = self.store.get(Space::Partition(place.partition()), &key)? else {
            return Ok(None);
        };
        let read = open_message(handle.queue, place, &key, &value);
        let message = self.unless_damaged((handle.topic, handle.queue, place), read)?;
        Ok(message
            .filter(|message| message.identity == handle.identity)
            .map(|message| (message, (key.len() + value.len()) as u64)))
    }

    /// The present place of a message that was rescheduled.
    pub(crate) fn moved_to(
        &self,
        topic: TopicId,
        identity: u64,
    ) -> Result<Option<Moved>, StoreError> {
        let key = identity_key(topic, identity);
        let Some(value) = self.store.get(Space::Meta, &key)? else {
            return Ok(None);
        };
        let (place, end_hour) = open(Space::Meta, &key, &value, |reader: &mut Reader| {
            let place = read_place(reader)?;
            let end_hour = (reader.format() > 1).then(|| reader.count());
            Ok((place, end_hour.transpose()?))
        })?;
        let end_hour = end_hour.unwrap_or_else(|| self.end_hour(place));
        Ok(Some(Moved { place, end_hour }))
    }

    /// Takes a message that waits out of its timeline; readers do not come past it before that is durable. Returns
    /// whether it was indexed.
    fn take_out(
        &mut self,
        handle: &MessageHandle,
        place: Place,
        message: &Message,
        row_bytes: u64,
    ) -> Result<bool, StoreError> {
        let line = Line::Queue(handle.topic, handle.queue);
        self.frontier.touch(line, place.due_ms);
        self.remove_rows(handle, place, message, row_bytes)
    }

    /// Removes the rows of a message, and what is counted and kept in memory of it. Returns whether it was indexed.
    pub(crate) fn remove_rows(
        &mut self,
        handle: &MessageHandle,
        place: Place,
        message: &Message,
        row_bytes: u64,
    ) -> Result<bool, StoreError> {
        let (topic, queue) = (handle.topic, handle.queue);
        let partition = place.partition();
        let space = Space::Partition(partition);
        let made_id = made_message_id(queue, place);
        let chosen_id = Some(&message.message_id).filter(|id| **id != made_id);
        let mut rows = vec![timeline_key(topic, queue, place).to_vec()];
        let mut bytes = row_bytes;
        for text in chosen_id.into_iter().chain(&message.keys) {
            let key = index_key(topic, text_hash(text), place, queue);
            // Whether the topic is indexed may have been changed since the message was stored.
            if self.store.get(space, &key)?.is_some() {
                bytes += key.len() as u64;
                rows.push(key);
            }
        }
        let indexed = rows.len() > 1;
        for key in &rows {
            self.stage.batch.remove(space, key);
        }
        self.stage.removed.insert(place.sequence);
        if self.partitions.count_removed(topic, place, bytes) {
            self.stage.counts.insert((partition, topic));
        }
        if !self.partitions.holds(partition, topic) {
            // Perhaps it holds nothing at all.
            let upkeep_ms = self.stamp_ms.saturating_add(UPKEEP_ROUND_MS_MIN);
            self.partitions.upkeep_by(upkeep_ms);
        }
        let Some(state) = self.catalog.topics.get_mut(&topic) else {
            return Ok(indexed);
        };
        state.totals.removed += 1;
        state.totals.bytes = state.totals.bytes.saturating_sub(bytes);
        self.stage.totals.insert(topic);
        if let Some(window) = state.queues.get_mut(usize::from(queue)) {
            window.remove(place);
            self.memory
                .resize(Holder::Head(topic, queue), window.bytes());
        }
        Ok(indexed)
    }
}
