//! Attempts that wait for a late answer or a person: listed, asked about again, settled by hand.

use crate::tests::flows::nothing_waits;
use crate::tests::gateway::GatewayFaults;
use crate::tests::shop::Shop;
use crate::{
    Attempt, AttemptSettlement, AttemptState, CloseReason, Error, MerchantId, NewRefund, Order,
    OrderState, PaymentKind, RefundState, WaitingAttempt,
};

const HOUR_MS: u64 = 3_600_000;
const PAID: AttemptSettlement = AttemptSettlement::Paid {
    amount_minor: None,
    currency: None,
};

/// An order whose attempt's gateway has given no answer until a person had to look.
async fn given_up(shop: &Shop) -> (Order, Attempt) {
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    let attempt = shop.attempt(&order).await;
    shop.gateway.set_faults(GatewayFaults {
        loses_call: 1.0,
        ..GatewayFaults::default()
    });
    shop.run_for(20_000).await;
    shop.platform().force_close_order(order.id).await.unwrap();
    shop.run_for(26 * HOUR_MS).await;
    (order, attempt)
}

async fn state_of(shop: &Shop, attempt: &Attempt) -> AttemptState {
    let found = shop.platform().attempt(&shop.merchant, attempt.id).await;
    found.unwrap().state
}

async fn waiting(shop: &Shop, state: WaitingAttempt) -> Vec<Attempt> {
    let found = shop
        .platform()
        .waiting_attempts(&shop.merchant, state, None, 10);
    found.await.unwrap()
}

