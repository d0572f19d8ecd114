//! Copies messages that alone hold a partition into their retry rows, so that the partition can go.

use std::ops::Bound;
use std::sync::Arc;

use crate::engine::Engine;
use crate::format::keys::{place_of_key, retry_key, retry_span};
use crate::format::record::open;
use crate::ids::{GroupId, SubscriptionKey, TopicId};
use crate::place::{PartitionId, Place};
use crate::state::partitions::Copying;
use crate::state::subscription::{Inline, RetryRow, Subscription};
use crate::store::{Space, Store, StoreError};

/// Retry rows that are looked at in a round.
const STRAGGLERS_MAX: usize = 256;
/// Bytes of messages that are copied in a round, and one message.
const STRAGGLERS_BYTES_MAX: usize = 1024 * 1024;

/// What a round may still do.
struct Left {
    rows: usize,
    bytes: usize,
}

impl<S: Store> Engine<S> {
    /// Copies messages that alone hold a partition into their retry rows, some at a time. Those of subscriptions that are
    /// given up go with the partition.
    pub(crate) fn copy_stragglers(
        &mut self,
        now_ms: u64,
        partition: PartitionId,
    ) -> Result<(), StoreError> {
        if !self.stage.retried.is_empty() || !self.stage.removed.is_empty() {
            self.apply(now_ms)?;
        }
        let mut left = Left {
            rows: STRAGGLERS_MAX,
            bytes: STRAGGLERS_BYTES_MAX,
        };
        let mut under_way = self.partitions.copying(partition);
        loop {
            let first = under_way.map_or((GroupId::MIN, TopicId::MIN), |copying| copying.key);
            let Some(key) = self.next_retrying(Bound::Included(first)) else {
                under_way = None;
                break;
            };
            let beginning = Copying {
                partition,
                key,
                after: Place::START,
                is_reported: false,
            };
            let at = under_way.filter(|copying| copying.key == key);
            let mut copying = at.unwrap_or(beginning);
            let is_alive = self.is_alive(now_ms, key);
            let last = if is_alive {
                self.copy_some_stragglers(&copying, &mut left)?
            } else {
                self.remove_some_stragglers(now_ms, &mut copying, &mut left)?
            };
            if let Some(after) = last {
                under_way = Some(Copying { after, ..copying });
            } else {
                let next = self.next_retrying(Bound::Excluded(key));
                under_way = next.map(|key| Copying { key, ..beginning });
            }
            if under_way.is_none() || left.rows == 0 || left.bytes == 0 {
                break;
            }
        }
        self.partitions.copied(under_way);
        Ok(())
    }

    /// The first subscription from there on that has retries.
    fn next_retrying(&self, from: Bound<SubscriptionKey>) -> Option<SubscriptionKey> {
        let mut rest = self.subscriptions.range((from, Bound::Unbounded));
        rest.find(|(_, sub)| sub.retrying > 0).map(|(key, _)| *key)
    }

    /// Removes retries of a subscription that is given up whose message is in a partition; returns how far it came, `None`
    /// at the end.
    fn remove_some_stragglers(
        &mut self,
        now_ms: u64,
        copying: &mut Copying,
        left: &mut Left,
    ) -> Result<Option<Place>, StoreError> {
        let (key, partition) = (copying.key, copying.partition);
        let (from, to) = retry_span(key.0, key.1, copying.after);
        let mut rows = Vec::new();
        let mut last = None;
        for row in self.store.scan(Space::Meta, &from, &to)?.take(left.rows) {
            left.rows -= 1;
            let (row_key, value) = row?;
            last = place_of_key(&row_key, 0).or(last);
            let row = open(Space::Meta, &row_key, &value, RetryRow::read)?;
            let goes = row.inline.is_none() && row.place.partition() == partition;
            rows.extend(place_of_key(&row_key, 0).filter(|_| goes).zip(Some(row)));
        }
        if !rows.is_empty() && !copying.is_reported && self.has_passed(key, partition) {
            // Else the loss is reported when the partition goes.
            copying.is_reported = true;
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
        Ok(last)
    }

    /// Copies stragglers among the next rows; returns how far it came, `None` at the end.
    fn copy_some_stragglers(
        &mut self,
        copying: &Copying,
        left: &mut Left,
    ) -> Result<Option<Place>, StoreError> {
        let (key, partition) = (copying.key, copying.partition);
        let (from, to) = retry_span(key.0, key.1, copying.after);
        let rows: Vec<_> = self
            .store
            .scan(Space::Meta, &from, &to)?
            .take(left.rows)
            .collect::<Result<_, _>>()?;
        let mut last = None;
        for (row_key, value) in rows {
            if left.bytes == 0 {
                break;
            }
            left.rows -= 1;
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
            left.bytes = left.bytes.saturating_sub(message.weight());
            let copy = RetryRow {
                inline: Some(Inline::Held(Arc::new(message))),
                ..row
            };
            self.put_copy(key, retry, copy);
        }
        Ok(last)
    }

    /// Writes a retry row with its message in it, and lets go of the message's partition.
    fn put_copy(&mut self, key: SubscriptionKey, retry: Place, copy: RetryRow) {
        let partition = copy.place.partition();
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
            return;
        };
        if subscription.retries.remove(retry).is_some() {
            subscription
                .retries
                .insert(retry, || (copy.clone(), RetryRow::BYTES));
        }
        let parked = subscription.parked.get_mut(&copy.place.sequence);
        if let Some(parked) = parked.filter(|parked| parked.retry == retry) {
            parked.row = copy.clone();
        }
        if let Some(lease) = subscription.retry_leases.get_mut(&retry) {
            lease.row = copy;
        }
    }
}
