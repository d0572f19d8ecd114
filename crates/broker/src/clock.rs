//! Defines the clocks: the only module of the workspace that reads the time.
//!
//! Everything else takes "now" as an argument or asks the [`Clock`] it was given, so that a test moves
//! time by hand and the simulator owns it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// A future that ends when a clock has reached an instant.
pub type Sleep<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// What tells the time, in milliseconds since the Unix epoch.
///
/// The time of one clock never goes back.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;

    /// Ends once `now_ms` is at least `until_ms`; at once if it already is.
    fn sleep_until(&self, until_ms: u64) -> Sleep<'_>;

    /// Ends once `delay` has passed on this clock.
    fn sleep(&self, delay: Duration) -> Sleep<'_> {
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.sleep_until(self.now_ms().saturating_add(delay_ms))
    }
}

/// A clock that a test moves by hand; sleepers wake when it is moved past their instant.
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    state: Arc<Mutex<ManualState>>,
}

#[derive(Debug, Default)]
struct ManualState {
    now_ms: u64,
    sleepers: BTreeMap<u64, Vec<oneshot::Sender<()>>>,
}

impl ManualClock {
    /// A clock that stands at `now_ms`.
    pub fn new(now_ms: u64) -> Self {
        let clock = Self::default();
        clock.state().now_ms = now_ms;
        clock
    }

    /// Moves the clock forward to `now_ms` and wakes whoever slept until then; never moves it back.
    pub fn advance_to(&self, now_ms: u64) {
        let mut state = self.state();
        state.now_ms = std::cmp::max(state.now_ms, now_ms);
        let after_ms = state.now_ms.saturating_add(1);
        let later = state.sleepers.split_off(&after_ms);
        let woken = std::mem::replace(&mut state.sleepers, later);
        drop(state);
        for sender in woken.into_values().flatten() {
            // A sleeper that was dropped no longer wants to know.
            let _ = sender.send(());
        }
    }

    /// Moves the clock forward by `delay_ms`.
    pub fn advance(&self, delay_ms: u64) {
        let now_ms = self.now_ms();
        self.advance_to(now_ms.saturating_add(delay_ms));
    }

    /// The earliest instant somebody sleeps until, if anybody does.
    pub fn next_sleeper_ms(&self) -> Option<u64> {
        let mut state = self.state();
        state.sleepers.retain(|_, senders| {
            senders.retain(|sender| !sender.is_closed());
            !senders.is_empty()
        });
        state.sleepers.keys().next().copied()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, ManualState> {
        // The state is plain data and valid after any panic of another holder.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.state().now_ms
    }

    fn sleep_until(&self, until_ms: u64) -> Sleep<'_> {
        let mut state = self.state();
        if state.now_ms >= until_ms {
            return Box::pin(std::future::ready(()));
        }
        let (sender, receiver) = oneshot::channel();
        state.sleepers.entry(until_ms).or_default().push(sender);
        Box::pin(async move {
            // An error means that the clock itself is gone: time stands still, so wait for ever.
            if receiver.await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}
