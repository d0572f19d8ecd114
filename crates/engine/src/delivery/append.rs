//! Implements appending: the rows of a new message, its counts, the head of its queue, the wake-up.

use std::sync::Arc;

use bytes::Bytes;

use crate::engine::Engine;
use crate::format::hash::text_hash;
use crate::format::keys::{index_key, timeline_key};
use crate::format::message_id::made_message_id;
use crate::format::record::MessageFields;
use crate::ids::TopicId;
use crate::message::{BodyDigest, Message, NewMessage};
use crate::place::{PartitionId, Place};
use crate::state::frontier::Line;
use crate::state::memory::Holder;
use crate::state::work::row_units;
use crate::store::{Space, Store};

/// A place in a queue, before the message has one in time.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) topic: TopicId,
    pub(crate) queue: u16,
    pub(crate) due_ms: u64,
}

impl Target {
    fn line(self) -> Line {
        Line::Queue(self.topic, self.queue)
    }
}

impl<S: Store> Engine<S> {
    pub(crate) fn append_new(
        &mut self,
        now_ms: u64,
        target: Target,
        message: &NewMessage,
    ) -> Place {
        let place = self.new_place(now_ms, target.due_ms, target.line());
        let fields = MessageFields::of_new(message, place, now_ms);
        self.append_row(target, place, &fields, self.is_indexed(target.topic));
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
            body: Bytes::copy_from_slice(&message.body),
            digest: BodyDigest::default(),
        };
        self.show_appended(target, place, make);
        place
    }

    /// Writes a stored message to another place, under a new sequence; it is indexed if `indexed` or if the topic is.
    pub(crate) fn append_moved(
        &mut self,
        now_ms: u64,
        target: Target,
        message: &Message,
        indexed: bool,
    ) -> Place {
        let place = self.new_place(now_ms, target.due_ms, target.line());
        let fields = MessageFields::of_stored(message, place);
        let indexed = indexed || self.is_indexed(target.topic);
        self.append_row(target, place, &fields, indexed);
        self.show_appended(target, place, || Message {
            place,
            body: Bytes::copy_from_slice(&message.body),
            ..message.clone()
        });
        place
    }

    /// A new place in a line at `due_ms`, or as soon as anything may still be written there.
    pub(crate) fn new_place(&mut self, now_ms: u64, due_ms: u64, line: Line) -> Place {
        let earliest_ms = self.frontier.earliest_ms(line, now_ms);
        let due_ms = std::cmp::max(due_ms, earliest_ms);
        let sequence = self.head.next_sequence;
        self.head.next_sequence += 1;
        self.frontier.touch(line, due_ms);
        Place {
            due_ms,
            sequence,
            level: PartitionId::level_for(due_ms - earliest_ms),
        }
    }

    fn is_indexed(&self, topic: TopicId) -> bool {
        let topic = self.catalog.topics.get(&topic);
        topic.is_some_and(|topic| topic.spec.indexed)
    }

    fn append_row(
        &mut self,
        target: Target,
        place: Place,
        fields: &MessageFields<'_>,
        indexed: bool,
    ) {
        let partition = place.partition();
        let space = Space::Partition(partition);
        let key = timeline_key(target.topic, target.queue, place);
        let before = self.stage.batch.bytes();
        self.stage
            .batch
            .put(space, &key, |buffer| fields.encode(buffer));
        if indexed {
            for text in fields
                .message_id
                .into_iter()
                .chain(fields.keys.iter().map(String::as_str))
            {
                let key = index_key(target.topic, text_hash(text), place, target.queue);
                self.stage.batch.put(space, &key, |_| ());
            }
        }
        let written = self.stage.batch.bytes() - before;
        self.spend(row_units(written));
        let bytes = written as u64;
        self.stage.appended.insert((target.topic, target.queue));
        if self.partitions.add(partition) {
            let kept_until_ms = self.config.kept_until_ms(partition);
            self.partitions.upkeep_by(kept_until_ms);
        }
        self.partitions.count_appended(target.topic, place, bytes);
        self.stage.counts.insert((partition, target.topic));
        if let Some(topic) = self.catalog.topics.get_mut(&target.topic) {
            topic.totals.appended += 1;
            topic.totals.bytes += bytes;
            self.stage.totals.insert(target.topic);
        }
    }

    /// Puts a new message into the head of its queue if it belongs there, and wakes who waits for it. Its body has to be
    /// a copy: a part of a request would keep all of the request in memory.
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
        while window.len() > self.config.limits.head_messages_max {
            window.shrink(self.frontier.shown_ms(target.line()));
        }
        if window.bytes() != before {
            let head = Holder::Head(target.topic, target.queue);
            self.memory.resize(head, window.bytes());
            self.make_room_for_head(target.topic, target.queue);
        }
        self.wake_topic(target.topic, place.due_ms);
    }
}
