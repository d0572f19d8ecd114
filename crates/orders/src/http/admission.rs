//! Limits the requests under way: of the whole server, of each merchant, and one per idempotency key.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edge::admission::{RETRY_AFTER_S, RequestLimit};

use super::problem::{Problem, ProblemKind};
use crate::ids::MerchantId;
use crate::limits::{MERCHANT_REQUESTS_MAX, REQUESTS_MAX};

/// Counts the requests under way; clones share one count.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    /// The requests of the whole server.
    pub(super) requests: RequestLimit,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    // Std locks: a look-up in a small map, never held across an await.
    merchants: Mutex<HashMap<MerchantId, usize>>,
    keys: Mutex<HashSet<(MerchantId, String)>>,
}

/// One of a merchant's requests under way, until it is dropped.
#[derive(Debug)]
pub(super) struct MerchantPlace {
    shared: Arc<Shared>,
    merchant: MerchantId,
}

/// The exclusive use of an idempotency key, until it is dropped.
#[derive(Debug)]
pub(super) struct KeyPlace {
    shared: Arc<Shared>,
    key: (MerchantId, String),
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            requests: RequestLimit::new(REQUESTS_MAX),
            shared: Arc::default(),
        }
    }
}

impl Admission {
    /// Admits a merchant's request, or refuses it if the merchant has too many under way.
    pub(super) fn merchant(&self, merchant: &MerchantId) -> Result<MerchantPlace, Problem> {
        let mut merchants = lock(&self.shared.merchants);
        let count = merchants.entry(merchant.clone()).or_default();
        if *count >= MERCHANT_REQUESTS_MAX {
            let detail = format!(
                "merchant {merchant} has {MERCHANT_REQUESTS_MAX} requests under way, the most at a time"
            );
            let problem = Problem::new(ProblemKind::TooManyRequests, detail);
            return Err(problem.retry_after(RETRY_AFTER_S));
        }
        *count += 1;
        Ok(MerchantPlace {
            shared: Arc::clone(&self.shared),
            merchant: merchant.clone(),
        })
    }

    /// Reserves the key for one request, or refuses it if another request holds the key.
    pub(super) fn key(&self, merchant: &MerchantId, key: &str) -> Result<KeyPlace, Problem> {
        let key = (merchant.clone(), key.to_owned());
        if !lock(&self.shared.keys).insert(key.clone()) {
            let detail = format!(
                "the request with the Idempotency-Key `{}` is under way",
                key.1
            );
            let problem = Problem::new(ProblemKind::IdempotencyInFlight, detail);
            return Err(problem.retry_after(RETRY_AFTER_S));
        }
        let shared = Arc::clone(&self.shared);
        Ok(KeyPlace { shared, key })
    }
}

impl Drop for MerchantPlace {
    fn drop(&mut self) {
        let mut merchants = lock(&self.shared.merchants);
        if let Some(count) = merchants.get_mut(&self.merchant) {
            *count -= 1;
            if *count == 0 {
                merchants.remove(&self.merchant);
            }
        }
    }
}

impl Drop for KeyPlace {
    fn drop(&mut self) {
        lock(&self.shared.keys).remove(&self.key);
    }
}

/// A lock poisoned by a panic is still usable: each change of the counts is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_and_returned() {
        let admission = Admission::default();
        let places: Vec<_> = (0..REQUESTS_MAX)
            .map(|_| admission.requests.admit::<ProblemKind>().unwrap())
            .collect();
        let refused = admission.requests.admit::<ProblemKind>().unwrap_err();
        assert_eq!(refused.kind(), ProblemKind::Overloaded);
        drop(places);
        assert!(admission.requests.admit::<ProblemKind>().is_ok());
    }

    #[test]
    fn each_merchant_has_its_own_places() {
        let admission = Admission::default();
        let busy: MerchantId = "busy".parse().unwrap();
        let places: Vec<_> = (0..MERCHANT_REQUESTS_MAX)
            .map(|_| admission.merchant(&busy).unwrap())
            .collect();
        let refused = admission.merchant(&busy).unwrap_err();
        assert_eq!(refused.kind(), ProblemKind::TooManyRequests);
        assert!(admission.merchant(&MerchantId::fallback()).is_ok());
        drop(places);
        assert!(admission.merchant(&busy).is_ok());
    }

    #[test]
    fn a_key_is_taken_by_one_request_of_a_merchant() {
        let admission = Admission::default();
        let other: MerchantId = "other".parse().unwrap();
        let place = admission.key(&MerchantId::fallback(), "k").unwrap();
        let refused = admission.key(&MerchantId::fallback(), "k").unwrap_err();
        assert_eq!(refused.kind(), ProblemKind::IdempotencyInFlight);
        assert!(admission.key(&other, "k").is_ok());
        drop(place);
        assert!(admission.key(&MerchantId::fallback(), "k").is_ok());
    }
}
