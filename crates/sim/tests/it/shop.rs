//! Tests of a whole shop: seeds of its simulator, and faults that must be found.

use sim::{ShopCanary, ShopStats, run_shop_seed};

fn run(seed: u64) -> ShopStats {
    match run_shop_seed(seed, None) {
        Ok(Ok(stats)) => stats,
        Ok(Err(violation)) => panic!("cargo run -p sim -- shop --seed {seed}: {violation}"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_few_shops_keep_every_invariant() {
    let mut sum = ShopStats::default();
    for seed in 1..=12 {
        sum.add(run(seed));
    }
    let all_happened = [
        sum.crashes,
        sum.falls,
        sum.burns,
        sum.paid,
        sum.closed_by_timeout,
        sum.cancelled,
        sum.given_back,
        sum.by_hand,
        sum.coupons,
    ];
    assert!(all_happened.iter().all(|count| *count > 0), "{sum:?}");
}

#[test]
fn a_seed_gives_the_same_shop_every_time() {
    for seed in [4, 7] {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

/// A fault put in on purpose is found within a few seeds, as one of the given invariants.
fn is_found(canary: ShopCanary, invariants: &[u8]) {
    let run = |seed| match run_shop_seed(seed, Some(canary)) {
        Ok(outcome) => outcome.err(),
        Err(error) => panic!("{error}"),
    };
    let found = (1..20).find_map(run);
    let found = found.unwrap_or_else(|| panic!("{canary:?} was not found"));
    assert!(invariants.contains(&found.invariant), "{canary:?}: {found}");
}

#[test]
fn a_timer_before_its_time_is_found() {
    is_found(ShopCanary::ClockAhead, &[1]);
}

#[test]
fn an_order_without_its_timer_is_found() {
    is_found(ShopCanary::TimerLost, &[11]);
}

#[test]
fn money_that_is_not_given_back_is_found() {
    is_found(ShopCanary::RefundForgotten, &[9]);
}

#[test]
fn money_that_nobody_heard_of_is_found() {
    is_found(ShopCanary::MoneyForgotten, &[9]);
}

#[test]
fn events_out_of_order_are_found() {
    is_found(ShopCanary::Unordered, &[5]);
}

#[test]
fn stock_out_of_nowhere_is_found() {
    is_found(ShopCanary::StockGrows, &[12]);
}
