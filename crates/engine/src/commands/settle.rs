//! Implements the end of a delivery by its consumer: acknowledged, handed back, extended, or dead-lettered.

use crate::engine::Engine;
use crate::error::Error;
use crate::format::handle::ReceiptHandle;
use crate::format::keys::retry_key;
use crate::format::record::open;
use crate::ids::SubscriptionKey;
use crate::limits::{ACKED_AHEAD_MAX, INVISIBLE_MS_MAX};
use crate::place::Place;
use crate::state::subscription::{Parked, Recovered, RetryRow, SlotState};
use crate::store::{Space, Store};

impl<S: Store> Engine<S> {
    /// Acknowledges a delivery. A repeated acknowledgement is no error while the first is still remembered.
    ///
    /// [`Error::Expired`] if the message was handed out again, or finished long since.
    pub fn ack(&mut self, now_ms: u64, handle: &ReceiptHandle) -> Result<(), Error> {
        let now_ms = self.stamp(now_ms);
        let key = self.key_of(handle)?;
        self.note_seen(now_ms, key.0);
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
        if handle.place <= progress.position {
            return self.ack_parked(key, handle);
        }
        if let Some(slot) = progress.slot(handle.place) {
            match slot.state {
                SlotState::Done if slot.attempts == handle.attempt => return Ok(()),
                SlotState::Leased { .. } if slot.attempts == handle.attempt => {}
                // The lease was given before a restart and the message was not handed out since.
                SlotState::Open { .. } if slot.attempts <= handle.attempt => {
                    subscription.in_flight += 1;
                }
                _ => return Err(Error::Expired),
            }
        } else {
            // Delivered before a restart, and not read again since. What the record says to be done may as
            // well have failed and come again by the retry timeline.
            let superseded = match progress.recovered.get(&handle.place) {
                Some(Recovered::Done) => true,
                Some(Recovered::Failed { attempts, .. }) => *attempts > handle.attempt,
                None => false,
            };
            let possible = handle.place > progress.cursor
                && handle.place.sequence < next_sequence
                && !superseded;
            if !possible || progress.recovered.len() >= ACKED_AHEAD_MAX {
                return Err(Error::Expired);
            }
            progress.recovered.insert(handle.place, Recovered::Done);
            self.stage.progress.insert((key.0, key.1, handle.queue));
            return Ok(());
        }
        self.finish_slot(key, (handle.queue, handle.place));
        Ok(())
    }

    /// A parked lease has a row on the retry timeline.
    fn ack_parked(&mut self, key: SubscriptionKey, handle: &ReceiptHandle) -> Result<(), Error> {
        let Some(Parked { retry, row }) = self.take_parked(key, handle) else {
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
        self.note_seen(now_ms, key.0);
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
        if let Some(parked) = self.take_parked(key, handle) {
            self.fail_parked(now_ms, key, parked, delay_ms)?;
        } else {
            self.check_leased(key, handle)?;
            match handle.retry {
                Some(retry) => self.fail_retry(now_ms, key, retry, delay_ms)?,
                None => self.fail_fresh(now_ms, key, (handle.queue, handle.place), delay_ms)?,
            }
        }
        self.counters.traffic.handed_back += 1;
        self.refresh_lease_end(key);
        self.wake_after_end(key);
        Ok(())
    }

    /// Moves a delivery to the dead-letter topic of its group at once.
    pub fn dead_letter(&mut self, now_ms: u64, handle: &ReceiptHandle) -> Result<(), Error> {
        let now_ms = self.stamp(now_ms);
        let key = self.key_of(handle)?;
        self.note_seen(now_ms, key.0);
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
            let subscription = self.subscriptions.get_mut(&key);
            if let Some(progress) = subscription.and_then(|sub| sub.queue(handle.queue))
                && let Some(slot) = progress.slot(handle.place)
            {
                // An acknowledgement that comes later must not count the message as consumed.
                slot.attempts = 0;
            }
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
        self.note_seen(now_ms, key.0);
        let new_until_ms = now_ms.saturating_add(invisible_ms);
        if let Some(parked) = self.take_parked(key, handle) {
            self.park_until(now_ms, key, parked, new_until_ms);
            return Ok(());
        }
        self.check_leased(key, handle)?;
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return Err(Error::Expired);
        };
        if let Some(retry) = handle.retry {
            if let Some(lease) = subscription.retry_leases.get_mut(&retry) {
                lease.until_ms = new_until_ms;
                subscription.retry_lease_end_ms =
                    std::cmp::min(subscription.retry_lease_end_ms, new_until_ms);
            }
        } else if let Some(progress) = subscription.queue(handle.queue) {
            progress.lease_end_ms = std::cmp::min(progress.lease_end_ms, new_until_ms);
            if let Some(slot) = progress.slot(handle.place) {
                slot.state = SlotState::Leased {
                    until_ms: new_until_ms,
                };
            }
        }
        self.refresh_lease_end(key);
        Ok(())
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
                    matches!(slot.state, SlotState::Leased { .. })
                        && slot.attempts == handle.attempt
                }),
        };
        if leased { Ok(()) } else { Err(Error::Expired) }
    }
}
