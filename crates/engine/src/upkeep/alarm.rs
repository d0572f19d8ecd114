//! Implements the alarms about consumer groups that hold data, or have lost some, because no consumer of them comes.

use crate::engine::Engine;
use crate::ids::SubscriptionKey;
use crate::place::{HOUR_MS, PartitionId};
use crate::state::alarms::Alarm;
use crate::store::Store;

/// A group that was here within this time is at work, in ms.
const AT_WORK_MS: u64 = HOUR_MS;
/// The least time between two alarms about a group that still holds data, in ms.
const ALARM_EVERY_MS: u64 = 24 * HOUR_MS;

impl<S: Store> Engine<S> {
    /// The alarms raised since the last call. A group that holds data is reported once a day.
    pub fn take_alarms(&mut self) -> Vec<Alarm> {
        self.alarms.take()
    }

    /// Alarms about the groups that hold a partition which is past retention.
    pub(crate) fn alarm_held(&mut self, now_ms: u64, partition: PartitionId) {
        for key in self.unread(partition) {
            if !self.is_alive(now_ms, key) {
                continue;
            }
            let unseen_ms = self.unseen_ms(now_ms, key);
            if unseen_ms >= AT_WORK_MS && self.alarms.report(now_ms, key, ALARM_EVERY_MS) {
                self.raise(key, unseen_ms, false);
            }
        }
    }

    /// Alarms about groups that lose unread data with a partition; returns how many.
    pub(crate) fn alarm_lost(&mut self, now_ms: u64, partition: PartitionId) -> u64 {
        let mut losers = 0;
        for key in self.unread(partition) {
            if self.is_alive(now_ms, key) {
                continue;
            }
            let unseen_ms = self.unseen_ms(now_ms, key);
            self.raise(key, unseen_ms, true);
            losers += 1;
        }
        losers
    }

    /// Subscriptions that have not read all of a partition.
    fn unread(&self, partition: PartitionId) -> Vec<SubscriptionKey> {
        let mut keys: Vec<_> = self
            .readers_of(partition)
            .filter(|key| !self.has_passed(*key, partition))
            .collect();
        keys.sort_unstable();
        keys
    }

    pub(crate) fn raise(&mut self, key: SubscriptionKey, unseen_ms: u64, lost: bool) {
        let group = self.catalog.groups.get(&key.0);
        let topic = self.catalog.topics.get(&key.1);
        if let (Some(group), Some(topic)) = (group, topic) {
            self.alarms.raise(Alarm::Unseen {
                group: group.spec.name.clone(),
                topic: topic.spec.name.clone(),
                unseen_ms,
                lost,
            });
        }
    }

    pub(crate) fn unseen_ms(&self, now_ms: u64, key: SubscriptionKey) -> u64 {
        let subscription = self.subscriptions.get(&key);
        subscription.map_or(0, |subscription| {
            now_ms.saturating_sub(subscription.seen_ms)
        })
    }
}
