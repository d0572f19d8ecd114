//! Implements the end of a delivery by its consumer: acknowledged, handed back, extended, or dead-lettered.

use crate::delivery::lease::Again;
use crate::engine::Engine;
use crate::error::Error;
use crate::format::handle::ReceiptHandle;
use crate::format::keys::retry_key;
use crate::format::record::open;
use crate::ids::SubscriptionKey;
use crate::limits::{ACKED_AHEAD_MAX, INVISIBLE_MS_MAX};
use crate::place::Place;
use crate::state::progress::{Early, SlotState};
use crate::state::subscription::{Parked, RetryRow};
use crate::store::{Space, Store};

impl<S: Store> Engine<S> {
    /// Acknowledges a delivery. A repeated acknowledgement is no error while the first is still remembered.
    ///
    /// [`Error::Expired`] if the message was handed out again, or finished long since.
    pub fn ack(&mut self, now_ms: u64, handle: &ReceiptHandle) -> Result<(), Error> {
        let now_ms = self.stamp(now_ms);
        let key = self.key_of(handle)?;
        self.spend(1);
        self.note_seen(now_ms, key);
        match handle.retry {
            Some(retry) => self.ack_retry(key, handle, retry)?,
            None => self.ack_fresh(key, handle)?,
        }
        self.counters.traffic.acked += 1;
        self.wake_after_end(key);
        Ok(())
    }

