//! Implements the retry timeline: rows that say when a message that failed comes again.

use std::sync::Arc;

use crate::delivery::gather::{Gathered, ReceiveLimits, deliver};
use crate::delivery::lease::Again;
use crate::engine::Engine;
use crate::error::Error;
use crate::format::keys::{place_of_key, retry_key, retry_span};
use crate::format::record::open;
use crate::ids::SubscriptionKey;
use crate::limits::READ_MESSAGES_MAX;
use crate::message::Message;
use crate::place::Place;
use crate::state::frontier::Line;
use crate::state::memory::Holder;
use crate::state::subscription::{Inline, RetryLease, RetryRow, Subscription};
use crate::state::work::row_units;
use crate::store::{Space, Store, StoreError};

impl<S: Store> Engine<S> {
    pub(crate) fn take_retries(
        &mut self,
        limits: ReceiveLimits<'_>,
        delivered: &mut Gathered,
    ) -> Result<(), Error> {
        let group = self.catalog.groups.get(&limits.key.0);
        let attempts_max = group.map_or(1, |group| group.spec.attempts_max);
        while !self.is_satisfied(limits, delivered) && !self.is_spent() {
            let Some((place, row)) = self.next_retry(limits.key)? else {
                break;
            };
            if row.attempt > attempts_max {
                // The lease of the last delivery was parked, and has ended.
                self.end_parked(limits.key, place, row)?;
                continue;
            }
            let message = self.message_of_row(limits.key, place, &row)?;
            let Some(subscription) = self.subscriptions.get_mut(&limits.key) else {
                break;
            };
            subscription.retry_cursor = place;
            let Some(message) = message else {
                self.note_missing((limits.key.1, row.queue, row.place));
                self.remove_retry(limits.key, place, &row);
                continue;
            };
            subscription.parked.remove(&row.place.sequence);
            subscription.retry_lease_end_ms =
                std::cmp::min(subscription.retry_lease_end_ms, limits.until_ms);
            subscription.in_flight += 1;
            self.notes.add(limits.key, 0);
            let mut delivery = deliver(
                limits.key,
                subscription.generation,
                row.queue,
                message,
                (row.attempt, row.returned),
            );
            delivery.handle.retry = Some(place);
            delivered.push(delivery);
            subscription.retry_leases.insert(
                place,
                RetryLease {
                    row,
                    until_ms: limits.until_ms,
                    counts: true,
                },
            );
        }
        Ok(())
    }

    /// The message that a row of the retry timeline is about; `None` if it is not there.
    pub(crate) fn message_of_row(
        &mut self,
        key: SubscriptionKey,
        retry: Place,
        row: &RetryRow,
    ) -> Result<Option<Arc<Message>>, StoreError> {
        match &row.inline {
            None => {
                let message = self.find_message(key.1, row.queue, row.place)?;
                Ok(message.map(Arc::new))
            }
            Some(Inline::Held(message)) => Ok(Some(Arc::clone(message))),
            Some(Inline::Stored) => {
                if self.stage.retried.contains(&key) {
                    // The message may have been put into the row just now.
                    let now_ms = self.stamp_ms;
                    self.apply(now_ms)?;
                }
                let row_key = retry_key(key.0, key.1, retry);
                let Some(value) = self.store.get(Space::Meta, &row_key)? else {
                    return Ok(None);
                };
                self.spend(row_units(value.len()));
                let stored = open(Space::Meta, &row_key, &value, RetryRow::read)?;
                Ok(match stored.inline {
                    Some(Inline::Held(message)) => Some(message),
                    _ => None,
                })
            }
        }
    }

    /// A row with its message, to be written to another place. If it is not there, the row is removed.
    pub(crate) fn whole_row(
        &mut self,
        key: SubscriptionKey,
        retry: Place,
        row: RetryRow,
    ) -> Result<Option<RetryRow>, StoreError> {
        if row.inline.is_none() {
            return Ok(Some(row));
        }
        if let Some(message) = self.message_of_row(key, retry, &row)? {
            let inline = Some(Inline::Held(message));
            return Ok(Some(RetryRow { inline, ..row }));
        }
        self.note_missing((key.1, row.queue, row.place));
        self.remove_retry(key, retry, &row);
        Ok(None)
    }

    /// Moves a row that became visible after the last delivery to the dead letters.
    fn end_parked(
        &mut self,
        key: SubscriptionKey,
        retry: Place,
        row: RetryRow,
    ) -> Result<(), StoreError> {
        let now_ms = self.stamp_ms;
        if let Some(subscription) = self.subscriptions.get_mut(&key) {
            subscription.retry_cursor = retry;
            subscription.parked.remove(&row.place.sequence);
        }
        // The row counts the delivery that would come.
        let attempt = row.attempt.saturating_sub(1);
        self.dead_letter_retry(now_ms, key, retry, &RetryRow { attempt, ..row })
    }

