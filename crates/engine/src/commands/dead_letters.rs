//! Implements replay and purge of dead letters.

use std::sync::Arc;

use crate::delivery::dead_letter::DEAD_LETTER_TOPIC_PROPERTY;
use crate::engine::Engine;
use crate::error::Error;
use crate::format::handle::MessageHandle;
use crate::ids::SubscriptionKey;
use crate::message::Message;
use crate::place::Place;
use crate::state::subscription::{Inline, RetryRow};
use crate::store::{Store, StoreError};

impl<S: Store> Engine<S> {
    /// Replays a dead letter to its group, in one commit: its deliveries are counted from the start, no
    /// other group of its topic sees it, and it leaves the dead-letter topic.
    pub fn replay_dead_letter(&mut self, now_ms: u64, handle: &MessageHandle) -> Result<(), Error> {
        let now_ms = self.stamp(now_ms);
        let group = self.catalog.dead_letter_group(handle.topic)?;
        let group_id = self.catalog.group_id(group)?;
        let (message, row_bytes) = self.dead_letter_row(now_ms, handle)?;
        let origin = message
            .properties
            .iter()
            .find(|(name, _)| name == DEAD_LETTER_TOPIC_PROPERTY)
            .map_or("", |(_, topic)| topic.as_str());
        let key: SubscriptionKey = (group_id, self.catalog.topic_id(origin)?);
        if !self.subscriptions.contains_key(&key) {
            self.subscribe(key)?;
        }
        self.remove_dead_letter(handle, &message, row_bytes)?;
        let mut again = message;
        again
            .properties
            .retain(|(name, _)| !name.starts_with("DLQ_"));
        let row = RetryRow {
            queue: 0,
            place: handle.place,
            attempt: 1,
            returned: 0,
            inline: Some(Inline::Held(Arc::new(again))),
        };
        let retry = self.add_retry(now_ms, key, now_ms, row);
        self.lower_wake(key, retry.due_ms);
        self.counters.traffic.replayed += 1;
        Ok(())
    }

    /// Purges a dead letter.
    pub fn purge_dead_letter(&mut self, now_ms: u64, handle: &MessageHandle) -> Result<(), Error> {
        let now_ms = self.stamp(now_ms);
        self.catalog.dead_letter_group(handle.topic)?;
        let (message, row_bytes) = self.dead_letter_row(now_ms, handle)?;
        self.remove_dead_letter(handle, &message, row_bytes)?;
        self.counters.traffic.purged += 1;
        Ok(())
    }

    fn dead_letter_row(
        &mut self,
        now_ms: u64,
        handle: &MessageHandle,
    ) -> Result<(Message, u64), Error> {
        if self.stage.removed.contains(&handle.place.sequence) {
            return Err(Error::MessageNotFound);
        }
        if self.stage.appended.contains(&(handle.topic, handle.queue)) {
            self.apply(now_ms)?;
        }
        self.row_at(handle, handle.place)?
            .ok_or(Error::MessageNotFound)
    }

    /// Removes a dead letter, which readers may have come past already: they then count as if it had never existed.
    fn remove_dead_letter(
        &mut self,
        handle: &MessageHandle,
        message: &Message,
        row_bytes: u64,
    ) -> Result<(), StoreError> {
        self.remove_rows(handle, handle.place, message, row_bytes)?;
        let topic = self.catalog.topics.get(&handle.topic);
        let readers = topic.map_or_else(Vec::new, |topic| topic.readers.clone());
        for group in readers {
            self.forget_in((group, handle.topic), handle.queue, handle.place);
        }
        Ok(())
    }

    fn forget_in(&mut self, key: SubscriptionKey, queue: u16, place: Place) {
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return;
        };
        let Some(progress) = subscription.queue(queue) else {
            return;
        };
        if place <= progress.cursor {
            progress.read = progress.read.saturating_sub(1);
        }
        progress.ahead.remove(place);
        progress.early.remove(&place);
        let slot = progress.remove(place);
        let leased = slot.is_some_and(|slot| slot.is_leased());
        subscription.in_flight -= usize::from(leased);
        self.stage.progress.insert((key.0, key.1, queue));
        self.note_reader(key, queue);
        self.wake_after_end(key);
    }
}
