//! Stories of coupons: earned, held, given away, expired, taken back.

use crate::tests::broker::BrokerFaults;
use crate::tests::flows::{nothing_waits, refund_of};
use crate::tests::shop::Shop;
use crate::{CouponState, Error, NewCouponRule, OnFullRefund, OrderState};

const DAY_MS: u64 = 86_400_000;

pub(crate) async fn rule(shop: &Shop, amount_off_minor: i64, min_total_minor: i64) {
    let new = NewCouponRule {
        name: format!("{amount_off_minor} off from {min_total_minor}"),
        amount_off_minor,
        currency: "EUR".parse().unwrap(),
        min_total_minor,
        valid_days: 30,
        on_full_refund: OnFullRefund::Keep,
    };
    shop.platform()
        .create_coupon_rule(&shop.merchant, new, None)
        .await
        .unwrap();
}

pub(crate) async fn coupons(shop: &Shop, buyer: &str) -> Vec<crate::Coupon> {
    let found = shop
        .platform()
        .coupons_of_buyer(&shop.merchant, buyer, None, 100);
    found.await.unwrap()
}

#[tokio::test]
async fn a_paid_order_earns_the_best_coupon_once_and_it_expires() {
    let shop = Shop::open().await;
    rule(&shop, 100, 0).await;
    rule(&shop, 300, 1_000).await;
    rule(&shop, 900, 5_000).await;
    let tea = shop.product(10).await;
    shop.broker.set_faults(BrokerFaults {
        repeats: 0.5,
        ..BrokerFaults::default()
    });
    let order = shop.order("A-1", &tea, 2).await;
    shop.pay(&order).await;
    shop.run_for(60_000).await;
    let found = coupons(&shop, "buyer-1").await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].amount_off_minor, 300);
    assert_eq!(found[0].source_order_id, order.id);
    shop.run_for(30 * DAY_MS).await;
    assert_eq!(
        coupons(&shop, "buyer-1").await[0].state,
        CouponState::Expired
    );
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn a_coupon_follows_its_order_and_can_be_given_away() {
    let shop = Shop::open().await;
    rule(&shop, 300, 0).await;
    let tea = shop.product(10).await;
    let source = shop.order("A-1", &tea, 1).await;
    shop.pay(&source).await;
    shop.settle().await;
    let coupon = coupons(&shop, "buyer-1").await[0].clone();

    let with_coupon = |number: &str, buyer: &str| {
        let mut new = Shop::new_order(number, tea.id, 1);
        new.coupon_id = Some(coupon.id);
        new.buyer_id = buyer.to_owned();
        shop.platform().create_order(&shop.merchant, new, None)
    };
    let order = with_coupon("A-2", "buyer-1").await.unwrap().value;
    assert_eq!((order.discount_minor, order.payable_minor), (300, 200));
    assert!(matches!(
        with_coupon("A-3", "buyer-1").await,
        Err(Error::CouponUnusable { .. })
    ));
    let give = |buyer: &'static str| {
        shop.platform()
            .transfer_coupon(&shop.merchant, coupon.id, buyer)
    };
    assert!(matches!(
        give("buyer-2").await,
        Err(Error::CouponUnusable { .. })
    ));
    shop.run_for(10_000).await;
    assert_eq!(shop.read(order.id).await.state, OrderState::Closed);
    assert_eq!(
        coupons(&shop, "buyer-1").await[0].state,
        CouponState::Available
    );

    give("buyer-2").await.unwrap();
    assert!(matches!(
        with_coupon("A-4", "buyer-1").await,
        Err(Error::CouponUnusable { .. })
    ));
    let order = with_coupon("A-5", "buyer-2").await.unwrap().value;
    shop.pay(&order).await;
    shop.settle().await;
    let found = shop
        .platform()
        .coupon(&shop.merchant, coupon.id)
        .await
        .unwrap();
    assert_eq!(found.state, CouponState::Used);
    assert_eq!(found.held_by, Some(order.id));
}

#[tokio::test]
async fn a_coupon_that_outlived_its_validity_in_an_order_comes_back_expired() {
    let shop = Shop::open().await;
    rule(&shop, 300, 0).await;
    let tea = shop.product(10).await;
    let source = shop.order("A-1", &tea, 1).await;
    shop.pay(&source).await;
    shop.settle().await;
    let coupon = coupons(&shop, "buyer-1").await[0].clone();
    shop.run_for(30 * DAY_MS - 5_000).await;
    let mut new = Shop::new_order("A-2", tea.id, 1);
    new.coupon_id = Some(coupon.id);
    shop.platform()
        .create_order(&shop.merchant, new, None)
        .await
        .unwrap();
    shop.run_for(6_000).await;
    assert_eq!(coupons(&shop, "buyer-1").await[0].state, CouponState::Held);
    shop.run_for(60_000).await;
    assert_eq!(
        coupons(&shop, "buyer-1").await[0].state,
        CouponState::Expired
    );
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn a_full_refund_takes_the_coupon_back_unless_it_was_used() {
    let shop = Shop::open().await;
    rule(&shop, 300, 0).await;
    let tea = shop.product(10).await;
    let source = shop.order("A-1", &tea, 1).await;
    shop.pay(&source).await;
    shop.settle().await;
    let coupon = coupons(&shop, "buyer-1").await[0].clone();
    let mut new = Shop::new_order("A-2", tea.id, 1);
    new.coupon_id = Some(coupon.id);
    let holder = shop
        .platform()
        .create_order(&shop.merchant, new, None)
        .await;
    let holder = holder.unwrap().value;
    let new = refund_of(&source, "R-1", None);
    shop.platform()
        .create_refund(&shop.merchant, new, None)
        .await
        .unwrap();
    assert_eq!(coupons(&shop, "buyer-1").await[0].state, CouponState::Held);
    shop.run_for(60_000).await;
    assert_eq!(shop.read(holder.id).await.state, OrderState::Closed);
    assert_eq!(
        coupons(&shop, "buyer-1").await[0].state,
        CouponState::Revoked
    );

    // Refunded before its coupon was decided: there is none.
    let other = shop.order("A-3", &tea, 1).await;
    shop.pay(&other).await;
    let new = refund_of(&other, "R-2", None);
    shop.platform()
        .create_refund(&shop.merchant, new, None)
        .await
        .unwrap();
    shop.settle().await;
    assert_eq!(coupons(&shop, "buyer-1").await.len(), 1);
    nothing_waits(&shop).await;
}
