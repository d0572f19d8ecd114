//! Limits the bytes of request bodies in memory.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use edge::admission::{RequestLimit, overloaded};

use super::limits::{BODIES_BYTES_MAX, REQUESTS_MAX};
use super::problem::Problem;

/// The unit in which bodies are counted, in bytes.
const UNIT_BYTES: usize = 1_024;

/// The limits on requests and on their bodies; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    pub(super) requests: RequestLimit,
    bodies: Arc<Semaphore>,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            requests: RequestLimit::new(REQUESTS_MAX),
            bodies: Arc::new(Semaphore::new(BODIES_BYTES_MAX / UNIT_BYTES)),
        }
    }
}

impl Admission {
    /// Reserves the bytes of a body until the permit is dropped.
    pub(super) fn body(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        Arc::clone(&self.bodies)
            .try_acquire_many_owned(units)
            .map_err(|_| {
                overloaded(format!(
                    "bodies of {BODIES_BYTES_MAX} bytes are under way, the most allowed at a time"
                ))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::limits::MESSAGE_REQUEST_BYTES_MAX;
    use crate::http::problem::ProblemKind;

    #[test]
    fn requests_are_limited_and_their_places_returned() {
        let admission = Admission::default();
        let places: Vec<_> = (0..REQUESTS_MAX)
            .map(|_| admission.requests.admit::<ProblemKind>().unwrap())
            .collect();
        assert_eq!(
            admission
                .requests
                .admit::<ProblemKind>()
                .unwrap_err()
                .kind(),
            ProblemKind::Overloaded
        );
        drop(places);
        assert!(admission.requests.admit::<ProblemKind>().is_ok());
    }

    #[test]
    fn bodies_share_one_limit() {
        let admission = Admission::default();
        let count = BODIES_BYTES_MAX / MESSAGE_REQUEST_BYTES_MAX;
        let places: Vec<_> = (0..count)
            .map(|_| admission.body(MESSAGE_REQUEST_BYTES_MAX).unwrap())
            .collect();
        assert_eq!(
            admission.body(1).unwrap_err().kind(),
            ProblemKind::Overloaded
        );
        assert!(admission.body(0).is_ok());
        drop(places);
        assert!(admission.body(1).is_ok());
    }
}
