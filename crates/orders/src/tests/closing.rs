//! Orders that are closing, and what is left of an order's attempts once it has ended.

use crate::config::UnknownPolicy;
use crate::tests::shop::Shop;
use crate::{AttemptState, Error, OrderState, PauseScope, PaymentKind};

/// Milliseconds of an hour.
const HOUR_MS: u64 = 3_600_000;

#[tokio::test]
async fn a_paid_order_closes_its_other_attempts_at_once() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 2).await;
    let second = shop.attempt(&order).await.id.to_string();
    // The first question about the second attempt is over; the next one would come after the deadline.
    shop.run_for(9_000).await;
    shop.pay(&order).await;
    shop.settle().await;
    assert_eq!(shop.read(order.id).await.state, OrderState::Paid);
    assert!(shop.gateway.is_closed(&second));
    assert!(shop.gateway.pay(&second, None, false).is_none());
}

#[tokio::test]
async fn an_order_whose_gateway_is_gone_is_alarmed_and_can_be_closed() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 2).await;
    shop.attempt(&order).await;
    let shop = shop.reopen_without_gateway().await;
    shop.run_for(24 * HOUR_MS).await;
    let waiting = shop.read(order.id).await;
    assert_eq!(
        (waiting.state, waiting.needs_operator_ms),
        (OrderState::Closing, None)
    );
    assert_eq!(shop.number("select max(tries) from timer").await, 0);
    shop.run_for(2 * HOUR_MS).await;
    let waiting = shop.read(order.id).await;
    assert!(waiting.needs_operator_ms.is_some());
    let alarms = "select count(*) from outbox where tag = 'order.needs_operator'";
    assert_eq!(shop.number(alarms).await, 1);
    for _ in 0..2 {
        let closed = shop.platform().force_close_order(order.id).await.unwrap();
        assert_eq!(
            (closed.state, closed.needs_operator_ms),
            (OrderState::Closed, None)
        );
    }
    assert_eq!(shop.available(&tea).await, 10);
    assert_eq!(
        shop.number("select count(*) from timer where kind = 2")
            .await,
        0
    );
    // What was left of it is watched on, and ends in its turn.
    let attempts = shop.platform().attempts(&shop.merchant, order.id).await;
    assert_eq!(attempts.unwrap()[0].state, AttemptState::Unknown);
    shop.run_for(26 * HOUR_MS).await;
    let attempts = shop.platform().attempts(&shop.merchant, order.id).await;
    assert_eq!(attempts.unwrap()[0].state, AttemptState::NeedsOperator);
}

#[tokio::test]
async fn an_order_is_not_given_up_because_its_gateway_is_not_there() {
    let mut shop = Shop::open().await;
    shop.config.unknown_policy = UnknownPolicy::CloseAndRefundLate { tries: 2 };
    let shop = shop.reopen().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 2).await;
    let attempt = shop.attempt(&order).await.id.to_string();
    let paid = shop.gateway.pay(&attempt, None, false);
    let shop = shop.reopen_without_gateway().await;
    shop.run_for(HOUR_MS).await;
    assert_eq!(shop.read(order.id).await.state, OrderState::Closing);
    let shop = shop.reopen().await;
    shop.run_for(HOUR_MS / 6).await;
    assert!(paid.is_some());
    assert_eq!(shop.read(order.id).await.state, OrderState::Paid);
}

#[tokio::test]
async fn money_of_an_order_that_was_closed_by_force_is_refunded() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 2).await;
    let attempt = shop.attempt(&order).await.id.to_string();
    let paid = shop.gateway.pay(&attempt, None, false).unwrap();
    let closed = shop.platform().force_close_order(order.id).await.unwrap();
    assert_eq!(closed.state, OrderState::Closed);
    shop.report(&attempt, &paid).await;
    shop.run_for(30_000).await;
    let payments = shop.platform().payments(&shop.merchant, order.id).await;
    assert_eq!(payments.unwrap()[0].kind, PaymentKind::Late);
    assert_eq!(shop.gateway.refunded(), 1_000);
    assert_eq!(shop.available(&tea).await, 10);
}

#[tokio::test]
async fn the_operator_closes_an_order_that_a_pause_holds() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 2).await;
    shop.attempt(&order).await;
    let platform = shop.platform();
    let paused = platform.pause(PauseScope::Everything, "an outage").await;
    assert!(paused.is_ok());
    let closed = platform.force_close_order(order.id).await.unwrap();
    assert_eq!(closed.state, OrderState::Closed);
}

#[tokio::test]
async fn a_paid_order_is_not_closed_by_force() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 2).await;
    shop.pay(&order).await;
    let closed = shop.platform().force_close_order(order.id).await;
    assert!(matches!(closed, Err(Error::OrderState { .. })));
}
