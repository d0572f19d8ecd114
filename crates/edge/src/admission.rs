//! Limits the number of requests under way.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::problem::{Kind, Problem, Shared};

/// The `Retry-After` of a refused request, in s: requests end within milliseconds.
pub const RETRY_AFTER_S: u32 = 1;

/// Limits the requests of a server that are under way at a time; clones share one count.
#[derive(Clone, Debug)]
pub struct RequestLimit {
    free: Arc<Semaphore>,
    max: usize,
}

impl RequestLimit {
    /// Creates a limit of `max` requests.
    pub fn new(max: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(max)),
            max,
        }
    }

    /// Admits a request until the permit is dropped, or refuses it if too many are under way.
    pub fn admit<K: Kind>(&self) -> Result<OwnedSemaphorePermit, Problem<K>> {
        Arc::clone(&self.free).try_acquire_owned().map_err(|_| {
            let max = self.max;
            overloaded(format!("{max} requests are under way, the most at a time"))
        })
    }
}

/// The place of a request among those under way. A request that only waits may leave it before its end.
#[derive(Clone, Debug)]
pub struct Place(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Place {
    pub(crate) fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(Arc::new(Mutex::new(Some(permit))))
    }

    /// Gives the place to another request.
    pub fn leave(&self) {
        let mut permit = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(permit.take());
    }
}

/// Returns the problem of a server with too many requests under way.
pub fn overloaded<K: Kind>(detail: impl Into<String>) -> Problem<K> {
    Problem::shared(Shared::Overloaded, detail).retry_after(RETRY_AFTER_S)
}
