//! Measures and waits on the monotonic clock of the runtime, for code that talks to other machines.
//!
//! Deadlines of calls, back-off and heartbeats belong here: they last for a span, whatever the wall clock shows. A test
//! that pauses the runtime's time moves this clock too.

use std::future::Future;
use std::time::Duration;

pub use tokio::time::{Instant, Interval, error::Elapsed};

/// The instant at which this is called.
pub fn now() -> Instant {
    Instant::now()
}

/// Waits for `span`.
pub async fn sleep(span: Duration) {
    tokio::time::sleep(span).await;
}

/// Waits until `deadline`; not at all if it has passed.
pub async fn sleep_until(deadline: Instant) {
    tokio::time::sleep_until(deadline).await;
}

/// Waits for `future`, at most for `limit`; the error says that the limit was reached.
pub fn timeout<F: Future>(
    limit: Duration,
    future: F,
) -> impl Future<Output = Result<F::Output, Elapsed>> {
    tokio::time::timeout(limit, future)
}

/// Ticks at once and then every `period`; a late tick delays those after it, so that they never come in a burst.
///
/// # Panics
///
/// If `period` is zero.
pub fn interval(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval
}
