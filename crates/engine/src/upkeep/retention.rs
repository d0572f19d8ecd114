//! Implements retention: drops partitions past it, identities of dropped messages, data of unseen groups.

use std::sync::Arc;

use crate::engine::Engine;
use crate::format::keys::{
    identities_gone_ms, identity_ends_span, identity_key, parts_of_timed_key, pins_key,
    place_of_key, retry_key, retry_span,
};
use crate::format::record::open;
use crate::ids::SubscriptionKey;
use crate::limits::{IDENTITIES_PER_ROUND_MAX, READ_MESSAGES_MAX};
use crate::place::{PartitionId, Place};
use crate::state::progress::Progress;
use crate::state::subscription::{Inline, RetryRow, Subscription};
use crate::store::{Space, Store, StoreError};

/// Shortest wait between two rounds, in ms.
const ROUND_MS_MIN: u64 = 60_000;
/// Wait before a partition is dropped that waits for the disk, in ms.
const DROP_MS: u64 = 1_000;
/// Wait before the next round when one has not forgotten all identities it could, in ms.
const IDENTITIES_MORE_MS: u64 = 10;

impl<S: Store> Engine<S> {
    /// Drops what is no longer needed, and schedules the next round.
    pub(crate) fn upkeep(&mut self, now_ms: u64) -> Result<(), StoreError> {
        if now_ms >= self.partitions.next_identities_ms() {
            self.forget_identities(now_ms)?;
        }
        if now_ms < self.partitions.next_round_ms() {
            return Ok(());
        }
        let old: Vec<_> = self
            .partitions
            .iter()
            .filter(|id| self.config.kept_until_ms(*id) <= now_ms)
            .collect();
        for partition in old {
            if self.is_passed(now_ms, partition) {
                if self.partitions.is_pinned(partition) {
                    self.copy_stragglers(now_ms, partition)?;
                }
                self.try_drop(now_ms, partition)?;
            } else {
                self.partitions.keep(partition);
                self.alarm_held(now_ms, partition);
            }
        }
        let next_end_ms = self
            .partitions
            .iter()
            .map(|id| self.config.kept_until_ms(id))
            .filter(|end_ms| *end_ms > now_ms)
            .min();
        let held = self
            .partitions
            .iter()
            .any(|id| self.config.kept_until_ms(id) <= now_ms);
        // One that is held is looked at again soon, for it may have been let go of.
        let upkeep_ms = if self.partitions.is_dropping() {
            now_ms.saturating_add(DROP_MS)
        } else if held {
            now_ms.saturating_add(ROUND_MS_MIN)
        } else {
            let again_ms = now_ms.saturating_add(ROUND_MS_MIN);
            std::cmp::max(again_ms, next_end_ms.unwrap_or(u64::MAX))
        };
        self.partitions.upkeep_at(upkeep_ms);
        Ok(())
    }

    /// Drops a partition that is passed, once everything that made it so is durable: a copy of a straggler, a
    /// dead letter or a position that was lost in a crash would need it again.
    fn try_drop(&mut self, now_ms: u64, partition: PartitionId) -> Result<(), StoreError> {
        if self.partitions.is_pinned(partition) {
            self.partitions.keep(partition);
            return Ok(());
        }
        let pending = self.pending_epoch();
        let needed = self.partitions.drop_after(partition, pending);
        if needed > self.durable_epoch() {
            return Ok(());
        }
        self.partitions.keep(partition);
        self.counters.tallies.groups_given_up += self.alarm_lost(now_ms, partition);
        self.drop_partition(partition)
    }

    /// Whether every subscription that is alive has come past the partition.
    fn is_passed(&self, now_ms: u64, partition: PartitionId) -> bool {
        self.readers_of(partition)
            .all(|key| self.has_passed(key, partition) || !self.is_alive(now_ms, key))
    }

    /// Subscriptions to the topics of which a partition holds something.
    pub(crate) fn readers_of(
        &self,
        partition: PartitionId,
    ) -> impl Iterator<Item = SubscriptionKey> {
        self.partitions.topics_in(partition).flat_map(|id| {
            let topic = self.catalog.topics.get(&id);
            let readers = topic.into_iter().flat_map(|topic| &topic.readers);
            readers.map(move |group| (*group, id))
        })
    }

