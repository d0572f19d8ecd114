//! Events: each flow writes those of its transitions, with the schema of docs/events.md and the version that is there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::http::event_data_schema;
use crate::tests::schema;
use crate::tests::shop::Shop;
use crate::timer::prune::Pruner;
use crate::{
    Error, EventType, MerchantId, NewCouponRule, NewRefund, OnFullRefund, Order, OrderState,
};
use gateway::{Money, Paid};

/// The shop's events, each checked against its schema.
async fn events(shop: &Shop) -> Vec<Value> {
    let mut all = Vec::new();
    let mut after = 0;
    loop {
        let page = shop.platform().events(&shop.merchant, after, 3).await;
        let page = page.unwrap();
        if page.events.is_empty() {
            return all;
        }
        after = page.next;
        for event in page.events {
            let event: Value = serde_json::from_str(&event.body).unwrap();
            let kind = kind_of(&event);
            let wrong = schema::wrong(&event_data_schema(kind), &event["data"]);
            assert_eq!(wrong, None, "{event}");
            assert_eq!(event["source"], "/merchants/default");
            all.push(event);
        }
    }
}

fn kind_of(event: &Value) -> EventType {
    let kinds = EventType::ALL.into_iter();
    let mut kinds = kinds.filter(|kind| event["type"] == kind.as_str());
    kinds.next().unwrap()
}

/// The types of the order's events, in their sequence.
async fn types_of(shop: &Shop, order: &Order) -> Vec<String> {
    let subject = order.id.to_string();
    let events = events(shop).await;
    let events = events.iter().filter(|event| event["subject"] == subject);
    events
        .map(|event| event["type"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn an_order_reports_each_of_its_transitions() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 2).await;
    let later_ms = order.deadline_at_ms + 5_000;
    let extended = shop
        .platform()
        .extend_order(&shop.merchant, order.id, later_ms);
    extended.await.unwrap();
    shop.attempt(&order).await;
    shop.run_for(16_000).await;
    assert_eq!(shop.read(order.id).await.state, OrderState::Closed);
    let expected = [
        "order.created",
        "order.extended",
        "payment.started",
        "order.closing",
        "payment.closed",
        "order.closed",
    ];
    assert_eq!(types_of(&shop, &order).await, expected);
    for event in events(&shop).await {
        if event["type"].as_str().unwrap().starts_with("order.") {
            let line = &event["data"]["lines"][0];
            assert_eq!(line["quantity"], 2, "{event}");
            assert_eq!(event["data"]["payable_minor"], 1_000);
        }
    }
}

#[tokio::test]
async fn a_paid_order_is_reported_with_the_version_that_it_has() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    shop.attempt(&order).await;
    shop.pay(&order).await;
    let now = shop.read(order.id).await;
    let events = events(&shop).await;
    let paid = events.iter().find(|event| event["type"] == "order.paid");
    let data = &paid.unwrap()["data"];
    assert_eq!(data["version"], now.version);
    assert_eq!(data["state"], "paid");
    assert_eq!(data["lines"][0]["name"], "Tea");
    assert_eq!(data["payment_id"], now.payment_id.unwrap().to_string());
    let accepted = events
        .iter()
        .find(|event| event["type"] == "payment.accepted");
    assert_eq!(accepted.unwrap()["data"]["amount_minor"], 500);
}

/// A rule that gives a coupon to the buyer of every paid order.
async fn add_rule(shop: &Shop) {
    let rule = NewCouponRule {
        name: "thanks".to_owned(),
        amount_off_minor: 100,
        currency: "EUR".parse().unwrap(),
        min_total_minor: 0,
        valid_days: 1,
        on_full_refund: OnFullRefund::Keep,
    };
    let platform = shop.platform();
    let made = platform.create_coupon_rule(&shop.merchant, rule, None);
    made.await.unwrap();
}

/// A report of 7 minor units of a currency.
fn paid_in(paid: &Paid, transaction: &str, currency: &str) -> Paid {
    Paid {
        transaction_id: transaction.to_owned(),
        money: Money {
            amount: 7,
            currency: currency.to_owned(),
        },
        ..paid.clone()
    }
}

