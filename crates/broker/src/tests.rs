//! Tests of a running broker on a real folder, on a clock that the test moves.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, ManualClock};
use crate::{
    Broker, BrokerConfig, Delivered, Delivery, Error, GroupSpec, Health, NewMessage, Place, Recall,
    ReceiveRequest, Refusal, TagFilter, Timer, TimerContent, TopicKind, TopicSpec,
};

const START_MS: u64 = 1_795_000_000_000;

struct Bench {
    folder: tempfile::TempDir,
    clock: ManualClock,
    broker: Broker,
}

fn open(folder: &std::path::Path, clock: &ManualClock) -> Broker {
    Broker::open_with_clock(folder, BrokerConfig::default(), Arc::new(clock.clone())).unwrap()
}

async fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(START_MS);
    let broker = open(folder.path(), &clock);
    broker
        .create_topic(TopicSpec::new("t", TopicKind::Delay).with_queues(4))
        .await
        .unwrap();
    Bench {
        folder,
        clock,
        broker,
    }
}

fn message(body: &str, delay_ms: u64) -> NewMessage {
    NewMessage {
        body: body.to_owned().into(),
        delivery: Delivery::After { delay_ms },
        ..NewMessage::default()
    }
}

fn request(messages_max: usize) -> ReceiveRequest {
    ReceiveRequest {
        topic: "t".into(),
        group: "g".into(),
        messages_max,
        invisible_ms: 30_000,
        filter: TagFilter::All,
        run: false,
    }
}

fn bodies(delivered: &[Delivered]) -> Vec<String> {
    delivered
        .iter()
        .map(|delivery| String::from_utf8_lossy(&delivery.message.body).into_owned())
        .collect()
}

/// Moves the clock on, a little each time, until the future ends.
async fn moving<T>(broker: &Broker, clock: &ManualClock, future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    loop {
        if let Some(value) = futures_poll(future.as_mut()).await {
            return value;
        }
        // Answered once the writer loop has done everything before it and that is on the disk.
        broker.topics().await.unwrap();
        if let Some(value) = futures_poll(future.as_mut()).await {
            return value;
        }
        clock.advance(10);
    }
}

#[tokio::test]
async fn a_poll_waits_until_a_message_is_due_and_gets_it() {
    let bench = bench().await;
    let sent = bench.broker.send("t", message("a", 60_000)).await.unwrap();
    assert_eq!(sent.due_ms(), START_MS + 60_000);
    let poll = bench.broker.receive(request(10), Duration::from_mins(10));
    let mut poll = std::pin::pin!(poll);
    bench.clock.advance_to(START_MS + 59_999);
    // The broker answers another command after the clock was moved: the poll was looked at and found nothing.
    bench.broker.topics().await.unwrap();
    assert!(
        futures_poll(poll.as_mut()).await.is_none(),
        "delivered early"
    );
    bench.clock.advance_to(START_MS + 60_000);
    let delivered = poll.await.unwrap();
    assert_eq!(bodies(&delivered), ["a"]);
    bench
        .broker
        .ack(vec![delivered[0].handle])
        .await
        .unwrap()
        .remove(0)
        .unwrap();
}

