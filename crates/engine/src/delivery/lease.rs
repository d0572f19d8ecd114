//! Implements the end of leases: finished, failed, expired, or parked on the retry timeline.

use std::collections::HashMap;

use crate::engine::Engine;
use crate::format::handle::ReceiptHandle;
use crate::ids::SubscriptionKey;
use crate::place::{InQueue, Place};
use crate::state::subscription::{Parked, Progress, RetryRow, SlotState};
use crate::store::{Store, StoreError};

/// Units of work that the end of a lease takes, besides what it reads and writes of the message.
const LEASE_UNITS: u64 = 2;

impl<S: Store> Engine<S> {
    /// Ends leases that have run out, as many as the step may, and notes when the next one does.
    pub(crate) fn end_leases(
        &mut self,
        now_ms: u64,
        key: SubscriptionKey,
    ) -> Result<(), StoreError> {
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return Ok(());
        };
        let mut ended = HashMap::<u16, Vec<Place>>::new();
        for (queue, progress) in (0_u16..).zip(&mut subscription.queues) {
            if progress.lease_end_ms <= now_ms {
                let places = end_of_leases(progress, now_ms);
                ended.insert(queue, places);
            }
        }
        let mut retries = Vec::new();
        if subscription.retry_lease_end_ms <= now_ms {
            let leases = &subscription.retry_leases;
            retries.extend(
                leases
                    .iter()
                    .filter(|(_, lease)| lease.until_ms <= now_ms)
                    .map(|(place, _)| *place),
            );
            let open = leases
                .values()
                .map(|lease| lease.until_ms)
                .filter(|until_ms| *until_ms > now_ms);
            subscription.retry_lease_end_ms = open.min().unwrap_or(u64::MAX);
        }
        let mut ended: Vec<_> = ended.into_iter().collect();
        ended.sort_unstable();
        for (queue, places) in ended {
            for place in places {
                if self.is_spent() {
                    self.end_leases_later(now_ms, key, Some(queue));
                    break;
                }
                self.spend(LEASE_UNITS);
                self.fail_fresh(now_ms, key, (queue, place), 0)?;
            }
        }
        for place in retries {
            if self.is_spent() {
                self.end_leases_later(now_ms, key, None);
                break;
            }
            self.spend(LEASE_UNITS);
            self.fail_retry(now_ms, key, place, 0)?;
        }
        Ok(())
    }

    /// Leaves leases that have run out, of a queue or of retries, for a later step.
    fn end_leases_later(&mut self, now_ms: u64, key: SubscriptionKey, queue: Option<u16>) {
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return;
        };
        match queue {
            Some(queue) => {
                if let Some(progress) = subscription.queue(queue) {
                    progress.lease_end_ms = std::cmp::min(progress.lease_end_ms, now_ms);
                }
            }
            None => {
                subscription.retry_lease_end_ms =
                    std::cmp::min(subscription.retry_lease_end_ms, now_ms);
            }
        }
    }

    /// The lease in front of a crowded queue makes way: it gets a row on the retry timeline that becomes
    /// visible when the lease ends, and the position may pass it.
    pub(crate) fn park_front(&mut self, key: SubscriptionKey, queue: u16) {
        let now_ms = self.stamp_ms;
        let Some(progress) = self
            .subscriptions
            .get_mut(&key)
            .and_then(|subscription| subscription.queue(queue))
        else {
            return;
        };
        let Some(slot) = progress.slots.front() else {
            return;
        };
        let SlotState::Leased { until_ms } = slot.state else {
            return;
        };
        let (place, attempt) = (slot.place, slot.attempts);
        let row = RetryRow {
            queue,
            place,
            attempt: attempt + 1,
            inline: None,
        };
        let retry = self.add_retry(now_ms, key, until_ms, row.clone());
        self.finish_slot(key, (queue, place));
        if let Some(subscription) = self.subscriptions.get_mut(&key) {
            let parked = Parked { retry, row };
            subscription.parked.insert(place.sequence, parked);
        }
    }

    /// Takes the row of a parked lease, if this is the handle of it and the row was not delivered since.
    pub(crate) fn take_parked(
        &mut self,
        key: SubscriptionKey,
        handle: &ReceiptHandle,
    ) -> Option<Parked> {
        let parked = &mut self.subscriptions.get_mut(&key)?.parked;
        let known = parked.get(&handle.place.sequence)?;
        let is_same = handle.retry.is_none()
            && (handle.queue, handle.place) == (known.row.queue, known.row.place)
            && handle.attempt.checked_add(1) == Some(known.row.attempt);
        if is_same {
            parked.remove(&handle.place.sequence)
        } else {
            None
        }
    }

    /// Moves the row of a parked lease to the instant at which the lease ends now.
    pub(crate) fn park_until(
        &mut self,
        now_ms: u64,
        key: SubscriptionKey,
        parked: Parked,
        until_ms: u64,
    ) {
        let Parked { retry, row } = parked;
        self.remove_retry(key, retry, &row);
        let retry = self.add_retry(now_ms, key, until_ms, row.clone());
        if let Some(subscription) = self.subscriptions.get_mut(&key) {
            let sequence = row.place.sequence;
            subscription.parked.insert(sequence, Parked { retry, row });
        }
        self.lower_wake(key, retry.due_ms);
    }

    /// A delivery whose lease was parked failed: its row moves, or becomes a dead letter.
    pub(crate) fn fail_parked(
        &mut self,
        now_ms: u64,
        key: SubscriptionKey,
        parked: Parked,
        delay_ms: u64,
    ) -> Result<(), StoreError> {
        let group = self.catalog.groups.get(&key.0);
        let attempts_max = group.map_or(1, |group| group.spec.attempts_max);
        let Parked { retry, row } = parked;
        if row.attempt > attempts_max {
            return self.bury_parked(now_ms, key, Parked { retry, row });
        }
        self.remove_retry(key, retry, &row);
        let again_ms = now_ms.saturating_add(delay_ms);
        self.add_retry(now_ms, key, again_ms, row);
        self.lower_wake(key, again_ms);
        Ok(())
    }

    /// Moves a delivery whose lease was parked to the dead letters.
    pub(crate) fn bury_parked(
        &mut self,
        now_ms: u64,
        key: SubscriptionKey,
        Parked { retry, row }: Parked,
    ) -> Result<(), StoreError> {
        // The row counts the delivery to come.
        let attempt = row.attempt.saturating_sub(1);
        self.dead_letter_retry(now_ms, key, retry, &RetryRow { attempt, ..row })
    }
}

/// Finds the leases of a queue that have run out, and notes when the next one does.
fn end_of_leases(progress: &mut Progress, now_ms: u64) -> Vec<Place> {
    let mut places = Vec::new();
    let mut next_ms = u64::MAX;
    for slot in &progress.slots {
        match slot.state {
            SlotState::Leased { until_ms } if until_ms <= now_ms => places.push(slot.place),
            SlotState::Leased { until_ms } => next_ms = std::cmp::min(next_ms, until_ms),
            _ => {}
        }
    }
    progress.lease_end_ms = next_ms;
    places
}

impl<S: Store> Engine<S> {
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
            // Handles of this delivery are no longer valid.
            slot.attempts = 0;
            self.copy_to_dead_letters(now_ms, key, (queue, place), attempts)?;
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
            // Handles of this delivery are no longer valid.
            slot.attempts = 0;
            self.add_retry(now_ms, key, again_ms, row);
            self.finish_slot(key, (queue, place));
        }
        self.lower_wake(key, again_ms);
        Ok(())
    }
}
