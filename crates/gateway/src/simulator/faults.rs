//! Defines the faults of the simulated gateway: how likely each is, and which of them hit one attempt.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How likely each fault is, from 0 (never) to 1 (always), and how long the slow ones take.
///
/// The faults of an attempt are drawn from the seed and the attempt's id alone, so one seed gives one attempt the
/// same faults in whatever order the attempts come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// The gateway takes `slow_answer_ms` to answer a call.
    pub slow_answer: f64,
    /// How long a slow answer takes, in ms.
    pub slow_answer_ms: u64,
    /// The gateway refuses to open an attempt.
    pub create_refused: f64,
    /// The request to open an attempt never arrives, so the gateway does not know the attempt.
    pub create_unreached: f64,
    /// The attempt is opened and the answer is lost.
    pub create_unknown: f64,
    /// The answer to a query is lost, once.
    pub query_unknown: f64,
    /// The attempt is closed and the answer is lost.
    pub close_unknown: f64,
    /// The refund is taken and the answer is lost.
    pub refund_unknown: f64,
    /// The payment is under way for `slow_payment_ms` before the money is taken.
    pub slow_payment: f64,
    /// How long a slow payment takes, in ms.
    pub slow_payment_ms: u64,
    /// The buyer pays at the very moment the platform closes the attempt.
    pub paid_while_closing: f64,
    /// A callback is never sent.
    pub callback_lost: f64,
    /// A callback is sent twice.
    pub callback_duplicated: f64,
    /// A callback is sent `callback_late_ms` late.
    pub callback_late: f64,
    /// How late a late callback is, in ms.
    pub callback_late_ms: u64,
    /// A callback is sent after the next one of the same attempt.
    pub callback_reordered: f64,
    /// The buyer pays one minor unit too little.
    pub wrong_amount: f64,
    /// The buyer pays in another currency.
    pub wrong_currency: f64,
    /// A refund is worked on for `slow_refund_ms`.
    pub slow_refund: f64,
    /// How long a slow refund takes, in ms.
    pub slow_refund_ms: u64,
    /// A refund is worked on until it is freed.
    pub refund_stuck: f64,
    /// The account has not enough balance for the first two tries of a refund.
    pub refund_no_balance: f64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            slow_answer: 0.0,
            slow_answer_ms: 2_000,
            create_refused: 0.0,
            create_unreached: 0.0,
            create_unknown: 0.0,
            query_unknown: 0.0,
            close_unknown: 0.0,
            refund_unknown: 0.0,
            slow_payment: 0.0,
            slow_payment_ms: 3_000,
            paid_while_closing: 0.0,
            callback_lost: 0.0,
            callback_duplicated: 0.0,
            callback_late: 0.0,
            callback_late_ms: 5_000,
            callback_reordered: 0.0,
            wrong_amount: 0.0,
            wrong_currency: 0.0,
            slow_refund: 0.0,
            slow_refund_ms: 20_000,
            refund_stuck: 0.0,
            refund_no_balance: 0.0,
        }
    }
}

/// How long a reordered callback waits for a later one to overtake it, in ms.
const REORDER_HOLD_MS: u64 = 10_000;

/// The faults of one attempt: drawn from [`Faults`], or written by a test.
///
/// The default is an attempt to which nothing happens.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fault of its own, and they combine freely"
)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttemptPlan {
    /// How long the gateway takes to answer each call, in ms.
    pub answer_delay_ms: u64,
    /// The gateway refuses to open it.
    pub create_refused: bool,
    /// So many requests to open the attempt never arrive.
    pub unreached_creates: u32,
    /// The answers to the first so many requests to open it are lost.
    pub unknown_creates: u32,
    /// The answers to the first so many queries are lost.
    pub unknown_queries: u32,
    /// The answers to the first so many closes are lost, though the close happens.
    pub unknown_closes: u32,
    /// The answers to the first so many refund calls are lost, though the refund happens.
    pub unknown_refunds: u32,
    /// How long a payment is under way before the money is taken, in ms.
    pub payment_ms: u64,
    /// The buyer pays at the moment of the first close.
    pub paid_while_closing: bool,
    /// No callback is ever sent.
    pub callback_lost: bool,
    /// So many copies of each callback are sent besides the first.
    pub callback_copies: u32,
    /// How much later than due a callback is sent, in ms.
    pub callback_late_ms: u64,
    /// How long a callback waits to be overtaken by the attempt's next one, in ms; 0 for not at all.
    pub callback_hold_ms: u64,
    /// Added to the amount the buyer pays, in minor units.
    pub amount_delta: i64,
    /// The currency the buyer pays in, if not the one asked for.
    pub currency: Option<String>,
    /// How long a refund is worked on, in ms.
    pub refund_ms: u64,
    /// A refund is worked on until [`super::Simulator::free_refund`].
    pub refund_stuck: bool,
    /// The account has not enough balance for the first so many tries of a refund.
    pub refund_refusals: u32,
}

