//! Defines the trait through which the shared parts use the state of an API.

use std::time::Duration;

use crate::admission::RequestLimit;
use crate::metrics::RequestMetrics;
use crate::problem::Kind;

/// The state of an API: what its handlers work with. Clones share everything.
pub trait Api: Clone + Send + Sync + 'static {
    /// The kinds of problems it answers.
    type Kind: Kind;
    /// Largest body of a request, in bytes, unless an operation has its own limit.
    const BODY_BYTES_MAX: usize;
    /// Paths whose callers may add any query parameters; elsewhere one that the operation does not have is refused.
    const ANY_QUERY: &'static [&'static str] = &[];

    /// The limit on requests under way.
    fn requests(&self) -> &RequestLimit;

    /// The metrics of its requests.
    fn request_metrics(&self) -> &RequestMetrics;

    /// Returns how long a request may take, its body included, before it is answered with an error.
    fn request_timeout(&self) -> Duration;
}
