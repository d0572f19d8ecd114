//! Implements sending: checks, due times, the choice of the queue, the rows of a new message.

use std::sync::Arc;

use crate::engine::Engine;
use crate::error::{Error, within};
use crate::format::handle::{MessageHandle, made_message_id};
use crate::format::record::{MessageFields, TopicId, index_key, timeline_key};
use crate::limits::{
    KEY_BYTES_MAX, KEYS_MAX, MESSAGE_GROUP_BYTES_MAX, MESSAGE_ID_BYTES_MAX, PROPERTIES_BYTES_MAX,
    PROPERTIES_MAX, TAG_BYTES_MAX,
};
use crate::message::{Delivery, Message, NewMessage};
use crate::place::{PartitionId, Place};
use crate::state::catalog::{TopicKind, TopicSpec};
use crate::store::{Space, Store};

/// Where a sent message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Names the message, to recall or reschedule it.
    pub handle: MessageHandle,
    /// Whether it was stored before, by an earlier send with the same message id.
    pub repeated: bool,
}

impl Sent {
    /// When it may be delivered, in ms of the engine clock.
    pub fn due_ms(&self) -> u64 {
        self.handle.place.due_ms
    }

    /// The id the broker gives the message when its producer gave none.
    pub fn made_message_id(&self) -> String {
        made_message_id(self.handle.queue, self.handle.place)
    }
}

/// A place in a queue, before the message has one in time.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) topic: TopicId,
    pub(crate) queue: u16,
    pub(crate) due_ms: u64,
}

impl<S: Store> Engine<S> {
    /// Stores a message.
    ///
    /// A due time already passed counts as now. The message lies in the store once
    /// [`Engine::pending_epoch`] is durable; only then may the producer be told.
    pub fn send(&mut self, now_ms: u64, topic: &str, message: &NewMessage) -> Result<Sent, Error> {
        let now_ms = self.stamp(now_ms);
        self.check_fields(message)?;
        let due_ms = self.asked_due_ms(now_ms, message.delivery)?;
        let topic_id = self.topic_for_send(topic)?;
        self.check_kind(topic_id, message)?;
        let limits = &self.config.limits;
        let first = message
            .message_id
            .as_ref()
            .and_then(|message_id| self.repeats.find(now_ms, limits, topic_id, message_id));
        if let Some(first) = first {
            self.tallies.repeats += 1;
            return Ok(Sent {
                repeated: true,
                ..first
            });
        }
        self.check_room(topic_id)?;
        let queue = self.queue_for(topic_id, message.message_group.as_deref());
        let place = self.append_new(
            now_ms,
            Target {
                topic: topic_id,
                queue,
                due_ms,
            },
            message,
        );
        let handle = MessageHandle {
            topic: topic_id,
            queue,
            place,
            identity: place.sequence,
        };
        let sent = Sent {
            handle,
            repeated: false,
        };
        self.traffic.sent += 1;
        if let Some(message_id) = &message.message_id {
            self.repeats
                .remember(now_ms, &self.config.limits, message_id, sent);
        }
        Ok(sent)
    }

    pub(crate) fn topic_for_send(&mut self, topic: &str) -> Result<TopicId, Error> {
        if let Some(id) = self.catalog.find_topic(topic) {
            return Ok(id);
        }
        match self.config.auto_topic {
            Some((kind, queues)) => {
                self.create_topic(TopicSpec::new(topic, kind).with_queues(queues))
            }
            None => Err(Error::TopicNotFound {
                topic: topic.to_owned(),
            }),
        }
    }

