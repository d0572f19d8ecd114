//! The platform with all its tasks running.

use std::time::Duration;

use crate::messaging::{Messaging, Subscription};
use crate::model::outbox::Topic;
use crate::tests::broker::BrokerFaults;
use crate::tests::shop::Shop;
use crate::{OrderState, Swept};

/// Reads events until `wanted` of the type have come.
async fn events(subscription: &dyn Subscription, kind: &str, wanted: usize) {
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < wanted {
        // An hour of a clock that does not move: only a message ends the wait.
        let batch = subscription
            .receive(64, Duration::from_hours(1))
            .await
            .unwrap();
        for incoming in batch {
            if incoming.tag.as_deref() == Some(kind) {
                seen.insert(incoming.message_id.clone());
            }
            subscription.ack(&[incoming.handle]).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_close_and_are_paid_by_the_tasks_alone() {
    let mut shop = Shop::open().await;
    shop.start_tasks().await;
    shop.broker.set_faults(BrokerFaults {
        refuses: 0.0,
        loses_answer: 0.0,
        repeats: 0.1,
        early_ms: 0,
    });
    let topic = Topic::Events.name("duetime");
    let subscription = shop.broker.subscribe(&topic, "test").await.unwrap();
    let tea = shop.product(1_000).await;
    let mut orders = Vec::new();
    for n in 0..100 {
        orders.push(shop.order(&format!("A-{n}"), &tea, 1).await);
    }
    for order in &orders[..30] {
        shop.pay(order).await;
    }
    for order in &orders[30..40] {
        shop.attempt(order).await;
    }
    shop.clock.advance(10_000);
    events(subscription.as_ref(), "order.closed", 70).await;
    for (n, order) in orders.iter().enumerate() {
        let state = if n < 30 {
            OrderState::Paid
        } else {
            OrderState::Closed
        };
        assert_eq!(shop.read(order.id).await.state, state);
    }
    assert_eq!(shop.available(&tea).await, 970);
    assert_eq!(shop.platform().sweep().await.unwrap(), Swept::default());

    // Stopping publishes what is left.
    let order = shop.order("last", &tea, 1).await;
    shop.stop().await;
    let deadlines = Topic::Timers(crate::TimerKind::OrderDeadline).name("duetime");
    let last = shop.broker.subscribe(&deadlines, "late").await.unwrap();
    shop.clock.advance(20_000);
    let mut found = false;
    while !found {
        let batch = last.receive(512, Duration::from_hours(1)).await.unwrap();
        let id = order.id.to_string();
        found = batch
            .iter()
            .any(|incoming| String::from_utf8_lossy(&incoming.body).contains(&id));
    }
}
