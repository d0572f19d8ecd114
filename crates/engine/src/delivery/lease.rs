//! Implements the end of leases: finished, failed, expired, or parked on the retry timeline.

use std::collections::BTreeMap;

use crate::engine::Engine;
use crate::format::handle::ReceiptHandle;
use crate::ids::SubscriptionKey;
use crate::place::{InQueue, Place};
use crate::state::progress::{Progress, RELEASED, Slot, SlotState};
use crate::state::subscription::{Parked, RetryRow};
use crate::store::{Store, StoreError};

/// Units of work that the end of a lease takes, besides what it reads and writes of the message.
const LEASE_UNITS: u64 = 2;
/// Leases that are looked at in a unit of work.
const LEASES_PER_UNIT: usize = 256;
/// How often a delivery may be handed back unworked before that counts as a failure.
const RETURNS_MAX: u16 = 8;
/// How often it may be before it waits.
const QUICK_RETURNS_MAX: u16 = 3;
/// First wait of one that is handed back unworked again and again, in ms; it doubles each time.
const RETURN_WAIT_MS_MIN: u64 = 1_000;
/// Longest wait of it, in ms.
const RETURN_WAIT_MS_MAX: u64 = 60_000;

/// How a delivery that was not acknowledged comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Again {
    pub(crate) delay_ms: u64,
    /// Whether it uses up one of the deliveries.
    counts: bool,
    /// How often it was handed back unworked since the last delivery that failed.
    returned: u16,
}

impl Again {
    /// After a delivery that failed.
    pub(crate) fn failed(delay_ms: u64) -> Self {
        Self {
            delay_ms,
            counts: true,
            returned: 0,
        }
    }

    /// After a delivery that no consumer worked on, when `returned` were handed back so before.
    ///
    /// One that is handed back for ever, because no consumer can take it, must still come to an end.
    pub(crate) fn unworked(returned: u16) -> Self {
        let (released, returned) = (returned - returned % RELEASED, returned % RELEASED);
        let returned = std::cmp::min(returned + 1, RELEASED - 1);
        let delay_ms = match returned.checked_sub(QUICK_RETURNS_MAX + 1) {
            None => 0,
            Some(doublings) => std::cmp::min(
                RETURN_WAIT_MS_MIN << std::cmp::min(doublings, 16),
                RETURN_WAIT_MS_MAX,
            ),
        };
        Self {
            delay_ms,
            counts: returned > RETURNS_MAX,
            returned: released + returned,
        }
    }

    /// After a lease that ran out.
    fn lapsed(counts: bool, returned: u16) -> Self {
        if counts {
            Self::failed(0)
        } else {
            Self::unworked(returned)
        }
    }

    /// The number of the delivery to come, after delivery `attempt`.
    fn attempt_after(self, attempt: u16) -> u16 {
        attempt.saturating_add(u16::from(self.counts))
    }

    /// Whether no delivery is left after delivery `attempt`.
    pub(crate) fn is_last(self, attempt: u16, attempts_max: u16) -> bool {
        self.counts && attempt >= attempts_max
    }