impl AttemptPlan {
    /// Draws the faults of the attempt.
    pub fn draw(faults: &Faults, seed: u64, attempt_id: &str) -> Self {
        let mut dice = Dice::new(seed, attempt_id);
        // Every draw is made whatever the results of the others, so that changing one probability leaves the other faults.
        let mut plan = Self::default();
        if dice.falls(faults.slow_answer) {
            plan.answer_delay_ms = faults.slow_answer_ms;
        }
        plan.unreached_creates = u32::from(dice.falls(faults.create_unreached));
        plan.unknown_creates = u32::from(dice.falls(faults.create_unknown));
        plan.unknown_queries = u32::from(dice.falls(faults.query_unknown));
        plan.unknown_closes = u32::from(dice.falls(faults.close_unknown));
        plan.unknown_refunds = u32::from(dice.falls(faults.refund_unknown));
        if dice.falls(faults.slow_payment) {
            plan.payment_ms = faults.slow_payment_ms;
        }
        plan.paid_while_closing = dice.falls(faults.paid_while_closing);
        plan.callback_lost = dice.falls(faults.callback_lost);
        plan.callback_copies = u32::from(dice.falls(faults.callback_duplicated));
        if dice.falls(faults.callback_late) {
            plan.callback_late_ms = faults.callback_late_ms;
        }
        if dice.falls(faults.callback_reordered) {
            plan.callback_hold_ms = REORDER_HOLD_MS;
        }
        plan.amount_delta = -i64::from(dice.falls(faults.wrong_amount));
        if dice.falls(faults.wrong_currency) {
            // The code that ISO 4217 reserves for testing.
            plan.currency = Some("XTS".to_owned());
        }
        if dice.falls(faults.slow_refund) {
            plan.refund_ms = faults.slow_refund_ms;
        }
        plan.refund_stuck = dice.falls(faults.refund_stuck);
        plan.create_refused = dice.falls(faults.create_refused);
        plan.refund_refusals = if dice.falls(faults.refund_no_balance) {
            2
        } else {
            0
        };
        plan
    }
}

/// A stream of draws that depends on nothing but what it was made from (`SplitMix64`).
struct Dice {
    state: u64,
}

impl Dice {
    fn new(seed: u64, attempt_id: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        hash.update(attempt_id.as_bytes());
        let state = hash
            .finalize()
            .iter()
            .take(8)
            .fold(0, |state, byte| (state << 8) | u64::from(*byte));
        Self { state }
    }

    fn falls(&mut self, probability: f64) -> bool {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // 32 bits are exact in an f64 and finer than any probability asked for.
        let high = u32::try_from(mixed >> 32).expect("a u64 shifted by 32 fits in a u32");
        f64::from(high) / 4_294_967_296.0 < probability
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_fate_and_probabilities_are_kept() {
        let faults = Faults {
            paid_while_closing: 0.25,
            wrong_amount: 1.0,
            ..Faults::default()
        };
        let plans: Vec<_> = (0..4_000)
            .map(|i| AttemptPlan::draw(&faults, 7, &format!("att_{i}")))
            .collect();
        let again = AttemptPlan::draw(&faults, 7, "att_11");
        assert_eq!(again, plans[11]);
        assert!(plans.iter().all(|plan| plan.amount_delta == -1));
        assert!(plans.iter().all(|plan| !plan.callback_lost));
        let closing = plans.iter().filter(|plan| plan.paid_while_closing).count();
        assert!((900..1_100).contains(&closing), "{closing} of 4,000");
    }

    #[test]
    fn changing_one_probability_leaves_the_other_fates() {
        let few = Faults {
            callback_lost: 0.5,
            ..Faults::default()
        };
        let more = Faults {
            slow_answer: 1.0,
            ..few.clone()
        };
        for i in 0..100 {
            let id = format!("att_{i}");
            let left = AttemptPlan::draw(&few, 1, &id).callback_lost;
            let right = AttemptPlan::draw(&more, 1, &id).callback_lost;
            assert_eq!(left, right);
        }
    }
}
