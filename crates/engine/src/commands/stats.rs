//! Implements statistics of topics and groups, and the search for messages.

use std::sync::Arc;

use crate::engine::Engine;
use crate::error::Error;
use crate::format::handle::MessageHandle;
use crate::format::hash::text_hash;
use crate::format::keys::{index_span, place_of_index_key};
use crate::format::message_id::place_of_made_id;
use crate::ids::TopicId;
use crate::limits::{EXACT_COUNT_MAX, READ_BYTES_MAX, READ_MESSAGES_MAX};
use crate::message::Message;
use crate::place::Place;
use crate::state::progress::Progress;
use crate::state::spec::{GroupSpec, TopicSpec};
use crate::state::topic::Counts;
use crate::state::window::Window;
use crate::store::{Space, Store, StoreError};

/// What is known of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicStats {
    /// How it was created.
    pub spec: TopicSpec,
    /// Messages on disk whose due time is still ahead. Estimated within a bucket of more than 256 messages.
    pub waiting: u64,
    /// Messages on disk, waiting ones and retained ones.
    pub messages: u64,
    /// Bytes of their rows.
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
    /// Due and not yet delivered. 0 is exact, so are few messages; many within one bucket are estimated.
    pub ready: u64,
    /// With a consumer now.
    pub in_flight: u64,
    /// On the retry timeline, with a consumer or not.
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
        let waiting = self.count_ahead(id, now_ms)?;
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
            in_flight: 0,
            retrying: 0,
            dead_letters,
            acked_ms: Vec::new(),
            last_seen_ms: state.last_seen_ms,
        };
        let stored = self.stored_count(topic_id);
        let Some(subscription) = self.subscriptions.get(&(group_id, topic_id)) else {
            answer.ready = stored.saturating_sub(self.count_ahead(topic_id, now_ms)?);
            return Ok(answer);
        };
        answer.in_flight = subscription.in_flight as u64;
        answer.retrying = subscription.retrying;
        answer.acked_ms = subscription
            .queues
            .iter()
            .map(|progress| progress.position().due_ms)
            .collect();
        let caught_up = |(queue, window): (usize, &Window<Arc<Message>>)| {
            subscription.queues.get(queue).is_some_and(|progress| {
                progress.ahead.is_empty()
                    && window.covers_after(progress.cursor)
                    && window
                        .next_due_ms(progress.cursor)
                        .is_none_or(|due_ms| due_ms > now_ms)
            })
        };
        let topic = self.catalog.topics.get(&topic_id).ok_or_else(not_found)?;
        if !topic.queues.iter().enumerate().all(caught_up) {
            let read: u64 = subscription
                .queues
                .iter()
                .map(|progress| progress.read)
                .sum();
            let unread = topic
                .totals
                .appended
                .saturating_sub(topic.totals.removed)
                .saturating_sub(read);
            let waiting = self.count_ahead(topic_id, now_ms)?;
            let damaged = self.damaged.of_topic(topic_id);
            let damaged = damaged.filter(|place| place.due_ms <= now_ms).count();
            let left = std::cmp::min(unread, stored).saturating_sub(waiting);
            answer.ready = left.saturating_sub(damaged as u64);
            let is_due = |due_ms: u64| due_ms <= now_ms;
            let some_due = |(progress, window): (&Progress, &Window<Arc<Message>>)| {
                let next = window.after(progress.cursor).next();
                !progress.ahead.is_empty()
                    || (window.covers_after(progress.cursor)
                        && next.is_some_and(|(place, _)| is_due(place.due_ms)))
            };
            if subscription.queues.iter().zip(&topic.queues).any(some_due) {
                answer.ready = std::cmp::max(answer.ready, 1);
            }
        }
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

    pub(crate) fn stored_count(&self, topic: TopicId) -> u64 {
        self.partitions
            .counts_of(topic)
            .map(|(_, counts)| counts.messages)
            .sum()
    }

    /// Messages of a topic on disk that are due by `now_ms`.
    pub(crate) fn count_due_by(&self, topic: TopicId, now_ms: u64) -> Result<u64, StoreError> {
        let ahead = self.count_ahead(topic, now_ms)?;
        Ok(self.stored_count(topic).saturating_sub(ahead))
    }

    /// Messages of a topic that are due after `now_ms`: those of the bucket that holds it are counted one by one if
    /// they are few, and else taken as spread evenly over it. What is not in the store yet is not counted one by one.
    fn count_ahead(&self, topic: TopicId, now_ms: u64) -> Result<u64, StoreError> {
        let mut ahead = 0;
        let mut present = Vec::new();
        for (partition, counts) in self.partitions.counts_of(topic) {
            let width_ms = Counts::bucket_ms(partition);
            let message_bytes = counts.bytes / std::cmp::max(counts.messages, 1);
            for (number, count) in (0_u64..).zip(&counts.buckets) {
                let count = u64::from(*count);
                let from_ms = partition.start_ms() + number * width_ms;
                let to_ms = from_ms + width_ms;
                let few = count > 0 && is_counted_singly(count, message_bytes);
                if few && (from_ms..to_ms).contains(&now_ms) {
                    present.push((partition, to_ms));
                } else {
                    ahead += ahead_of(now_ms, from_ms, width_ms, count);
                }
            }
        }
        for (partition, to_ms) in present {
            self.each_due(topic, partition, [now_ms, to_ms], |_| ahead += 1)?;
        }
        Ok(ahead)
    }
}

/// Whether messages of a bucket are counted one by one: they are few, and small together.
pub(crate) fn is_counted_singly(messages: u64, message_bytes: u64) -> bool {
    messages <= EXACT_COUNT_MAX && message_bytes.saturating_mul(messages) <= READ_BYTES_MAX as u64
}

/// How many of a bucket's messages are due after `now_ms`, as if they were spread evenly over it.
pub(crate) fn ahead_of(now_ms: u64, from_ms: u64, width_ms: u64, count: u64) -> u64 {
    if now_ms < from_ms {
        return count;
    }
    let left_ms = (from_ms + width_ms).saturating_sub(now_ms + 1);
    count * left_ms / std::cmp::max(width_ms, 1)
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
