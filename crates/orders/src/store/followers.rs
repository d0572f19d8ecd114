//! Wakes who waits for events: requests of a merchant, whose number is limited, and the fan-out of webhooks.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::ids::MerchantId;
use crate::limits::{FOLLOWERS_MAX, MERCHANT_FOLLOWERS_MAX};

/// The requests that wait for events; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Followers {
    state: Arc<Mutex<State>>,
    any_written: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    /// Whose events were committed since the fan-out looked.
    written: BTreeSet<MerchantId>,
    merchants: HashMap<MerchantId, Waiting>,
    count: usize,
}

/// Those of one merchant.
#[derive(Debug, Default)]
struct Waiting {
    written: Arc<Notify>,
    count: usize,
}

/// The place of a request that waits, until it is dropped.
#[derive(Debug)]
pub(crate) struct Follower {
    followers: Followers,
    merchant_id: MerchantId,
    written: Arc<Notify>,
}

impl Followers {
    /// A std lock: held for a look-up in a small map, never across an await.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets one more request wait; `None` if too many do.
    pub(crate) fn join(&self, merchant_id: &MerchantId) -> Option<Follower> {
        let mut state = self.state();
        if state.count >= FOLLOWERS_MAX {
            return None;
        }
        let waiting = state.merchants.entry(merchant_id.clone()).or_default();
        if waiting.count >= MERCHANT_FOLLOWERS_MAX {
            return None;
        }
        waiting.count += 1;
        let written = Arc::clone(&waiting.written);
        state.count += 1;
        Some(Follower {
            followers: self.clone(),
            merchant_id: merchant_id.clone(),
            written,
        })
    }

    /// Wakes who waits for events of these merchants: they are committed.
    pub(super) fn wake(&self, merchants: &[MerchantId]) {
        if merchants.is_empty() {
            return;
        }
        let mut state = self.state();
        for merchant_id in merchants {
            if let Some(waiting) = state.merchants.get(merchant_id) {
                waiting.written.notify_waiters();
            }
            if !state.written.contains(merchant_id) {
                state.written.insert(merchant_id.clone());
            }
        }
        drop(state);
        self.any_written.notify_one();
    }

    /// The merchants whose events were committed since the last call.
    pub(crate) fn take_written(&self) -> BTreeSet<MerchantId> {
        std::mem::take(&mut self.state().written)
    }

    /// Ends when events were committed since the last call.
    pub(crate) async fn any_written(&self) {
        self.any_written.notified().await;
    }
}

impl Follower {
    /// What is notified of events that are committed after this call.
    pub(crate) fn written(&self) -> Arc<Notify> {
        Arc::clone(&self.written)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut state = self.followers.state();
        state.count -= 1;
        if let Some(waiting) = state.merchants.get_mut(&self.merchant_id) {
            waiting.count -= 1;
            if waiting.count == 0 {
                state.merchants.remove(&self.merchant_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_and_returned() {
        let followers = Followers::default();
        let shop: MerchantId = "shop".parse().unwrap();
        let places: Vec<_> = (0..MERCHANT_FOLLOWERS_MAX)
            .map(|_| followers.join(&shop).unwrap())
            .collect();
        assert!(followers.join(&shop).is_none());
        let other = followers.join(&MerchantId::fallback());
        assert!(other.is_some());
        drop(places);
        assert!(followers.join(&shop).is_some());
        drop(other);
        assert_eq!(followers.state().count, 0);
        assert!(followers.state().merchants.is_empty());
    }

    #[test]
    fn the_whole_platform_has_a_limit_too() {
        let followers = Followers::default();
        let places: Vec<_> = (0..FOLLOWERS_MAX)
            .map(|n| {
                let merchant = format!("shop-{}", n / MERCHANT_FOLLOWERS_MAX);
                followers.join(&merchant.parse().unwrap()).unwrap()
            })
            .collect();
        assert!(followers.join(&MerchantId::fallback()).is_none());
        drop(places);
        assert!(followers.join(&MerchantId::fallback()).is_some());
    }
}
