//! Money that no payment can hold: it is kept, stops nothing, and is never paid back twice.

use crate::tests::gateway::TestGateway;
use crate::tests::shop::Shop;
use crate::{
    AttemptState, Error, MoneyRecord, Order, OrderState, PaymentKind, UnmatchedKind,
    UnmatchedPayment, UnmatchedState,
};
use gateway::{Money, Paid};

fn money(amount: i64, currency: &str) -> Money {
    let currency = currency.to_owned();
    Money { amount, currency }
}

async fn unmatched(shop: &Shop) -> Vec<UnmatchedPayment> {
    let platform = shop.platform();
    platform.unmatched_payments(false, None, 10).await.unwrap()
}

async fn attempt_states(shop: &Shop, order: &Order) -> Vec<AttemptState> {
    let attempts = shop.platform().attempts(&shop.merchant, order.id).await;
    let attempts = attempts.unwrap();
    attempts.iter().map(|attempt| attempt.state).collect()
}

/// An order of 1,000 with an attempt, and the money that came for it in a currency of small letters.
async fn misread(shop: &Shop) -> (Order, String, Paid) {
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 2).await;
    let attempt = shop.attempt(&order).await.id.to_string();
    let paid = shop.gateway.pay(&attempt, Some(money(1_000, "eur")), false);
    (order, attempt, paid.unwrap())
}

#[tokio::test]
async fn money_in_an_unknown_currency_is_kept_and_the_order_closes() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 2).await;
    let attempt = shop.attempt(&order).await.id.to_string();
    // Only a question finds it.
    shop.gateway.pay(&attempt, Some(money(1_000, "eur")), false);
    shop.run_for(30_000).await;
    assert_eq!(shop.read(order.id).await.state, OrderState::Closed);
    assert_eq!(shop.available(&tea).await, 10);
    assert_eq!(
        attempt_states(&shop, &order).await,
        [AttemptState::NeedsOperator]
    );
    let [kept] = unmatched(&shop).await.try_into().unwrap();
    assert_eq!(
        (kept.kind, kept.state),
        (UnmatchedKind::Unreadable, UnmatchedState::Open)
    );
    assert_eq!(kept.amount.as_deref(), Some("1000"));
    assert_eq!(kept.currency.as_deref(), Some("eur"));
    assert_eq!(kept.attempt_id.map(|id| id.to_string()), Some(attempt));
    assert!(kept.raw.contains("eur"), "{}", kept.raw);
    let events = shop
        .number(
            "select count(*) from outbox where tag = 'payment.unmatched' and body not like '%raw%'",
        )
        .await;
    assert_eq!(events, 1);
}

#[tokio::test]
async fn one_attempts_money_that_cannot_be_read_stops_no_other() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 2).await;
    let misread = shop.attempt(&order).await.id.to_string();
    shop.attempt(&order).await;
    shop.gateway.pay(&misread, Some(money(0, "EUR")), false);
    shop.run_for(12_000).await;
    assert_eq!(
        attempt_states(&shop, &order).await,
        [AttemptState::NeedsOperator, AttemptState::Closed]
    );
    assert_eq!(shop.read(order.id).await.state, OrderState::Closed);
}

#[tokio::test]
async fn unreadable_money_that_is_reported_again_readably_is_taken() {
    let shop = Shop::open().await;
    let (order, attempt, mut paid) = misread(&shop).await;
    shop.report(&attempt, &paid).await;
    shop.report(&attempt, &paid).await;
    let [kept] = unmatched(&shop).await.try_into().unwrap();
    assert_eq!((kept.reports, kept.state), (2, UnmatchedState::Open));
    assert_eq!(shop.read(order.id).await.state, OrderState::Pending);
    paid.money.currency = "EUR".to_owned();
    shop.report(&attempt, &paid).await;
    assert_eq!(shop.read(order.id).await.state, OrderState::Paid);
    let [kept] = unmatched(&shop).await.try_into().unwrap();
    assert_eq!(kept.state, UnmatchedState::Superseded);
    // The first form of the report comes once more.
    paid.money.currency = "eur".to_owned();
    shop.report(&attempt, &paid).await;
    let [again] = unmatched(&shop).await.try_into().unwrap();
    assert_eq!(again, kept);
    assert_eq!(
        attempt_states(&shop, &order).await,
        [AttemptState::Succeeded]
    );
}

#[tokio::test]
async fn readable_money_after_the_end_is_refunded() {
    let shop = Shop::open().await;
    let (order, attempt, mut paid) = misread(&shop).await;
    shop.report(&attempt, &paid).await;
    shop.run_for(30_000).await;
    assert_eq!(shop.read(order.id).await.state, OrderState::Closed);
    paid.money.currency = "EUR".to_owned();
    shop.report(&attempt, &paid).await;
    shop.run_for(30_000).await;
    let payments = shop.platform().payments(&shop.merchant, order.id).await;
    assert_eq!(payments.unwrap()[0].kind, PaymentKind::Late);
    assert_eq!(shop.gateway.refunded(), 1_000);
}

