//! Implements statistics of topics and groups, and the search for messages.

use std::sync::Arc;

use crate::engine::Engine;
use crate::error::Error;
use crate::format::handle::MessageHandle;
use crate::format::hash::text_hash;
use crate::format::keys::{index_span, place_of_index_key};
use crate::format::message_id::place_of_made_id;
use crate::ids::TopicId;
use crate::limits::READ_MESSAGES_MAX;
use crate::message::Message;
use crate::place::Place;
use crate::state::spec::{GroupSpec, TopicSpec};
use crate::store::{Space, Store};

/// What is known of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicStats {
    /// How it was created.
    pub spec: TopicSpec,
    /// Messages on disk whose due time is still ahead.
    pub waiting: u64,
    /// Whether that is exact; else messages that are due about now are taken as spread evenly over a minute, or longer
    /// if they were sent long before. They are counted one by one up to 256 of them.
    pub waiting_exact: bool,
    /// Messages on disk, waiting ones and retained ones.
    pub messages: u64,
    /// Bytes of their rows, as they were written: the store compresses them.
    pub bytes: u64,
    /// Messages ever stored.
    pub appended: u64,
    /// Messages ever taken out by a recall or a reschedule.
    pub removed: u64,
    /// Messages on disk that were found damaged since the start; they are not delivered.
    pub damaged: u64,
}

/// What is known of a consumer group on one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStats {
    /// How the group was created.
    pub spec: GroupSpec,
    /// Due and not yet delivered, also those of a FIFO group that wait for one before them.
    pub ready: u64,
    /// Whether that is exact; some hundreds are, more are estimated.
    pub ready_exact: bool,
    /// With a consumer now; of more than 4,096 in one queue the first ones count as retrying.
    pub in_flight: u64,
    /// On the retry timeline or, in a FIFO group, failed in their place: to be delivered again, with a consumer or not.
    pub retrying: u64,
    /// In the dead-letter topic.
    pub dead_letters: u64,
    /// For each message queue the due time up to which everything is done, in ms.
    pub acked_ms: Vec<u64>,
    /// When a consumer of the group was last here, in ms.
    pub last_seen_ms: u64,
}

/// A message that was found, with its handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The message.
    pub message: Arc<Message>,
    /// Names it, to recall or reschedule it.
    pub handle: MessageHandle,
}

impl<S: Store> Engine<S> {
    /// Names of all topics, sorted.
    pub fn topics(&self) -> Vec<String> {
        let mut names: Vec<_> = self
            .catalog
            .topics
            .values()
            .map(|topic| topic.spec.name.clone())
            .collect();
        names.sort_unstable();
        names
    }

    /// Names of all consumer groups, sorted.
    pub fn groups(&self) -> Vec<String> {
        let mut names: Vec<_> = self
            .catalog
            .groups
            .values()
            .map(|group| group.spec.name.clone())
            .collect();
        names.sort_unstable();
        names
    }

    /// How many messages of a topic wait, and how many are on disk.
    pub fn topic_stats(&self, now_ms: u64, topic: &str) -> Result<TopicStats, Error> {
        let id = self.catalog.topic_id(topic)?;
        let (waiting, waiting_exact) = self.count_ahead(id, now_ms)?;
        let state = self
            .catalog
            .topics
            .get(&id)
            .ok_or_else(|| Error::TopicNotFound {
                topic: topic.to_owned(),
            })?;
        let messages = self.stored_count(id);
        Ok(TopicStats {
            spec: state.spec.clone(),
            waiting,
            waiting_exact,
            messages,
            bytes: state.totals.bytes,
            appended: state.totals.appended,
            removed: state.totals.removed,
            damaged: self.damaged.of_topic(id).count() as u64,
        })
    }

