//! Stories of refunds: what they set aside, what they change when they succeed, and what a person can do about them.

use http::HeaderMap;

use crate::tests::coupons::{coupons, rule};
use crate::tests::flows::{nothing_waits, refund_of, stock_is_conserved};
use crate::tests::gateway::{GatewayFaults, TestGateway};
use crate::tests::shop::Shop;
use crate::{
    CloseReason, CouponState, Error, NewCouponRule, NewRefund, OnFullRefund, Order, OrderState,
    Product, Refund, RefundLine, RefundState, Result,
};

const DAY_MS: u64 = 86_400_000;

/// A shop whose only order is paid: `units` of 500, of ten.
async fn sold(units: i64) -> (Shop, Product, Order) {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, units).await;
    shop.pay(&order).await;
    shop.settle().await;
    (shop, tea, order)
}

fn refuse(shop: &Shop, likelihood: f64) {
    shop.gateway.set_faults(GatewayFaults {
        refund_refused: likelihood,
        ..GatewayFaults::default()
    });
}

async fn ask(shop: &Shop, new: NewRefund) -> Result<Refund> {
    let asked = shop.platform().create_refund(&shop.merchant, new, None);
    Ok(asked.await?.value)
}

/// Asks for a refund and lets the gateway answer.
async fn refund(shop: &Shop, new: NewRefund) -> Refund {
    let asked = ask(shop, new).await.unwrap();
    shop.settle().await;
    read(shop, &asked).await
}

async fn read(shop: &Shop, refund: &Refund) -> Refund {
    let found = shop.platform().refund(&shop.merchant, refund.id).await;
    found.unwrap()
}

async fn reports(shop: &Shop, refund: &Refund, state: &str) {
    let body = TestGateway::refund_callback(&refund.id.to_string(), state);
    let headers = HeaderMap::new();
    let taken = shop
        .platform()
        .handle_callback(shop.account, &headers, &body);
    taken.await.unwrap();
}

fn lines(quantity: i64) -> Vec<RefundLine> {
    vec![RefundLine {
        line_no: 1,
        quantity,
    }]
}

async fn steps(shop: &Shop, order: &Order, refund: &Refund) -> Vec<String> {
    let audit = shop.platform().order_audit(&shop.merchant, order.id).await;
    let entity = refund.id.to_string();
    let rows = audit.unwrap().into_iter();
    rows.filter(|row| row.entity == entity)
        .filter_map(|row| row.to_state)
        .collect()
}

