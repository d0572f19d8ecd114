//! Provides the instants at which subscriptions have to be looked at again.

use std::collections::BTreeSet;

use crate::ids::SubscriptionKey;

/// When something may be deliverable to a subscription that a consumer waits on, and when leases may end.
///
/// A subscription keeps its own two instants, so that they are found here without a search.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    deliverable: BTreeSet<(u64, SubscriptionKey)>,
    lease_ends: BTreeSet<(u64, SubscriptionKey)>,
}

impl Wakes {
    /// Replaces the instant at which something may be deliverable; `None`: no consumer waits.
    pub(crate) fn set_deliverable(
        &mut self,
        key: SubscriptionKey,
        current_ms: &mut Option<u64>,
        wake_ms: Option<u64>,
    ) {
        replace(&mut self.deliverable, key, current_ms, wake_ms);
    }

    /// Replaces the instant at which leases may end; `None`: nothing is leased.
    pub(crate) fn set_lease_end(
        &mut self,
        key: SubscriptionKey,
        current_ms: &mut Option<u64>,
        end_ms: Option<u64>,
    ) {
        replace(&mut self.lease_ends, key, current_ms, end_ms);
    }

    /// The subscription that may be deliverable first, and when.
    pub(crate) fn first_deliverable(&self) -> Option<(u64, SubscriptionKey)> {
        self.deliverable.first().copied()
    }

    /// The first instant past `after_ms` at which something may be deliverable.
    pub(crate) fn first_deliverable_after(&self, after_ms: u64) -> Option<u64> {
        let from = (after_ms.saturating_add(1), (0, 0));
        let (wake_ms, _) = self.deliverable.range(from..).next()?;
        Some(*wake_ms)
    }

    /// The subscription whose leases may end first, and when.
    pub(crate) fn first_lease_end(&self) -> Option<(u64, SubscriptionKey)> {
        self.lease_ends.first().copied()
    }
}

fn replace(
    instants: &mut BTreeSet<(u64, SubscriptionKey)>,
    key: SubscriptionKey,
    current_ms: &mut Option<u64>,
    next_ms: Option<u64>,
) {
    if let Some(old_ms) = std::mem::replace(current_ms, next_ms) {
        instants.remove(&(old_ms, key));
    }
    if let Some(next_ms) = next_ms {
        instants.insert((next_ms, key));
    }
}
