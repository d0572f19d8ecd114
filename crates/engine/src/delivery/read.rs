//! Implements reading of queues: from the head kept in memory, or from the store.

use std::sync::Arc;

use bytes::Bytes;

use crate::delivery::timeline::{ReadRange, read_timeline};
use crate::engine::Engine;
use crate::error::Error;
use crate::format::keys::{place_of_key, timeline_key, timeline_span};
use crate::format::record::open_message;
use crate::ids::{SubscriptionKey, TopicId};
use crate::limits::READ_MESSAGES_MAX;
use crate::message::Message;
use crate::place::Place;
use crate::state::frontier::Line;
use crate::state::memory::Holder;
use crate::state::progress::Early;
use crate::state::work::row_units;
use crate::store::{ChangeRef, Space, Store, StoreError};

/// Messages that one read of the store brings at the most while memory is scarce and few are asked for.
const READ_TIGHT_MIN: usize = 64;

/// A message the cursor has just passed.
pub(crate) struct Read {
    pub(crate) message: Arc<Message>,
    /// What was read directly before it.
    pub(crate) before: Place,
    pub(crate) known: Option<Early>,
}

impl<S: Store> Engine<S> {
    /// Fills `ahead` with what is due after the cursor, if anything.
    pub(crate) fn read_ahead(
        &mut self,
        key: SubscriptionKey,
        queue: u16,
        wanted: usize,
    ) -> Result<(), Error> {
        let line = Line::Queue(key.1, queue);
        self.frontier.show(line);
        let shown = self.frontier.shown_place(line);
        let Some(topic) = self.catalog.topics.get_mut(&key.1) else {
            return Ok(());
        };
        let Some(window) = topic.queues.get_mut(usize::from(queue)) else {
            return Ok(());
        };
        let Some(progress) = self
            .subscriptions
            .get_mut(&key)
            .and_then(|subscription| subscription.queue(queue))
        else {
            return Ok(());
        };
        if !progress.ahead.is_empty() {
            return Ok(());
        }
        self.memory.touch(Holder::Head(key.1, queue));
        if window.covers_after(progress.cursor) {
            let due = window
                .after(progress.cursor)
                .take_while(|(place, _)| *place <= shown)
                .take(wanted);
            for (_, message) in due {
                progress.ahead.push(Arc::clone(message));
            }
            // With one group the entries are no longer needed here; with more, the last one lets go of them.
            if let Some(place) = progress.ahead.last() {
                self.pass_window(key.1, queue, place);
                return Ok(());
            }
            // The stretch may end with a message that was taken out, or was let go of to save memory.
            if !window.ends_by(shown) {
                return Ok(());
            }
        }
        let after = progress.cursor;
        self.read_store(key, queue, (after, wanted))?;
        self.note_reader(key, queue);
        let (head, reader) = (Holder::Head(key.1, queue), Holder::Reader(key, queue));
        self.memory.touch(head);
        self.make_room(&[head, reader]);
        self.shrink_head(key.1, queue);
        Ok(())
    }

    /// How many messages one read of the store brings at the most: while memory is scarce little more than is asked for.
    fn read_messages_max(&self, wanted: usize) -> usize {
        if self.memory.is_tight() {
            wanted
                .saturating_mul(2)
                .clamp(READ_TIGHT_MIN, READ_MESSAGES_MAX)
        } else {
            READ_MESSAGES_MAX
        }
    }

    /// Lets the head of a queue go up to `place` if every group that reads there has come so far.
    pub(crate) fn pass_window(&mut self, topic: u32, queue: u16, place: Place) {
        let Some(state) = self.catalog.topics.get_mut(&topic) else {
            return;
        };
        let Some(window) = state.queues.get_mut(usize::from(queue)) else {
            return;
        };
        let mut reached = place;
        for group in &state.readers {
            let subscription = self.subscriptions.get(&(*group, topic));
            let Some(progress) = subscription.and_then(|sub| sub.queues.get(usize::from(queue)))
            else {
                continue;
            };
            let read = progress.ahead.last().unwrap_or(progress.cursor);
            if window.covers_after(read) || read >= place {
                reached = std::cmp::min(reached, read);
            }
        }
        window.pass(reached);
        self.memory
            .resize(Holder::Head(topic, queue), window.bytes());
    }