    pub(crate) fn check_fields(&self, message: &NewMessage) -> Result<(), Error> {
        within(
            "body",
            message.body.len(),
            self.config.limits.body_bytes_max,
        )?;
        within(
            "message_id",
            message.message_id.as_ref().map_or(0, String::len),
            MESSAGE_ID_BYTES_MAX,
        )?;
        within(
            "tag",
            message.tag.as_ref().map_or(0, String::len),
            TAG_BYTES_MAX,
        )?;
        within(
            "message_group",
            message.message_group.as_ref().map_or(0, String::len),
            MESSAGE_GROUP_BYTES_MAX,
        )?;
        within("keys", message.keys.len(), KEYS_MAX)?;
        for key in &message.keys {
            within("key", key.len(), KEY_BYTES_MAX)?;
        }
        within("properties", message.properties.len(), PROPERTIES_MAX)?;
        let bytes = message
            .properties
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        within("properties in bytes", bytes, PROPERTIES_BYTES_MAX)?;
        let empty = |text: &Option<String>| text.as_ref().is_some_and(String::is_empty);
        if empty(&message.message_id) || empty(&message.message_group) || empty(&message.tag) {
            return Err(Error::Invalid {
                field: "message_id, message_group or tag",
                reason: "must not be empty when given",
            });
        }
        Ok(())
    }

    fn check_kind(&self, topic: TopicId, message: &NewMessage) -> Result<(), Error> {
        let Some(spec) = self.catalog.topics.get(&topic).map(|topic| &topic.spec) else {
            return Ok(());
        };
        let delayed = match message.delivery {
            Delivery::Now => false,
            Delivery::Level(level) => level > 0,
            Delivery::After { .. } | Delivery::At { .. } => true,
        };
        let found = match (message.message_group.is_some(), delayed) {
            (true, _) => TopicKind::Fifo,
            (false, true) => TopicKind::Delay,
            (false, false) => TopicKind::Normal,
        };
        let fits = match spec.kind {
            TopicKind::Mixed => true,
            TopicKind::Fifo => found == TopicKind::Fifo,
            // A delay of nothing is still a delay: refusing it only surprises.
            TopicKind::Delay => found != TopicKind::Fifo,
            TopicKind::Normal => found == TopicKind::Normal,
            TopicKind::Transaction => false,
        };
        if fits {
            Ok(())
        } else {
            Err(Error::WrongKind {
                topic: spec.name.clone(),
                expected: spec.kind,
                found,
            })
        }
    }

    /// The due time a delivery asks for, not before now.
    pub(crate) fn asked_due_ms(&self, now_ms: u64, delivery: Delivery) -> Result<u64, Error> {
        let limit = self.config.limits.delay_ms_max;
        let delay_ms = match delivery {
            Delivery::Now => 0,
            Delivery::After { delay_ms } => delay_ms,
            Delivery::At { due_ms } => due_ms.saturating_sub(now_ms),
            Delivery::Level(level) => self.config.levels.delay_ms(level),
        };
        if delay_ms > limit {
            return Err(Error::OverLimit {
                field: "delay in ms",
                found: delay_ms,
                limit,
            });
        }
        now_ms.checked_add(delay_ms).ok_or(Error::OverLimit {
            field: "delay in ms",
            found: delay_ms,
            limit,
        })
    }

    pub(crate) fn check_room(&self, topic: TopicId) -> Result<(), Error> {
        let reserve_bytes = self.config.limits.free_bytes_reserve;
        if self.free_bytes < reserve_bytes {
            return Err(Error::DiskReserve {
                free_bytes: self.free_bytes,
                reserve_bytes,
            });
        }
        let Some(topic) = self.catalog.topics.get(&topic) else {
            return Ok(());
        };
        match topic.spec.quota_bytes {
            Some(quota_bytes) if topic.totals.bytes >= quota_bytes => Err(Error::QuotaReached {
                topic: topic.spec.name.clone(),
                bytes: topic.totals.bytes,
                quota_bytes,
            }),
            _ => Ok(()),
        }
    }

    pub(crate) fn queue_for(&mut self, topic: TopicId, message_group: Option<&str>) -> u16 {
        let Some(topic) = self.catalog.topics.get_mut(&topic) else {
            return 0;
        };
        if let Some(group) = message_group {
            return u16::try_from(hash(group) % u64::from(topic.spec.queues)).unwrap_or(0);
        }
        let queue = topic.next_queue;
        topic.next_queue = (queue + 1) % topic.spec.queues;
        queue
    }

