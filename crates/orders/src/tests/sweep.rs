//! The sweep: it ends what is overdue without the broker, and counts only what was lost.

use crate::messaging::relay;
use crate::store::sql::query;
use crate::tests::broker::BrokerFaults;
use crate::tests::flows::nothing_waits;
use crate::tests::shop::Shop;
use crate::timer::sweep::Sweeper;
use crate::{CloseReason, Error, Idempotency, Order, OrderState, Swept, TimerKind};

/// Longer than the grace of the sweep, in ms.
const LATE_MS: u64 = 121_000;

/// A shop whose broker refuses every message.
async fn cut_off_shop() -> Shop {
    let shop = Shop::open().await;
    shop.broker.set_faults(BrokerFaults {
        refuses: 1.0,
        ..BrokerFaults::default()
    });
    shop
}

/// Tries to publish; nothing gets through.
async fn publish_in_vain(shop: &Shop) {
    let pumped = relay::pump(shop.platform(), &shop.broker).await.unwrap();
    assert_eq!(pumped.failed, pumped.rows);
    assert!(pumped.rows > 0);
}

async fn closing_order(shop: &Shop) -> Order {
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    shop.attempt(&order).await;
    let cancelled = shop
        .platform()
        .cancel_order(&shop.merchant, order.id, CloseReason::Buyer);
    cancelled.await.unwrap()
}

#[tokio::test]
async fn an_order_closes_while_the_broker_refuses_everything() {
    let shop = cut_off_shop().await;
    let tea = shop.product(10).await;
    let plain = shop.order("A-1", &tea, 1).await;
    let with_attempt = shop.order("A-2", &tea, 1).await;
    shop.attempt(&with_attempt).await;
    publish_in_vain(&shop).await;
    shop.clock.advance(10_000 + LATE_MS);
    let swept = shop.platform().sweep().await.unwrap();
    for order in [plain, with_attempt] {
        assert_eq!(shop.read(order.id).await.state, OrderState::Closed);
    }
    assert_eq!(shop.available(&tea).await, 10);
    assert_eq!(swept, Swept::default(), "they are late, but not lost");
    shop.broker.set_faults(BrokerFaults::default());
    shop.settle().await;
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn a_closing_order_is_asked_about_without_the_broker() {
    let shop = cut_off_shop().await;
    let order = closing_order(&shop).await;
    publish_in_vain(&shop).await;
    shop.clock.advance(LATE_MS);
    assert_eq!(shop.platform().sweep().await.unwrap(), Swept::default());
    assert_eq!(shop.read(order.id).await.state, OrderState::Closed);
}

#[tokio::test]
async fn a_backlog_of_questions_is_left_to_its_consumer() {
    let shop = Shop::open().await;
    let order = closing_order(&shop).await;
    shop.pump().await;
    // As at a start: the consumers have not seen yet how much there is.
    let drained = shop.platform().drained();
    drained.reset();
    shop.clock.advance(LATE_MS);
    assert_eq!(shop.platform().sweep().await.unwrap(), Swept::default());
    assert_eq!(shop.gateway.asked(), 0);
    assert_eq!(shop.read(order.id).await.state, OrderState::Closing);
    // The broker has nothing else, and the message is not there.
    drained.set(TimerKind::OrderClosing, shop.now_ms());
    let swept = shop.platform().sweep().await.unwrap();
    assert_eq!((swept.missing, swept.timers), (0, 1));
    assert_eq!(shop.read(order.id).await.state, OrderState::Closed);
}

#[tokio::test]
async fn a_backlog_of_deadlines_is_worked_off_and_not_counted() {
    let shop = Shop::open().await;
    let tea = shop.product(2_000).await;
    for n in 0..600 {
        shop.order(&format!("A-{n}"), &tea, 1).await;
    }
    shop.pump().await;
    shop.platform().drained().reset();
    shop.clock.advance(10_000 + LATE_MS);
    assert_eq!(shop.platform().sweep().await.unwrap(), Swept::default());
    assert_eq!(shop.available(&tea).await, 2_000);
    shop.settle().await;
    nothing_waits(&shop).await;
}

#[tokio::test]
async fn missing_timers_are_looked_for_in_bounded_pieces() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    for n in 0..5 {
        shop.order(&format!("A-{n}"), &tea, 1).await;
    }
    shop.pump().await;
    let forgotten = shop.platform().writer().run((), |tx, ()| {
        Box::pin(async move {
            query("delete from timer").execute(tx.conn()).await?;
            Ok(())
        })
    });
    forgotten.await.unwrap();
    shop.clock.advance(10_000 + LATE_MS);
    let mut sweeper = Sweeper::with_open_max(shop.platform().clone(), 2);
    let mut seen = Vec::new();
    for _ in 0..4 {
        let swept = sweeper.sweep().await.unwrap();
        seen.push((swept.missing, swept.timers));
    }
    assert_eq!(seen, [(2, 2), (2, 2), (1, 1), (0, 0)]);
    assert_eq!(shop.available(&tea).await, 10);
}

