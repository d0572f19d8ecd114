//! Implements creating and deleting topics, consumer groups and subscriptions.

use crate::engine::Engine;
use crate::error::{Error, within};
use crate::format::codec::put_varint;
use crate::format::keys::{group_key, progress_key, seen_key, topic_key, totals_key};
use crate::format::record::seal;
use crate::ids::{GroupId, SubscriptionKey, TopicId};
use crate::place::HOUR_MS;
use crate::state::memory::Holder;
use crate::state::spec::{GroupSpec, TopicSpec};
use crate::state::subscription::Subscription;
use crate::store::{Space, Store};

impl<S: Store> Engine<S> {
    /// Creates a topic, or confirms that it exists with the same settings.
    pub fn create_topic(&mut self, spec: TopicSpec) -> Result<TopicId, Error> {
        spec.check()?;
        if let Some(id) = self.catalog.find_topic(&spec.name) {
            let known = self.catalog.topics.get(&id);
            let differs = known.map(|topic| topic.spec.differences(&spec));
            return match differs {
                Some(differs) if !differs.is_empty() => Err(Error::Exists {
                    what: "topic",
                    name: spec.name,
                    differs,
                }),
                _ => Ok(id),
            };
        }
        within(
            "topics",
            self.catalog.topics.len() + 1,
            self.config.limits.topics_max,
        )?;
        Ok(self.add_topic(spec))
    }

    pub(crate) fn add_topic(&mut self, spec: TopicSpec) -> TopicId {
        let id = self.head.next_topic;
        self.head.next_topic += 1;
        self.stage
            .batch
            .put(Space::Meta, &topic_key(id), |buffer| spec.encode(buffer));
        self.catalog.add_topic(id, spec);
        id
    }

    /// Creates a consumer group, or confirms that it exists with the same settings.
    pub fn create_group(&mut self, now_ms: u64, spec: GroupSpec) -> Result<GroupId, Error> {
        spec.check()?;
        if let Some(id) = self.catalog.find_group(&spec.name) {
            let known = self.catalog.groups.get(&id);
            let differs = known.map(|group| group.spec.differences(&spec));
            return match differs {
                Some(differs) if !differs.is_empty() => Err(Error::Exists {
                    what: "consumer group",
                    name: spec.name,
                    differs,
                }),
                _ => Ok(id),
            };
        }
        within(
            "consumer groups",
            self.catalog.groups.len() + 1,
            self.config.limits.groups_max,
        )?;
        let id = self.head.next_group;
        self.head.next_group += 1;
        self.stage.batch.put(Space::Meta, &group_key(id), |buffer| {
            spec.encode(now_ms, buffer);
        });
        self.catalog.add_group(id, spec, now_ms);
        Ok(id)
    }

    /// Deletes a topic; its messages go with their partitions, its number is never given again.
    pub fn delete_topic(&mut self, name: &str) -> Result<(), Error> {
        let id = self.catalog.topic_id(name)?;
        self.dedup.forget_topic(id);
        self.transactions.forget_topic(id);
        if let Some(topic) = self.catalog.remove_topic(id) {
            for (queue, _) in (0..).zip(&topic.queues) {
                self.memory.resize(Holder::Head(id, queue), 0);
            }
        }
        self.stage.batch.remove(Space::Meta, &topic_key(id));
        self.stage.batch.remove(Space::Meta, &totals_key(id));
        // What it takes on the disk is given back at once.
        self.partitions.purge(id);
        self.partitions.upkeep_by(self.stamp_ms);
        let keys: Vec<_> = self
            .subscriptions
            .keys()
            .filter(|(_, topic)| *topic == id)
            .copied()
            .collect();
        for key in keys {
            self.forget_subscription(key);
        }
        Ok(())
    }

    /// Deletes a consumer group with its positions and retries.
    pub fn delete_group(&mut self, name: &str) -> Result<(), Error> {
        let id = self.catalog.group_id(name)?;
        self.catalog.remove_group(id);
        self.stage.batch.remove(Space::Meta, &group_key(id));
        let keys: Vec<_> = self
            .subscriptions
            .keys()
            .filter(|(group, _)| *group == id)
            .copied()
            .collect();
        for key in keys {
            self.forget_subscription(key);
        }
        Ok(())
    }