    fn ack_fresh(&mut self, key: SubscriptionKey, handle: &ReceiptHandle) -> Result<(), Error> {
        let next_sequence = self.head.next_sequence;
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return Err(Error::Expired);
        };
        let Some(progress) = subscription.queue(handle.queue) else {
            return Err(Error::Expired);
        };
        if handle.place <= progress.position() {
            return self.ack_parked(key, handle);
        }
        let delivery = (handle.attempt, handle.returned);
        if let Some(slot) = progress.slot(handle.place) {
            let is_open = match slot.state {
                SlotState::Leased { .. } => (slot.attempts, slot.returned) == delivery,
                // A crash forgot the lease, or it failed: the message was not handed out since.
                SlotState::Open { .. } => {
                    slot.attempts <= handle.attempt && slot.returned == handle.returned
                }
            };
            if !is_open {
                return Err(Error::Expired);
            }
            progress.note_acked(handle.place, delivery);
            self.finish_slot(key, (handle.queue, handle.place));
            return Ok(());
        }
        if handle.place <= progress.cursor {
            return if progress.was_acked(handle.place, delivery) {
                Ok(())
            } else {
                self.ack_parked(key, handle)
            };
        }
        // A crash forgot the delivery, and the message was not read again since. What is known to be done may as
        // well have failed and come again by the retry timeline.
        let superseded = match progress.early.get(&handle.place) {
            Some(Early::Acked) => true,
            Some(Early::Failed { attempts, .. }) => *attempts > handle.attempt,
            None => false,
        };
        let possible = handle.place.sequence < next_sequence && !superseded;
        if !possible || progress.early.len() >= ACKED_AHEAD_MAX {
            return Err(Error::Expired);
        }
        progress.early.insert(handle.place, Early::Acked);
        self.stage.progress.insert((key.0, key.1, handle.queue));
        Ok(())
    }

    /// A parked lease has a row on the retry timeline.
    fn ack_parked(&mut self, key: SubscriptionKey, handle: &ReceiptHandle) -> Result<(), Error> {
        let Some(Parked { retry, row, .. }) = self.take_parked(key, handle) else {
            return Err(Error::Expired);
        };
        self.remove_retry(key, retry, &row);
        Ok(())
    }

    fn ack_retry(
        &mut self,
        key: SubscriptionKey,
        handle: &ReceiptHandle,
        retry: Place,
    ) -> Result<(), Error> {
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return Err(Error::Expired);
        };
        if let Some(lease) = subscription.retry_leases.get(&retry) {
            if lease.row.attempt != handle.attempt {
                return Err(Error::Expired);
            }
            let row = lease.row.clone();
            subscription.retry_leases.remove(&retry);
            subscription.in_flight -= 1;
            self.remove_retry(key, retry, &row);
            return Ok(());
        }
        // Delivered before a restart: the row still exists if nothing has happened since.
        if self.stage.removed.contains(&retry.sequence) {
            return Err(Error::Expired);
        }
        let row_key = retry_key(key.0, key.1, retry);
        let Some(value) = self.store.get(Space::Meta, &row_key)? else {
            return Err(Error::Expired);
        };
        let row = open(Space::Meta, &row_key, &value, RetryRow::read)?;
        if row.attempt != handle.attempt || row.place != handle.place {
            return Err(Error::Expired);
        }
        self.remove_retry(key, retry, &row);
        Ok(())
    }

    /// Hands a delivery back: it comes again after `delay_ms`, or after the group's back-off.
    ///
    /// When all its deliveries are used up it becomes a dead letter instead.
    pub fn retry_later(
        &mut self,
        now_ms: u64,
        handle: &ReceiptHandle,
        delay_ms: Option<u64>,
    ) -> Result<(), Error> {
        let now_ms = self.stamp(now_ms);
        let key = self.key_of(handle)?;
        self.spend(1);
        self.note_seen(now_ms, key);
        let backoff_ms = || {
            self.catalog
                .groups
                .get(&key.0)
                .map_or(0, |group| group.spec.backoff_after_ms(handle.attempt))
        };
        let delay_ms = delay_ms.unwrap_or_else(backoff_ms);
        let limit = self.config.limits.delay_ms_max;
        if delay_ms > limit {
            return Err(Error::OverLimit {
                field: "delay in ms",
                found: delay_ms,
                limit,
            });
        }
        let again = Again::failed(delay_ms);
        self.end_delivery(now_ms, key, handle, again)?;
        self.counters.traffic.handed_back += 1;
        Ok(())
    }

    /// Ends a delivery without an acknowledgement: the message comes `again`, or becomes a dead letter.
    pub(crate) fn end_delivery(
        &mut self,
        now_ms: u64,
        key: SubscriptionKey,
        handle: &ReceiptHandle,
        again: Again,
    ) -> Result<(), Error> {
        if let Some(parked) = self.take_parked(key, handle) {
            self.fail_parked(now_ms, key, parked, again)?;
        } else {
            self.check_leased(key, handle)?;
            match handle.retry {
                Some(retry) => self.fail_retry(now_ms, key, retry, again)?,
                None => self.fail_fresh(now_ms, key, (handle.queue, handle.place), again)?,
            }
        }
        self.refresh_lease_end(key);
        self.wake_after_end(key);
        Ok(())
    }

    /// Moves a delivery to the dead-letter topic of its group at once.
    pub fn dead_letter(&mut self, now_ms: u64, handle: &ReceiptHandle) -> Result<(), Error> {
        let now_ms = self.stamp(now_ms);
        let key = self.key_of(handle)?;
        self.spend(1);
        self.note_seen(now_ms, key);
        if let Some(parked) = self.take_parked(key, handle) {
            self.bury_parked(now_ms, key, parked)?;
            return Ok(());
        }
        self.check_leased(key, handle)?;
        if let Some(retry) = handle.retry {
            let Some(row) = self.take_retry_lease(key, retry) else {
                return Err(Error::Expired);
            };
            self.dead_letter_retry(now_ms, key, retry, &row)?;
        } else {
            self.copy_to_dead_letters(now_ms, key, (handle.queue, handle.place), handle.attempt)?;
            self.finish_slot(key, (handle.queue, handle.place));
        }
        self.wake_after_end(key);
        Ok(())
    }

    /// Keeps a delivery hidden from now on for `invisible_ms`; its handle stays as it is.
    pub fn change_invisible(
        &mut self,
        now_ms: u64,
        handle: &ReceiptHandle,
        invisible_ms: u64,
    ) -> Result<(), Error> {
        let now_ms = self.stamp(now_ms);
        if invisible_ms > INVISIBLE_MS_MAX {
            let (found, limit) = (invisible_ms, INVISIBLE_MS_MAX);
            return Err(Error::OverLimit {
                field: "invisible duration in ms",
                found,
                limit,
            });
        }
        let key = self.key_of(handle)?;
        self.spend(1);
        self.note_seen(now_ms, key);
        self.lease_until(
            now_ms,
            key,
            handle,
            (now_ms.saturating_add(invisible_ms), true),
        )
    }

    /// Changes when a lease ends, and whether its end counts.
    pub(crate) fn lease_until(
        &mut self,
        now_ms: u64,
        key: SubscriptionKey,
        handle: &ReceiptHandle,
        (until_ms, counts): (u64, bool),
    ) -> Result<(), Error> {
        if let Some(parked) = self.take_parked(key, handle) {
            self.park_until(now_ms, key, parked, (until_ms, counts))?;
            return Ok(());
        }
        self.check_leased(key, handle)?;
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return Err(Error::Expired);
        };
        if let Some(retry) = handle.retry {
            if let Some(lease) = subscription.retry_leases.get_mut(&retry) {
                (lease.until_ms, lease.counts) = (until_ms, counts);
                let end_ms = &mut subscription.retry_lease_end_ms;
                *end_ms = std::cmp::min(*end_ms, until_ms);
            }
            self.notes.add(key, 0);
        } else if let Some(progress) = subscription.queue(handle.queue) {
            progress.lease_end_ms = std::cmp::min(progress.lease_end_ms, until_ms);
            if let Some(slot) = progress.slot(handle.place) {
                slot.state = SlotState::Leased { until_ms, counts };
            }
            self.notes.add(key, handle.queue);
        }
        self.refresh_lease_end(key);
        Ok(())
    }

    /// When the lease of a delivery ends, if it is leased.
    pub(crate) fn lease_end_of(&self, key: SubscriptionKey, handle: &ReceiptHandle) -> Option<u64> {
        let subscription = self.subscriptions.get(&key)?;
        if let Some(retry) = handle.retry {
            return Some(subscription.retry_leases.get(&retry)?.until_ms);
        }
        if let Some(parked) = subscription.parked.get(&handle.place.sequence) {
            return Some(parked.retry.due_ms);
        }
        let progress = subscription.queues.get(usize::from(handle.queue))?;
        match progress.find(handle.place)?.state {
            SlotState::Leased { until_ms, .. } => Some(until_ms),
            SlotState::Open { .. } => None,
        }
    }

    pub(crate) fn key_of(&self, handle: &ReceiptHandle) -> Result<SubscriptionKey, Error> {
        let key = (handle.group, handle.topic);
        let subscription = self.subscriptions.get(&key).ok_or(Error::Expired)?;
        if subscription.generation == handle.generation {
            Ok(key)
        } else {
            Err(Error::Expired)
        }
    }

    /// Refuses a handle whose delivery is no longer leased.
    pub(crate) fn check_leased(
        &mut self,
        key: SubscriptionKey,
        handle: &ReceiptHandle,
    ) -> Result<(), Error> {
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return Err(Error::Expired);
        };
        let leased = match handle.retry {
            Some(retry) => subscription
                .retry_leases
                .get(&retry)
                .is_some_and(|lease| lease.row.attempt == handle.attempt),
            None => subscription
                .queue(handle.queue)
                .and_then(|progress| progress.slot(handle.place))
                .is_some_and(|slot| {
                    slot.is_leased()
                        && (slot.attempts, slot.returned) == (handle.attempt, handle.returned)
                }),
        };
        if leased { Ok(()) } else { Err(Error::Expired) }
    }
}
