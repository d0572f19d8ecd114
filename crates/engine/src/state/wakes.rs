//! Provides the instants at which subscriptions have to be looked at again.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use crate::ids::SubscriptionKey;

/// A subscription that a consumer waits on.
#[derive(Clone, Copy, Debug)]
struct Watched {
    /// When something may be deliverable.
    wake_ms: u64,
    /// Which of those that wake at the same instant it follows.
    turn: u64,
    /// The epoch that has to be durable before something that is due is deliverable.
    held_epoch: Option<u64>,
    /// A delivery ended: what it blocked is found only by looking.
    ended: bool,
}

/// When something may be deliverable to a subscription that a consumer waits on, and when leases may end.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    watched: FxHashMap<SubscriptionKey, Watched>,
    deliverable: BTreeSet<(u64, u64, SubscriptionKey)>,
    held: BTreeSet<(u64, SubscriptionKey)>,
    turn: u64,
    lease_ends: BTreeSet<(u64, SubscriptionKey)>,
}

impl Wakes {
    /// A consumer waits: something may be deliverable at `wake_ms`, or once an epoch is durable.
    ///
    /// Among those that wake at the same instant it is the last.
    pub(crate) fn watch(&mut self, key: SubscriptionKey, wake_ms: u64, held_epoch: Option<u64>) {
        self.unwatch(key);
        let turn = self.turn;
        self.turn += 1;
        self.deliverable.insert((wake_ms, turn, key));
        self.held.extend(held_epoch.map(|epoch| (epoch, key)));
        let watched = Watched {
            wake_ms,
            turn,
            held_epoch,
            ended: false,
        };
        self.watched.insert(key, watched);
    }

    /// How many subscriptions a consumer waits on.
    pub(crate) fn watched_count(&self) -> usize {
        self.watched.len()
    }

    /// Whether a consumer waits on the subscription.
    pub(crate) fn is_watched(&self, key: SubscriptionKey) -> bool {
        self.watched.contains_key(&key)
    }

    /// No consumer waits any longer.
    pub(crate) fn unwatch(&mut self, key: SubscriptionKey) {
        let Some(watched) = self.watched.remove(&key) else {
            return;
        };
        self.deliverable
            .remove(&(watched.wake_ms, watched.turn, key));
        if let Some(epoch) = watched.held_epoch {
            self.held.remove(&(epoch, key));
        }
    }

    /// Something may be deliverable at `wake_ms`, if a consumer waits.
    pub(crate) fn lower(&mut self, key: SubscriptionKey, wake_ms: u64) {
        let Some(watched) = self.watched.get_mut(&key) else {
            return;
        };
        if watched.wake_ms > wake_ms {
            self.deliverable
                .remove(&(watched.wake_ms, watched.turn, key));
            watched.wake_ms = wake_ms;
            watched.turn = self.turn;
            self.turn += 1;
            self.deliverable.insert((wake_ms, watched.turn, key));
        }
    }

    /// A delivery ended, so that something may be deliverable at `wake_ms` that no instant shows.
    pub(crate) fn lower_after_end(&mut self, key: SubscriptionKey, wake_ms: u64) {
        self.lower(key, wake_ms);
        if let Some(watched) = self.watched.get_mut(&key) {
            watched.ended = true;
        }
    }

    /// Whether a delivery of a watched subscription has ended since it is watched.
    pub(crate) fn has_ended(&self, key: SubscriptionKey) -> bool {
        self.watched.get(&key).is_some_and(|watched| watched.ended)
    }

    /// Everything up to `epoch` is durable: what waited for that may be deliverable at `wake_ms`.
    pub(crate) fn release(&mut self, epoch: u64, wake_ms: u64) {
        while let Some((_, key)) = self
            .held
            .first()
            .copied()
            .filter(|(held, _)| *held <= epoch)
        {
            self.held.pop_first();
            if let Some(watched) = self.watched.get_mut(&key) {
                watched.held_epoch = None;
            }
            self.lower(key, wake_ms);
        }
    }

    /// The subscription that may be deliverable first, and when.
    pub(crate) fn first_deliverable(&self) -> Option<(u64, SubscriptionKey)> {
        let (wake_ms, _, key) = self.deliverable.first()?;
        Some((*wake_ms, *key))
    }

    /// The first instant past `after_ms` at which something may be deliverable.
    pub(crate) fn first_deliverable_after(&self, after_ms: u64) -> Option<u64> {
        let from = (after_ms.saturating_add(1), 0, (0, 0));
        let (wake_ms, _, _) = self.deliverable.range(from..).next()?;
        Some(*wake_ms)
    }

    /// Replaces the instant at which leases may end; `None`: nothing is leased.
    pub(crate) fn set_lease_end(
        &mut self,
        key: SubscriptionKey,
        current_ms: &mut Option<u64>,
        end_ms: Option<u64>,
    ) {
        if let Some(old_ms) = std::mem::replace(current_ms, end_ms) {
            self.lease_ends.remove(&(old_ms, key));
        }
        self.lease_ends.extend(end_ms.map(|end_ms| (end_ms, key)));
    }

    /// The subscription whose leases may end first, and when.
    pub(crate) fn first_lease_end(&self) -> Option<(u64, SubscriptionKey)> {
        self.lease_ends.first().copied()
    }
}
