//! Implements recovery: reads topics, groups, counts and positions, never messages.

use std::collections::{BTreeSet, HashMap};

use crate::engine::Engine;
use crate::format::codec::Reader;
use crate::format::keys::{
    counts_span, groups_span, pins_span, progress_span, retry_key, seen_span, topics_span,
    totals_span,
};
use crate::format::record::open;
use crate::ids::{SubscriptionKey, TopicId};
use crate::place::{PartitionId, Place};
use crate::state::spec::{GroupSpec, TopicSpec};
use crate::state::subscription::{NotedLease, ProgressRecord, RetryLease, RetryRow, Subscription};
use crate::state::topic::{Counts, Totals};
use crate::store::{Space, Store, StoreError};

impl<S: Store> Engine<S> {
    pub(crate) fn load_catalog(&mut self) -> Result<(), StoreError> {
        let (from, to) = topics_span();
        for row in self.store.scan(Space::Meta, &from, &to)? {
            let (key, value) = row?;
            let spec = open(Space::Meta, &key, &value, TopicSpec::read)?;
            self.catalog.add_topic(id_of_key(&key)?, spec);
        }
        let (from, to) = groups_span();
        for row in self.store.scan(Space::Meta, &from, &to)? {
            let (key, value) = row?;
            let (spec, last_seen_ms) = open(Space::Meta, &key, &value, GroupSpec::read)?;
            self.catalog.add_group(id_of_key(&key)?, spec, last_seen_ms);
        }
        let (from, to) = totals_span();
        for row in self.store.scan(Space::Meta, &from, &to)? {
            let (key, value) = row?;
            let totals = open(Space::Meta, &key, &value, Totals::read)?;
            if let Some(topic) = self.catalog.topics.get_mut(&id_of_key(&key)?) {
                topic.totals = totals;
            }
        }
        Ok(())
    }

    pub(crate) fn load_counts(&mut self) -> Result<(), StoreError> {
        let (from, to) = counts_span();
        let mut found = Vec::new();
        for partition in self.partitions.iter() {
            let space = Space::Partition(partition);
            for row in self.store.scan(space, &from, &to)? {
                let (key, value) = row?;
                let counts = open(space, &key, &value, Counts::read)?;
                found.push((partition, id_of_key(&key)?, counts));
            }
        }
        let mut stored: HashMap<TopicId, (u64, u64)> = HashMap::new();
        let topics = found.iter().map(|(_, topic, _)| *topic);
        let deleted: BTreeSet<_> = topics
            .filter(|topic| !self.catalog.topics.contains_key(topic))
            .collect();
        for (partition, topic, counts) in found {
            let (messages, bytes) = stored.entry(topic).or_default();
            *messages += counts.messages;
            *bytes += counts.bytes;
            self.partitions.restore_counts(partition, topic, counts);
        }
        for topic in deleted {
            self.partitions.purge(topic);
        }
        for (id, topic) in &mut self.catalog.topics {
            // The counts on disk give what was dropped with its partition, even if a crash came between.
            let (messages, bytes) = stored.get(id).copied().unwrap_or_default();
            topic.totals.bytes = bytes;
            topic.totals.dropped = topic
                .totals
                .appended
                .saturating_sub(topic.totals.removed)
                .saturating_sub(messages);
        }
        let (from, to) = pins_span();
        for row in self.store.scan(Space::Meta, &from, &to)? {
            let (key, value) = row?;
            let pins = open(Space::Meta, &key, &value, Reader::count)?;
            let level = key.last().copied().unwrap_or_default();
            let partition = PartitionId {
                start_hour: id_of_key(&key)?,
                level,
            };
            self.partitions.restore_pins(partition, pins);
        }
        Ok(())
    }

    pub(crate) fn load_progress(&mut self) -> Result<(), StoreError> {
        let (from, to) = progress_span();
        for row in self.store.scan(Space::Meta, &from, &to)? {
            let (key, value) = row?;
            let record = open(Space::Meta, &key, &value, ProgressRecord::read)?;
            let number = |at: usize| {
                key.get(at..at + 4)
                    .and_then(|bytes| bytes.try_into().ok())
                    .map(u32::from_be_bytes)
            };
            let (Some(group), Some(topic)) = (number(1), number(5)) else {
                continue;
            };
            let queue = key
                .get(9..11)
                .and_then(|bytes| bytes.try_into().ok())
                .map(u16::from_be_bytes);
            let Some(queues) = self
                .catalog
                .topics
                .get(&topic)
                .map(|topic| topic.spec.queues)
            else {
                continue;
            };
            if !self.catalog.groups.contains_key(&group) {
                continue;
            }
            let leases = self.load_retry_leases((group, topic), &record.retry_leases)?;
            let subscription = self
                .subscriptions
                .entry((group, topic))
                .or_insert_with(|| Subscription::new(record.generation, queues, Place::START));
            subscription.generation = record.generation;
            subscription.retrying += record.retrying;
            subscription.restore_leases(leases);
            if let Some(queue) = queue {
                subscription.restore_queue(queue, record.progress);
            }
        }
        for (group, topic) in self.subscriptions.keys() {
            if let Some(state) = self.catalog.topics.get_mut(topic) {
                state.readers.push(*group);
            }
        }
        let keys: Vec<_> = self.subscriptions.keys().copied().collect();
        for key in keys {
            self.refresh_lease_end(key);
        }
        self.load_seen()
    }

    /// Reads when consumers of each subscription were last here; without a row that of the group counts.
    fn load_seen(&mut self) -> Result<(), StoreError> {
        for ((group, _), subscription) in &mut self.subscriptions {
            let group = self.catalog.groups.get(group);
            subscription.seen_ms = group.map_or(0, |group| group.last_seen_ms);
        }
        let (from, to) = seen_span();
        for row in self.store.scan(Space::Meta, &from, &to)? {
            let (key, value) = row?;
            let seen_ms = open(Space::Meta, &key, &value, Reader::varint)?;
            let topic = key.get(4..).map(id_of_key).transpose()?;
            let pair = (id_of_key(&key)?, topic.unwrap_or_default());
            if let Some(subscription) = self.subscriptions.get_mut(&pair) {
                subscription.seen_ms = seen_ms;
                subscription.stored_seen_ms = Some(seen_ms);
            }
        }
        Ok(())
    }

    /// Reads the rows of retries that are leased; one that is gone has come to its end.
    fn load_retry_leases(
        &self,
        key: SubscriptionKey,
        noted: &[NotedLease],
    ) -> Result<Vec<(Place, RetryLease)>, StoreError> {
        let mut leases = Vec::new();
        for lease in noted {
            let row_key = retry_key(key.0, key.1, lease.retry);
            let Some(value) = self.store.get(Space::Meta, &row_key)? else {
                continue;
            };
            let row = open(Space::Meta, &row_key, &value, RetryRow::read)?;
            let (until_ms, counts) = (lease.until_ms, lease.counts);
            leases.push((
                lease.retry,
                RetryLease {
                    row: row.without_message(),
                    until_ms,
                    counts,
                },
            ));
        }
        Ok(leases)
    }
}

/// Reads the number after the first byte of a key.
pub(super) fn id_of_key(key: &[u8]) -> Result<u32, StoreError> {
    let bytes = key.get(1..5).and_then(|bytes| bytes.try_into().ok());
    bytes
        .map(u32::from_be_bytes)
        .ok_or_else(|| StoreError::Damaged {
            space: Space::Meta,
            key: format!("{key:02x?}"),
            reason: "its key is too short",
        })
}
