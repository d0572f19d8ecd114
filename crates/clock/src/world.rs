//! Provides the wall clock of a machine as a clock of its own, for what belongs to the outside world.

use std::sync::Arc;

use crate::{Clock, Sleep};

/// The wall clock that another clock follows: what a payment gateway or another system outside goes by.
///
/// Unlike other clocks it goes back when the wall clock is set back.
#[derive(Clone, Debug)]
pub struct WorldClock(Arc<dyn Clock>);

impl WorldClock {
    /// The wall clock that `clock` follows.
    pub fn of(clock: Arc<dyn Clock>) -> Self {
        Self(clock)
    }
}

impl Clock for WorldClock {
    fn now_ms(&self) -> u64 {
        self.0.wall_now_ms()
    }

    fn on_move(&self, moved: Box<dyn Fn() + Send + Sync>) {
        self.0.on_move(moved);
    }

    /// Does nothing: the wall clock is not ours to move.
    fn resume_at(&self, _: u64) {}

    fn sleep_until(&self, until_ms: u64) -> Sleep<'_> {
        self.0.sleep_until(self.0.at_wall_ms(until_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ManualClock;

    #[tokio::test]
    async fn it_shows_and_waits_for_the_time_of_the_wall() {
        let inner = ManualClock::new(10_000);
        inner.set_ahead(4_000);
        let world = WorldClock::of(Arc::new(inner.clone()));
        assert_eq!(world.now_ms(), 6_000);
        let sleep = world.sleep_until(7_000);
        assert_eq!(inner.next_sleeper_ms(), Some(11_000));
        inner.advance(1_000);
        sleep.await;
        assert_eq!(world.now_ms(), 7_000);
    }
}
