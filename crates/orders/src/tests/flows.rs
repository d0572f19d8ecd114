//! Whole stories of orders: deadlines, payments, refunds, coupons, pauses, lost brokers.

use broker::clock::ManualClock;

use crate::store::sql::query;
use crate::tests::broker::BrokerFaults;
use crate::tests::coupons::{coupons, rule};
use crate::tests::gateway::GatewayFaults;
use crate::tests::shop::{START_MS, Shop};
use crate::{
    AttemptState, CloseReason, CouponState, Error, NewAttempt, NewRefund, Order, OrderState,
    PauseScope, PauseState, PaymentKind, RefundCause, RefundState, Swept, UnknownPolicy,
};
use gateway::Money;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

pub(crate) async fn nothing_waits(shop: &Shop) {
    assert_eq!(shop.number("select count(*) from timer").await, 0);
    assert_eq!(
        shop.number("select count(*) from outbox where unsent > 0")
            .await,
        0
    );
    assert_eq!(shop.platform().sweep().await.unwrap(), Swept::default());
}

pub(crate) async fn stock_is_conserved(shop: &Shop) {
    let lost = shop
        .number(
            "select count(*) from product p where stocked - available <>
                 (select coalesce(sum(quantity - returned), 0) from hold h
                  where h.product_id = p.id and h.state in (1, 2))",
        )
        .await;
    assert_eq!(lost, 0);
}

pub(crate) fn refund_of(order: &Order, number: &str, amount_minor: Option<i64>) -> NewRefund {
    NewRefund {
        order_id: order.id,
        refund_no: number.to_owned(),
        amount_minor,
        restock: false,
        restock_lines: Vec::new(),
    }
}