#[tokio::test]
async fn an_attempt_that_needs_a_person_is_listed_and_asked_about_again() {
    let shop = Shop::open().await;
    let (_, attempt) = given_up(&shop).await;
    let [listed] = waiting(&shop, WaitingAttempt::NeedsOperator)
        .await
        .try_into()
        .unwrap();
    assert_eq!(
        (listed.id, listed.state),
        (attempt.id, AttemptState::NeedsOperator)
    );
    let asked = shop.gateway.asked();
    // The gateway still says nothing.
    let platform = shop.platform();
    let again = platform
        .retry_attempt(&shop.merchant, attempt.id)
        .await
        .unwrap();
    assert_eq!(again.state, AttemptState::Unknown);
    assert_eq!(waiting(&shop, WaitingAttempt::Unknown).await.len(), 1);
    shop.settle().await;
    assert!(shop.gateway.asked() > asked);
    assert_eq!(state_of(&shop, &attempt).await, AttemptState::NeedsOperator);
    // It has an answer now: it has taken money meanwhile, too late.
    shop.gateway.set_faults(GatewayFaults::default());
    shop.gateway
        .pay(&attempt.id.to_string(), None, true)
        .unwrap();
    platform
        .retry_attempt(&shop.merchant, attempt.id)
        .await
        .unwrap();
    shop.run_for(60_000).await;
    assert_eq!(state_of(&shop, &attempt).await, AttemptState::Succeeded);
    assert_eq!(shop.gateway.refunded(), 500);
    let ended = platform.retry_attempt(&shop.merchant, attempt.id).await;
    assert!(matches!(ended, Err(Error::AttemptState { .. })));
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn an_attempt_of_another_merchant_does_not_exist() {
    let shop = Shop::open().await;
    let (_, attempt) = given_up(&shop).await;
    let other: MerchantId = "other".parse().unwrap();
    let platform = shop.platform();
    platform.create_merchant(&other, "Other").await.unwrap();
    let retried = platform.retry_attempt(&other, attempt.id).await;
    assert!(matches!(retried, Err(Error::NotFound { .. })));
    let settled = platform
        .settle_attempt(&other, attempt.id, "txn-9", PAID)
        .await;
    assert!(matches!(settled, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn an_attempt_that_a_person_knows_to_be_paid_pays_its_order() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    let attempt = shop.attempt(&order).await;
    let platform = shop.platform();
    for _ in 0..2 {
        let settled = platform
            .settle_attempt(&shop.merchant, attempt.id, "txn-9", PAID)
            .await;
        assert_eq!(settled.unwrap().state, AttemptState::Succeeded);
    }
    assert_eq!(shop.read(order.id).await.state, OrderState::Paid);
    let payments = platform.payments(&shop.merchant, order.id).await.unwrap();
    assert_eq!(payments.len(), 1);
    assert_eq!(
        (payments[0].kind, payments[0].gateway_txn.as_str()),
        (PaymentKind::Accepted, "txn-9")
    );
    let again = platform
        .settle_attempt(&shop.merchant, attempt.id, "txn-10", PAID)
        .await;
    assert!(matches!(again, Err(Error::AttemptState { .. })));
    shop.run_for(60_000).await;
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn an_attempt_that_a_person_knows_to_have_failed_lets_its_order_close() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    let attempt = shop.attempt(&order).await;
    shop.gateway.set_faults(GatewayFaults {
        loses_call: 1.0,
        ..GatewayFaults::default()
    });
    let platform = shop.platform();
    let cancelled = platform
        .cancel_order(&shop.merchant, order.id, CloseReason::Buyer)
        .await;
    assert_eq!(cancelled.unwrap().state, OrderState::Closing);
    for _ in 0..2 {
        let failed = AttemptSettlement::Failed;
        let settled = platform
            .settle_attempt(&shop.merchant, attempt.id, "call 7", failed)
            .await;
        assert_eq!(settled.unwrap().state, AttemptState::Failed);
    }
    assert_eq!(shop.read(order.id).await.state, OrderState::Closed);
    assert_eq!(shop.available(&tea).await, 10);
    shop.run_for(60_000).await;
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn a_transaction_that_is_recorded_elsewhere_settles_no_other_attempt() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let [first, second] = [
        shop.order("A-1", &tea, 1).await,
        shop.order("A-2", &tea, 1).await,
    ];
    let [first, second] = [shop.attempt(&first).await, shop.attempt(&second).await];
    let platform = shop.platform();
    platform
        .settle_attempt(&shop.merchant, first.id, "txn-9", PAID)
        .await
        .unwrap();
    let stolen = platform
        .settle_attempt(&shop.merchant, second.id, "txn-9", PAID)
        .await;
    assert!(matches!(stolen, Err(Error::Settled { .. })));
}

#[tokio::test]
async fn a_refund_whose_gateway_is_gone_costs_no_try_and_goes_on_when_it_is_back() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    shop.pay(&order).await;
    let shop = shop.reopen_without_gateway().await;
    let new = NewRefund {
        order_id: order.id,
        refund_no: "R-1".to_owned(),
        amount_minor: None,
        restock: false,
        restock_lines: Vec::new(),
    };
    let refund = shop
        .platform()
        .create_refund(&shop.merchant, new, None)
        .await;
    let refund = refund.unwrap().value;
    shop.run_for(20 * HOUR_MS).await;
    assert_eq!(
        shop.number("select max(tries) from timer where kind = 4")
            .await,
        0
    );
    let shop = shop.reopen().await;
    shop.run_for(120_000).await;
    let refund = shop
        .platform()
        .refund(&shop.merchant, refund.id)
        .await
        .unwrap();
    assert_eq!(refund.state, RefundState::Succeeded);
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn a_refund_whose_gateway_stays_away_needs_a_person_in_the_end() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    shop.pay(&order).await;
    let shop = shop.reopen_without_gateway().await;
    let new = NewRefund {
        order_id: order.id,
        refund_no: "R-1".to_owned(),
        amount_minor: None,
        restock: false,
        restock_lines: Vec::new(),
    };
    let refund = shop
        .platform()
        .create_refund(&shop.merchant, new, None)
        .await;
    let refund = refund.unwrap().value;
    shop.run_for(26 * HOUR_MS).await;
    let refund = shop
        .platform()
        .refund(&shop.merchant, refund.id)
        .await
        .unwrap();
    assert_eq!(refund.state, RefundState::NeedsOperator);
    // Its money stays set aside: it may be on its way.
    assert!(!refund.released);
    nothing_waits(&shop).await;
}
