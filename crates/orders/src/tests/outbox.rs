//! The outbox: one sick topic stops no other, and nothing in it is lost.

use crate::messaging::relay;
use crate::model::outbox::Topic;
use crate::tests::shop::Shop;
use crate::{OrderState, TimerKind};

/// The topic of events at the broker.
fn events() -> String {
    Topic::Events.name("duetime")
}

#[tokio::test]
async fn a_topic_that_takes_nothing_stops_no_other() {
    let mut shop = Shop::open().await;
    shop.config.relay_batch = 4;
    let shop = shop.reopen().await;
    shop.broker.set_full(&events(), true);
    let tea = shop.product(1_000).await;
    for n in 0..20 {
        let order = shop.order(&format!("A-{n}"), &tea, 1).await;
        let pumped = relay::pump(shop.platform(), &shop.broker).await.unwrap();
        assert!(pumped.failed > 0, "its event is refused");
        assert_eq!(shop.read(order.id).await.state, OrderState::Pending);
    }
    shop.clock.advance(10_000);
    while shop.answer_messages().await > 0 {}
    let closed = shop.number("select count(*) from orders where state = 4");
    assert_eq!(closed.await, 20, "their timers came");
    assert!(shop.platform().check_publishing().unwrap().is_some());
    let waiting = shop.number("select count(*) from outbox where topic = 10 and unsent = 1");
    assert_eq!(
        waiting.await,
        40,
        "one of the creation and one of the closing each"
    );

    shop.broker.set_full(&events(), false);
    shop.settle().await;
    assert_eq!(shop.platform().unpublished().await.unwrap(), 0);
    assert_eq!(shop.platform().check_publishing().unwrap(), None);
}

#[tokio::test]
async fn timers_that_are_not_taken_now_are_passed_by() {
    let mut shop = Shop::open().await;
    shop.config.relay_batch = 4;
    let shop = shop.reopen().await;
    let tea = shop.product(1_000).await;
    let mut sick = Vec::new();
    for n in 0..10 {
        sick.push(shop.order(&format!("A-{n}"), &tea, 1).await.id.to_string());
    }
    let well = shop.order("B-1", &tea, 1).await;
    shop.broker.set_refused_keys(sick);
    for _ in 0..3 {
        relay::pump(shop.platform(), &shop.broker).await.unwrap();
    }
    shop.clock.advance(10_000);
    let topic = Topic::Timers(TimerKind::OrderDeadline);
    let name = topic.name("duetime");
    assert_eq!(shop.broker.take(&name, "test", 512).len(), 1);
    shop.answer_messages().await;
    assert_eq!(shop.read(well.id).await.state, OrderState::Closed);
    shop.broker.set_refused_keys(Vec::new());
    shop.settle().await;
    assert_eq!(shop.platform().unpublished().await.unwrap(), 0);
    let closed = shop.number("select count(*) from orders where state = 4");
    assert_eq!(closed.await, 11);
}
