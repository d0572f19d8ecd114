//! Provides the limits on requests under way: of the whole server, of a merchant, and one per idempotency key.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edge::admission::{RETRY_AFTER_S, RequestLimit};

use super::problem::{Problem, ProblemKind};
use crate::ids::MerchantId;
use crate::limits::{MERCHANT_REQUESTS_MAX, REQUESTS_MAX};

/// Counts the requests under way; clones count together.
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

/// A place among a merchant's requests; dropped when the request has been answered.
#[derive(Debug)]
pub(super) struct MerchantPlace {
    shared: Arc<Shared>,
    merchant: MerchantId,
}

/// The sole use of an idempotency key at present; dropped when the request has been answered.
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
    /// Lets a merchant's request in, unless the merchant has too many.
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

    /// Takes the key for one request, unless another request has it at present.
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

/// Counts stay right through a panic of another holder: each change is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_and_given_back() {
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
    fn one_merchant_cannot_take_the_places_of_another() {
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