    /// Whether a consumer of a subscription was here within the time after which it is given up.
    pub(crate) fn is_alive(&self, now_ms: u64, key: SubscriptionKey) -> bool {
        self.unseen_ms(now_ms, key) < self.config.group_idle_ms
    }

    pub(crate) fn has_passed(&self, key: SubscriptionKey, partition: PartitionId) -> bool {
        let holds = self.partitions.holds(partition, key.1);
        let Some(subscription) = self.subscriptions.get(&key).filter(|_| holds) else {
            return true;
        };
        let end = Place {
            due_ms: partition.end_ms(),
            ..Place::START
        };
        // A queue with nothing left in the partition has passed it, wherever its position is.
        let passed = |(queue, progress): (usize, &Progress)| {
            let nothing_open = progress.slots.front().is_none_or(|slot| slot.place >= end);
            let nothing_left = progress.cursor >= end
                || (progress.ahead.is_empty()
                    && self.has_nothing_before(end.due_ms, (key.1, queue), progress.cursor));
            nothing_open && nothing_left
        };
        subscription.queues.iter().enumerate().all(passed)
    }

    /// Whether a queue is known to hold nothing between the cursor and `end_ms`. The frontier does not matter: it
    /// may lag far while no consumer asks.
    fn has_nothing_before(&self, end_ms: u64, (topic, queue): (u32, usize), cursor: Place) -> bool {
        let topic = self.catalog.topics.get(&topic);
        let window = topic.and_then(|topic| topic.queues.get(queue));
        window.is_some_and(|window| {
            window.covers_after(cursor)
                && window
                    .next_due_ms(cursor)
                    .is_none_or(|due_ms| due_ms >= end_ms)
        })
    }

    fn drop_partition(&mut self, partition: PartitionId) -> Result<(), StoreError> {
        self.store.drop_partition(partition)?;
        self.damaged.remove_partition(partition);
        self.stage.pins.remove(&partition);
        self.stage.batch.remove(Space::Meta, &pins_key(partition));
        for (topic, counts) in self.partitions.remove(partition) {
            self.stage.counts.remove(&(partition, topic));
            if let Some(state) = self.catalog.topics.get_mut(&topic) {
                state.totals.dropped += counts.messages;
                state.totals.bytes = state.totals.bytes.saturating_sub(counts.bytes);
                self.stage.totals.insert(topic);
            }
        }
        self.counters.tallies.partitions_dropped += 1;
        Ok(())
    }

    /// Copies messages that alone hold a partition into their retry rows, once. Those of subscriptions that are given
    /// up go with the partition.
    fn copy_stragglers(&mut self, now_ms: u64, partition: PartitionId) -> Result<(), StoreError> {
        let keys: Vec<_> = self
            .subscriptions
            .iter()
            .filter(|(_, sub)| sub.retrying > 0)
            .map(|(key, _)| *key)
            .collect();
        if !self.stage.retried.is_empty() || !self.stage.removed.is_empty() {
            self.apply(now_ms)?;
        }
        for key in keys {
            if !self.is_alive(now_ms, key) {
                self.remove_stragglers(now_ms, key, partition)?;
                continue;
            }
            let mut after = Place::START;
            while let Some(last) = self.copy_some_stragglers(key, partition, after)? {
                after = last;
            }
        }
        Ok(())
    }

    /// Removes the retries of a subscription that is given up whose message is in a partition.
    fn remove_stragglers(
        &mut self,
        now_ms: u64,
        key: SubscriptionKey,
        partition: PartitionId,
    ) -> Result<(), StoreError> {
        let (from, to) = retry_span(key.0, key.1, Place::START);
        let mut rows = Vec::new();
        for row in self.store.scan(Space::Meta, &from, &to)? {
            let (row_key, value) = row?;
            let row = open(Space::Meta, &row_key, &value, RetryRow::read)?;
            let goes = row.inline.is_none() && row.place.partition() == partition;
            rows.extend(place_of_key(&row_key, 0).filter(|_| goes).zip(Some(row)));
        }
        if !rows.is_empty() && self.has_passed(key, partition) {
            // Else the loss is reported when the partition goes.
            self.counters.tallies.groups_given_up += 1;
            let unseen_ms = self.unseen_ms(now_ms, key);
            self.raise(key, unseen_ms, true);
        }
        for (retry, row) in rows {
            self.take_retry_lease(key, retry);
            if let Some(subscription) = self.subscriptions.get_mut(&key) {
                subscription.parked.remove(&row.place.sequence);
            }
            self.remove_retry(key, retry, &row);
        }
        self.refresh_lease_end(key);
        Ok(())
    }

