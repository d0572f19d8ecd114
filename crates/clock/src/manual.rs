//! Provides the clock that tests move by hand.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::{Clock, Sleep};

/// A clock that a test moves by hand; sleepers wake when it is moved past their instant.
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    state: Arc<Mutex<ManualState>>,
}

#[derive(Default)]
struct ManualState {
    now_ms: u64,
    /// How far it is ahead of the wall clock.
    ahead_ms: u64,
    sleepers: BTreeMap<u64, Vec<oneshot::Sender<()>>>,
    listeners: Vec<Listener>,
}

type Listener = Arc<dyn Fn() + Send + Sync>;

impl fmt::Debug for ManualState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ManualState")
            .field("now_ms", &self.now_ms)
            .finish_non_exhaustive()
    }
}

impl ManualClock {
    /// Creates a clock whose time is `now_ms`.
    pub fn new(now_ms: u64) -> Self {
        let clock = Self::default();
        clock.state().now_ms = now_ms;
        clock
    }

    /// Moves the clock forward to `now_ms` and wakes those that sleep until then or earlier; never moves it back.
    pub fn advance_to(&self, now_ms: u64) {
        let mut state = self.state();
        state.now_ms = std::cmp::max(state.now_ms, now_ms);
        let after_ms = state.now_ms.saturating_add(1);
        let later = state.sleepers.split_off(&after_ms);
        let woken = std::mem::replace(&mut state.sleepers, later);
        let listeners = state.listeners.clone();
        drop(state);
        for listener in listeners {
            listener();
        }
        for sender in woken.into_values().flatten() {
            // The receiver may have been dropped.
            let _ = sender.send(());
        }
    }

    /// Moves the clock forward by `delay_ms`.
    pub fn advance(&self, delay_ms: u64) {
        let now_ms = self.now_ms();
        self.advance_to(now_ms.saturating_add(delay_ms));
    }

    /// Sets how far the clock is ahead of the wall clock from now on: as after a wall clock that was set back.
    pub fn set_ahead(&self, ahead_ms: u64) {
        self.state().ahead_ms = ahead_ms;
    }

    /// The earliest instant that a sleeper waits for, if there is one.
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

    fn until(&self, at_ms: u64) -> Option<Duration> {
        // A waiting thread is woken by its listener, not by the passing of real time.
        (at_ms <= self.now_ms()).then_some(Duration::ZERO)
    }

    fn on_move(&self, moved: Box<dyn Fn() + Send + Sync>) {
        self.state().listeners.push(Arc::from(moved));
    }

    fn at_wall_ms(&self, wall_ms: u64) -> u64 {
        wall_ms.saturating_add(self.state().ahead_ms)
    }

    fn wall_now_ms(&self) -> u64 {
        let state = self.state();
        state.now_ms.saturating_sub(state.ahead_ms)
    }

    fn resume_at(&self, at_ms: u64) {
        self.advance_to(at_ms);
    }

    fn sleep_until(&self, until_ms: u64) -> Sleep<'_> {
        let mut state = self.state();
        if state.now_ms >= until_ms {
            return Box::pin(std::future::ready(()));
        }
        let (sender, receiver) = oneshot::channel();
        state.sleepers.entry(until_ms).or_default().push(sender);
        Box::pin(async move {
            // An error means that the clock was dropped: its time never advances, so wait for ever.
            if receiver.await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sleepers_wake_when_the_clock_is_moved_past_their_instant() {
        let clock = ManualClock::new(100);
        let early = clock.sleep_until(150);
        let late = clock.sleep_until(300);
        assert_eq!(clock.next_sleeper_ms(), Some(150));
        clock.advance(60);
        early.await;
        assert_eq!(clock.next_sleeper_ms(), Some(300));
        drop(late);
        assert_eq!(clock.next_sleeper_ms(), None);
        clock.advance_to(50);
        assert_eq!(clock.now_ms(), 160);
    }
}