#[tokio::test]
async fn money_that_a_person_has_settled_is_not_paid_back_again() {
    let shop = Shop::open().await;
    let (order, attempt, mut paid) = misread(&shop).await;
    shop.report(&attempt, &paid).await;
    let [kept] = unmatched(&shop).await.try_into().unwrap();
    let platform = shop.platform();
    for _ in 0..2 {
        let settled = platform.settle_unmatched_payment(kept.id, "transfer 7", None);
        assert_eq!(settled.await.unwrap().state, UnmatchedState::Settled);
    }
    let otherwise = platform.settle_unmatched_payment(kept.id, "transfer 8", None);
    assert!(matches!(otherwise.await, Err(Error::Settled { .. })));
    paid.money.currency = "EUR".to_owned();
    shop.report(&attempt, &paid).await;
    shop.run_for(60_000).await;
    let payments = platform.payments(&shop.merchant, order.id).await;
    assert!(payments.unwrap().is_empty());
    assert_eq!(shop.gateway.refunded(), 0);
    assert_eq!(shop.read(order.id).await.state, OrderState::Closed);
    let [kept] = unmatched(&shop).await.try_into().unwrap();
    assert_eq!((kept.reports, kept.state), (2, UnmatchedState::Settled));
    let open = platform.unmatched_payments(true, None, 10).await;
    assert!(open.unwrap().is_empty());
}

/// What a person says: which attempt, and the money in full.
fn said(attempt: Option<&str>) -> MoneyRecord {
    MoneyRecord {
        attempt_id: attempt.map(|id| id.parse().unwrap()),
        amount_minor: Some(1_000),
        currency: Some("EUR".parse().unwrap()),
        ..MoneyRecord::default()
    }
}

#[tokio::test]
async fn unreadable_money_that_a_person_records_pays_the_order() {
    let shop = Shop::open().await;
    let (order, attempt, paid) = misread(&shop).await;
    shop.report(&attempt, &paid).await;
    let [kept] = unmatched(&shop).await.try_into().unwrap();
    let platform = shop.platform();
    // Its currency is not known without the person.
    let unsaid = platform.record_unmatched_payment(kept.id, MoneyRecord::default());
    assert!(matches!(
        unsaid.await,
        Err(Error::Invalid {
            field: "/currency",
            ..
        })
    ));
    // The gateway would report it as a second payment.
    let renumbered = MoneyRecord {
        transaction_id: Some("txn-other".to_owned()),
        ..said(None)
    };
    let renumbered = platform.record_unmatched_payment(kept.id, renumbered);
    assert!(matches!(
        renumbered.await,
        Err(Error::Invalid {
            field: "/transaction_id",
            ..
        })
    ));
    for _ in 0..2 {
        let recorded = platform
            .record_unmatched_payment(kept.id, said(None))
            .await
            .unwrap();
        assert_eq!(recorded.state, UnmatchedState::Superseded);
        assert!(recorded.reference.unwrap().starts_with("pay_"));
    }
    assert_eq!(shop.read(order.id).await.state, OrderState::Paid);
    // The gateway repeats itself, in both forms.
    let mut readable = paid.clone();
    readable.money.currency = "EUR".to_owned();
    shop.report(&attempt, &readable).await;
    shop.report(&attempt, &paid).await;
    shop.run_for(60_000).await;
    let payments = platform.payments(&shop.merchant, order.id).await.unwrap();
    assert_eq!(
        (payments.len(), payments[0].kind),
        (1, PaymentKind::Accepted)
    );
    assert_eq!(shop.gateway.refunded(), 0);
    let settled = platform.settle_unmatched_payment(kept.id, "transfer 7", None);
    assert!(matches!(settled.await, Err(Error::Settled { .. })));
}