    /// How far a group has come on a topic.
    pub fn group_stats(&self, now_ms: u64, topic: &str, group: &str) -> Result<GroupStats, Error> {
        let topic_id = self.catalog.topic_id(topic)?;
        let group_id = self.catalog.group_id(group)?;
        let not_found = || Error::GroupNotFound {
            group: group.to_owned(),
        };
        let state = self.catalog.groups.get(&group_id).ok_or_else(not_found)?;
        let dead_letters = self
            .catalog
            .find_topic(&state.spec.dead_letter_topic())
            .map_or(0, |id| self.stored_count(id));
        let mut answer = GroupStats {
            spec: state.spec.clone(),
            ready: 0,
            ready_exact: true,
            in_flight: 0,
            retrying: 0,
            dead_letters,
            acked_ms: Vec::new(),
            last_seen_ms: state.last_seen_ms,
        };
        let Some(subscription) = self.subscriptions.get(&(group_id, topic_id)) else {
            let (waiting, exact) = self.count_ahead(topic_id, now_ms)?;
            answer.ready = self.stored_count(topic_id).saturating_sub(waiting);
            answer.ready_exact = exact;
            return Ok(answer);
        };
        answer.acked_ms = subscription
            .queues
            .iter()
            .map(|progress| progress.position().due_ms)
            .collect();
        answer.in_flight = subscription.in_flight as u64;
        answer.retrying = subscription.retrying;
        if state.spec.fifo {
            let slots = subscription.queues.iter().flat_map(|queue| &queue.slots);
            answer.retrying += slots.filter(|slot| slot.has_failed()).count() as u64;
        }
        (answer.ready, answer.ready_exact) = self.count_ready(now_ms, (group_id, topic_id))?;
        Ok(answer)
    }

    /// The next messages of a topic by due time, without delivering them.
    pub fn peek(
        &mut self,
        now_ms: u64,
        topic: &str,
        messages_max: usize,
    ) -> Result<Vec<Found>, Error> {
        let after = Place::end_of(now_ms);
        Ok(self.browse(now_ms, topic, after, messages_max)?.found)
    }

    /// Messages of a topic with this message id, or with this key.
    ///
    /// Topics that are not indexed know only ids the broker made.
    pub fn find(&mut self, now_ms: u64, topic: &str, id_or_key: &str) -> Result<Vec<Found>, Error> {
        let id = self.catalog.topic_id(topic)?;
        self.apply(now_ms)?;
        let matches = |message: &Message| {
            message.message_id == id_or_key || message.keys.iter().any(|key| key == id_or_key)
        };
        let mut found = Vec::new();
        if let Some((queue, place)) = place_of_made_id(id_or_key) {
            let place = if self.find_message(id, queue, place)?.is_some() {
                Some(place)
            } else {
                let moved = self.moved_to(id, place.sequence)?;
                moved.map(|moved| moved.place)
            };
            let message = place
                .map(|place| self.find_message(id, queue, place))
                .transpose()?
                .flatten();
            found.extend(
                message
                    .filter(|message| matches(message))
                    .map(|message| found_in(id, queue, message)),
            );
        }
        let (from, to) = index_span(id, text_hash(id_or_key));
        for partition in self.partitions.holding(id) {
            let rows = self.store.scan(Space::Partition(partition), &from, &to)?;
            let keys: Vec<_> = rows.take(READ_MESSAGES_MAX).collect::<Result<_, _>>()?;
            for (key, _) in keys {
                let Some((place, queue)) = place_of_index_key(&key, partition.level) else {
                    continue;
                };
                let message = self.find_message(id, queue, place)?;
                found.extend(
                    message
                        .filter(|message| matches(message))
                        .map(|message| found_in(id, queue, message)),
                );
            }
        }
        found.sort_by_key(|found| found.message.place);
        found.dedup_by_key(|found| found.message.place);
        found.truncate(READ_MESSAGES_MAX);
        Ok(found)
    }
}

pub(crate) fn found_in(topic: TopicId, queue: u16, message: Message) -> Found {
    let handle = MessageHandle {
        topic,
        queue,
        place: message.place,
        identity: message.identity,
    };
    Found {
        message: Arc::new(message),
        handle,
    }
}