#[tokio::test]
async fn an_unpaid_order_closes_at_its_deadline_and_not_before() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 3).await;
    shop.run_for(9_999).await;
    assert_eq!(shop.read(order.id).await.state, OrderState::Pending);
    shop.run_for(1).await;
    let closed = shop.read(order.id).await;
    assert_eq!(closed.state, OrderState::Closed);
    assert_eq!(closed.closed_ms, Some(order.deadline_ms));
    assert_eq!(shop.available(&tea).await, 10);
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn a_paid_order_stays_paid_and_its_timer_is_stale() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 3).await;
    let attempt = shop.pay(&order).await;
    let paid = shop.read(order.id).await;
    assert_eq!(paid.state, OrderState::Paid);
    assert_eq!(paid.live_attempts, 0);
    shop.run_for(60_000).await;
    assert_eq!(shop.read(order.id).await, paid);
    assert_eq!(shop.available(&tea).await, 7);
    let attempts = shop
        .platform()
        .attempts(&shop.merchant, order.id)
        .await
        .unwrap();
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].id, attempt.id);
    assert_eq!(attempts[0].state, AttemptState::Succeeded);
    assert!(attempts[0].pay_url.is_some());
    stock_is_conserved(&shop).await;
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn no_attempt_starts_from_the_deadline_on_and_an_earlier_one_still_wins() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    let attempt = shop.attempt(&order).await;
    let paid = shop
        .gateway
        .pay(&attempt.id.to_string(), None, false)
        .unwrap();
    shop.clock.advance(10_000);
    let new = crate::NewAttempt { account_id: None };
    let late = shop
        .platform()
        .start_payment(&shop.merchant, order.id, new, None)
        .await;
    assert!(matches!(late, Err(Error::DeadlineReached { .. })));
    shop.report(&attempt.id.to_string(), &paid).await;
    assert_eq!(shop.read(order.id).await.state, OrderState::Paid);
    shop.settle().await;
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn a_lost_callback_is_made_up_for_before_the_order_closes() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    let attempt = shop.attempt(&order).await;
    shop.gateway
        .pay(&attempt.id.to_string(), None, false)
        .unwrap();
    shop.run_for(10_000).await;
    let paid = shop.read(order.id).await;
    assert_eq!(paid.state, OrderState::Paid);
    shop.run_for(60_000).await;
    stock_is_conserved(&shop).await;
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn an_order_with_an_open_attempt_is_closed_at_the_gateway_first() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    let attempt = shop.attempt(&order).await;
    let cancelled = shop
        .platform()
        .cancel_order(&shop.merchant, order.id, crate::CloseReason::Buyer)
        .await
        .unwrap();
    assert_eq!(cancelled.state, OrderState::Closing);
    assert_eq!(shop.available(&tea).await, 9);
    shop.settle().await;
    assert_eq!(shop.read(order.id).await.state, OrderState::Closed);
    assert_eq!(shop.available(&tea).await, 10);
    assert_eq!(shop.gateway.pay(&attempt.id.to_string(), None, false), None);
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn money_that_comes_after_the_close_is_recorded_and_refunded() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    let attempt = shop.attempt(&order).await.id.to_string();
    shop.run_for(60_000).await;
    assert_eq!(shop.read(order.id).await.state, OrderState::Closed);
    let paid = shop.gateway.pay(&attempt, None, true).unwrap();
    shop.report(&attempt, &paid).await;
    shop.report(&attempt, &paid).await;
    let payments = shop
        .platform()
        .payments(&shop.merchant, order.id)
        .await
        .unwrap();
    assert_eq!(payments.len(), 1);
    assert_eq!(payments[0].kind, PaymentKind::Late);
    shop.settle().await;
    let refunds = shop
        .platform()
        .refunds(&shop.merchant, order.id)
        .await
        .unwrap();
    assert_eq!(refunds.len(), 1);
    assert_eq!(refunds[0].cause, RefundCause::Late);
    assert_eq!(refunds[0].state, RefundState::Succeeded);
    assert_eq!(shop.gateway.refunded(), order.payable_minor);
    assert_eq!(shop.read(order.id).await.state, OrderState::Closed);
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn double_and_wrong_money_is_refunded_and_the_order_left_as_it_was() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    let first = shop.attempt(&order).await.id.to_string();
    let second = shop.attempt(&order).await.id.to_string();
    let third = shop.attempt(&order).await.id.to_string();
    let money = |amount, currency: &str| {
        let currency = currency.to_owned();
        Some(Money { amount, currency })
    };
    let less = shop.gateway.pay(&first, money(499, "EUR"), false).unwrap();
    shop.report(&first, &less).await;
    assert_eq!(shop.read(order.id).await.state, OrderState::Pending);
    let foreign = shop.gateway.pay(&second, money(500, "USD"), false).unwrap();
    shop.report(&second, &foreign).await;
    assert_eq!(shop.read(order.id).await.state, OrderState::Pending);
    let right = shop.gateway.pay(&third, None, false).unwrap();
    shop.report(&third, &right).await;
    let double = shop.gateway.pay(&third, None, true).unwrap();
    shop.report(&third, &double).await;
    shop.settle().await;

    let payments = shop
        .platform()
        .payments(&shop.merchant, order.id)
        .await
        .unwrap();
    let kinds: Vec<_> = payments.iter().map(|payment| payment.kind).collect();
    for kind in [
        PaymentKind::WrongAmount,
        PaymentKind::WrongCurrency,
        PaymentKind::Accepted,
        PaymentKind::Duplicate,
    ] {
        assert_eq!(kinds.iter().filter(|each| **each == kind).count(), 1);
    }
    let paid = shop.read(order.id).await;
    assert_eq!(paid.state, OrderState::Paid);
    assert_eq!(shop.gateway.refunded(), 499 + 500 + 500);
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn an_order_paid_while_closing_forgets_why_it_was_to_close() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    let attempt = shop.attempt(&order).await.id.to_string();
    let money = shop.gateway.pay(&attempt, None, false).unwrap();
    shop.gateway.set_faults(GatewayFaults {
        loses_call: 1.0,
        ..GatewayFaults::default()
    });
    shop.run_for(11_000).await;
    let closing = shop.read(order.id).await;
    assert_eq!(closing.state, OrderState::Closing);
    assert_eq!(closing.close_reason, Some(CloseReason::Timeout));
    shop.gateway.set_faults(GatewayFaults::default());
    shop.report(&attempt, &money).await;
    let paid = shop.read(order.id).await;
    assert_eq!((paid.state, paid.close_reason), (OrderState::Paid, None));
    let trail = shop.platform().order_audit(&shop.merchant, order.id).await;
    let steps: Vec<_> = trail
        .unwrap()
        .into_iter()
        .filter(|entry| entry.action == "pay" || entry.action == "close")
        .map(|entry| (entry.from_state, entry.to_state))
        .collect();
    let step = |from: &str, to: &str| (Some(from.to_owned()), Some(to.to_owned()));
    assert_eq!(steps, [step("pending", "closing"), step("closing", "paid")]);
    shop.run_for(60_000).await;
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn a_clock_set_back_makes_no_reached_deadline_lie_ahead_again() {
    let mut shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    // Its timer is not answered yet when the process stops, but something later is recorded.
    shop.clock.advance(10_500);
    shop.order("A-2", &tea, 1).await;
    let recorded_ms = shop.now_ms();
    // The wall is set back between two runs, and no broker is there to say how far the first had come.
    shop.clock = ManualClock::new(START_MS - HOUR_MS);
    let shop = shop.reopen().await;
    assert_eq!(shop.platform().now_ms(), recorded_ms);
    let new = NewAttempt { account_id: None };
    let late = shop
        .platform()
        .start_payment(&shop.merchant, order.id, new, None);
    let late = late.await.unwrap_err();
    assert!(matches!(late, Error::DeadlineReached { .. }), "{late}");
}