    /// Reads the store after `after`, when `wanted` messages are asked for: what is due goes to `ahead`, the rest becomes
    /// the head of the queue. What one read brings is a small part of the budget.
    pub(crate) fn read_store(
        &mut self,
        key: SubscriptionKey,
        queue: u16,
        (after, wanted): (Place, usize),
    ) -> Result<(), Error> {
        let partitions = self.partitions.holding(key.1);
        let range = ReadRange {
            topic: key.1,
            queue,
            after,
            messages_max: self.read_messages_max(wanted),
            bytes_max: self.memory.read_bytes_max(),
        };
        let stretch = read_timeline(&self.store, &partitions, range)?;
        self.spend(stretch.units);
        for (place, error) in stretch.damaged {
            self.set_aside((key.1, queue, place), error)?;
        }
        let shown = self.frontier.shown_place(Line::Queue(key.1, queue));
        let removed = &self.stage.removed;
        let last_read = stretch.messages.last().map(|message| message.place);
        let mut messages: Vec<_> = stretch
            .messages
            .into_iter()
            .filter(|message| !removed.contains(&message.place.sequence))
            .map(|message| Arc::new(message.detached()))
            .collect();
        let future = messages.split_off(messages.partition_point(|message| message.place <= shown));
        let reaches_future = stretch.complete || last_read.is_some_and(|last| last > shown);
        let low = messages.last().map_or(after, |message| message.place);
        let high = if stretch.complete { None } else { last_read };
        // What is not in the store yet is not due for readers, and belongs to the head of the queue.
        let staged = if reaches_future {
            self.staged_messages(key.1, queue, (low, high))?
        } else {
            Vec::new()
        };
        if let Some(progress) = self
            .subscriptions
            .get_mut(&key)
            .and_then(|subscription| subscription.queue(queue))
        {
            for message in messages {
                progress.ahead.push(message);
            }
        }
        let Some(window) = self
            .catalog
            .topics
            .get_mut(&key.1)
            .and_then(|topic| topic.queues.get_mut(usize::from(queue)))
        else {
            return Ok(());
        };
        if reaches_future {
            let entries = future.into_iter().chain(staged).map(|message| {
                let weight = message.weight();
                (message.place, message, weight)
            });
            window.load(low, high, entries.collect());
            self.memory
                .resize(Holder::Head(key.1, queue), window.bytes());
        }
        Ok(())
    }

    /// Messages of a queue after `low` and up to `high` that are collected to be written.
    fn staged_messages(
        &mut self,
        topic: TopicId,
        queue: u16,
        (low, high): (Place, Option<Place>),
    ) -> Result<Vec<Arc<Message>>, StoreError> {
        let mut messages = Vec::new();
        if !self.stage.appended.contains(&(topic, queue)) {
            return Ok(messages);
        }
        let (from, to) = timeline_span(topic, queue, low);
        self.work.spend(self.stage.batch.len() as u64 / 16);
        for change in self.stage.batch.changes() {
            let (key, Space::Partition(partition)) = (change.key(), change.space()) else {
                continue;
            };
            let ChangeRef::Put { value, .. } = change else {
                continue;
            };
            if key < from.as_slice() || key >= to.as_slice() {
                continue;
            }
            let Some(place) = place_of_key(key, partition.level) else {
                continue;
            };
            let gone = self.stage.removed.contains(&place.sequence);
            if !gone && high.is_none_or(|high| place <= high) {
                let value = Bytes::copy_from_slice(value);
                self.work.spend(row_units(value.len()));
                messages.push(Arc::new(open_message(queue, place, key, &value)?));
            }
        }
        Ok(messages)
    }

    /// Takes the next message of a queue that is due, and moves the cursor over it.
    pub(crate) fn next_due(
        &mut self,
        key: SubscriptionKey,
        queue: u16,
        wanted: usize,
    ) -> Result<Option<Read>, Error> {
        let subscription = self.subscriptions.get(&key);
        let progress = subscription.and_then(|sub| sub.queues.get(usize::from(queue)));
        if progress.is_some_and(|progress| progress.ahead.is_empty()) {
            self.read_ahead(key, queue, wanted)?;
        }
        let subscription = self.subscriptions.get_mut(&key);
        let Some(progress) = subscription.and_then(|subscription| subscription.queue(queue)) else {
            return Ok(None);
        };
        let Some(message) = progress.ahead.pop() else {
            return Ok(None);
        };
        let (before, known) = progress.pass(message.place);
        self.work.spend(1);
        Ok(Some(Read {
            message,
            before,
            known,
        }))
    }

    /// Reads the message at a place; `None` if there is none or its row is damaged.
    pub(crate) fn find_message(
        &mut self,
        topic: u32,
        queue: u16,
        place: Place,
    ) -> Result<Option<Message>, StoreError> {
        let key = timeline_key(topic, queue, place);
        let Some(value) = self.store.get(Space::Partition(place.partition()), &key)? else {
            return Ok(None);
        };
        self.spend(row_units(value.len()));
        let read = open_message(queue, place, &key, &value);
        self.unless_damaged((topic, queue, place), read)
    }
}