#[tokio::test]
async fn money_and_refunds_report_each_of_their_transitions() {
    let shop = Shop::open().await;
    let tea = shop.product(100).await;
    add_rule(&shop).await;
    let platform = shop.platform();
    let order = shop.order("A-1", &tea, 1).await;
    // Another attempt is paid too: a duplicate, which is refunded.
    let second = shop.attempt(&order).await.id.to_string();
    let first = shop.pay(&order).await;
    let paid = shop.gateway.pay(&second, None, true).unwrap();
    shop.report(&second, &paid).await;
    for (transaction, currency) in [("t-1", "EUR"), ("t-2", "USD"), ("t-3", "???")] {
        let paid = paid_in(&paid, transaction, currency);
        shop.report(&first.id.to_string(), &paid).await;
    }
    shop.run_for(60_000).await;
    let refund = NewRefund {
        order_id: order.id,
        refund_no: "R-1".to_owned(),
        amount_minor: None,
        restock: false,
        restock_lines: Vec::new(),
    };
    let refunded = platform.create_refund(&shop.merchant, refund, None);
    refunded.await.unwrap();
    shop.run_for(600_000).await;
    let late = shop.order("A-2", &tea, 1).await;
    let attempt = shop.attempt(&late).await.id.to_string();
    shop.run_for(20_000).await;
    let paid = shop.gateway.pay(&attempt, None, true).unwrap();
    shop.report(&attempt, &paid).await;
    shop.run_for(20_000).await;

    let seen: BTreeSet<String> = events(&shop)
        .await
        .iter()
        .map(|event| event["type"].as_str().unwrap().to_owned())
        .collect();
    for kind in [
        "payment.accepted",
        "payment.duplicate",
        "payment.wrong_amount",
        "payment.wrong_currency",
        "payment.unmatched",
        "payment.late",
        "refund.requested",
        "refund.submitted",
        "refund.succeeded",
        "coupon.issued",
        "coupon.revoked",
    ] {
        assert!(seen.contains(kind), "{kind} is not among {seen:?}");
    }
}

#[tokio::test]
async fn events_of_a_thing_have_rising_versions() {
    let shop = Shop::open().await;
    let tea = shop.product(100).await;
    for n in 0..5 {
        let order = shop.order(&format!("A-{n}"), &tea, 1).await;
        shop.attempt(&order).await;
        if n % 2 == 0 {
            shop.pay(&order).await;
        }
    }
    shop.run_for(60_000).await;
    let mut versions: BTreeMap<String, i64> = BTreeMap::new();
    for event in events(&shop).await {
        let data = &event["data"];
        let (Some(id), Some(version)) = (data["id"].as_str(), data["version"].as_i64()) else {
            continue;
        };
        let before = versions.insert(id.to_owned(), version);
        assert!(before.is_none_or(|before| before <= version), "{event}");
    }
    assert!(versions.len() > 10);
}

#[tokio::test]
async fn a_cursor_whose_later_events_were_deleted_is_refused() {
    let shop = Shop::open().await;
    let tea = shop.product(100).await;
    shop.order("A-1", &tea, 1).await;
    shop.order("A-2", &tea, 1).await;
    shop.settle().await;
    let platform = shop.platform();
    let first = platform.events(&shop.merchant, 0, 1).await.unwrap().next;
    let last = platform.latest_event(&shop.merchant).await.unwrap();
    let keep_ms = u64::try_from(shop.config.keep_events_ms).unwrap();
    shop.run_for(keep_ms + 120_000).await;
    // Those of the closing are younger than those of the creation.
    assert!(Pruner::default().prune(platform).await.unwrap() >= 2);
    let gone = platform.events(&shop.merchant, first, 10).await;
    assert!(matches!(gone, Err(Error::EventsGone)), "{gone:?}");
    // What comes after the last one deleted is all there.
    let gone_seq = shop.number("select seq from event_lost").await;
    assert!(gone_seq >= last);
    platform.events(&shop.merchant, gone_seq, 10).await.unwrap();
    // A merchant without events has missed none.
    let other: MerchantId = "other".parse().unwrap();
    platform.events(&other, first, 10).await.unwrap();
    // A cursor of a database that was replaced by an older one.
    let beyond = platform.events(&shop.merchant, 1_000_000, 10).await;
    assert!(matches!(beyond, Err(Error::EventsGone)));
    // From the beginning means from the oldest that is kept.
    platform.events(&shop.merchant, 0, 10).await.unwrap();
}