    /// The next row of the retry timeline that is due.
    pub(crate) fn next_retry(
        &mut self,
        key: SubscriptionKey,
    ) -> Result<Option<(Place, RetryRow)>, Error> {
        self.frontier.show(Line::Retries(key));
        let shown = self.frontier.shown_place(Line::Retries(key));
        let known = |subscription: &Subscription| {
            let (retries, cursor) = (&subscription.retries, subscription.retry_cursor);
            retries.covers_after(cursor)
                && (retries.after(cursor).next().is_some() || !retries.ends_by(shown))
        };
        while !self.subscriptions.get(&key).is_none_or(known) {
            self.load_retries(key)?;
            if self.is_spent() {
                break;
            }
        }
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return Ok(None);
        };
        let cursor = subscription.retry_cursor;
        let next = subscription
            .retries
            .after(cursor)
            .next()
            .map(|(place, row)| (place, row.clone()));
        let Some((place, row)) = next.filter(|(place, _)| *place <= shown) else {
            return Ok(None);
        };
        subscription.retries.pass(place);
        self.note_retries(key);
        self.memory.touch(Holder::Retries(key));
        Ok(Some((place, row)))
    }

    /// Reads the retry timeline after the cursor, a bounded stretch of it. The cursor passes what is due there and not
    /// to be delivered.
    pub(crate) fn load_retries(&mut self, key: SubscriptionKey) -> Result<(), Error> {
        if self.stage.retried.contains(&key) {
            let now_ms = self.stamp_ms;
            self.apply(now_ms)?;
        }
        let shown = self.frontier.shown_place(Line::Retries(key));
        let void_before = self.void_retries.before(key);
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return Ok(());
        };
        let after = subscription.retry_cursor;
        let (from, to) = retry_span(key.0, key.1, after);
        let mut rows = self.store.scan(Space::Meta, &from, &to)?;
        let mut entries = Vec::new();
        let mut last = after;
        let mut complete = false;
        let (mut looked, mut bytes, mut units) = (0, 0, 1);
        let bytes_max = self.memory.read_bytes_max();
        while looked < READ_MESSAGES_MAX && (looked == 0 || bytes < bytes_max) {
            let Some(row) = rows.next() else {
                complete = true;
                break;
            };
            let (row_key, value) = row?;
            looked += 1;
            bytes += value.len();
            units += row_units(value.len());
            let Some(place) = place_of_key(&row_key, 0) else {
                continue;
            };
            last = place;
            // One that is leased since before a restart is beyond the cursor again.
            let is_skipped = place.sequence < void_before
                || subscription.retry_leases.contains_key(&place)
                || self.stage.removed.contains(&place.sequence);
            if !is_skipped {
                let row = open(Space::Meta, &row_key, &value, RetryRow::read)?;
                entries.push((place, row.without_message(), RetryRow::BYTES));
            } else if entries.is_empty() && place <= shown {
                subscription.retry_cursor = place;
            }
        }
        drop(rows);
        self.work.spend(units);
        subscription
            .retries
            .load(after, if complete { None } else { Some(last) }, entries);
        self.note_retries(key);
        self.memory.touch(Holder::Retries(key));
        self.make_room(&[Holder::Retries(key)]);
        Ok(())
    }

    /// A later delivery is over and not done: its row moves on the retry timeline.
    pub(crate) fn fail_retry(
        &mut self,
        now_ms: u64,
        key: SubscriptionKey,
        retry: Place,
        again: Again,
    ) -> Result<(), StoreError> {
        let attempts_max = self
            .catalog
            .groups
            .get(&key.0)
            .map_or(1, |group| group.spec.attempts_max);
        let Some(row) = self.take_retry_lease(key, retry) else {
            return Ok(());
        };
        if again.is_last(row.attempt, attempts_max) {
            return self.dead_letter_retry(now_ms, key, retry, &row);
        }
        let Some(row) = self.whole_row(key, retry, row)? else {
            return Ok(());
        };
        self.remove_retry(key, retry, &row);
        let again_ms = now_ms.saturating_add(again.delay_ms);
        self.add_retry(now_ms, key, again_ms, again.row_after(row));
        self.lower_wake(key, again_ms);
        Ok(())
    }

    pub(crate) fn take_retry_lease(
        &mut self,
        key: SubscriptionKey,
        retry: Place,
    ) -> Option<RetryRow> {
        let subscription = self.subscriptions.get_mut(&key)?;
        let lease = subscription.retry_leases.remove(&retry)?;
        subscription.in_flight -= 1;
        Some(lease.row)
    }

    /// Writes a row to the retry timeline; the message stays where it is and pins its partition.
    pub(crate) fn add_retry(
        &mut self,
        now_ms: u64,
        key: SubscriptionKey,
        visible_ms: u64,
        row: RetryRow,
    ) -> Place {
        let retry = Place {
            level: 0,
            ..self.new_place(now_ms, visible_ms, Line::Retries(key))
        };
        self.stage
            .batch
            .put(Space::Meta, &retry_key(key.0, key.1, retry), |buffer| {
                row.encode(buffer);
            });
        self.stage.retried.insert(key);
        if row.inline.is_none() {
            self.partitions.pin(row.place.partition());
            self.stage.pins.insert(row.place.partition());
        }
        if let Some(subscription) = self.subscriptions.get_mut(&key) {
            subscription.retrying += 1;
            let row = row.without_message();
            subscription
                .retries
                .insert(retry, || (row, RetryRow::BYTES));
            while subscription.retries.len() > 2 * self.config.limits.head_messages_max {
                subscription.retries.shrink(0);
            }
        }
        self.note_retries(key);
        self.make_room(&[]);
        self.stage.progress.insert((key.0, key.1, 0));
        retry
    }

    pub(crate) fn remove_retry(&mut self, key: SubscriptionKey, retry: Place, row: &RetryRow) {
        self.stage
            .batch
            .remove(Space::Meta, &retry_key(key.0, key.1, retry));
        self.stage.removed.insert(retry.sequence);
        if let Some(subscription) = self.subscriptions.get_mut(&key) {
            subscription.retrying = subscription.retrying.saturating_sub(1);
            subscription.retries.remove(retry);
        }
        self.note_retries(key);
        self.stage.progress.insert((key.0, key.1, 0));
        if row.inline.is_none() {
            let partition = row.place.partition();
            self.partitions.unpin(partition);
            self.stage.pins.insert(partition);
        }
    }
}