/// Looks at a future once.
async fn futures_poll<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match future.as_mut().poll(context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn a_poll_that_finds_nothing_ends_empty_after_its_wait() {
    let bench = bench().await;
    let poll = bench.broker.receive(request(1), Duration::from_secs(5));
    assert!(
        moving(&bench.broker, &bench.clock, poll)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(bench.clock.now_ms() >= START_MS + 5_000);
}

#[tokio::test]
async fn a_stop_writes_the_leases_of_the_last_deliveries() {
    let mut bench = bench().await;
    for body in ["a", "b", "c"] {
        bench.broker.send("t", message(body, 0)).await.unwrap();
    }
    bench.clock.advance(10);
    // The first of them writes its lease at once, the others wait a while for other changes.
    for _ in 0..3 {
        let polled = bench
            .broker
            .receive(request(1), Duration::from_secs(5))
            .await;
        assert_eq!(polled.unwrap().len(), 1);
    }
    assert_eq!(bench.broker.shutdown().await, Health::Stopped);
    bench.broker = open(bench.folder.path(), &bench.clock);
    let poll = bench.broker.receive(request(10), Duration::from_secs(5));
    let again = moving(&bench.broker, &bench.clock, poll).await.unwrap();
    assert_eq!(bodies(&again), Vec::<String>::new());
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart() {
    let bench = bench().await;
    bench
        .broker
        .create_group(GroupSpec::new("g"))
        .await
        .unwrap();
    for number in 0..100 {
        bench
            .broker
            .send("t", message(&format!("{number:03}"), number))
            .await
            .unwrap();
    }
    let cancelled = bench
        .broker
        .send("t", message("cancelled", 1_000))
        .await
        .unwrap();
    assert_eq!(
        bench.broker.recall(cancelled.handle).await.unwrap(),
        Recall::Cancelled
    );
    assert_eq!(bench.broker.shutdown().await, Health::Stopped);
    assert!(matches!(
        bench.broker.send("t", message("x", 0)).await,
        Err(Error::Stopped)
    ));

    bench.clock.advance(5_000);
    let broker = open(bench.folder.path(), &bench.clock);
    let mut received = Vec::new();
    while received.len() < 100 {
        let poll = broker.receive(request(64), Duration::from_mins(1));
        let delivered = moving(&broker, &bench.clock, poll).await.unwrap();
        received.extend(bodies(&delivered));
        for result in broker
            .ack(delivered.iter().map(|delivery| delivery.handle).collect())
            .await
            .unwrap()
        {
            result.unwrap();
        }
    }
    received.sort();
    assert_eq!(
        received,
        (0..100)
            .map(|number| format!("{number:03}"))
            .collect::<Vec<_>>()
    );
    let stats = broker.group_stats("t", "g").await.unwrap();
    assert_eq!((stats.ready, stats.in_flight, stats.retrying), (0, 0, 0));
}

#[tokio::test]
async fn refusals_name_the_field_and_the_limit() {
    let bench = bench().await;
    let error = bench
        .broker
        .send("nowhere", message("a", 0))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "topic \"nowhere\" does not exist");
    let big = NewMessage {
        body: vec![0; 4 * 1024 * 1024 + 1].into(),
        ..NewMessage::default()
    };
    let error = bench.broker.send("t", big).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "body is 4194305; the most allowed is 4194304"
    );
    let fifo = NewMessage {
        message_group: Some("m".into()),
        ..message("a", 0)
    };
    let error = bench.broker.send("t", fifo).await.unwrap_err();
    assert!(
        matches!(error, Error::Refused(Refusal::WrongKind { .. })),
        "{error}"
    );
}

#[tokio::test]
async fn pollers_of_a_group_share_what_is_due() {
    let bench = bench().await;
    let mut polls = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let broker = bench.broker.clone();
        polls.spawn(async move {
            broker
                .receive(request(1), Duration::from_hours(1))
                .await
                .unwrap()
        });
    }
    for number in 0..4 {
        bench
            .broker
            .send("t", message(&number.to_string(), 100))
            .await
            .unwrap();
    }
    let mut received = moving(&bench.broker, &bench.clock, polls.join_all())
        .await
        .iter()
        .flat_map(|one| bodies(one))
        .collect::<Vec<_>>();
    received.sort();
    assert_eq!(received, ["0", "1", "2", "3"]);
}

#[tokio::test]
async fn a_reset_delivers_again_from_an_instant_on_and_voids_older_handles() {
    let bench = bench().await;
    for number in 0..10 {
        bench
            .broker
            .send("t", message(&number.to_string(), 100 * number))
            .await
            .unwrap();
    }
    bench.clock.advance_to(START_MS + 2_000);
    let mut first = Vec::new();
    while first.len() < 10 {
        // The clock was moved past the floor: what is past it is readable once a new one is durable.
        first.extend(
            bench
                .broker
                .receive(request(10), Duration::ZERO)
                .await
                .unwrap(),
        );
    }
    bench
        .broker
        .retry_later(first[0].handle, None)
        .await
        .unwrap();
    bench
        .broker
        .ack(vec![first[1].handle])
        .await
        .unwrap()
        .remove(0)
        .unwrap();
    bench
        .broker
        .reset_group("t", "g", START_MS + 500)
        .await
        .unwrap();
    let expired = bench
        .broker
        .ack(vec![first[2].handle])
        .await
        .unwrap()
        .remove(0);
    assert!(
        matches!(expired, Err(Error::Refused(Refusal::Expired))),
        "{expired:?}"
    );
    let again = bench
        .broker
        .receive(request(10), Duration::from_secs(5))
        .await
        .unwrap();
    let mut received = bodies(&again);
    received.sort();
    assert_eq!(received, ["5", "6", "7", "8", "9"]);
    let stats = bench.broker.group_stats("t", "g").await.unwrap();
    assert_eq!((stats.ready, stats.in_flight, stats.retrying), (0, 5, 0));
}