    /// The row of the retry timeline that follows one that was delivered.
    pub(crate) fn row_after(self, row: RetryRow) -> RetryRow {
        RetryRow {
            attempt: self.attempt_after(row.attempt),
            returned: self.returned,
            ..row
        }
    }
}

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
        let mut looked = 0;
        let mut ended = BTreeMap::new();
        for (queue, progress) in (0_u16..).zip(&mut subscription.queues) {
            if progress.lease_end_ms <= now_ms {
                looked += progress.slots.len();
                ended.insert(queue, end_of_leases(progress, now_ms));
            }
        }
        let mut retries = Vec::new();
        if subscription.retry_lease_end_ms <= now_ms {
            let leases = &subscription.retry_leases;
            looked += leases.len();
            retries.extend(
                leases
                    .iter()
                    .filter(|(_, lease)| lease.until_ms <= now_ms)
                    .map(|(place, lease)| {
                        (*place, Again::lapsed(lease.counts, lease.row.returned))
                    }),
            );
            let open = leases
                .values()
                .map(|lease| lease.until_ms)
                .filter(|until_ms| *until_ms > now_ms);
            subscription.retry_lease_end_ms = open.min().unwrap_or(u64::MAX);
        }
        self.spend((looked / LEASES_PER_UNIT) as u64);
        // The first one ends even if to find it has cost all that is left.
        let mut is_first = true;
        for (queue, places) in ended {
            for (place, again) in places {
                if !is_first && self.is_spent() {
                    self.end_leases_later(now_ms, key, Some(queue));
                    break;
                }
                is_first = false;
                self.spend(LEASE_UNITS);
                self.lapse_fresh(now_ms, key, (queue, place), again)?;
                self.wake_after_end(key);
            }
        }
        for (place, again) in retries {
            if !is_first && self.is_spent() {
                self.end_leases_later(now_ms, key, None);
                break;
            }
            is_first = false;
            self.spend(LEASE_UNITS);
            self.fail_retry(now_ms, key, place, again)?;
            self.wake_after_end(key);
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
        let SlotState::Leased { until_ms, counts } = slot.state else {
            return;
        };
        let place = slot.place;
        let delivery = (slot.attempts, slot.returned);
        let again = Again::lapsed(counts, slot.returned);
        let row = RetryRow {
            queue,
            place,
            attempt: again.attempt_after(slot.attempts),
            returned: again.returned,
            inline: None,
        };
        let retry = self.add_retry(now_ms, key, until_ms, row.clone());
        self.finish_slot(key, (queue, place));
        if let Some(subscription) = self.subscriptions.get_mut(&key) {
            let parked = Parked {
                retry,
                row,
                delivery,
            };
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
            && (handle.attempt, handle.returned) == known.delivery;
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
        (until_ms, counts): (u64, bool),
    ) -> Result<(), StoreError> {
        let Parked {
            retry,
            row,
            delivery,
        } = parked;
        let Some(row) = self.whole_row(key, retry, row)? else {
            return Ok(());
        };
        self.remove_retry(key, retry, &row);
        let again = Again::lapsed(counts, delivery.1);
        let row = RetryRow {
            attempt: again.attempt_after(delivery.0),
            returned: again.returned,
            ..row
        };
        let retry = self.add_retry(now_ms, key, until_ms, row.clone());
        if let Some(subscription) = self.subscriptions.get_mut(&key) {
            let parked = Parked {
                retry,
                row: row.without_message(),
                delivery,
            };
            subscription
                .parked
                .insert(parked.row.place.sequence, parked);
        }
        self.lower_wake(key, retry.due_ms);
        Ok(())
    }

    /// A delivery whose lease was parked is over: its row moves, or becomes a dead letter.
    pub(crate) fn fail_parked(
        &mut self,
        now_ms: u64,
        key: SubscriptionKey,
        parked: Parked,
        again: Again,
    ) -> Result<(), StoreError> {
        let group = self.catalog.groups.get(&key.0);
        let attempts_max = group.map_or(1, |group| group.spec.attempts_max);
        let attempt = parked.delivery.0;
        if again.is_last(attempt, attempts_max) {
            return self.bury_parked(now_ms, key, parked);
        }
        let Parked { retry, row, .. } = parked;
        let Some(row) = self.whole_row(key, retry, row)? else {
            return Ok(());
        };
        self.remove_retry(key, retry, &row);
        let again_ms = now_ms.saturating_add(again.delay_ms);
        let row = again.row_after(RetryRow { attempt, ..row });
        self.add_retry(now_ms, key, again_ms, row);
        self.lower_wake(key, again_ms);
        Ok(())
    }

    /// Moves a delivery whose lease was parked to the dead letters.
    pub(crate) fn bury_parked(
        &mut self,
        now_ms: u64,
        key: SubscriptionKey,
        parked: Parked,
    ) -> Result<(), StoreError> {
        let Parked {
            retry,
            row,
            delivery,
        } = parked;
        let attempt = delivery.0;
        self.dead_letter_retry(now_ms, key, retry, &RetryRow { attempt, ..row })
    }
}

/// Finds the leases of a queue that have run out, and notes when the next one does.
fn end_of_leases(progress: &mut Progress, now_ms: u64) -> Vec<(Place, Again)> {
    let mut places = Vec::new();
    let mut next_ms = u64::MAX;
    for slot in &progress.slots {
        match slot.state {
            SlotState::Leased { until_ms, counts } if until_ms <= now_ms => {
                places.push((slot.place, Again::lapsed(counts, slot.returned)));
            }
            SlotState::Leased { until_ms, .. } => next_ms = std::cmp::min(next_ms, until_ms),
            SlotState::Open { .. } => {}
        }
    }
    progress.lease_end_ms = next_ms;
    places
}

