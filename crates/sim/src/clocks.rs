//! Provides the clocks of the simulated machine: one that only goes on, one that people set, and the engine clock
//! that is made of both.

use broker::clock::{Reading, Slew};

/// When the simulated machine starts, in us since the Unix epoch.
const START_US: i64 = 1_800_000_000_000_000;

/// The clocks of a machine on which a broker runs.
#[derive(Debug)]
pub(crate) struct Clocks {
    boot_us: i64,
    wall_ahead_us: i64,
    slew: Slew,
}

impl Clocks {
    pub(crate) fn start() -> Self {
        Self {
            boot_us: 0,
            wall_ahead_us: START_US,
            slew: Slew::new(Reading {
                boot_us: 0,
                wall_us: START_US,
            }),
        }
    }

    fn reading(&self) -> Reading {
        Reading {
            boot_us: self.boot_us,
            wall_us: self.boot_us + self.wall_ahead_us,
        }
    }

    /// The engine clock, in us.
    pub(crate) fn engine_us(&mut self) -> i64 {
        let reading = self.reading();
        self.slew.advance(reading)
    }

    /// The engine clock, in ms.
    pub(crate) fn engine_ms(&mut self) -> u64 {
        u64::try_from(self.engine_us() / 1_000).unwrap_or(0)
    }

    /// The clock that only goes on, in us.
    pub(crate) fn boot_us(&self) -> i64 {
        self.boot_us
    }

    /// When the clock that only goes on will be about where the engine clock shows `at_ms`.
    pub(crate) fn boot_us_at(&mut self, at_ms: u64) -> i64 {
        let target_us = i64::try_from(at_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let left_us = target_us.saturating_sub(self.engine_us());
        self.boot_us.saturating_add(left_us)
    }

    /// Time goes on until `boot_us`, or by a little if that has come.
    pub(crate) fn pass_until(&mut self, boot_us: i64) {
        self.boot_us = std::cmp::max(boot_us, self.boot_us + 50);
    }

    /// The wall clock is set.
    pub(crate) fn set_wall(&mut self, step_us: i64) {
        self.wall_ahead_us += step_us;
    }

    /// The wall clock is set to what the engine clock shows.
    pub(crate) fn mend(&mut self) {
        self.wall_ahead_us = self.engine_us() - self.boot_us;
    }

    /// The process starts again: the engine clock begins at the wall clock, or where it was before.
    pub(crate) fn restart(&mut self, last_stamp_ms: u64) {
        self.slew = Slew::new(self.reading());
        self.resume_at(last_stamp_ms);
    }

    /// The engine clock continues from `at_ms` if it is earlier.
    pub(crate) fn resume_at(&mut self, at_ms: u64) {
        let target_us = at_ms.saturating_mul(1_000);
        self.slew
            .resume_at(i64::try_from(target_us).unwrap_or(i64::MAX));
    }
}