#[tokio::test]
async fn a_transaction_s_message_comes_after_its_commit_and_orphans_are_checked() {
    let bench = bench().await;
    bench
        .broker
        .create_topic(TopicSpec::new("x", TopicKind::Transaction))
        .await
        .unwrap();
    let kept = bench
        .broker
        .prepare("x", message("kept", 0), None)
        .await
        .unwrap();
    let orphan = bench
        .broker
        .prepare("x", message("orphan", 0), Some(Duration::from_mins(1)))
        .await
        .unwrap();
    bench
        .broker
        .end_transaction(kept.transaction, true)
        .await
        .unwrap();
    let of_x = ReceiveRequest {
        topic: "x".into(),
        ..request(10)
    };
    let delivered = moving(
        &bench.broker,
        &bench.clock,
        bench.broker.receive(of_x, Duration::from_mins(1)),
    )
    .await
    .unwrap();
    assert_eq!(bodies(&delivered), ["kept"]);
    let checks = moving(
        &bench.broker,
        &bench.clock,
        bench.broker.take_checks(10, Duration::from_mins(2)),
    )
    .await
    .unwrap();
    assert_eq!(
        checks
            .iter()
            .map(|check| check.transaction)
            .collect::<Vec<_>>(),
        [orphan.transaction]
    );
    assert!(bench.clock.now_ms() >= START_MS + 60_000);
}

#[tokio::test]
async fn checks_wake_nothing_until_one_is_added_and_due() {
    let bench = bench().await;
    let broker = &bench.broker;
    let kind = TopicSpec::new("x", TopicKind::Transaction);
    broker.create_topic(kind).await.unwrap();
    let hour_ms = 3_600_000;
    let checks = broker.take_checks(10, Duration::from_millis(hour_ms));
    let mut checks = std::pin::pin!(checks);
    assert!(futures_poll(checks.as_mut()).await.is_none());
    for step in 0..20 {
        // Answered after everything the checks have asked of the writer loop.
        broker.topics().await.unwrap();
        assert!(futures_poll(checks.as_mut()).await.is_none());
        let sleeper_ms = bench.clock.next_sleeper_ms();
        assert_eq!(sleeper_ms, Some(START_MS + hour_ms), "step {step}");
        bench.clock.advance(1_000);
    }
    let wait = Some(Duration::from_mins(1));
    let orphan = broker.prepare("x", message("orphan", 0), wait).await;
    let check_ms = START_MS + 80_000;
    assert!(futures_poll(checks.as_mut()).await.is_none());
    assert_eq!(bench.clock.next_sleeper_ms(), Some(check_ms));
    let later = broker.prepare("x", message("later", 0), Some(Duration::from_mins(2)));
    later.await.unwrap();
    bench.clock.advance_to(check_ms - 1);
    assert!(futures_poll(checks.as_mut()).await.is_none());
    assert_eq!(bench.clock.next_sleeper_ms(), Some(check_ms));
    bench.clock.advance_to(check_ms);
    let due = checks.await.unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!(due[0].transaction, orphan.unwrap().transaction);
}

#[tokio::test]
async fn waiting_for_checks_ends_with_the_broker() {
    let bench = bench().await;
    let broker = bench.broker.clone();
    let checks = tokio::spawn(async move { broker.take_checks(10, Duration::MAX).await });
    bench.broker.topics().await.unwrap();
    bench.broker.shutdown().await;
    let ended = checks.await.unwrap();
    assert!(matches!(ended, Err(Error::Stopped)), "{ended:?}");
}

