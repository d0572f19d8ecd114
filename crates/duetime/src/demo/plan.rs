//! Decides what happens to each order of the demo.

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

/// What happens to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is not paid and closes by itself.
    Unpaid,
    /// It is paid this long after its creation.
    Paid {
        /// ms after the creation.
        after_ms: u64,
    },
    /// It is paid just before its deadline.
    PaidLast {
        /// ms before the deadline.
        before_ms: u64,
    },
    /// The buyer opens the gateway's page, lets the deadline pass and pays after the order was closed.
    PaidLate,
    /// The buyer cancels it this long after its creation.
    Cancelled {
        /// ms after the creation.
        after_ms: u64,
    },
}

/// An order to create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OrderPlan {
    /// How far ahead its deadline is, in ms.
    pub(crate) deadline_after_ms: u64,
    /// What happens to it.
    pub(crate) fate: Fate,
}

/// Nearest and farthest deadline, in ms ahead.
const DEADLINES_MS: std::ops::Range<u64> = 5_000..15_000;

/// Decides at random what happens to each order: 60 % are paid, 2 % of those just before the deadline; 1 % are paid
/// too late and 1 % cancelled.
pub(crate) fn draw(orders: u32, seed: u64) -> Vec<OrderPlan> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let one = |_| {
        let deadline_after_ms = rng.random_range(DEADLINES_MS);
        let fate = match rng.random_range(0..1_000_u32) {
            0..588 => Fate::Paid {
                after_ms: rng.random_range(100..deadline_after_ms - 1_500),
            },
            588..600 => Fate::PaidLast {
                before_ms: rng.random_range(5..50),
            },
            600..610 => Fate::PaidLate,
            610..620 => Fate::Cancelled {
                after_ms: rng.random_range(100..deadline_after_ms - 1_500),
            },
            _ => Fate::Unpaid,
        };
        OrderPlan {
            deadline_after_ms,
            fate,
        }
    };
    (0..orders).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_plan_in_the_promised_shares() {
        let plans = draw(20_000, 7);
        assert_eq!(plans, draw(20_000, 7));
        let count =
            |wanted: fn(&Fate) -> bool| plans.iter().filter(|plan| wanted(&plan.fate)).count();
        let paid = count(|fate| matches!(fate, Fate::Paid { .. } | Fate::PaidLast { .. }));
        assert!((11_700..12_300).contains(&paid), "{paid}");
        assert!(count(|fate| matches!(fate, Fate::PaidLast { .. })) > 100);
        assert!(count(|fate| matches!(fate, Fate::PaidLate)) > 100);
        assert!(
            plans
                .iter()
                .all(|plan| DEADLINES_MS.contains(&plan.deadline_after_ms))
        );
    }
}
