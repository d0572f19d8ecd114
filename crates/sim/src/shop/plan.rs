//! Defines what a simulated shop goes through: its settings, all drawn from one seed.

use engine::{Config, Limits};
use rand::Rng;
use rand::rngs::StdRng;

use crate::plan::{Faults, held_bytes_max};

/// A deliberate fault of the test itself: each must be found, or the judge is blind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShopCanary {
    /// The broker is given a time that is 40 ms ahead.
    ClockAhead,
    /// Timers of deadlines are published into nothing, with success.
    TimerLost,
    /// The gateway says that it has given money back, and has not.
    RefundForgotten,
    /// The gateway says of a payment that no money has come, and its callback is lost.
    MoneyForgotten,
    /// The consumers of events join a group that keeps no order.
    Unordered,
    /// A unit more is in stock than was ever stocked.
    StockGrows,
}

/// How likely the gateway answers badly, 0 to 1.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GatewayFaults {
    /// A call is lost on its way: nothing happens and no answer comes.
    pub(crate) loses_call: f64,
    /// A call is done and its answer is lost.
    pub(crate) loses_answer: f64,
    /// An attempt cannot be closed at present.
    pub(crate) not_closable: f64,
    /// A refund cannot be done now.
    pub(crate) refund_waits: f64,
    /// A refund is under way for a while.
    pub(crate) refund_takes_time: f64,
    /// A refund is refused for good.
    pub(crate) refund_refused: f64,
    /// A refund that was done fails later.
    pub(crate) refund_fails_later: f64,
    /// Money is reported so that it cannot be understood.
    pub(crate) unreadable: f64,
}

/// One run of a shop.
#[derive(Clone, Debug)]
pub(crate) struct ShopPlan {
    /// Everything random comes from it.
    pub(crate) seed: u64,
    /// Steps with faults, before everything is brought to its end.
    pub(crate) steps: u32,
    /// What breaks at the broker and its machine.
    pub(crate) faults: Faults,
    /// Rules and limits of the broker.
    pub(crate) config: Config,
    /// Longest a sync takes, in us.
    pub(crate) sync_us_max: i64,
    /// Whether platform and broker are one process, which dies as a whole.
    pub(crate) embedded: bool,
    /// How likely something happens in the middle of a call to the gateway or the broker, 0 to 1.
    pub(crate) meanwhile: f64,
    pub(crate) gateway: GatewayFaults,
    pub(crate) canary: Option<ShopCanary>,
}

impl ShopPlan {
    /// A run of a seed.
    pub(crate) fn of_seed(seed: u64, canary: Option<ShopCanary>, rng: &mut StdRng) -> Self {
        let small = rng.random_bool(0.3);
        let limits = Limits {
            head_messages_max: if small { rng.random_range(1..6) } else { 1_024 },
            fifo_window: if small {
                rng.random_range(2..10)
            } else {
                1_024
            },
            held_bytes_max: held_bytes_max(seed),
            ..Limits::default()
        };
        let rate = |rng: &mut StdRng, most| {
            if rng.random_bool(0.6) {
                rng.random_range(1..most)
            } else {
                0
            }
        };
        let faults = Faults {
            kill: rate(rng, 5),
            sync: rate(rng, 4),
            write: rate(rng, 4),
            full: rate(rng, 5),
            wall: rate(rng, 10),
            rot: 0,
        };
        let mut odds = |most: f64| rng.random_range(0.0..most);
        let gateway = GatewayFaults {
            loses_call: odds(0.3),
            loses_answer: odds(0.3),
            not_closable: odds(0.3),
            refund_waits: odds(0.5),
            refund_takes_time: odds(0.5),
            refund_refused: odds(0.1),
            refund_fails_later: odds(0.3),
            unreadable: odds(0.3),
        };
        let meanwhile = odds(0.3);
        Self {
            seed,
            steps: rng.random_range(40..160),
            faults,
            config: Config {
                limits,
                ..Config::default()
            },
            sync_us_max: if rng.random_bool(0.1) { 400_000 } else { 8_000 },
            embedded: rng.random_bool(0.6),
            meanwhile,
            gateway,
            canary,
        }
    }

    /// How far ahead a time the broker is given, in ms.
    pub(crate) fn ahead_ms(&self) -> u64 {
        if self.canary == Some(ShopCanary::ClockAhead) {
            40
        } else {
            0
        }
    }
}
