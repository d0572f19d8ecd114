//! Implements the end of a delivery: acknowledged, handed back, kept longer, run out, or dead.

use crate::engine::{Engine, SubscriptionKey};
use crate::error::Error;
use crate::format::handle::ReceiptHandle;
use crate::format::record::{open, retry_key};
use crate::limits::{ACKED_AHEAD_MAX, INVISIBLE_MS_MAX};
use crate::place::Place;
use crate::state::subscription::{Recovered, RetryRow, SlotState, Subscription};
use crate::store::{Space, Store, StoreError};

/// A message of a queue.
pub(crate) type InQueue = (u16, Place);

impl<S: Store> Engine<S> {
    /// Says that a delivery is done. Saying so twice is no error while the first is still remembered.
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
        self.traffic.acked += 1;
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

    /// A lease that made way for the ones behind it has a row on the retry timeline.
    fn ack_parked(&mut self, key: SubscriptionKey, handle: &ReceiptHandle) -> Result<(), Error> {
        let parked = self
            .subscriptions
            .get_mut(&key)
            .and_then(|subscription| subscription.parked.remove(&handle.place.sequence));
        let Some(retry) = parked else {
            return Err(Error::Expired);
        };
        let row = RetryRow {
            queue: handle.queue,
            place: handle.place,
            attempt: handle.attempt + 1,
            inline: None,
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
        // Delivered before a restart: the row still lies there if nothing has happened since.
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

    /// Moves a group on a topic to an instant: what is due from `to_ms` on is delivered again, what was
    /// due before is not. Retries are forgotten, and handles given out before are void.
    pub fn reset_group(
        &mut self,
        now_ms: u64,
        topic: &str,
        group: &str,
        to_ms: u64,
    ) -> Result<(), Error> {
        let now_ms = self.stamp(now_ms);
        let key = (self.catalog.group_id(group)?, self.catalog.topic_id(topic)?);
        self.note_seen(now_ms, key.0);
        let not_found = || Error::GroupNotFound {
            group: group.to_owned(),
        };
        let queues = self
            .catalog
            .topics
            .get(&key.1)
            .map(|topic| topic.spec.queues)
            .ok_or_else(not_found)?;
        self.forget_retries(key)?;
        let passed = self.count_due_by(key.1, to_ms.saturating_sub(1))?;
        let dropped = self
            .catalog
            .topics
            .get(&key.1)
            .map_or(0, |topic| topic.totals.dropped);
        let start = to_ms.checked_sub(1).map_or(Place::START, Place::end_of);
        let fresh = Subscription::new(queues, start);
        if !self.subscriptions.contains_key(&key) {
            self.add_subscription(key, fresh);
        } else if let Some(subscription) = self.subscriptions.get_mut(&key) {
            let (generation, wake_ms, check_ms) = (
                subscription.generation,
                subscription.wake_ms,
                subscription.check_ms,
            );
            *subscription = Subscription {
                generation: generation + 1,
                wake_ms,
                check_ms,
                ..fresh
            };
        }
        if let Some(first) = self
            .subscriptions
            .get_mut(&key)
            .and_then(|subscription| subscription.queue(0))
        {
            first.passed = passed + dropped;
        }
        self.stage
            .progress
            .extend((0..queues).map(|queue| (key.0, key.1, queue)));
        self.refresh_check(key);
        let shown_ms = self.frontier.shown_ms();
        self.lower_wake(key, shown_ms);
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
        self.check_leased(key, handle)?;
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
        match handle.retry {
            Some(retry) => self.fail_retry(now_ms, key, retry, delay_ms)?,
            None => self.fail_fresh(now_ms, key, (handle.queue, handle.place), delay_ms)?,
        }
        self.traffic.handed_back += 1;
        self.refresh_check(key);
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
        self.check_leased(key, handle)?;
        let new_until_ms = now_ms.saturating_add(invisible_ms);
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return Err(Error::Expired);
        };
        if let Some(retry) = handle.retry {
            if let Some(lease) = subscription.retry_leases.get_mut(&retry) {
                lease.until_ms = new_until_ms;
                subscription.retry_check_ms =
                    std::cmp::min(subscription.retry_check_ms, new_until_ms);
            }
        } else if let Some(progress) = subscription.queue(handle.queue) {
            progress.lease_check_ms = std::cmp::min(progress.lease_check_ms, new_until_ms);
            if let Some(slot) = progress.slot(handle.place) {
                slot.state = SlotState::Leased {
                    until_ms: new_until_ms,
                };
            }
        }
        self.refresh_check(key);
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

    /// Refuses a handle whose delivery is not with a consumer any more.
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

    /// Marks a delivered message of a queue as done.
    pub(crate) fn finish_slot(&mut self, key: SubscriptionKey, (queue, place): InQueue) {
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return;
        };
        if let Some(progress) = subscription.queue(queue) {
            if let Some(slot) = progress.slot(place) {
                slot.state = SlotState::Done;
                slot.message = None;
            }
            progress.settle();
        }
        subscription.in_flight -= 1;
        self.stage.progress.insert((key.0, key.1, queue));
    }

    /// A first delivery failed: it comes again `delay_ms` later.
    pub(crate) fn fail_fresh(
        &mut self,
        now_ms: u64,
        key: SubscriptionKey,
        (queue, place): InQueue,
        delay_ms: u64,
    ) -> Result<(), StoreError> {
        let Some(group) = self.catalog.groups.get(&key.0).map(|group| &group.spec) else {
            return Ok(());
        };
        let (fifo, attempts_max) = (group.fifo, group.attempts_max);
        let again_ms = now_ms.saturating_add(delay_ms);
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return Ok(());
        };
        let Some(slot) = subscription
            .queue(queue)
            .and_then(|progress| progress.slot(place))
        else {
            return Ok(());
        };
        let attempts = slot.attempts;
        if attempts >= attempts_max {
            // No handle of this delivery is good any more.
            slot.attempts = 0;
            self.bury(now_ms, key, (queue, place), attempts)?;
            self.finish_slot(key, (queue, place));
        } else if fifo {
            slot.state = SlotState::Open { from_ms: again_ms };
            subscription.in_flight -= 1;
            self.stage.progress.insert((key.0, key.1, queue));
        } else {
            let row = RetryRow {
                queue,
                place,
                attempt: attempts + 1,
                inline: None,
            };
            // No handle of this delivery is good any more.
            slot.attempts = 0;
            self.add_retry(now_ms, key, again_ms, row);
            self.finish_slot(key, (queue, place));
        }
        self.lower_wake(key, again_ms);
        Ok(())
    }

    /// Something ended: a group that was full or blocked may go on.
    pub(crate) fn wake_after_end(&mut self, key: SubscriptionKey) {
        let Some(subscription) = self.subscriptions.get(&key) else {
            return;
        };
        let fifo = self
            .catalog
            .groups
            .get(&key.0)
            .is_some_and(|group| group.spec.fifo);
        if fifo || subscription.in_flight + 1 >= self.config.limits.in_flight_max {
            let shown_ms = self.frontier.shown_ms();
            self.lower_wake(key, shown_ms);
        }
    }
}
