//! Implements deduplication of sends: what was stored under a message id, also before a restart.

use crate::engine::Engine;
use crate::error::Error;
use crate::format::handle::MessageHandle;
use crate::format::hash::text_hash;
use crate::format::keys::{index_span, place_of_index_key};
use crate::ids::TopicId;
use crate::limits::{REPEAT_PARTITIONS_MAX, REPEAT_ROWS_MAX};
use crate::message::{Message, NewMessage};
use crate::place::{InQueue, PartitionId};
use crate::state::dedup::{Seen, Stored, content};
use crate::store::{Space, Store, StoreError};

/// How far from its due time a message is looked for, beyond the window, in ms.
const NEAR_MS: u64 = 1_000;

/// A send whose message id is looked for.
#[derive(Clone, Copy)]
pub(crate) struct Attempt<'a> {
    topic: TopicId,
    message_id: &'a str,
    content: u64,
}

impl Attempt<'_> {
    /// The error that another message has the id.
    pub(crate) fn taken(&self, now_ms: u64, seen: Seen) -> Error {
        Error::IdTaken {
            message_id: self.message_id.to_owned(),
            ago_s: now_ms.saturating_sub(seen.at_ms) / 1_000,
        }
    }
}

impl<S: Store> Engine<S> {
    /// A send as it is looked for; `None` if it is not recognised: the producer chose no id, or the topic holds dead
    /// letters or retries, which carry the ids of others.
    pub(crate) fn attempt<'a>(
        &self,
        topic: TopicId,
        message: &'a NewMessage,
    ) -> Option<Attempt<'a>> {
        let message_id = message.message_id.as_deref()?;
        let spec = &self.catalog.topics.get(&topic)?.spec;
        let counted = self.config.limits.repeat_window_sends > 0;
        (counted && !spec.name.starts_with('%')).then(|| Attempt {
            topic,
            message_id,
            content: content(message),
        })
    }

    /// What an earlier send of the same message stored, if that was within the window; an error if it was another
    /// message.
    pub(crate) fn stored_before(
        &mut self,
        now_ms: u64,
        attempt: Attempt<'_>,
        due_ms: u64,
    ) -> Result<Option<Seen>, Error> {
        let oldest_ms = self.oldest_ms(now_ms);
        let found = self
            .dedup
            .find(oldest_ms, attempt.topic, attempt.message_id);
        let found = match found {
            None if self.dedup.reaches_earlier_run(oldest_ms) => {
                self.look_up(now_ms, attempt, due_ms)?
            }
            found => found,
        };
        match found {
            Some(seen) if seen.content != attempt.content => Err(attempt.taken(now_ms, seen)),
            found => Ok(found),
        }
    }

    /// Remembers what a send has stored.
    pub(crate) fn remember(&mut self, now_ms: u64, attempt: Attempt<'_>, stored: Stored) {
        let seen = Seen {
            at_ms: now_ms,
            content: attempt.content,
            stored,
        };
        self.remember_seen(now_ms, attempt, seen);
    }

    fn remember_seen(&mut self, now_ms: u64, attempt: Attempt<'_>, seen: Seen) {
        let oldest_ms = self.oldest_ms(now_ms);
        let named = (attempt.topic, attempt.message_id);
        self.dedup
            .remember(oldest_ms, &self.config.limits, named, seen);
    }

    fn oldest_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.config.limits.repeat_window_ms)
    }

    /// Looks into the index for a message that an earlier run has stored within the window.
    ///
    /// What this run stores is in memory, so nothing has to be applied first. An exception is a message that this
    /// group of changes has moved or cancelled: its rows are looked at again afterwards.
    fn look_up(
        &mut self,
        now_ms: u64,
        attempt: Attempt<'_>,
        due_ms: u64,
    ) -> Result<Option<Seen>, StoreError> {
        let topic = self.catalog.topics.get(&attempt.topic);
        if !topic.is_some_and(|topic| topic.spec.indexed) {
            return Ok(None);
        }
        let partitions = self.partitions_near(attempt.topic, due_ms);
        let mut places = self.indexed_places(attempt, &partitions)?;
        let changed = |(_, place): &InQueue| self.stage.removed.contains(&place.sequence);
        if places.iter().any(changed) {
            self.apply(now_ms)?;
            places = self.indexed_places(attempt, &partitions)?;
        }
        let oldest_ms = self.oldest_ms(now_ms);
        for (queue, place) in places {
            let message = self.find_message(attempt.topic, queue, place)?;
            let is_first = |message: &Message| {
                message.message_id == attempt.message_id && message.stored_ms >= oldest_ms
            };
            let Some(message) = message.filter(is_first) else {
                continue;
            };
            let seen = Seen {
                at_ms: message.stored_ms,
                content: content(&message),
                stored: Stored::Message(MessageHandle {
                    topic: attempt.topic,
                    queue,
                    place,
                    identity: message.identity,
                }),
            };
            self.remember_seen(now_ms, attempt, seen);
            return Ok(Some(seen));
        }
        Ok(None)
    }

    /// Partitions in which a message may be that was sent within the window to be due at about `due_ms`. All that
    /// hold something of the topic, if they are few: it may have been moved.
    fn partitions_near(&self, topic: TopicId, due_ms: u64) -> Vec<PartitionId> {
        let mut partitions = self.partitions.holding(topic);
        if partitions.len() > REPEAT_PARTITIONS_MAX {
            let near_ms = self.config.limits.repeat_window_ms.saturating_add(NEAR_MS);
            let (from_ms, to_ms) = (
                due_ms.saturating_sub(near_ms),
                due_ms.saturating_add(NEAR_MS),
            );
            partitions.retain(|one| one.end_ms() > from_ms && one.start_ms() <= to_ms);
        }
        partitions
    }

    /// Where the index has messages with this id or key.
    fn indexed_places(
        &mut self,
        attempt: Attempt<'_>,
        partitions: &[PartitionId],
    ) -> Result<Vec<InQueue>, StoreError> {
        let (from, to) = index_span(attempt.topic, text_hash(attempt.message_id));
        let mut places = Vec::new();
        for partition in partitions {
            let space = Space::Partition(*partition);
            for row in self.store.scan(space, &from, &to)?.take(REPEAT_ROWS_MAX) {
                let (key, _) = row?;
                let place = place_of_index_key(&key, partition.level);
                places.extend(place.map(|(place, queue)| (queue, place)));
            }
        }
        self.spend(4 * partitions.len() as u64);
        Ok(places)
    }
}
