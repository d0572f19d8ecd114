//! Defines the clocks: the only crate of the workspace that reads the time.
//!
//! Everything else takes "now" as an argument or asks the [`Clock`] it was given, so that a test moves
//! time by hand and the simulator owns it. Code that runs apart from a broker, such as the client, dates what it sends by
//! [`wall`] and waits by [`monotonic`].
#![expect(
    clippy::disallowed_methods,
    reason = "this crate is the one that reads the time and waits for it"
)]

pub mod monotonic;
pub mod wall;

mod manual;
mod slew;
mod system;
mod world;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

pub use manual::ManualClock;
pub use slew::{Reading, Slew};
pub use system::{Stopwatch, SystemClock};
pub use world::WorldClock;

/// A future that ends when a clock has reached an instant.
pub type Sleep<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// A source of the time, in milliseconds since the Unix epoch.
///
/// The time of one clock never goes back.
pub trait Clock: Send + Sync + std::fmt::Debug + 'static {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;

    /// How long a thread has to wait until `at_ms`; `None` if that is unknown because the clock is moved
    /// by hand.
    fn until(&self, at_ms: u64) -> Option<Duration> {
        Some(Duration::from_millis(at_ms.saturating_sub(self.now_ms())))
    }

    /// Calls `moved` whenever the clock was moved by hand; other clocks never do.
    fn on_move(&self, moved: Box<dyn Fn() + Send + Sync>) {
        drop(moved);
    }

    /// The instant of this clock that is not before `wall_ms` of the wall clock, by their present difference.
    fn at_wall_ms(&self, wall_ms: u64) -> u64 {
        wall_ms
    }

    /// How far this clock is ahead of the wall clock now, in ms; 0 if it is not.
    fn ahead_ms(&self) -> u64 {
        self.at_wall_ms(0)
    }

    /// The wall clock now, in ms since the Unix epoch. It may be set at any time, and go back.
    fn wall_now_ms(&self) -> u64 {
        self.now_ms()
    }

    /// Moves a clock that is before `at_ms`, the last instant of an earlier run, forward to it, so that time does not
    /// go back for stored data.
    fn resume_at(&self, at_ms: u64);

    /// Ends once `now_ms` is at least `until_ms`; at once if it already is.
    fn sleep_until(&self, until_ms: u64) -> Sleep<'_>;

    /// Ends once `delay` has passed on this clock.
    fn sleep(&self, delay: Duration) -> Sleep<'_> {
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.sleep_until(self.now_ms().saturating_add(delay_ms))
    }
}
