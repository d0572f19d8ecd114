//! Implements keyed timers: at most one message waits under a key, and setting it again moves it.

use bytes::Bytes;

use crate::commands::recall::{Recall, Reschedule};
use crate::commands::stats::{Found, found_in};
use crate::engine::Engine;
use crate::error::{Error, within};
use crate::format::hash::text_hash;
use crate::format::keys::{index_key, index_span, place_of_index_key};
use crate::ids::TopicId;
use crate::limits::{TIMER_KEY_BYTES_MAX, TIMER_ROWS_MAX};
use crate::message::{Delivery, Message, NewMessage, Sent};
use crate::place::Place;
use crate::store::{Space, Store};

/// Property of a timer's message: its key. It distinguishes a timer from any other message with that key.
pub const TIMER_PROPERTY: &str = "TIMER_KEY";

/// What a timer brings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimerContent {
    /// The payload. Without one a timer that waits keeps all it brings, and a new one brings an empty one.
    pub body: Option<Bytes>,
    /// What consumers may filter by.
    pub tag: Option<String>,
    /// User properties.
    pub properties: Vec<(String, String)>,
    /// The message group, on topics that want one; it cannot be changed while the timer waits.
    pub message_group: Option<String>,
}

/// What came of setting a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerSet {
    /// The message that waits now.
    pub sent: Sent,
    /// Whether none had waited under this key.
    pub created: bool,
}

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Timer {
    /// It waits.
    Waiting(Found),
    /// Its time has come, and its message is still kept.
    Due(Found),
    /// There is none: it was never set, was cancelled, or was due too long ago.
    Unknown,
}

impl<S: Store> Engine<S> {
    /// What is known of the timer under a key.
    pub fn timer(&mut self, now_ms: u64, topic: &str, key: &str) -> Result<Timer, Error> {
        let now_ms = self.stamp(now_ms);
        let id = self.catalog.topic_id(topic)?;
        if let Some(found) = self.waiting_timer(now_ms, id, key)? {
            return Ok(Timer::Waiting(found));
        }
        // One that was set while the topic was indexed is still found.
        if let Some(found) = self.due_timer(now_ms, id, key)? {
            return Ok(Timer::Due(found));
        }
        self.check_indexed(id)?;
        Ok(Timer::Unknown)
    }

    /// Sets the timer under a key, in one commit: makes it, or moves the one that waits.
    ///
    /// A timer that is moved keeps its message id.
    pub fn set_timer(
        &mut self,
        now_ms: u64,
        (topic, key): (&str, &str),
        delivery: Delivery,
        content: TimerContent,
    ) -> Result<TimerSet, Error> {
        let now_ms = self.stamp(now_ms);
        if key.is_empty() {
            return Err(Error::Invalid {
                field: "key",
                reason: "must not be empty",
            });
        }
        within("key", key.len(), TIMER_KEY_BYTES_MAX)?;
        let id = self.topic_for_send(topic)?;
        let keeps_content = content.body.is_none();
        let message = new_message(key, delivery, content);
        if let Some(found) = self.waiting_timer(now_ms, id, key)? {
            if !keeps_content {
                self.check_fields(&message)?;
            }
            let change = |waiting: &mut Message| {
                if !keeps_content {
                    waiting.body = message.body;
                    waiting.tag = message.tag;
                    waiting.properties = message.properties;
                }
            };
            let moved = self.reschedule_as(now_ms, &found.handle, delivery, change)?;
            if let Reschedule::Moved(sent) = moved {
                self.counters.traffic.rescheduled += 1;
                return Ok(TimerSet {
                    sent,
                    created: false,
                });
            }
            return Err(Error::MessageNotFound);
        }
        self.check_indexed(id)?;
        let sent = self.send(now_ms, topic, &message)?;
        Ok(TimerSet {
            sent,
            created: true,
        })
    }

    /// Cancels the timer under a key, and answers what became of it.
    pub fn cancel_timer(&mut self, now_ms: u64, topic: &str, key: &str) -> Result<Recall, Error> {
        match self.timer(now_ms, topic, key)? {
            Timer::Waiting(found) => self.recall(now_ms, &found.handle),
            Timer::Due(_) => Ok(Recall::TooLate),
            Timer::Unknown => Ok(Recall::Unknown),
        }
    }

    fn check_indexed(&self, topic: TopicId) -> Result<(), Error> {
        match self.catalog.topics.get(&topic) {
            Some(topic) if !topic.spec.indexed => Err(Error::Invalid {
                field: "topic",
                reason: "must be indexed for keyed timers",
            }),
            _ => Ok(()),
        }
    }

    /// The timer of a key that can still be recalled or moved.
    fn waiting_timer(
        &mut self,
        now_ms: u64,
        topic: TopicId,
        key: &str,
    ) -> Result<Option<Found>, Error> {
        let settled_ms = self.settled_ms(now_ms);
        self.apply(now_ms)?;
        let (_, to) = index_span(topic, text_hash(key));
        let from = index_key(topic, text_hash(key), Place::end_of(settled_ms), 0);
        for partition in self.partitions.holding(topic) {
            if partition.end_ms() <= settled_ms {
                continue;
            }
            let rows = self.store.scan(Space::Partition(partition), &from, &to)?;
            let rows: Vec<_> = rows.take(TIMER_ROWS_MAX).collect::<Result<_, _>>()?;
            for (row_key, _) in rows {
                let place = place_of_index_key(&row_key, partition.level);
                let found = self.timer_at(topic, key, place)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        Ok(None)
    }

    /// The last timer of a key whose time has come.
    fn due_timer(
        &mut self,
        now_ms: u64,
        topic: TopicId,
        key: &str,
    ) -> Result<Option<Found>, Error> {
        let settled_ms = self.settled_ms(now_ms);
        let (from, _) = index_span(topic, text_hash(key));
        let to = index_key(topic, text_hash(key), Place::end_of(settled_ms), 0);
        let mut places = Vec::new();
        for partition in self.partitions.holding(topic) {
            let rows = self.store.scan(Space::Partition(partition), &from, &to)?;
            for row in rows.take(TIMER_ROWS_MAX) {
                let (row_key, _) = row?;
                places.extend(place_of_index_key(&row_key, partition.level));
            }
        }
        places.sort_unstable();
        for place in places.into_iter().rev().take(TIMER_ROWS_MAX) {
            let found = self.timer_at(topic, key, Some(place))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The message at a place if it is the timer of this key.
    fn timer_at(
        &mut self,
        topic: TopicId,
        key: &str,
        place: Option<(Place, u16)>,
    ) -> Result<Option<Found>, Error> {
        let Some((place, queue)) = place else {
            return Ok(None);
        };
        let message = self.find_message(topic, queue, place)?;
        let is_timer = |message: &Message| {
            let mut properties = message.properties.iter();
            properties.any(|(name, value)| name == TIMER_PROPERTY && value == key)
        };
        Ok(message
            .filter(is_timer)
            .map(|message| found_in(topic, queue, message)))
    }
}

fn new_message(key: &str, delivery: Delivery, content: TimerContent) -> NewMessage {
    let mut properties = content.properties;
    properties.retain(|(name, _)| name != TIMER_PROPERTY);
    properties.push((TIMER_PROPERTY.to_owned(), key.to_owned()));
    NewMessage {
        body: content.body.unwrap_or_default(),
        message_id: None,
        tag: content.tag,
        keys: vec![key.to_owned()],
        properties,
        message_group: content.message_group,
        born_ms: 0,
        delivery,
    }
}