#[tokio::test]
async fn timers_set_at_the_same_time_are_one_timer() {
    let bench = bench().await;
    let set = |after_ms: u64| {
        let broker = bench.broker.clone();
        let delivery = Delivery::After { delay_ms: after_ms };
        tokio::spawn(async move {
            broker
                .set_timer("t", "k", delivery, TimerContent::default())
                .await
                .unwrap()
        })
    };
    let tasks: Vec<_> = (1..=16).map(|number| set(number * 1_000)).collect();
    let mut created = 0;
    for task in tasks {
        created += u32::from(task.await.unwrap().created);
    }
    assert_eq!(created, 1);
    let browsed = bench.broker.browse("t", Place::START, 100).await.unwrap();
    assert_eq!((browsed.found.len(), browsed.complete), (1, true));
    let verdict = bench.broker.cancel_timer("t", "k").await.unwrap();
    assert_eq!(verdict, Recall::Cancelled);
    assert_eq!(bench.broker.timer("t", "k").await.unwrap(), Timer::Unknown);
}

#[tokio::test]
async fn dead_letters_are_replayed_and_purged_one_by_one() {
    let bench = bench().await;
    for body in ["a", "b"] {
        bench.broker.send("t", message(body, 0)).await.unwrap();
    }
    bench.clock.advance(10);
    let mut delivered = Vec::new();
    while delivered.len() < 2 {
        let poll = bench.broker.receive(request(10), Duration::from_mins(1));
        delivered.extend(poll.await.unwrap());
    }
    for delivery in &delivered {
        bench.broker.dead_letter(delivery.handle).await.unwrap();
    }
    let browsed = bench.broker.browse("%DLQ%g", Place::START, 10).await;
    let dead_letters: Vec<_> = browsed
        .unwrap()
        .found
        .iter()
        .map(|found| found.handle)
        .collect();
    let [first, second] = dead_letters[..] else {
        panic!("two dead letters: {dead_letters:?}")
    };
    let purged = bench
        .broker
        .purge_dead_letters(vec![first, first])
        .await
        .unwrap();
    assert!(purged[0].is_ok());
    let twice = Error::Refused(Refusal::MessageNotFound).to_string();
    assert_eq!(purged[1].as_ref().unwrap_err().to_string(), twice);
    bench
        .broker
        .replay_dead_letters(vec![second])
        .await
        .unwrap()
        .remove(0)
        .unwrap();
    bench.clock.advance(10);
    let again = bench
        .broker
        .receive(request(10), Duration::from_mins(1))
        .await
        .unwrap();
    assert_eq!(again[0].attempt, 1);
    let traffic = bench.broker.traffic().await.unwrap();
    assert_eq!((traffic.sent, traffic.replayed, traffic.purged), (2, 1, 1));
    let space = bench.broker.space().await.unwrap();
    assert!(space.free_bytes > 0 && space.store_bytes > 0);
    let (topic, group) = bench.broker.numbers("t", "g").await.unwrap();
    assert_eq!(
        (topic, group),
        (again[0].handle.topic, again[0].handle.group)
    );
}

#[tokio::test]
async fn a_clock_that_was_set_back_between_two_runs_delays_nothing() {
    let bench = bench().await;
    bench.broker.send("t", message("due", 1_000)).await.unwrap();
    bench.clock.advance(2_000);
    // A commit, so that the store knows how far the clock has come.
    bench
        .broker
        .send("t", message("later", 1_000))
        .await
        .unwrap();
    bench.broker.shutdown().await;

    let clock = ManualClock::new(START_MS - 3_600_000);
    let broker = open(bench.folder.path(), &clock);
    assert_eq!(clock.now_ms(), START_MS + 2_000);
    let poll = broker.receive(request(10), Duration::from_secs(5));
    assert_eq!(
        bodies(&moving(&broker, &clock, poll).await.unwrap()),
        ["due"]
    );
    let sent = broker.send("t", message("now", 0)).await.unwrap();
    assert!(sent.due_ms() <= START_MS + 7_000, "{}", sent.due_ms());
}