#[tokio::test]
async fn money_that_names_no_attempt_is_recorded_for_the_one_that_a_person_names() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 2).await;
    let attempt = shop.attempt(&order).await.id.to_string();
    shop.call_back(b"att txn many EUR 1").await;
    let [kept] = unmatched(&shop).await.try_into().unwrap();
    let platform = shop.platform();
    let nameless = platform.record_unmatched_payment(kept.id, said(None));
    assert!(matches!(
        nameless.await,
        Err(Error::Invalid {
            field: "/attempt_id",
            ..
        })
    ));
    let stranger = crate::AttemptId::new(shop.now_ms()).to_string();
    let unknown = platform.record_unmatched_payment(kept.id, said(Some(&stranger)));
    assert!(matches!(
        unknown.await,
        Err(Error::Invalid {
            field: "/attempt_id",
            ..
        })
    ));
    // The digest of the report is no number of a transaction.
    let numberless = platform.record_unmatched_payment(kept.id, said(Some(&attempt)));
    assert!(matches!(
        numberless.await,
        Err(Error::Invalid {
            field: "/transaction_id",
            ..
        })
    ));
    let money = MoneyRecord {
        transaction_id: Some("txn-1".to_owned()),
        ..said(Some(&attempt))
    };
    platform
        .record_unmatched_payment(kept.id, money)
        .await
        .unwrap();
    assert_eq!(shop.read(order.id).await.state, OrderState::Paid);
    // The gateway's own report of that transaction is the same money.
    let paid = Paid {
        transaction_id: "txn-1".to_owned(),
        money: money_of_tea(),
        paid_at_ms: 1,
    };
    shop.report(&attempt, &paid).await;
    let payments = platform.payments(&shop.merchant, order.id).await.unwrap();
    assert_eq!(payments.len(), 1);
    assert!(
        platform
            .unmatched_payments(true, None, 10)
            .await
            .unwrap()
            .is_empty()
    );
}

fn money_of_tea() -> Money {
    money(1_000, "EUR")
}

#[tokio::test]
async fn money_that_is_recorded_too_late_for_its_order_is_refunded() {
    let shop = Shop::open().await;
    let (order, attempt, paid) = misread(&shop).await;
    shop.report(&attempt, &paid).await;
    shop.run_for(30_000).await;
    assert_eq!(shop.read(order.id).await.state, OrderState::Closed);
    let [kept] = unmatched(&shop).await.try_into().unwrap();
    let platform = shop.platform();
    platform
        .record_unmatched_payment(kept.id, said(None))
        .await
        .unwrap();
    shop.run_for(60_000).await;
    assert_eq!(shop.gateway.refunded(), 1_000);
}

#[tokio::test]
async fn money_that_went_back_can_only_be_settled() {
    let shop = Shop::open().await;
    shop.call_back(b"refund of-another-system succeeded").await;
    let [kept] = unmatched(&shop).await.try_into().unwrap();
    let recorded = shop
        .platform()
        .record_unmatched_payment(kept.id, said(None));
    assert!(matches!(recorded.await, Err(Error::Invalid { .. })));
}

#[tokio::test]
async fn money_for_an_unknown_attempt_is_kept_and_acknowledged() {
    let shop = Shop::open().await;
    let paid = |number: u32| Paid {
        transaction_id: format!("txn-{number}"),
        money: Money {
            amount: 700,
            currency: "EUR".to_owned(),
        },
        paid_at_ms: 1,
    };
    let unknown = crate::AttemptId::new(shop.now_ms()).to_string();
    shop.report(&unknown, &paid(1)).await;
    shop.report(&unknown, &paid(1)).await;
    shop.report("invoice-17", &paid(2)).await;
    let kept = unmatched(&shop).await;
    let seen: Vec<_> = kept
        .iter()
        .map(|one| (one.kind, one.subject.as_deref(), one.reports))
        .collect();
    let kind = UnmatchedKind::UnknownAttempt;
    assert_eq!(
        seen,
        [
            (kind, Some(unknown.as_str()), 2),
            (kind, Some("invoice-17"), 1)
        ]
    );
}

#[tokio::test]
async fn a_verified_callback_that_has_no_meaning_here_is_acknowledged_and_kept() {
    let shop = Shop::open().await;
    shop.call_back(b"att txn many EUR 1").await;
    shop.call_back(b"refund ref_01h455vb4pex5vsknk084sn02q succeeded")
        .await;
    shop.call_back(b"refund of-another-system succeeded").await;
    let kept = unmatched(&shop).await;
    let seen: Vec<_> = kept
        .iter()
        .map(|one| (one.kind, one.raw.as_str()))
        .collect();
    let refund = UnmatchedKind::UnknownRefund;
    assert_eq!(
        seen,
        [
            (UnmatchedKind::Unreadable, "att txn many EUR 1"),
            (refund, "refund ref_01h455vb4pex5vsknk084sn02q succeeded"),
            (refund, "refund of-another-system succeeded"),
        ]
    );
}

#[tokio::test]
async fn a_long_report_is_cut_and_a_strange_number_is_digested() {
    let shop = Shop::open().await;
    let (_, attempt, mut paid) = misread(&shop).await;
    paid.transaction_id = "7".repeat(129);
    paid.money.currency = "\u{20ac}".repeat(8_000);
    let body = TestGateway::callback(&attempt, &paid);
    shop.call_back(&body).await;
    let [kept] = unmatched(&shop).await.try_into().unwrap();
    assert!(kept.key.starts_with("sha256:"), "{}", kept.key);
    assert!(kept.raw.len() <= crate::limits::REPORT_BYTES_MAX);
    assert!(kept.currency.unwrap().len() <= 200);
}