#[tokio::test]
async fn a_refused_refund_lets_its_money_go_and_changes_nothing_else() {
    let shop = Shop::open().await;
    rule(&shop, 300, 0).await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 2).await;
    shop.pay(&order).await;
    shop.settle().await;
    refuse(&shop, 1.0);
    let all = NewRefund {
        restock: true,
        ..refund_of(&order, "R-1", None)
    };
    let refused = refund(&shop, all).await;
    assert_eq!(refused.state, RefundState::NeedsOperator);
    assert!(refused.released);
    assert_eq!(shop.available(&tea).await, 8);
    assert_eq!(
        coupons(&shop, "buyer-1").await[0].state,
        CouponState::Available
    );
    refuse(&shop, 0.0);
    let other = refund(&shop, refund_of(&order, "R-2", Some(400))).await;
    assert_eq!(other.state, RefundState::Succeeded);

    // What is left is too little for the first one now.
    let retried = shop
        .platform()
        .retry_refund(&shop.merchant, refused.id)
        .await;
    assert!(matches!(
        retried,
        Err(Error::RefundTooLarge {
            left_minor: 600,
            wanted_minor: 1_000,
            ..
        })
    ));
    assert_eq!(shop.number("select refunded_minor from payment").await, 400);
    let abandoned = shop
        .platform()
        .abandon_refund(&shop.merchant, refused.id)
        .await
        .unwrap();
    assert_eq!(abandoned.state, RefundState::Withdrawn);
    let again = shop
        .platform()
        .abandon_refund(&shop.merchant, refused.id)
        .await;
    assert_eq!(again.unwrap(), abandoned);
    let retried = shop
        .platform()
        .retry_refund(&shop.merchant, refused.id)
        .await;
    assert!(matches!(retried, Err(Error::RefundState { .. })));
    let rest = NewRefund {
        restock: true,
        ..refund_of(&order, "R-3", None)
    };
    assert_eq!(refund(&shop, rest).await.amount_minor, 600);
    assert_eq!(shop.available(&tea).await, 10);
    assert_eq!(
        coupons(&shop, "buyer-1").await[0].state,
        CouponState::Revoked
    );
    assert_eq!(shop.gateway.refunded(), 1_000);
    stock_is_conserved(&shop).await;
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn a_refund_without_an_answer_keeps_its_money_until_it_is_withdrawn() {
    let (shop, _, order) = sold(1).await;
    shop.gateway.set_faults(GatewayFaults {
        loses_call: 1.0,
        ..GatewayFaults::default()
    });
    let asked = ask(&shop, refund_of(&order, "R-1", Some(400))).await;
    let asked = asked.unwrap();
    let early = shop
        .platform()
        .abandon_refund(&shop.merchant, asked.id)
        .await;
    assert!(matches!(early, Err(Error::RefundState { .. })));
    shop.run_for(7 * DAY_MS).await;
    let waiting = read(&shop, &asked).await;
    assert_eq!(
        (waiting.state, waiting.released),
        (RefundState::NeedsOperator, false)
    );
    let other = ask(&shop, refund_of(&order, "R-2", Some(400))).await;
    assert!(matches!(other, Err(Error::RefundTooLarge { .. })));
    shop.platform()
        .abandon_refund(&shop.merchant, asked.id)
        .await
        .unwrap();
    ask(&shop, refund_of(&order, "R-2", Some(400)))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_late_success_of_a_withdrawn_refund_is_recorded() {
    let (shop, tea, order) = sold(2).await;
    refuse(&shop, 1.0);
    let new = NewRefund {
        restock_lines: lines(1),
        ..refund_of(&order, "R-1", Some(500))
    };
    let first = refund(&shop, new).await;
    let second = refund(&shop, refund_of(&order, "R-2", Some(600))).await;
    refuse(&shop, 0.0);
    for each in [&first, &second] {
        let withdrawn = shop.platform().abandon_refund(&shop.merchant, each.id);
        assert_eq!(withdrawn.await.unwrap().state, RefundState::Withdrawn);
    }
    // A failure is nothing new.
    reports(&shop, &first, "failed").await;
    assert_eq!(read(&shop, &first).await.state, RefundState::Withdrawn);
    reports(&shop, &first, "succeeded").await;
    reports(&shop, &first, "succeeded").await;
    let late = read(&shop, &first).await;
    assert_eq!((late.state, late.released), (RefundState::Succeeded, false));
    assert_eq!(shop.available(&tea).await, 9);
    // The payment has too little left for the other one: it is recorded all the same, and can be found.
    reports(&shop, &second, "succeeded").await;
    let beyond = read(&shop, &second).await;
    assert_eq!(
        (beyond.state, beyond.released),
        (RefundState::Succeeded, true)
    );
    let counts = crate::store::attention::count(shop.platform().readers()).await;
    assert_eq!(counts.unwrap()[1], ("refund_beyond", 1));
    for finding in shop.platform().verify().await.unwrap() {
        assert_eq!(finding.broken, 0, "{}", finding.rule);
    }
    shop.settle().await;
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn a_refund_that_fails_after_success_is_asked_about_and_reopened() {
    let (shop, tea, order) = sold(2).await;
    let new = NewRefund {
        restock: true,
        ..refund_of(&order, "R-1", None)
    };
    let done = refund(&shop, new).await;
    assert_eq!(done.state, RefundState::Succeeded);
    assert_eq!(shop.available(&tea).await, 10);

    // A stale report: the gateway still says that the money went back.
    reports(&shop, &done, "failed").await;
    assert_eq!(read(&shop, &done).await.state, RefundState::Submitted);
    shop.settle().await;
    assert_eq!(read(&shop, &done).await.state, RefundState::Succeeded);

    shop.gateway.fail_refund(&done.id.to_string());
    reports(&shop, &done, "processing").await;
    assert_eq!(read(&shop, &done).await.state, RefundState::Succeeded);
    reports(&shop, &done, "failed").await;
    shop.settle().await;
    let failed = read(&shop, &done).await;
    assert_eq!(
        (failed.state, failed.released),
        (RefundState::NeedsOperator, false)
    );
    assert!(failed.detail.as_ref().unwrap().contains("units"));
    assert_eq!(
        steps(&shop, &order, &done).await[2..],
        [
            "succeeded",
            "submitted",
            "succeeded",
            "submitted",
            "needs_operator"
        ]
    );
    let reopened = "select count(*) from outbox where tag = 'refund.reopened'";
    assert_eq!(shop.number(reopened).await, 2);
    // Its units came back once and are sold or not, so only paying it back ends it.
    let abandoned = shop
        .platform()
        .abandon_refund(&shop.merchant, done.id)
        .await;
    assert!(matches!(abandoned, Err(Error::RefundState { .. })));
    let settle = |reference: &'static str| {
        shop.platform()
            .settle_refund(&shop.merchant, done.id, reference)
    };
    let settled = settle("transfer 7").await.unwrap();
    assert_eq!(settled.state, RefundState::Succeeded);
    assert_eq!(settle("transfer 7").await.unwrap(), settled);
    assert!(matches!(
        settle("transfer 8").await,
        Err(Error::RefundState { .. })
    ));
    reports(&shop, &done, "failed").await;
    assert_eq!(read(&shop, &done).await, settled, "a person has settled it");
    assert_eq!(shop.available(&tea).await, 10);
    stock_is_conserved(&shop).await;
    shop.settle().await;
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn units_come_back_by_line_when_the_refund_succeeded() {
    let (shop, tea, order) = sold(3).await;
    let unit = |number: &str, quantity| NewRefund {
        restock_lines: lines(quantity),
        ..refund_of(&order, number, Some(500))
    };
    let part = NewRefund {
        restock: true,
        ..refund_of(&order, "R-0", Some(500))
    };
    let refused = ask(&shop, part).await;
    assert!(matches!(
        refused,
        Err(Error::Invalid {
            field: "/restock",
            ..
        })
    ));
    let first = ask(&shop, unit("R-1", 1)).await.unwrap();
    assert!(first.restock);
    assert_eq!(shop.available(&tea).await, 7, "no money has gone back yet");
    let too_many = ask(&shop, unit("R-2", 3)).await;
    assert!(matches!(
        too_many,
        Err(Error::Invalid {
            field: "/restock_lines",
            ..
        })
    ));
    shop.settle().await;
    assert_eq!(shop.available(&tea).await, 8);
    refund(&shop, refund_of(&order, "R-2", Some(500))).await;
    assert_eq!(shop.available(&tea).await, 8);
    let rest = NewRefund {
        restock: true,
        ..refund_of(&order, "R-3", None)
    };
    refund(&shop, rest).await;
    assert_eq!(shop.available(&tea).await, 10);
    let tally = shop.platform().tally().await.unwrap();
    assert_eq!((tally.sold, tally.available), (0, 10));
    for finding in shop.platform().verify().await.unwrap() {
        assert_eq!(finding.broken, 0, "{}", finding.rule);
    }
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn a_repeated_request_is_the_refund_that_there_is() {
    let (shop, _, order) = sold(3).await;
    let new = |amount_minor, quantity| NewRefund {
        restock_lines: lines(quantity),
        ..refund_of(&order, "R-1", amount_minor)
    };
    let first = ask(&shop, new(Some(500), 1)).await.unwrap();
    assert_eq!(ask(&shop, new(Some(500), 1)).await.unwrap(), first);
    for other in [
        new(Some(501), 1),
        new(None, 1),
        new(Some(500), 2),
        refund_of(&order, "R-1", Some(500)),
    ] {
        assert!(matches!(
            ask(&shop, other).await,
            Err(Error::Duplicate { what: "refund", .. })
        ));
    }
    assert_eq!(shop.number("select refunded_minor from payment").await, 500);
    shop.settle().await;
    assert_eq!(
        ask(&shop, new(Some(500), 1)).await.unwrap().state,
        RefundState::Succeeded
    );
    // All that is left stays the same request, whatever is left by now.
    let rest = ask(&shop, refund_of(&order, "R-2", None)).await.unwrap();
    shop.settle().await;
    let again = ask(&shop, refund_of(&order, "R-2", None)).await.unwrap();
    assert_eq!((again.id, again.amount_minor), (rest.id, 1_000));
}

#[tokio::test]
async fn refunds_are_listed_by_state() {
    let (shop, _, order) = sold(2).await;
    refuse(&shop, 1.0);
    let mut refused = Vec::new();
    for number in ["R-1", "R-2", "R-3"] {
        refused.push(refund(&shop, refund_of(&order, number, Some(100))).await.id);
    }
    refuse(&shop, 0.0);
    let done = refund(&shop, refund_of(&order, "R-4", Some(100))).await.id;
    let page = async |state, after, limit| {
        let page = shop
            .platform()
            .refund_page(&shop.merchant, state, after, limit)
            .await
            .unwrap();
        let ids: Vec<_> = page.refunds.iter().map(|refund| refund.id).collect();
        (ids, page.next)
    };
    let waiting = Some(RefundState::NeedsOperator);
    assert_eq!(page(waiting, None, 50).await, (refused.clone(), None));
    let (some, next) = page(waiting, None, 2).await;
    assert_eq!(some, refused[..2]);
    assert_eq!(page(waiting, next, 2).await, (vec![refused[2]], None));
    let (all, _) = page(None, None, 50).await;
    assert_eq!(all, [&refused[..], &[done]].concat());
    let counts = crate::store::attention::count(shop.platform().readers()).await;
    assert_eq!(counts.unwrap()[0], ("refund", 3));
}

#[tokio::test]
async fn an_order_with_nothing_to_pay_can_be_cancelled() {
    let shop = Shop::open().await;
    rule(&shop, 5_000, 0).await;
    let tea = shop.product(10).await;
    let source = shop.order("A-1", &tea, 1).await;
    shop.pay(&source).await;
    shop.settle().await;
    let coupon = coupons(&shop, "buyer-1").await[0].clone();
    let mut new = Shop::new_order("A-2", tea.id, 4);
    new.coupon_id = Some(coupon.id);
    let free = shop
        .platform()
        .create_order(&shop.merchant, new, None)
        .await
        .unwrap()
        .value;
    assert_eq!(free.state, OrderState::Paid);
    shop.settle().await;
    let cancel = |order: &Order, reason| {
        shop.platform()
            .cancel_order(&shop.merchant, order.id, reason)
    };
    let cancelled = cancel(&free, CloseReason::Merchant).await.unwrap();
    assert_eq!(
        (cancelled.state, cancelled.close_reason, cancelled.paid_ms),
        (OrderState::Closed, Some(CloseReason::Merchant), None)
    );
    assert_eq!(
        cancel(&free, CloseReason::Merchant).await.unwrap(),
        cancelled
    );
    assert_eq!(shop.available(&tea).await, 9);
    let returned = coupons(&shop, "buyer-1").await;
    assert_eq!(returned[0].state, CouponState::Available);
    let events = "select count(*) from outbox where tag in ('order.closed', 'coupon.returned')";
    assert_eq!(shop.number(events).await, 2);
    // Money is not undone by a word.
    let paid = cancel(&source, CloseReason::Merchant).await;
    assert!(matches!(paid, Err(Error::OrderState { .. })));
    for finding in shop.platform().verify().await.unwrap() {
        assert_eq!(finding.broken, 0, "{}", finding.rule);
    }
    shop.run_for(31 * DAY_MS).await;
    assert_eq!(
        coupons(&shop, "buyer-1").await[0].state,
        CouponState::Expired
    );
    stock_is_conserved(&shop).await;
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn a_used_coupon_returns_by_its_rule() {
    for (on_full_refund, state) in [
        (OnFullRefund::Keep, CouponState::Used),
        (OnFullRefund::Return, CouponState::Available),
    ] {
        let shop = Shop::open().await;
        let new = NewCouponRule {
            name: "thanks".to_owned(),
            amount_off_minor: 100,
            currency: "EUR".parse().unwrap(),
            min_total_minor: 1_000,
            valid_days: 30,
            on_full_refund,
        };
        let made = shop
            .platform()
            .create_coupon_rule(&shop.merchant, new, None);
        assert_eq!(made.await.unwrap().value.on_full_refund, on_full_refund);
        let tea = shop.product(10).await;
        let source = shop.order("A-1", &tea, 2).await;
        shop.pay(&source).await;
        shop.settle().await;
        let coupon = coupons(&shop, "buyer-1").await[0].clone();
        let mut new = Shop::new_order("A-2", tea.id, 1);
        new.coupon_id = Some(coupon.id);
        let order = shop
            .platform()
            .create_order(&shop.merchant, new, None)
            .await
            .unwrap()
            .value;
        shop.pay(&order).await;
        shop.settle().await;
        refund(&shop, refund_of(&order, "R-1", Some(300))).await;
        assert_eq!(coupons(&shop, "buyer-1").await[0].state, CouponState::Used);
        refund(&shop, refund_of(&order, "R-2", None)).await;
        assert_eq!(coupons(&shop, "buyer-1").await[0].state, state);
        shop.run_for(31 * DAY_MS).await;
        nothing_waits(&shop).await;
    }
}

#[tokio::test]
async fn a_coupon_is_withheld_only_for_money_that_went_back() {
    let shop = Shop::open().await;
    rule(&shop, 300, 0).await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    refuse(&shop, 1.0);
    shop.pay(&order).await;
    // Asked for before the coupon is decided, and refused.
    refund(&shop, refund_of(&order, "R-1", None)).await;
    assert_eq!(
        coupons(&shop, "buyer-1").await[0].state,
        CouponState::Available
    );
}