    pub(crate) fn forget_subscription(&mut self, key: SubscriptionKey) {
        let Some(mut subscription) = self.subscriptions.remove(&key) else {
            return;
        };
        self.void_retries(key);
        if let Some(topic) = self.catalog.topics.get_mut(&key.1) {
            topic.readers.retain(|group| *group != key.0);
            topic.watchers.retain(|group| *group != key.0);
        }
        self.forget_held(key, subscription.queues.len());
        for (queue, _) in (0_u16..).zip(&subscription.queues) {
            self.stage.progress.remove(&(key.0, key.1, queue));
            self.stage
                .batch
                .remove(Space::Meta, &progress_key(key.0, key.1, queue));
        }
        if subscription.stored_seen_ms.is_some() {
            self.stage
                .batch
                .remove(Space::Meta, &seen_key(key.0, key.1));
        }
        self.wakes.unwatch(key);
        self.wakes
            .set_lease_end(key, &mut subscription.lease_end_ms, None);
    }

    pub(crate) fn add_subscription(&mut self, key: SubscriptionKey, subscription: Subscription) {
        self.subscriptions.insert(key, subscription);
        if let Some(topic) = self.catalog.topics.get_mut(&key.1) {
            topic.readers.push(key.0);
        }
    }
}

impl<S: Store> Engine<S> {
    /// Lets a group no longer read a topic: its position and its retries there are forgotten. A later receive begins
    /// anew.
    pub fn unsubscribe(&mut self, topic: &str, group: &str) -> Result<(), Error> {
        let key = (self.catalog.group_id(group)?, self.catalog.topic_id(topic)?);
        if !self.subscriptions.contains_key(&key) {
            return Err(Error::NotSubscribed {
                topic: topic.to_owned(),
                group: group.to_owned(),
            });
        }
        self.forget_subscription(key);
        Ok(())
    }

    /// Notes that a consumer of the group waits for messages of the topic, or has waited until now.
    pub fn note_waiting(&mut self, now_ms: u64, topic: &str, group: &str) {
        self.spend(1);
        let group = self.catalog.find_group(group);
        if let Some(key) = group.zip(self.catalog.find_topic(topic)) {
            self.note_seen(now_ms, key);
        }
    }

    /// Notes that a consumer of the group asked for something of the topic.
    pub(crate) fn note_seen(&mut self, now_ms: u64, key: SubscriptionKey) {
        let Some(state) = self.catalog.groups.get_mut(&key.0) else {
            return;
        };
        state.last_seen_ms = now_ms;
        let stores_group = now_ms.saturating_sub(state.stored_seen_ms) >= HOUR_MS;
        if stores_group {
            state.stored_seen_ms = now_ms;
            self.stage
                .batch
                .put(Space::Meta, &group_key(key.0), |buffer| {
                    state.spec.encode(now_ms, buffer);
                });
        }
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return;
        };
        subscription.seen_ms = now_ms;
        let stored_ms = subscription.stored_seen_ms;
        if stored_ms.is_some_and(|stored_ms| now_ms.saturating_sub(stored_ms) >= HOUR_MS) {
            self.store_seen(key);
        }
        if stores_group {
            self.store_seen_of_others(key);
        }
    }

    /// Writes when the other subscriptions of a group were seen, unless a row says it already: without one that of
    /// the group counts, which has just become later.
    fn store_seen_of_others(&mut self, key: SubscriptionKey) {
        let of_group = (key.0, TopicId::MIN)..=(key.0, TopicId::MAX);
        let others = self.subscriptions.range(of_group);
        let others = others.filter(|(other, sub)| **other != key && sub.stored_seen_ms.is_none());
        let others: Vec<_> = others.map(|(other, _)| *other).collect();
        for other in others {
            self.store_seen(other);
        }
    }

    fn store_seen(&mut self, key: SubscriptionKey) {
        if let Some(subscription) = self.subscriptions.get_mut(&key) {
            let seen_ms = subscription.seen_ms;
            subscription.stored_seen_ms = Some(seen_ms);
            let row_key = seen_key(key.0, key.1);
            self.stage.batch.put(Space::Meta, &row_key, |buffer| {
                seal(buffer, |buffer| put_varint(buffer, seen_ms));
            });
        }
    }
}
