//! Implements the copy of a message to the dead-letter topic of its group, once its deliveries are used up.

use crate::delivery::append::Target;
use crate::engine::Engine;
use crate::ids::{SubscriptionKey, TopicKind};
use crate::limits::KEYS_MAX;
use crate::message::Message;
use crate::place::{InQueue, Place};
use crate::state::spec::TopicSpec;
use crate::state::subscription::RetryRow;
use crate::store::{Store, StoreError};

/// Property of a dead letter: the topic it came from.
pub const DEAD_LETTER_TOPIC_PROPERTY: &str = "DLQ_ORIGIN_TOPIC";
/// Property of a dead letter: the id of the message it is a copy of.
pub const DEAD_LETTER_ID_PROPERTY: &str = "DLQ_ORIGIN_MESSAGE_ID";
/// Property of a dead letter: how often it had been delivered.
pub const DEAD_LETTER_ATTEMPTS_PROPERTY: &str = "DLQ_ATTEMPTS";

impl<S: Store> Engine<S> {
    pub(crate) fn dead_letter_retry(
        &mut self,
        now_ms: u64,
        key: SubscriptionKey,
        retry: Place,
        row: &RetryRow,
    ) -> Result<(), StoreError> {
        match &row.inline {
            Some(_) => match self.message_of_row(key, retry, row)? {
                Some(message) => self.append_dead_letter(now_ms, key, &message, row.attempt),
                None => self.note_missing((key.1, row.queue, row.place)),
            },
            None => self.copy_to_dead_letters(now_ms, key, (row.queue, row.place), row.attempt)?,
        }
        self.remove_retry(key, retry, row);
        Ok(())
    }

    /// Copies a message to the dead-letter topic of the group.
    pub(crate) fn copy_to_dead_letters(
        &mut self,
        now_ms: u64,
        key: SubscriptionKey,
        (queue, place): InQueue,
        attempts: u16,
    ) -> Result<(), StoreError> {
        match self.find_message(key.1, queue, place)? {
            Some(message) => self.append_dead_letter(now_ms, key, &message, attempts),
            None => self.note_missing((key.1, queue, place)),
        }
        Ok(())
    }

    pub(crate) fn append_dead_letter(
        &mut self,
        now_ms: u64,
        key: SubscriptionKey,
        message: &Message,
        attempts: u16,
    ) {
        let Some(name) = self
            .catalog
            .groups
            .get(&key.0)
            .map(|group| group.spec.dead_letter_topic())
        else {
            return;
        };
        let origin = self
            .catalog
            .topics
            .get(&key.1)
            .map(|topic| topic.spec.name.clone())
            .unwrap_or_default();
        let topic = match self.catalog.find_topic(&name) {
            Some(topic) => topic,
            None => self.add_topic(TopicSpec::new(name, TopicKind::Normal)),
        };
        let mut copy = message.clone();
        copy.message_group = None;
        copy.keys.truncate(KEYS_MAX);
        copy.properties
            .retain(|(name, _)| !name.starts_with("DLQ_"));
        copy.properties
            .push((DEAD_LETTER_TOPIC_PROPERTY.into(), origin));
        copy.properties
            .push((DEAD_LETTER_ID_PROPERTY.into(), message.message_id.clone()));
        copy.properties
            .push((DEAD_LETTER_ATTEMPTS_PROPERTY.into(), attempts.to_string()));
        copy.stored_ms = now_ms;
        // A dead letter is a message of its own: the sequence it gets becomes its identity.
        copy.identity = self.head.next_sequence;
        self.append_moved(
            now_ms,
            Target {
                topic,
                queue: 0,
                due_ms: now_ms,
            },
            &copy,
            false,
        );
        self.counters.tallies.dead_letters += 1;
    }
}