impl<S: Store> Engine<S> {
    /// Takes a message of a queue that is done away.
    pub(crate) fn finish_slot(&mut self, key: SubscriptionKey, (queue, place): InQueue) {
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return;
        };
        let slot = subscription
            .queue(queue)
            .and_then(|progress| progress.remove(place));
        let (leased, kept) = slot.map_or((false, false), |slot| {
            (slot.is_leased(), slot.message.is_some())
        });
        subscription.in_flight -= usize::from(leased);
        if kept {
            self.note_reader(key, queue);
        }
        self.stage.progress.insert((key.0, key.1, queue));
    }

    /// The lease of a delivery from the queue has run out.
    ///
    /// What follows it in its message group was not worked on, and comes again after it.
    fn lapse_fresh(
        &mut self,
        now_ms: u64,
        key: SubscriptionKey,
        (queue, place): InQueue,
        again: Again,
    ) -> Result<(), StoreError> {
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return Ok(());
        };
        let Some(progress) = subscription.queue(queue) else {
            return Ok(());
        };
        if !progress.find(place).is_some_and(Slot::is_leased) {
            // It was released by an earlier one.
            return Ok(());
        }
        let follows = progress.follows(place);
        let released = if follows {
            progress.release_from(place)
        } else {
            progress.release_after(place)
        };
        subscription.in_flight -= released;
        self.stage.progress.insert((key.0, key.1, queue));
        if follows {
            return Ok(());
        }
        self.fail_fresh(now_ms, key, (queue, place), again)
    }

    /// A delivery from the queue is over and not done: it comes again, or is a dead letter.
    ///
    /// If it comes again, so does what follows it in its message group, after it.
    pub(crate) fn fail_fresh(
        &mut self,
        now_ms: u64,
        key: SubscriptionKey,
        (queue, place): InQueue,
        again: Again,
    ) -> Result<(), StoreError> {
        let Some(group) = self.catalog.groups.get(&key.0).map(|group| &group.spec) else {
            return Ok(());
        };
        let (fifo, attempts_max) = (group.fifo, group.attempts_max);
        let again_ms = now_ms.saturating_add(again.delay_ms);
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return Ok(());
        };
        let Some(progress) = subscription.queue(queue) else {
            return Ok(());
        };
        let Some(slot) = progress.slot(place) else {
            return Ok(());
        };
        let attempts = slot.attempts;
        if again.is_last(attempts, attempts_max) {
            self.copy_to_dead_letters(now_ms, key, (queue, place), attempts)?;
            self.finish_slot(key, (queue, place));
        } else if fifo {
            let was_leased = slot.is_leased();
            slot.state = SlotState::Open { from_ms: again_ms };
            slot.attempts = again.attempt_after(attempts).saturating_sub(1);
            slot.returned = again.returned;
            progress.look_again_from(again_ms);
            let released = progress.release_after(place);
            subscription.in_flight -= usize::from(was_leased) + released;
            self.stage.progress.insert((key.0, key.1, queue));
        } else {
            let row = RetryRow {
                queue,
                place,
                attempt: again.attempt_after(attempts),
                returned: again.returned,
                inline: None,
            };
            self.add_retry(now_ms, key, again_ms, row);
            self.finish_slot(key, (queue, place));
        }
        self.lower_wake(key, again_ms);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_back_for_ever_waits_longer_and_counts_in_the_end() {
        let mut returned = 0;
        let mut waits_ms = Vec::new();
        for _ in 0..8 {
            let again = Again::unworked(returned);
            assert!(!again.is_last(1, 1), "{again:?}");
            waits_ms.push(again.delay_ms);
            returned = again.returned;
        }
        assert_eq!(waits_ms, [0, 0, 0, 1_000, 2_000, 4_000, 8_000, 16_000]);
        assert!(Again::unworked(returned).is_last(1, 1));
        assert_eq!(Again::unworked(u16::MAX).delay_ms, 60_000);
        // That an earlier one of its message group failed is no hand-back of its own.
        assert_eq!(Again::unworked(9 * RELEASED).delay_ms, 0);
        assert_eq!(Again::unworked(9 * RELEASED).returned, 9 * RELEASED + 1);
    }
}