#[tokio::test]
async fn an_order_that_cannot_be_closed_stops_no_other() {
    let shop = cut_off_shop().await;
    let tea = shop.product(10).await;
    let cake = shop.product(1).await;
    let bad = shop.order("A-1", &cake, 1).await;
    for n in 2..6 {
        shop.order(&format!("A-{n}"), &tea, 1).await;
    }
    // Its release would bring more into stock than was ever put in, which a CHECK refuses.
    let spoiled = shop.platform().writer().run(bad.id, |tx, id| {
        Box::pin(async move {
            query("update hold set quantity = 2 where order_id = ?")
                .bind(*id)
                .execute(tx.conn())
                .await?;
            Ok(())
        })
    });
    spoiled.await.unwrap();
    publish_in_vain(&shop).await;
    shop.clock.advance(10_000 + LATE_MS);
    assert_eq!(shop.platform().sweep().await.unwrap(), Swept::default());
    assert_eq!(shop.available(&tea).await, 10);
    assert_eq!(shop.read(bad.id).await.state, OrderState::Pending);
}

#[tokio::test]
async fn a_pause_holds_what_the_sweep_finds() {
    let shop = cut_off_shop().await;
    let tea = shop.product(10).await;
    let order = shop.order("A-1", &tea, 1).await;
    let scope = crate::PauseScope::Everything;
    shop.platform().pause(scope, "an outage").await.unwrap();
    publish_in_vain(&shop).await;
    shop.clock.advance(10_000 + LATE_MS);
    for _ in 0..2 {
        assert_eq!(shop.platform().sweep().await.unwrap(), Swept::default());
        assert_eq!(shop.read(order.id).await.state, OrderState::Pending);
    }
    let parked = "select count(*) from timer where parked = 1";
    assert_eq!(shop.number(parked).await, 1);
}

#[tokio::test]
async fn no_order_is_taken_while_timers_cannot_be_published() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let again = |number: &str| {
        let new = Shop::new_order(number, tea.id, 1);
        let key = Idempotency::new(&format!("key-{number}"), "POST /v1/orders", b"{}").unwrap();
        shop.platform().create_order(&shop.merchant, new, Some(key))
    };
    shop.broker.set_faults(BrokerFaults {
        refuses: 1.0,
        ..BrokerFaults::default()
    });
    let first = again("A-1").await.unwrap().value;
    publish_in_vain(&shop).await;
    assert!(shop.platform().check_publishing().unwrap().is_some());
    shop.clock.advance(30_000);
    again("A-2").await.unwrap();
    shop.clock.advance(1);
    let refused = again("A-3").await;
    assert!(matches!(
        refused,
        Err(Error::NotPublishing { waits_ms: 30_001 })
    ));
    assert!(shop.platform().check_publishing().is_err());
    let repeated = again("A-1").await.unwrap();
    assert!(repeated.replayed && repeated.value.id == first.id);
    assert_eq!(shop.available(&tea).await, 8);
    shop.broker.set_faults(BrokerFaults::default());
    shop.pump().await;
    assert_eq!(shop.platform().check_publishing().unwrap(), None);
    again("A-3").await.unwrap();
}
