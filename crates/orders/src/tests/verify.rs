//! The invariant checks: silent on a sound database, and none of them silent on one that breaks its rule.

use std::collections::BTreeSet;

use crate::CloseReason;
use crate::store::sql::Connection;
use crate::tests::shop::Shop;

/// Opens the shop's database with nothing to stop a hand from breaking it.
fn vandal(shop: &Shop) -> Connection {
    let database = &shop.platform().config().database;
    Connection::open_unchecked(database).unwrap()
}

async fn broken_rules(shop: &Shop) -> BTreeSet<&'static str> {
    let findings = shop.platform().verify().await.unwrap();
    let broken = findings.into_iter().filter(|finding| finding.broken > 0);
    broken
        .inspect(|finding| assert!(!finding.examples.is_empty(), "{}", finding.rule))
        .map(|finding| finding.rule)
        .collect()
}

/// A payment of the first order with a given kind and amount, its refunds beside it.
fn payment(kind: u8, refunds: &str) -> String {
    format!(
        "insert into payment select x'01', merchant_id, id, x'02', x'03', 'txn', {kind}, 1000, 'EUR', 0, 1, 1 from orders limit 1;
         {refunds}"
    )
}

fn refund(id: u8, auto: &str, state: u8, amount_minor: u32) -> String {
    format!(
        "insert into refund (id, merchant_id, refund_no, order_id, payment_id, auto_payment_id, state, version, cause,
             amount_minor, currency, restock, created_ms, asked_ms)
         select x'{id:02x}', merchant_id, 'r{id}', id, x'01', {auto}, {state}, 1, 2, {amount_minor}, 'EUR', 0, 1, 1
         from orders limit 1;"
    )
}

/// A delivery in a state, without a timer and alone of its subject.
fn delivery(state: u8) -> String {
    format!(
        "insert into webhook_delivery (id, webhook_id, merchant_id, event_id, kind, subject, seq, state, version, tries,
             next_ms, log, created_ms)
         select x'01', x'02', merchant_id, 'evt_1', 'order.paid', 'ord_1', 1, {state}, 1, 0, 1, '[]', 1 from orders limit 1;"
    )
}

#[tokio::test]
async fn every_rule_is_quiet_until_it_is_broken() {
    const COUPON: &str = "insert into coupon select x'0a', merchant_id, x'0b', id, 'b', 1, 'EUR', 1, 1, null, 0, 1, 1 from orders limit 1;";
    let cases = [
        ("an order is never both paid and closed", format!("update orders set state = 4; {}", payment(1, ""))),
        ("no order is closed by timeout before its deadline", "update orders set state = 4, close_reason = 1, closed_ms = 1".into()),
        ("a paid order has its payment, or nothing to pay", "update orders set state = 3".into()),
        ("stock is conserved", "update product set available = available + 1".into()),
        ("a closed order holds no stock", "update orders set state = 4".into()),
        ("an order that waits holds its stock, a paid one has consumed it", "update hold set state = 3".into()),
        ("money that could not be taken is refunded, once", payment(2, "")),
        ("no payment is refunded beyond its amount", payment(2, &(refund(4, "x'01'", 4, 900) + &refund(5, "null", 4, 101)))),
        (
            "an order has at most one coupon of a rule",
            format!("drop table coupon; create table coupon (id, merchant_id, rule_id, source_order_id, a, b, c, d, e, f, g, h, i);
                     {COUPON} insert into coupon select x'0c', merchant_id, x'0b', id, 'b', 1, 'EUR', 1, 1, null, 0, 1, 1 from orders limit 1;"),
        ),
        ("a coupon was earned by a paid order", COUPON.into()),
        ("every order that waits has its timer", "delete from timer".into()),
        ("every attempt and refund under way has its timer", payment(2, &refund(4, "x'01'", 3, 900))),
        ("every webhook delivery that is due has its timer", delivery(1)),
        ("a webhook delivery waits only for one of its subject that is due", delivery(2)),
        (
            "a parked timer has its pause",
            "insert into pause (scope, subject, merchant_id, state, reason, since_ms)
                 values (1, '', null, 3, 'ended', 1), (2, 'another', 'another', 1, 'of another merchant', 1);
             update timer set parked = 1".into(),
        ),
    ];
    let mut covered = BTreeSet::new();
    for (rule, vandalism) in cases {
        let shop = Shop::open().await;
        let tea = shop.product(10).await;
        shop.order("A-1", &tea, 2).await;
        assert_eq!(broken_rules(&shop).await, BTreeSet::new(), "before: {rule}");
        let mut connection = vandal(&shop);
        connection.run_all(&vandalism).unwrap();
        assert!(
            broken_rules(&shop).await.contains(rule),
            "not noticed: {rule}"
        );
        covered.insert(rule);
    }
    let shop = Shop::open().await;
    let all: BTreeSet<_> = shop
        .platform()
        .verify()
        .await
        .unwrap()
        .into_iter()
        .map(|finding| finding.rule)
        .collect();
    assert_eq!(covered, all, "every rule has a case");
}

#[tokio::test]
async fn the_tally_counts_orders_and_stock() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    shop.order("A-1", &tea, 2).await;
    let second = shop.order("A-2", &tea, 3).await;
    shop.platform()
        .cancel_order(&shop.merchant, second.id, CloseReason::Buyer)
        .await
        .unwrap();
    let tally = shop.platform().tally().await.unwrap();
    assert_eq!((tally.pending, tally.cancelled, tally.paid), (1, 1, 0));
    assert_eq!(
        (tally.stocked, tally.available, tally.held, tally.sold),
        (10, 8, 2, 0)
    );
    assert!(shop.platform().close_lags_ms().await.unwrap().is_empty());
}
