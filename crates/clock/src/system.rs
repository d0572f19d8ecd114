//! Reads the clocks of the machine for the engine clock.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::slew::{Reading, Slew};
use crate::{Clock, Sleep, wall};

/// The engine clock of a running broker; see [`Slew`] for how it follows the wall clock.
#[derive(Debug)]
pub struct SystemClock {
    /// A std mutex: held for a few additions, never across an await.
    slew: Mutex<Slew>,
}

impl SystemClock {
    /// A clock that starts at the wall clock.
    pub fn start() -> Self {
        Self {
            slew: Mutex::new(Slew::new(read())),
        }
    }

    /// How often the wall clock was seen to step by more than a second.
    pub fn steps(&self) -> u64 {
        self.slew
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .steps()
    }

    /// Microseconds since the Unix epoch, on the engine clock.
    pub fn now_us(&self) -> i64 {
        self.advance(Slew::advance)
    }

    /// Reads both clocks and gives them to `advance`.
    fn advance<T>(&self, advance: impl FnOnce(&mut Slew, Reading) -> T) -> T {
        let mut slew = self.slew.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = read();
        let steps = slew.steps();
        let advanced = advance(&mut slew, reading);
        if slew.steps() > steps {
            let ahead_ms = (reading.wall_us - slew.advance(reading)) / 1_000;
            tracing::warn!(
                ahead_ms,
                "the wall clock was set; the engine clock is slewed towards it"
            );
        }
        advanced
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        millis(self.now_us())
    }

    fn until(&self, at_ms: u64) -> Option<Duration> {
        let target_us = i64::try_from(at_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let left_us = target_us.saturating_sub(self.now_us());
        Some(Duration::from_micros(u64::try_from(left_us).unwrap_or(0)))
    }

    fn at_wall_ms(&self, wall_ms: u64) -> u64 {
        // An engine clock that is slow catches up, so the wall time itself is late enough.
        let ahead_ms = self.advance(Slew::ahead_ms);
        wall_ms.saturating_add(u64::try_from(ahead_ms).unwrap_or(0))
    }

    fn wall_now_ms(&self) -> u64 {
        wall::now_ms()
    }

    fn resume_at(&self, at_ms: u64) {
        let target_us = i64::try_from(at_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
        self.slew
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .resume_at(target_us);
    }

    fn sleep_until(&self, until_ms: u64) -> Sleep<'_> {
        Box::pin(async move {
            // The two clocks differ a little, so a timer may end a moment early.
            while let Some(wait) = self.until(until_ms).filter(|wait| !wait.is_zero()) {
                tokio::time::sleep(wait).await;
            }
        })
    }
}

/// Measures how long something takes, by the clock that is never set.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    start_us: i64,
}

impl Stopwatch {
    /// Starts measuring.
    pub fn start() -> Self {
        Self {
            start_us: micros(ClockId::Boottime),
        }
    }

    /// How long it has been since the start.
    pub fn elapsed(&self) -> Duration {
        let passed_us = micros(ClockId::Boottime) - self.start_us;
        Duration::from_micros(u64::try_from(passed_us).unwrap_or(0))
    }
}

fn read() -> Reading {
    Reading {
        boot_us: micros(ClockId::Boottime),
        wall_us: micros(ClockId::Realtime),
    }
}

fn micros(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec * 1_000_000 + time.tv_nsec / 1_000
}

fn millis(micros: i64) -> u64 {
    u64::try_from(micros / 1_000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleep_ends_at_its_instant_and_not_before() {
        let clock = SystemClock::start();
        let until_ms = clock.now_ms() + 20;
        clock.sleep_until(until_ms).await;
        assert!(clock.now_ms() >= until_ms);
        assert_eq!(clock.until(until_ms), Some(Duration::ZERO));
    }
}
