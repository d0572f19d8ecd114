//! Implements send: checks, due times, deduplication, the choice of the queue.

use crate::delivery::append::Target;
use crate::engine::Engine;
use crate::error::{Error, within};
use crate::format::handle::MessageHandle;
use crate::format::hash::text_hash;
use crate::ids::{TopicId, TopicKind};
use crate::limits::{
    KEY_BYTES_MAX, KEYS_MAX, MESSAGE_GROUP_BYTES_MAX, MESSAGE_ID_BYTES_MAX, PROPERTIES_BYTES_MAX,
    PROPERTIES_MAX, TAG_BYTES_MAX,
};
use crate::message::{Delivery, NewMessage, Sent};
use crate::state::dedup::Stored;
use crate::state::spec::TopicSpec;
use crate::store::Store;

impl<S: Store> Engine<S> {
    /// Stores a message.
    ///
    /// A due time already passed counts as now. The message is stored once
    /// [`Engine::pending_epoch`] is durable; only then may the producer get the answer.
    pub fn send(&mut self, now_ms: u64, topic: &str, message: &NewMessage) -> Result<Sent, Error> {
        let now_ms = self.stamp(now_ms);
        self.check_fields(message)?;
        let due_ms = self.asked_due_ms(now_ms, message.delivery)?;
        let topic_id = self.topic_for_send(topic)?;
        self.check_kind(topic_id, message)?;
        let attempt = self.attempt(topic_id, message);
        if let Some(attempt) = attempt
            && let Some(first) = self.stored_before(now_ms, attempt, due_ms)?
        {
            let Stored::Message(handle) = first.stored else {
                return Err(attempt.taken(now_ms, first));
            };
            self.counters.tallies.repeats += 1;
            return Ok(Sent {
                handle,
                repeated: true,
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
        self.counters.traffic.sent += 1;
        if let Some(attempt) = attempt {
            self.remember(now_ms, attempt, Stored::Message(handle));
        }
        Ok(Sent {
            handle,
            repeated: false,
        })
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
        let properties = message.properties.iter();
        let bytes = properties
            .map(|(name, value)| name.len() + value.len())
            .chain(message.keys.iter().map(String::len))
            .chain(message.tag.iter().map(String::len))
            .sum();
        let field = "properties, tag and keys in bytes";
        within(field, bytes, PROPERTIES_BYTES_MAX)?;
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
        if self.disk.free_bytes() < reserve_bytes {
            return Err(Error::DiskReserve {
                free_bytes: self.disk.free_bytes(),
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
            return u16::try_from(text_hash(group) % u64::from(topic.spec.queues)).unwrap_or(0);
        }
        let queue = topic.next_queue;
        topic.next_queue = (queue + 1) % topic.spec.queues;
        queue
    }
}
