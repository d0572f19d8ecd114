//! Limits the bytes of request bodies in memory.

use std::sync::Arc;

use edge::admission::{RequestLimit, overloaded};
use edge::budget::{Budget, Connection, Share};

use super::limits::{BODIES_BYTES_MAX, MESSAGE_REQUEST_BYTES_MAX, REQUESTS_MAX};
use super::problem::Problem;

/// The limits on requests and on their bodies; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    pub(super) requests: RequestLimit,
    bodies: Arc<Budget>,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            requests: RequestLimit::new(REQUESTS_MAX),
            bodies: Budget::new(BODIES_BYTES_MAX),
        }
    }
}

impl Admission {
    /// Reserves the bytes of a body until the share is dropped; a connection has a part of all bodies only.
    pub(super) fn body(
        &self,
        connection: Option<&Connection>,
        bytes: usize,
    ) -> Result<Share, Problem> {
        let largest = MESSAGE_REQUEST_BYTES_MAX;
        let part = connection.map(|connection| connection.bodies(&self.bodies, largest));
        let share = part.unwrap_or(&self.bodies).hold();
        if share.grow(bytes) {
            return Ok(share);
        }
        Err(overloaded(format!(
            "bodies of {BODIES_BYTES_MAX} bytes are under way, the most allowed at a time, or as many of this connection as one may have"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            .map(|_| admission.body(None, MESSAGE_REQUEST_BYTES_MAX).unwrap())
            .collect();
        assert_eq!(
            admission.body(None, 1).unwrap_err().kind(),
            ProblemKind::Overloaded
        );
        assert!(admission.body(None, 0).is_ok());
        drop(places);
        assert!(admission.body(None, 1).is_ok());
    }
    #[test]
    fn a_connection_has_a_quarter_of_all_bodies() {
        let admission = Admission::default();
        let (first, second) = (Connection::default(), Connection::default());
        let quarter = BODIES_BYTES_MAX / 4;
        let place = admission.body(Some(&first), quarter).unwrap();
        let refused = admission.body(Some(&first), 1).unwrap_err();
        assert_eq!(refused.kind(), ProblemKind::Overloaded);
        assert!(admission.body(Some(&second), quarter).is_ok());
        drop(place);
        assert!(admission.body(Some(&first), quarter).is_ok());
    }
}
