//! The outbox: one sick topic stops no other, and nothing in it is lost.

use broker::clock::Clock as _;

use crate::messaging::relay;
use crate::model::outbox::Topic;
use crate::tests::shop::{START_MS, Shop};
use crate::timer::prune::Pruner;
use crate::{Error, OrderState, OutboxPlace, OutboxState, TimerKind};

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

#[tokio::test]
async fn a_deleted_topic_is_made_again_and_its_timers_come() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let before = shop.order("A-1", &tea, 1).await;
    shop.pump().await;
    let deadlines = Topic::Timers(TimerKind::OrderDeadline).name("duetime");
    for topic in [&deadlines, &events()] {
        shop.broker.delete_topic(topic);
    }
    // Its message cannot be published, which shows that the topic is missing.
    let after = shop.order("A-2", &tea, 1).await;
    shop.run_for(10_000).await;
    for order in [before, after] {
        assert_eq!(shop.read(order.id).await.state, OrderState::Closed);
    }
    assert_eq!(shop.platform().unpublished().await.unwrap(), 0);
    let parked = shop.number("select count(*) from outbox where unsent = 2");
    assert_eq!(parked.await, 0, "what is missing is not refused for good");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_publishes_the_timers_of_a_lost_topic_again() {
    let mut shop = Shop::open().await;
    let tea = shop.product(10).await;
    shop.order("A-1", &tea, 1).await;
    shop.pump().await;
    shop.broker
        .delete_topic(&Topic::Timers(TimerKind::OrderDeadline).name("duetime"));
    shop.start_tasks().await;
    while shop.available(&tea).await < 10 {
        shop.clock.advance(100);
        tokio::task::yield_now().await;
    }
    assert!(shop.clock.now_ms() < START_MS + 60_000, "before the sweep");
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_join_again_when_their_topic_was_deleted() {
    let mut shop = Shop::open().await;
    shop.start_tasks().await;
    let tea = shop.product(10).await;
    shop.order("A-1", &tea, 1).await;
    while shop.platform().unpublished().await.unwrap() > 0 {
        tokio::task::yield_now().await;
    }
    shop.broker
        .delete_topic(&Topic::Timers(TimerKind::OrderDeadline).name("duetime"));
    // No message is written for the topic: its consumers alone find it missing.
    while shop.available(&tea).await < 10 {
        shop.clock.advance(100);
        tokio::task::yield_now().await;
    }
    assert!(shop.clock.now_ms() < START_MS + 60_000, "before the sweep");
    shop.stop().await;
}

#[tokio::test]
async fn a_parked_message_is_listed_unparked_and_published() {
    let shop = Shop::open().await;
    let tea = shop.product(1_000).await;
    shop.broker.set_rejects(Some(&events()));
    for n in 0..3 {
        shop.order(&format!("A-{n}"), &tea, 1).await;
    }
    shop.pump().await;
    let platform = shop.platform();
    let parked = platform
        .outbox(OutboxState::Parked, None, None, 50)
        .await
        .unwrap();
    assert_eq!(parked.len(), 3);
    assert!(parked.iter().all(|message| message.tag == "order.created"));
    let reason = parked[0].refusal.as_deref();
    assert_eq!(reason, Some("it is too large"));
    let after = OutboxPlace::of(&parked[1]);
    let page = platform.outbox(OutboxState::Parked, Some(Topic::Events), Some(after), 50);
    assert_eq!(page.await.unwrap(), parked[2..]);
    let deadlines = Topic::Timers(TimerKind::OrderDeadline);
    let page = platform.outbox(OutboxState::Parked, Some(deadlines), None, 50);
    assert_eq!(page.await.unwrap(), []);

    // Refused again, it is parked again.
    let first = parked[0].seq;
    let unparked = platform.unpark(first).await.unwrap();
    assert_eq!(
        (unparked.state, unparked.refusal),
        (OutboxState::Waiting, None)
    );
    assert_eq!(
        platform.unpark(first).await.unwrap().state,
        OutboxState::Waiting
    );
    shop.pump().await;
    let again = platform
        .outbox(OutboxState::Parked, None, None, 50)
        .await
        .unwrap();
    assert_eq!(again.len(), 3);

    shop.broker.set_rejects(None);
    assert_eq!(platform.unpark_all(Some(deadlines)).await.unwrap(), 0);
    assert_eq!(platform.unpark_all(None).await.unwrap(), 3);
    shop.pump().await;
    assert_eq!(shop.broker.take(&events(), "test", 512).len(), 3);
    let gone = platform.unpark(first).await;
    assert!(
        matches!(gone, Err(Error::NotFound { .. })),
        "it is published"
    );
    let trail = shop.number("select count(*) from audit where action = 'unpark'");
    assert_eq!(trail.await, 4);
}

#[tokio::test]
async fn a_timer_that_is_refused_again_leaves_one_parked_message() {
    let shop = Shop::open().await;
    let tea = shop.product(10).await;
    let deadlines = Topic::Timers(TimerKind::OrderDeadline).name("duetime");
    shop.broker.set_rejects(Some(&deadlines));
    shop.order("A-1", &tea, 1).await;
    shop.pump().await;
    shop.platform().rebuild_timers().await.unwrap();
    shop.pump().await;
    let parked = shop.platform().outbox(OutboxState::Parked, None, None, 50);
    let parked = parked.await.unwrap();
    assert_eq!(parked.len(), 1);
    assert!(parked[0].message_id.ends_with("-2"), "{parked:?}");
}

#[tokio::test]
async fn five_hundred_parked_messages_stop_no_pruning() {
    let shop = Shop::open().await;
    let tea = shop.product(2_000).await;
    shop.broker.set_rejects(Some(&events()));
    for n in 0..600 {
        shop.order(&format!("A-{n}"), &tea, 1).await;
    }
    shop.pump().await;
    shop.broker.set_rejects(None);
    shop.order("B-1", &tea, 1).await;
    shop.settle().await;
    let keep_ms = u64::try_from(shop.config.keep_events_ms).unwrap();
    shop.clock.advance(keep_ms + 1);
    let sent = "select count(*) from outbox where unsent = 0";
    assert_eq!(shop.number(sent).await, 1);
    let pruned = Pruner::default().prune(shop.platform()).await.unwrap();
    assert_eq!((pruned, shop.number(sent).await), (1, 0));
    let parked = shop.number("select count(*) from outbox where unsent = 2");
    assert_eq!(parked.await, 600);
}