    pub(crate) fn append_new(
        &mut self,
        now_ms: u64,
        target: Target,
        message: &NewMessage,
    ) -> Place {
        let place = self.new_place(now_ms, target.due_ms);
        self.append_row(
            target,
            place,
            &MessageFields::of_new(message, place, now_ms),
        );
        let make = || Message {
            place,
            identity: place.sequence,
            message_id: message
                .message_id
                .clone()
                .unwrap_or_else(|| made_message_id(target.queue, place)),
            tag: message.tag.clone(),
            keys: message.keys.clone(),
            properties: message.properties.clone(),
            message_group: message.message_group.clone(),
            born_ms: message.born_ms,
            stored_ms: now_ms,
            body: message.body.clone(),
        };
        self.show_appended(target, place, make);
        place
    }

    /// Writes a stored message to another place, under a new sequence.
    pub(crate) fn append_moved(&mut self, now_ms: u64, target: Target, message: &Message) -> Place {
        let place = self.new_place(now_ms, target.due_ms);
        self.append_row(target, place, &MessageFields::of_stored(message, place));
        self.show_appended(target, place, || Message {
            place,
            ..message.clone()
        });
        place
    }

    /// A new place at `due_ms`, or as soon as anything may still be written.
    pub(crate) fn new_place(&mut self, now_ms: u64, due_ms: u64) -> Place {
        let earliest_ms = self.frontier.earliest_ms(now_ms);
        let due_ms = std::cmp::max(due_ms, earliest_ms);
        let sequence = self.head.next_sequence;
        self.head.next_sequence += 1;
        self.frontier.touch(due_ms);
        Place {
            due_ms,
            sequence,
            level: PartitionId::level_for(due_ms - earliest_ms),
        }
    }

    fn append_row(&mut self, target: Target, place: Place, fields: &MessageFields<'_>) {
        let partition = place.partition();
        let space = Space::Partition(partition);
        let key = timeline_key(target.topic, target.queue, place);
        let before = self.stage.batch.bytes();
        self.stage
            .batch
            .put(space, &key, |buffer| fields.encode(buffer));
        if self
            .catalog
            .topics
            .get(&target.topic)
            .is_some_and(|topic| topic.spec.indexed)
        {
            for text in fields
                .message_id
                .into_iter()
                .chain(fields.keys.iter().map(String::as_str))
            {
                let key = index_key(target.topic, hash(text), place, target.queue);
                self.stage.batch.put(space, &key, |_| ());
            }
        }
        let bytes = (self.stage.batch.bytes() - before) as u64;
        self.stage.appended.insert((target.topic, target.queue));
        if self.partitions.insert(partition) {
            let kept_until_ms = self.kept_until_ms(partition);
            self.next_upkeep_ms = std::cmp::min(self.next_upkeep_ms, kept_until_ms);
        }
        self.counts
            .entry((partition, target.topic))
            .or_default()
            .add(place, bytes);
        self.stage.counts.insert((partition, target.topic));
        if let Some(topic) = self.catalog.topics.get_mut(&target.topic) {
            topic.totals.appended += 1;
            topic.totals.bytes += bytes;
            self.stage.totals.insert(target.topic);
        }
    }

    /// Puts a new message into the head of its queue if it belongs there, and wakes who waits for it.
    fn show_appended(&mut self, target: Target, place: Place, make: impl FnOnce() -> Message) {
        let Some(topic) = self.catalog.topics.get_mut(&target.topic) else {
            return;
        };
        let Some(window) = topic.queues.get_mut(usize::from(target.queue)) else {
            return;
        };
        let before = window.bytes();
        window.insert(place, || {
            let message = Arc::new(make());
            let weight = message.weight();
            (message, weight)
        });
        self.head_bytes += window.bytes() - before;
        let limits = &self.config.limits;
        while window.len() > limits.head_messages_max
            || (self.head_bytes > limits.head_bytes_max && window.len() > 0)
        {
            let before = window.bytes();
            window.shrink(self.frontier.shown_ms());
            self.head_bytes -= before - window.bytes();
        }
        self.wake_topic(target.topic, place.due_ms);
    }
}

/// FNV-1a: a hash that is the same in every process and version, for queues and index rows.
pub(crate) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
