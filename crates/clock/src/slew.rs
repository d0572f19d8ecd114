//! Computes the engine clock, which follows the wall clock without ever going back.

/// A step of the wall clock forward of more than this is not adopted at once, in us.
const STEP_US: i64 = 1_000_000;
/// A step forward is adopted after it has lasted this long, in us.
const STEP_HOLD_US: i64 = 30_000_000;
/// While the engine clock follows the wall clock, it runs faster or slower by one part in this many.
const SLEW_PARTS: i64 = 200;
/// The difference to the wall clock that is in use is given up once it is too large by so much, in us.
const AHEAD_SLACK_US: i64 = 2_000;

/// The two clocks of the machine at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Time since the machine was started, sleep included, in us. It is never set.
    pub boot_us: i64,
    /// Time since the Unix epoch, in us. It may be set at any time.
    pub wall_us: i64,
}

/// The engine clock: starts at the wall clock, advances with the boot-time clock, and is slewed towards the wall clock.
///
/// * It never goes back.
/// * A small difference to the wall clock is made up by running half a percent faster or slower.
/// * A wall clock that was set back is followed in the same slow way, so due messages are not delayed for long.
/// * If the wall clock was set back between two runs, the clock continues from the last instant of the earlier run.
/// * A step of the wall clock forward by more than a second is adopted after it has lasted 30 s, so that a short
///   mistake fires nothing early.
#[derive(Clone, Debug)]
pub struct Slew {
    engine_us: i64,
    boot_us: i64,
    /// When the wall clock was first seen more than a step ahead, in us of the boot-time clock.
    ahead_since_us: Option<i64>,
    /// What has passed and was too short to be made faster or slower by a whole us.
    unslewed_us: i64,
    /// How far it is ahead of the wall clock, as it was last said, in ms.
    ahead_ms: i64,
    /// The steps of more than a second that were seen, in either direction.
    steps: u64,
    stepped_back: bool,
}

impl Slew {
    /// Creates a clock that starts at the wall clock.
    pub fn new(reading: Reading) -> Self {
        Self {
            engine_us: reading.wall_us,
            boot_us: reading.boot_us,
            ahead_since_us: None,
            unslewed_us: 0,
            ahead_ms: 0,
            steps: 0,
            stepped_back: false,
        }
    }

    /// The engine clock at this reading, in us since the Unix epoch.
    pub fn advance(&mut self, reading: Reading) -> i64 {
        let passed_us = std::cmp::max(reading.boot_us - self.boot_us, 0);
        self.boot_us = std::cmp::max(self.boot_us, reading.boot_us);
        let straight_us = self.engine_us + passed_us;
        let ahead_us = reading.wall_us - straight_us;
        self.watch_steps(ahead_us);
        let adopted = self
            .ahead_since_us
            .is_some_and(|since_us| self.boot_us - since_us >= STEP_HOLD_US);
        self.engine_us = if adopted {
            self.ahead_since_us = None;
            reading.wall_us
        } else if ahead_us > STEP_US {
            straight_us
        } else {
            let slewable_us = self.unslewed_us + passed_us;
            let slew_us = slewable_us / SLEW_PARTS;
            self.unslewed_us = slewable_us % SLEW_PARTS;
            straight_us + ahead_us.clamp(-slew_us, slew_us)
        };
        self.engine_us
    }

    /// How far the engine clock is ahead of the wall clock at this reading, in ms: rounded up, so that nothing is early by the
    /// wall clock, and 0 if it is behind.
    ///
    /// It stays the same while it is large enough and less than 2 ms too large: the two clocks are read a moment apart, and
    /// an instant that is converted to the engine clock and back by two readings should be the same.
    pub fn ahead_ms(&mut self, reading: Reading) -> i64 {
        let ahead_us = std::cmp::max(self.advance(reading) - reading.wall_us, 0);
        let slack_us = self.ahead_ms * 1_000 - ahead_us;
        if !(0..AHEAD_SLACK_US).contains(&slack_us) {
            self.ahead_ms = (ahead_us + 999) / 1_000;
        }
        self.ahead_ms
    }

    /// Moves the clock forward to `engine_us` if it is before it.
    pub fn resume_at(&mut self, engine_us: i64) {
        self.engine_us = std::cmp::max(self.engine_us, engine_us);
    }

    fn watch_steps(&mut self, ahead_us: i64) {
        if ahead_us <= STEP_US {
            self.ahead_since_us = None;
        } else if self.ahead_since_us.is_none() {
            self.ahead_since_us = Some(self.boot_us);
            self.steps += 1;
        }
        let back = ahead_us < -STEP_US;
        self.steps += u64::from(back && !self.stepped_back);
        self.stepped_back = back;
    }

