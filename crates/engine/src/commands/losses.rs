//! Implements what is reported of messages that a group does not get: left out by a filter, by a reset, by a deletion.

use crate::engine::Engine;
use crate::error::Error;
use crate::ids::{SubscriptionKey, TopicId};
use crate::message::TagFilter;
use crate::place::HOUR_MS;
use crate::state::alarms::Alarm;
use crate::state::counters::Losses;
use crate::state::spec::DEAD_LETTER_PREFIX;
use crate::store::Store;

/// The least time between two reports about messages of a topic that were dropped, in ms.
const REPORT_EVERY_MS: u64 = HOUR_MS;

/// Messages that a group has not finished and no longer gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Messages not yet delivered, or with a consumer. Estimated within a bucket of many messages.
    pub messages: u64,
    /// Messages that failed and were to be delivered again.
    pub retrying: u64,
}

impl<S: Store> Engine<S> {
    /// What a reset of a group on a topic to `to_ms` would skip: messages due before it that the group has not
    /// finished, waiting ones too, and its retries, of which those due from `to_ms` on come again as new messages.
    pub fn skipped_by_reset(
        &mut self,
        now_ms: u64,
        topic: &str,
        group: &str,
        to_ms: u64,
    ) -> Result<Skipped, Error> {
        let now_ms = self.stamp(now_ms);
        let key = (self.catalog.group_id(group)?, self.catalog.topic_id(topic)?);
        self.apply(now_ms)?;
        let before_ms = to_ms.saturating_sub(1);
        let due_before = self.count_due_by(key.1, before_ms)?;
        let ahead = self.stored_count(key.1).saturating_sub(due_before);
        let unread = self.unread_count(key);
        let mut skipped = Skipped {
            messages: unread.saturating_sub(ahead),
            retrying: 0,
        };
        if let Some(subscription) = self.subscriptions.get(&key) {
            let slots = subscription.queues.iter().flat_map(|queue| &queue.slots);
            let open = slots.filter(|slot| slot.place.due_ms < to_ms).count();
            skipped.messages += open as u64;
            skipped.retrying = subscription.retrying;
        }
        Ok(skipped)
    }

    /// Messages on disk that a group has not read yet, waiting ones too.
    fn unread_count(&self, (group, topic): SubscriptionKey) -> u64 {
        let stored = self.stored_count(topic);
        let state = self.catalog.topics.get(&topic);
        let subscription = self.subscriptions.get(&(group, topic));
        let Some((state, subscription)) = state.zip(subscription) else {
            return stored;
        };
        let read: u64 = subscription.queues.iter().map(|queue| queue.read).sum();
        let left = state.totals.appended.saturating_sub(state.totals.removed);
        std::cmp::min(left.saturating_sub(read), stored)
    }

    /// What a group loses that no longer reads a topic: messages that are due, or in work.
    pub fn skipped_by_unsubscribe(
        &self,
        now_ms: u64,
        topic: &str,
        group: &str,
    ) -> Result<Skipped, Error> {
        let stats = self.group_stats(now_ms, topic, group)?;
        let key = (self.catalog.group_id(group)?, self.catalog.topic_id(topic)?);
        let subscription = self.subscriptions.get(&key);
        let leased = subscription.map_or(0, |subscription| subscription.retry_leases.len() as u64);
        Ok(Skipped {
            messages: stats.ready + stats.in_flight.saturating_sub(leased),
            retrying: stats.retrying,
        })
    }

    /// What is lost with a group that is deleted.
    pub fn skipped_by_deletion(&self, now_ms: u64, group: &str) -> Result<Skipped, Error> {
        let mut whole = Skipped::default();
        for topic in self.topics_of(group)? {
            let skipped = self.skipped_by_unsubscribe(now_ms, &topic, group)?;
            whole.messages += skipped.messages;
            whole.retrying += skipped.retrying;
        }
        Ok(whole)
    }

    /// Messages that a filter of the group has left out since the start.
    pub fn skipped_by_filter(&self, topic: &str, group: &str) -> u64 {
        let group = self.catalog.find_group(group);
        let key = group.zip(self.catalog.find_topic(topic));
        let subscription = key.and_then(|key| self.subscriptions.get(&key));
        subscription.map_or(0, |subscription| subscription.filters.skipped)
    }

    /// How many groups ask for a topic with filters that differ.
    pub fn differing_filters(&self, now_ms: u64) -> usize {
        let subscriptions = self.subscriptions.values();
        subscriptions
            .filter(|subscription| subscription.filters.differ(now_ms))
            .count()
    }

    /// Messages that were dropped unread since the start.
    pub fn losses(&self) -> Losses {
        self.counters.losses
    }

    /// Notes the filter of a receive, and reports one that is not that of the receive before.
    pub(crate) fn note_filter(&mut self, now_ms: u64, key: SubscriptionKey, filter: &TagFilter) {
        let Some(fingerprint) = filter.fingerprint() else {
            return;
        };
        let subscription = self.subscriptions.get_mut(&key);
        if subscription.is_none_or(|subscription| !subscription.filters.note(now_ms, fingerprint)) {
            return;
        }
        let group = self.catalog.groups.get(&key.0);
        self.alarms.raise(Alarm::FiltersDiffer {
            group: group.map_or_else(String::new, |group| group.spec.name.clone()),
            topic: self.topic_name(key.1).unwrap_or_default().to_owned(),
        });
    }

    /// Counts a message that a filter leaves out.
    pub(crate) fn note_skipped(&mut self, key: SubscriptionKey) {
        if let Some(subscription) = self.subscriptions.get_mut(&key) {
            subscription.filters.skipped += 1;
        }
    }

    /// Counts and reports messages that are dropped after their retention and that no group was there to read.
    pub(crate) fn note_dropped(&mut self, id: TopicId, messages: u64) {
        let topic = self.catalog.topics.get(&id);
        let Some(topic) = topic.filter(|topic| messages > 0 && topic.readers.is_empty()) else {
            return;
        };
        let name = topic.spec.name.clone();
        let losses = &mut self.counters.losses;
        let alarm = if let Some(group) = name.strip_prefix(DEAD_LETTER_PREFIX) {
            losses.dead_letters_dropped += messages;
            Alarm::DeadLettersDropped {
                group: group.to_owned(),
                messages,
            }
        } else {
            losses.never_read += messages;
            Alarm::NeverRead {
                topic: name,
                messages,
            }
        };
        if self.alarms.report_topic(self.stamp_ms, id, REPORT_EVERY_MS) {
            self.alarms.raise(alarm);
        }
    }
}