#[tokio::test]
async fn a_panic_of_the_writer_ends_the_broker_and_is_said() {
    let Bench { broker, folder, .. } = bench().await;
    let waiting = tokio::spawn({
        let broker = broker.clone();
        async move { broker.receive(request(1), Duration::from_mins(1)).await }
    });
    let work: crate::command::Work<storage::FjallStore> = Box::new(|_, _| panic!("on purpose"));
    let command = crate::command::Command::Other {
        lane: 0,
        weight: 1,
        work,
    };
    broker.queue(command).await.unwrap();
    let health = broker.ended().await;
    assert_eq!(
        health,
        Health::Failed("the writer panicked: on purpose".to_owned())
    );
    assert!(waiting.await.unwrap().is_err());
    assert!(broker.send("t", message("a", 0)).await.is_err());
    drop(folder);
}

#[tokio::test]
async fn messages_for_a_consumer_that_has_just_left_come_again_uncounted() {
    let bench = bench().await;
    let (broker, clock) = (&bench.broker, &bench.clock);
    broker.send("t", message("a", 20)).await.unwrap();
    moving(broker, clock, std::future::ready(())).await;
    clock.advance(10);
    {
        let poll = broker.receive(request(10), Duration::from_secs(5));
        let mut poll = std::pin::pin!(poll);
        assert!(futures_poll(poll.as_mut()).await.is_none());
        // The answer is there once the writer loop has done what came after the poll.
        broker.topics().await.unwrap();
        clock.advance(10);
        broker.topics().await.unwrap();
    }
    let poll = broker.receive(request(10), Duration::from_secs(5));
    let again = moving(broker, clock, poll).await.unwrap();
    assert_eq!(
        (bodies(&again), again[0].attempt),
        (vec!["a".to_owned()], 1)
    );
}

/// Sends, receives and acknowledges on a topic of its own, and checks the order.
async fn one_client(broker: Broker, number: u32) {
    let topic: Arc<str> = format!("client-{number}").into();
    let spec = TopicSpec::new(&*topic, TopicKind::Normal).with_queues(1);
    broker.create_topic(spec).await.unwrap();
    let asked = ReceiveRequest {
        topic: topic.to_string(),
        ..request(64)
    };
    for round in 0..10 {
        let mut under_way = Vec::new();
        let sent: Vec<_> = (0..20).map(|nth| format!("{round} {nth:02}")).collect();
        for body in &sent {
            let message = NewMessage {
                body: body.clone().into(),
                ..NewMessage::default()
            };
            under_way.push(broker.start_send(&topic, message).await.unwrap());
        }
        for answer in under_way {
            answer.await.unwrap();
        }
        let mut received = Vec::new();
        while received.len() < sent.len() {
            let polled = broker.receive(asked.clone(), Duration::from_mins(1)).await;
            let polled = polled.unwrap();
            received.extend(bodies(&polled));
            let handles = polled.iter().map(|delivery| delivery.handle).collect();
            let outcomes = broker.ack(handles).await.unwrap();
            outcomes.into_iter().for_each(Result::unwrap);
        }
        assert_eq!(received, sent);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn commands_of_many_threads_are_all_executed_in_the_order_of_each() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::open(folder.path(), BrokerConfig::default()).unwrap();
    let clients = (0..12).map(|number| tokio::spawn(one_client(broker.clone(), number)));
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    assert_eq!(broker.shutdown().await, Health::Stopped);
}

#[tokio::test]
async fn commands_are_executed_by_the_thread_that_brings_them() {
    let bench = bench().await;
    let mut here = 0;
    for _ in 0..100 {
        let own = std::thread::current().id();
        let executed = bench
            .broker
            .with(0, move |_, _| Ok(std::thread::current().id() == own));
        here += usize::from(executed.await.unwrap());
    }
    // Another thread may have the engine when a command comes.
    assert!(here > 0, "{here} of 100");
}

#[tokio::test]
async fn a_message_comes_when_it_is_due_by_the_system_s_clock() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::open(folder.path(), BrokerConfig::default()).unwrap();
    broker
        .create_topic(TopicSpec::new("t", TopicKind::Delay))
        .await
        .unwrap();
    for delay_ms in [50, 100, 150] {
        let sent = broker.send("t", message("a", delay_ms)).await.unwrap();
        let received = broker.receive(request(1), Duration::from_mins(5)).await;
        assert!(broker.clock().now_ms() >= sent.due_ms());
        let handles = vec![received.unwrap()[0].handle];
        broker.ack(handles).await.unwrap().remove(0).unwrap();
    }
}
