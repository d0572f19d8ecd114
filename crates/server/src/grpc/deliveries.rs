//! Renews the leases of push consumers' deliveries until they are settled or the consumer is gone.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use broker::ReceiptHandle;
use tokio::sync::Notify;

use super::Shared;
use super::limits::{LEASE_LEFT_MS, LEASE_MS, RENEW_AHEAD_MS, RENEW_FOR_MS};
use super::peer::ClientKey;

/// Renewals are rounded to multiples of this many ms, so that many deliveries share an entry.
const STEP_MS: u64 = 1_000;

/// A delivery whose lease is renewed.
#[derive(Clone, Debug)]
struct Lease {
    client: ClientKey,
    /// It is not renewed from this instant on.
    end_ms: u64,
}

#[derive(Debug, Default)]
struct State {
    leases: HashMap<ReceiptHandle, Lease>,
    /// The deliveries to renew, by instant; those that are no longer in `leases` are skipped.
    due: BTreeMap<u64, Vec<ReceiptHandle>>,
}

/// The deliveries whose leases are renewed.
///
/// A std mutex: it is held for a look-up, never across an await.
#[derive(Debug, Default)]
pub(crate) struct Renewals {
    state: Mutex<State>,
    /// Notified when the next renewal becomes earlier.
    sooner: Notify,
}

fn renew_at_ms(now_ms: u64) -> u64 {
    // Rounded down: a lease must not end before it is renewed.
    (now_ms + LEASE_MS - RENEW_AHEAD_MS) / STEP_MS * STEP_MS
}

impl Renewals {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts to renew deliveries to a client.
    pub(crate) fn add(
        &self,
        now_ms: u64,
        client: &ClientKey,
        handles: impl Iterator<Item = ReceiptHandle>,
    ) {
        let mut state = self.state();
        let at_ms = renew_at_ms(now_ms);
        let is_first = state
            .due
            .first_key_value()
            .is_none_or(|(first_ms, _)| at_ms < *first_ms);
        let State { leases, due } = &mut *state;
        let due = due.entry(at_ms).or_default();
        for handle in handles {
            let lease = Lease {
                client: client.clone(),
                end_ms: now_ms.saturating_add(RENEW_FOR_MS),
            };
            leases.insert(handle, lease);
            due.push(handle);
        }
        drop(state);
        if is_first {
            self.sooner.notify_one();
        }
    }

    /// Stops renewing a delivery.
    pub(crate) fn forget(&self, handle: &ReceiptHandle) {
        self.state().leases.remove(handle);
    }

    /// Stops renewing the deliveries of a client, and returns them.
    fn forget_client(&self, client: &ClientKey) -> Vec<ReceiptHandle> {
        let mut state = self.state();
        let leases = state.leases.extract_if(|_, lease| lease.client == *client);
        leases.map(|(handle, _)| handle).collect()
    }

    fn next_ms(&self) -> Option<u64> {
        self.state().due.first_key_value().map(|(at_ms, _)| *at_ms)
    }

    /// Removes and returns the deliveries to renew now.
    fn take_due(&self, now_ms: u64) -> Vec<(ReceiptHandle, Lease)> {
        let mut state = self.state();
        let later = state.due.split_off(&now_ms.saturating_add(1));
        let due = std::mem::replace(&mut state.due, later);
        let handles = due.into_values().flatten();
        handles
            .filter_map(|handle| {
                state
                    .leases
                    .get(&handle)
                    .map(|lease| (handle, lease.clone()))
            })
            .collect()
    }

    /// Schedules the next renewal of a delivery, unless it was settled meanwhile.
    fn schedule_next(&self, now_ms: u64, handle: ReceiptHandle) {
        let mut state = self.state();
        if state.leases.contains_key(&handle) {
            state
                .due
                .entry(renew_at_ms(now_ms))
                .or_default()
                .push(handle);
        }
    }
}

impl Shared {
    /// Renews leases until the front end stops.
    pub(crate) async fn renew_leases(self: Arc<Self>) {
        loop {
            let sooner = self.renewals.sooner.notified();
            let next = self.renewals.next_ms();
            let due = async {
                match next {
                    Some(at_ms) => self.clock().sleep_until(at_ms).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.stopping() => return,
                () = sooner => {}
                () = due => self.renew_due().await,
            }
        }
    }

    async fn renew_due(&self) {
        let now_ms = self.clock().now_ms();
        for (handle, lease) in self.renewals.take_due(now_ms) {
            let lives = now_ms < lease.end_ms && self.sessions.is_connected(&lease.client);
            // The lease of a client that is gone is left to expire. An error means that the delivery was settled.
            let renewed = lives
                && self
                    .broker
                    .change_invisible(handle, Duration::from_millis(LEASE_MS))
                    .await
                    .is_ok();
            if renewed {
                self.renewals.schedule_next(now_ms, handle);
            } else {
                self.renewals.forget(&handle);
            }
        }
    }

    /// Releases the deliveries of a client that has ended to other consumers.
    pub(crate) async fn release_client(&self, client: &ClientKey) {
        for handle in self.renewals.forget_client(client) {
            let wait = Duration::from_millis(LEASE_LEFT_MS);
            // A delivery that cannot be released was already settled.
            drop(self.broker.change_invisible(handle, wait).await);
        }
    }

    /// Returns deliveries that did not reach their consumer to the group, until the front end stops.
    pub(crate) async fn return_unsent(
        self: Arc<Self>,
        mut unsent: tokio::sync::mpsc::UnboundedReceiver<Vec<ReceiptHandle>>,
    ) {
        loop {
            let handles = tokio::select! {
                () = self.stopping() => return,
                handles = unsent.recv() => handles,
            };
            let Some(handles) = handles else { return };
            for handle in handles {
                self.renewals.forget(&handle);
                // A delivery that cannot be returned was already settled.
                drop(self.broker.retry_later(handle, Some(Duration::ZERO)).await);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker::Place;

    fn handle(sequence: u64) -> ReceiptHandle {
        ReceiptHandle {
            topic: 1,
            group: 1,
            generation: 0,
            queue: 0,
            place: Place {
                due_ms: 1,
                sequence,
                level: 0,
            },
            attempt: 1,
            returned: 0,
            retry: None,
        }
    }

    #[test]
    fn leases_are_renewed_before_they_end_until_they_are_settled() {
        let renewals = Renewals::default();
        let (ann, ben) = (ClientKey::new("", "ann"), ClientKey::new("", "ben"));
        renewals.add(1_999, &ann, [handle(1), handle(2)].into_iter());
        renewals.add(2_500, &ben, [handle(3)].into_iter());
        let at_ms = renewals.next_ms().unwrap();
        assert!(at_ms <= 1_999 + LEASE_MS - RENEW_AHEAD_MS && at_ms > 1_999);
        renewals.forget(&handle(2));
        let due = |now_ms| {
            let taken = renewals.take_due(now_ms);
            taken
                .iter()
                .map(|(handle, _)| handle.place.sequence)
                .collect::<Vec<_>>()
        };
        assert_eq!(due(at_ms - 1), [0_u64; 0]);
        assert_eq!(due(at_ms), [1]);
        renewals.schedule_next(at_ms, handle(1));
        renewals.schedule_next(at_ms, handle(2));
        assert_eq!(due(u64::MAX - 1), [3, 1]);
        assert_eq!(renewals.forget_client(&ann), [handle(1)]);
        assert_eq!(renewals.state().leases.len(), 1);
    }
}