    /// How often the wall was seen to step by more than a second.
    pub fn steps(&self) -> u64 {
        self.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: i64 = 1_000_000;

    fn clock() -> Slew {
        Slew::new(Reading {
            boot_us: 0,
            wall_us: 1_000 * S,
        })
    }

    #[test]
    fn a_clock_that_is_read_all_the_time_follows_the_wall_as_well() {
        let mut slew = clock();
        let mut now = 0;
        for reading in 1..=10_000 {
            now = slew.advance(Reading {
                boot_us: reading * 100,
                wall_us: 1_000 * S + reading * 100 + 500_000,
            });
        }
        // Half a percent of one second.
        assert_eq!(now, 1_001 * S + 5_000);
    }

    #[test]
    fn the_difference_to_the_wall_does_not_waver() {
        let mut slew = clock();
        let mut ahead_ms = |at_us, wall_ahead_us| {
            slew.ahead_ms(Reading {
                boot_us: at_us,
                wall_us: 1_000 * S + at_us + wall_ahead_us,
            })
        };
        assert_eq!(ahead_ms(10, 0), 0);
        // The second clock is read a little early, or late.
        for wavering_us in [-3, 2, -1, 0, 40, -40] {
            assert_eq!(ahead_ms(20, wavering_us), 1, "{wavering_us}");
        }
        assert_eq!(ahead_ms(30, -999), 1);
        assert_eq!(ahead_ms(40, -1_001), 2);
        assert_eq!(ahead_ms(50, -999), 2);
        assert_eq!(ahead_ms(60, -1), 2);
        assert_eq!(ahead_ms(70, 0), 0, "it is 2 ms too large");
    }

    #[test]
    fn a_step_forward_is_adopted_after_it_has_stood() {
        let mut slew = clock();
        for second in 1..=30 {
            let now = slew.advance(Reading {
                boot_us: second * S,
                wall_us: (1_000 + second + 3_600) * S,
            });
            assert_eq!(now, (1_000 + second) * S, "second {second}");
        }
        let now = slew.advance(Reading {
            boot_us: 31 * S,
            wall_us: (1_031 + 3_600) * S,
        });
        assert_eq!((now, slew.steps()), ((1_031 + 3_600) * S, 1));
    }

    #[test]
    fn a_step_forward_that_is_taken_back_changes_nothing() {
        let mut slew = clock();
        slew.advance(Reading {
            boot_us: S,
            wall_us: 4_601 * S,
        });
        slew.advance(Reading {
            boot_us: 20 * S,
            wall_us: 1_020 * S,
        });
        slew.advance(Reading {
            boot_us: 25 * S,
            wall_us: 4_625 * S,
        });
        let now = slew.advance(Reading {
            boot_us: 50 * S,
            wall_us: 4_650 * S,
        });
        assert_eq!(now, 1_050 * S);
    }

    #[test]
    fn a_step_back_slows_the_clock_by_half_a_percent() {
        let mut slew = clock();
        let now = slew.advance(Reading {
            boot_us: 200 * S,
            wall_us: 800 * S,
        });
        assert_eq!((now, slew.steps()), (1_199 * S, 1));
    }

    #[test]
    fn it_goes_on_from_where_an_earlier_run_had_come() {
        let mut slew = clock();
        slew.resume_at(5_000 * S);
        slew.resume_at(10 * S);
        let now = slew.advance(Reading {
            boot_us: 200 * S,
            wall_us: 1_200 * S,
        });
        assert_eq!(now, 5_199 * S, "and follows the wall slowly");
    }

    proptest! {
        #[test]
        fn it_never_goes_back_and_never_runs_ahead_of_both(
            steps in proptest::collection::vec((0..90 * S, -7_200 * S..7_200 * S), 1..60),
        ) {
            let mut slew = clock();
            let (mut boot_us, mut last, mut highest_wall) = (0, 1_000 * S, 1_000 * S);
            for (passed_us, offset_us) in steps {
                boot_us += passed_us;
                let wall_us = 1_000 * S + boot_us + offset_us;
                let now = slew.advance(Reading { boot_us, wall_us });
                prop_assert!(now >= last);
                highest_wall = std::cmp::max(highest_wall + passed_us, wall_us);
                prop_assert!(now <= highest_wall + boot_us / SLEW_PARTS);
                last = now;
            }
        }
    }
}