#[tokio::test]
async fn a_closing_order_waits_for_a_silent_gateway() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    shop.attempt(&order).await;
    shop.gateway.set_faults(GatewayFaults {
        loses_call: 1.0,
        ..GatewayFaults::default()
    });
    shop.run_for(HOUR_MS).await;
    assert_eq!(shop.read(order.id).await.state, OrderState::Closing);
    assert_eq!(shop.available(&tea).await, 9);
    shop.gateway.set_faults(GatewayFaults::default());
    shop.run_for(300_000).await;
    assert_eq!(shop.read(order.id).await.state, OrderState::Closed);
    stock_is_conserved(&shop).await;
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn an_order_may_close_over_a_silent_gateway_and_late_money_is_refunded() {
    let mut shop = Shop::open().await;
    shop.config.unknown_policy = UnknownPolicy::CloseAndRefundLate { tries: 3 };
    let shop = shop.reopen().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    let attempt = shop.attempt(&order).await;
    shop.gateway
        .pay(&attempt.id.to_string(), None, false)
        .unwrap();
    let silent = GatewayFaults {
        loses_call: 1.0,
        ..GatewayFaults::default()
    };
    shop.gateway.set_faults(silent);
    shop.run_for(60_000).await;
    assert_eq!(shop.read(order.id).await.state, OrderState::Closed);
    let found = shop
        .platform()
        .attempt(&shop.merchant, attempt.id)
        .await
        .unwrap();
    assert_eq!(found.state, AttemptState::Unknown);
    shop.gateway.set_faults(GatewayFaults::default());
    shop.run_for(HOUR_MS).await;
    let found = shop
        .platform()
        .attempt(&shop.merchant, attempt.id)
        .await
        .unwrap();
    assert_eq!(found.state, AttemptState::Succeeded);
    assert_eq!(shop.gateway.refunded(), order.payable_minor);
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn an_attempt_is_watched_for_25_hours_after_the_close_then_a_person_must_look() {
    let mut shop = Shop::open().await;
    shop.config.unknown_policy = UnknownPolicy::CloseAndRefundLate { tries: 1 };
    let shop = shop.reopen().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    let attempt = shop.attempt(&order).await;
    shop.gateway.set_faults(GatewayFaults {
        loses_call: 1.0,
        ..GatewayFaults::default()
    });
    shop.run_for(25 * HOUR_MS).await;
    let found = shop
        .platform()
        .attempt(&shop.merchant, attempt.id)
        .await
        .unwrap();
    assert_eq!(found.state, AttemptState::Unknown);
    shop.run_for(HOUR_MS).await;
    let found = shop
        .platform()
        .attempt(&shop.merchant, attempt.id)
        .await
        .unwrap();
    assert_eq!(found.state, AttemptState::NeedsOperator);
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn an_extended_order_closes_at_its_new_deadline() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    shop.run_for(5_000).await;
    shop.platform()
        .extend_order(&shop.merchant, order.id, order.deadline_ms + 7_000)
        .await
        .unwrap();
    shop.run_for(11_999).await;
    assert_eq!(shop.read(order.id).await.state, OrderState::Pending);
    shop.run_for(1).await;
    assert_eq!(shop.read(order.id).await.state, OrderState::Closed);
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn an_early_message_closes_nothing_and_is_armed_again() {
    let shop = Shop::open().await;
    shop.broker.set_faults(BrokerFaults {
        early_ms: 900,
        repeats: 0.3,
        ..BrokerFaults::default()
    });
    let tea = shop.product(100).await;
    let mut orders = Vec::new();
    for n in 0..50 {
        orders.push(shop.order(&format!("A-{n}"), &tea, 1).await);
    }
    shop.run_for(20_000).await;
    for order in orders {
        let closed = shop.read(order.id).await;
        assert_eq!(closed.state, OrderState::Closed);
        let lag_ms = closed.closed_ms.unwrap() - order.deadline_ms;
        assert!((0..2_000).contains(&lag_ms), "{lag_ms}");
    }
    assert_eq!(shop.available(&tea).await, 100);
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn a_paused_closer_closes_nothing_and_is_resumed_at_a_limited_rate() {
    let mut shop = Shop::open().await;
    shop.config.resume_per_second = 10;
    let shop = shop.reopen().await;
    let tea = shop.product(100).await;
    let platform = shop.platform();
    for n in 0..35 {
        shop.order(&format!("A-{n}"), &tea, 1).await;
    }
    let scope = PauseScope::Merchant(shop.merchant.clone());
    platform
        .pause(scope.clone(), "gateway outage")
        .await
        .unwrap();
    shop.run_for(60_000).await;
    assert_eq!(shop.available(&tea).await, 65);
    assert_eq!(platform.sweep().await.unwrap(), Swept::default());

    let resumed = platform.resume(scope).await.unwrap();
    assert_eq!(resumed.state, PauseState::Resuming);
    crate::timer::pause::release_all(platform).await.unwrap();
    assert_eq!(platform.pauses().await.unwrap(), []);
    let mut seen = Vec::new();
    for _ in 0..5 {
        shop.run_for(1_000).await;
        seen.push(shop.available(&tea).await);
    }
    assert_eq!(seen, [66, 76, 86, 96, 100]);
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn a_paused_account_holds_only_orders_that_need_it() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let with_attempt = shop.order("A-1", &tea, 1).await;
    shop.attempt(&with_attempt).await;
    let without = shop.order("A-2", &tea, 1).await;
    let scope = PauseScope::Account(shop.account);
    shop.platform()
        .pause(scope.clone(), "outage")
        .await
        .unwrap();
    shop.run_for(HOUR_MS).await;
    assert_eq!(shop.read(without.id).await.state, OrderState::Closed);
    // Neither the order nor its attempt was touched: both go through the account.
    assert_eq!(shop.read(with_attempt.id).await.state, OrderState::Pending);
    shop.platform().resume(scope).await.unwrap();
    crate::timer::pause::release_all(shop.platform())
        .await
        .unwrap();
    shop.run_for(10_000).await;
    assert_eq!(shop.read(with_attempt.id).await.state, OrderState::Closed);
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn a_refund_is_tried_at_growing_intervals_until_a_person_must_look() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    shop.pay(&order).await;
    shop.gateway.set_faults(GatewayFaults {
        refund_waits: 1.0,
        ..GatewayFaults::default()
    });
    let new = refund_of(&order, "R-1", None);
    let refund = shop
        .platform()
        .create_refund(&shop.merchant, new, None)
        .await;
    let refund = refund.unwrap().value;
    shop.run_for(DAY_MS).await;
    let found = shop
        .platform()
        .refund(&shop.merchant, refund.id)
        .await
        .unwrap();
    assert_eq!(found.state, RefundState::FailedRetryable);
    shop.run_for(6 * DAY_MS).await;
    let found = shop
        .platform()
        .refund(&shop.merchant, refund.id)
        .await
        .unwrap();
    assert_eq!(found.state, RefundState::NeedsOperator);
    let tries = shop
        .platform()
        .order_audit(&shop.merchant, order.id)
        .await
        .unwrap()
        .iter()
        .filter(|entry| entry.to_state.as_deref() == Some("submitted"))
        .count();
    assert_eq!(tries, 13 + 1, "one of them is the payment attempt");
    nothing_waits(&shop).await;

    shop.gateway.set_faults(GatewayFaults::default());
    shop.platform()
        .retry_refund(&shop.merchant, refund.id)
        .await
        .unwrap();
    shop.settle().await;
    let found = shop
        .platform()
        .refund(&shop.merchant, refund.id)
        .await
        .unwrap();
    assert_eq!(found.state, RefundState::Succeeded);
    let again = shop
        .platform()
        .retry_refund(&shop.merchant, refund.id)
        .await;
    assert!(matches!(again, Err(Error::RefundState { .. })));
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn refunds_never_exceed_the_payment_and_restock_only_when_asked() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 2).await;
    let refund = |number: &str, amount, restock| {
        let new = NewRefund {
            restock,
            ..refund_of(&order, number, amount)
        };
        shop.platform().create_refund(&shop.merchant, new, None)
    };
    assert!(matches!(
        refund("R-0", None, false).await,
        Err(Error::OrderState { .. })
    ));
    shop.pay(&order).await;
    assert_eq!(
        refund("R-1", Some(400), false)
            .await
            .unwrap()
            .value
            .amount_minor,
        400
    );
    assert!(matches!(
        refund("R-1", Some(1), false).await,
        Err(Error::Duplicate { what: "refund", .. })
    ));
    assert!(matches!(
        refund("R-2", Some(601), false).await,
        Err(Error::RefundTooLarge {
            left_minor: 600,
            ..
        })
    ));
    assert_eq!(shop.available(&tea).await, 8);
    assert_eq!(
        refund("R-3", None, true).await.unwrap().value.amount_minor,
        600
    );
    assert!(matches!(
        refund("R-4", None, true).await,
        Err(Error::RefundTooLarge { left_minor: 0, .. })
    ));
    assert_eq!(shop.available(&tea).await, 8, "no money has gone back yet");
    shop.settle().await;
    assert_eq!(shop.available(&tea).await, 10);
    assert_eq!(shop.gateway.refunded(), 1_000);
    stock_is_conserved(&shop).await;
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn an_order_with_nothing_to_pay_is_paid_at_creation() {
    let shop = Shop::open().await;
    rule(&shop, 5_000, 0).await;
    let tea = shop.product(10).await;
    let source = shop.order("A-1", &tea, 1).await;
    shop.pay(&source).await;
    shop.settle().await;
    let mut new = Shop::new_order("A-2", tea.id, 3);
    new.coupon_id = Some(coupons(&shop, "buyer-1").await[0].id);
    let order = shop
        .platform()
        .create_order(&shop.merchant, new, None)
        .await;
    let order = order.unwrap().value;
    assert_eq!(order.state, OrderState::Paid);
    assert_eq!(order.payable_minor, 0);
    shop.run_for(60_000).await;
    let found = coupons(&shop, "buyer-1").await;
    assert_eq!(found.len(), 1, "an order of zero total earns none");
    assert_eq!(found[0].state, CouponState::Used);
    stock_is_conserved(&shop).await;
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn a_lost_broker_is_made_up_for_by_rebuilding_the_timers() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let plain = shop.order("A-1", &tea, 1).await;
    let with_attempt = shop.order("A-2", &tea, 1).await;
    shop.attempt(&with_attempt).await;
    shop.pump().await;
    shop.broker.lose_everything();
    // The rows too, as if they had been lost with a damaged index.
    shop.platform()
        .writer()
        .run((), |tx, ()| Box::pin(forget_timers(tx)))
        .await
        .unwrap();
    assert_eq!(shop.platform().rebuild_timers().await.unwrap(), 3);
    shop.run_for(60_000).await;
    for order in [plain, with_attempt] {
        assert_eq!(shop.read(order.id).await.state, OrderState::Closed);
    }
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn the_sweeper_finds_what_a_broker_lost() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    let paid = shop.order("A-2", &tea, 1).await;
    rule(&shop, 100, 0).await;
    shop.pay(&paid).await;
    shop.pump().await;
    shop.broker.lose_everything();
    shop.run_for(60_000).await;
    assert_eq!(shop.platform().sweep().await.unwrap(), Swept::default());
    shop.run_for(100_000).await;
    assert_eq!(shop.read(order.id).await.state, OrderState::Pending);
    let swept = shop.platform().sweep().await.unwrap();
    assert_eq!((swept.missing, swept.timers, swept.coupons), (0, 1, 1));
    shop.run_for(2_000).await;
    assert_eq!(shop.read(order.id).await.state, OrderState::Closed);
    assert_eq!(coupons(&shop, "buyer-1").await.len(), 1);
}

async fn forget_timers(tx: &mut crate::store::Tx) -> crate::Result<()> {
    query("delete from timer").execute(tx.conn()).await?;
    Ok(())
}

#[tokio::test]
async fn the_sweeper_finds_what_has_no_timer() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    rule(&shop, 100, 0).await;
    let paid = shop.order("A-1", &tea, 1).await;
    shop.pay(&paid).await;
    shop.settle().await;
    let order = shop.order("A-2", &tea, 1).await;
    let asked = shop.order("A-3", &tea, 1).await;
    shop.attempt(&asked).await;
    let new = refund_of(&paid, "R-1", Some(100));
    let refund = shop.platform().create_refund(&shop.merchant, new, None);
    let refund = refund.await.unwrap().value;
    shop.broker.lose_everything();
    shop.platform()
        .writer()
        .run((), |tx, ()| Box::pin(forget_timers(tx)))
        .await
        .unwrap();
    let found = |swept: Swept| (swept.missing, swept.timers, swept.coupons);
    assert_eq!(found(shop.platform().sweep().await.unwrap()), (0, 0, 0));
    shop.clock.advance(HOUR_MS);
    // Two orders, an attempt and a refund; the coupon has time yet.
    assert_eq!(found(shop.platform().sweep().await.unwrap()), (4, 4, 0));
    shop.run_for(60_000).await;
    assert_eq!(shop.read(order.id).await.state, OrderState::Closed);
    assert_eq!(shop.read(asked.id).await.state, OrderState::Closed);
    let refund = shop.platform().refund(&shop.merchant, refund.id).await;
    assert_eq!(refund.unwrap().state, RefundState::Succeeded);
    shop.clock.advance(31 * DAY_MS);
    let swept = shop.platform().sweep().await.unwrap();
    assert_eq!(swept.missing, 1, "the coupon");
    shop.run_for(60_000).await;
    nothing_waits(&shop).await;
}