    /// Copies stragglers among the next rows after `after`; returns how far it came, `None` at the end.
    fn copy_some_stragglers(
        &mut self,
        key: SubscriptionKey,
        partition: PartitionId,
        after: Place,
    ) -> Result<Option<Place>, StoreError> {
        let (from, to) = retry_span(key.0, key.1, after);
        let rows: Vec<_> = self
            .store
            .scan(Space::Meta, &from, &to)?
            .take(READ_MESSAGES_MAX)
            .collect::<Result<_, _>>()?;
        let mut last = None;
        for (row_key, value) in rows {
            let Some(retry) = place_of_key(&row_key, 0) else {
                continue;
            };
            last = Some(retry);
            let row = open(Space::Meta, &row_key, &value, RetryRow::read)?;
            if row.inline.is_some() || row.place.partition() != partition {
                continue;
            }
            let Some(message) = self.find_message(key.1, row.queue, row.place)? else {
                self.note_missing((key.1, row.queue, row.place));
                let leased = |sub: &Subscription| sub.retry_leases.contains_key(&retry);
                if !self.subscriptions.get(&key).is_some_and(leased) {
                    self.remove_retry(key, retry, &row);
                }
                continue;
            };
            let copy = RetryRow {
                inline: Some(Inline::Held(Arc::new(message))),
                ..row
            };
            // A read of the store finds the row without the copy until this is applied.
            self.stage.retried.insert(key);
            self.stage
                .batch
                .put(Space::Meta, &retry_key(key.0, key.1, retry), |buffer| {
                    copy.encode(buffer);
                });
            let copy = copy.without_message();
            self.partitions.unpin(partition);
            self.stage.pins.insert(partition);
            let Some(subscription) = self.subscriptions.get_mut(&key) else {
                continue;
            };
            if subscription.retries.remove(retry).is_some() {
                subscription
                    .retries
                    .insert(retry, || (copy.clone(), RetryRow::BYTES));
            }
            let sequence = copy.place.sequence;
            let parked = subscription.parked.get_mut(&sequence);
            if let Some(parked) = parked.filter(|parked| parked.retry == retry) {
                parked.row = copy.clone();
            }
            if let Some(lease) = subscription.retry_leases.get_mut(&retry) {
                lease.row = copy;
            }
        }
        Ok(last)
    }

    /// Removes identity rows of rescheduled messages whose handles name only what was dropped, a bounded number at
    /// a time, and notes when there will be more of them.
    fn forget_identities(&mut self, now_ms: u64) -> Result<(), StoreError> {
        let (from, to) = identity_ends_span();
        let rows: Vec<_> = self
            .store
            .scan(Space::Meta, &from, &to)?
            .take(IDENTITIES_PER_ROUND_MAX + 1)
            .collect::<Result<_, _>>()?;
        let mut next_ms = u64::MAX;
        for (number, (row_key, _)) in rows.iter().enumerate() {
            let Some((end_hour, topic, identity)) = parts_of_timed_key(row_key) else {
                continue;
            };
            let gone_ms = identities_gone_ms(end_hour);
            if gone_ms > now_ms {
                next_ms = gone_ms;
                break;
            }
            if number == IDENTITIES_PER_ROUND_MAX {
                next_ms = now_ms.saturating_add(IDENTITIES_MORE_MS);
                break;
            }
            self.stage.batch.remove(Space::Meta, row_key);
            // A later reschedule may have put the end off; then this row is an old one.
            let moved = self.moved_to(topic, identity)?;
            if moved.is_some_and(|moved| moved.end_hour <= end_hour) {
                let key = identity_key(topic, identity);
                self.stage.batch.remove(Space::Meta, &key);
            }
        }
        self.partitions.identities_at(next_ms);
        Ok(())
    }
}
