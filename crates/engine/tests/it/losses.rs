//! Tests of messages that a group does not get: left out by a filter, by a reset, by a deletion, by retention.

use engine::{
    Config, Engine, GroupSpec, Losses, MemoryStore, NewMessage, ReceiveRequest, Skipped, TagFilter,
    TopicKind, TopicSpec,
};

use crate::retention::short;
use crate::script::{check, check_with};

#[test]
fn filters_that_differ_within_a_group_are_reported_once_an_hour() {
    check(
        "
        topic t mixed
        send t a tag=a
        = due +1
        at 10
        recv t g tags=a||b
        = a#1
        ack g a
        recv t g tags=b||a||b
        = nothing
        recv t h tags=b
        = nothing
        alarms
        recv t g tags=b
        = nothing
        alarms
        = filters of g on t differ
        recv t g tags=a||b
        = nothing
        recv t g tags=*
        = nothing
        alarms
        at 3600009
        recv t g tags=b
        = nothing
        alarms
        at 3600010
        recv t g tags=b
        = nothing
        alarms
        recv t g tags=*
        = nothing
        alarms
        = filters of g on t differ
        ",
    );
}

#[test]
fn a_retry_comes_whatever_the_filter_of_the_consumer_is() {
    check(
        "
        topic t mixed
        send t a tag=a
        = due +1
        at 10
        recv t g tags=a
        = a#1
        nack g a after=100
        at 200
        recv t g tags=b
        = a#2
        ",
    );
}

#[test]
fn what_no_group_reads_is_reported_when_it_is_dropped() {
    check_with(
        short(),
        "
        topic t delay
        topic u delay
        send t a
        = due +1
        send t b
        = due +1
        send u c
        = due +1
        at 10
        recv u g
        = c#1
        dead-letter g c
        at 7260000
        tick
        at 7261000
        tick
        partitions
        = none
        alarms
        = 2 of t never read, 1 dead letters of g dropped
        send t d
        = due +7261000
        at 14500000
        tick
        alarms
        = 1 of t never read
        ",
    );
}

#[test]
fn what_a_group_has_read_is_dropped_without_a_report() {
    check_with(
        short(),
        "
        topic t delay
        send t a
        = due +1
        at 10
        recv t g
        = a#1
        dead-letter g a
        at 20
        recv %DLQ%g keeper
        = a#1
        ack keeper a
        at 7260000
        tick
        at 7261000
        tick
        partitions
        = none
        alarms
        ",
    );
}

/// An engine with a topic and a group; a message is due at 1,000, 2,000 and so on.
fn engine(fifo: bool, messages: u64) -> Engine<MemoryStore> {
    let mut engine = Engine::open(MemoryStore::default(), Config::default()).unwrap();
    let kind = TopicKind::Mixed;
    engine.create_topic(TopicSpec::new("t", kind)).unwrap();
    let group = GroupSpec {
        fifo,
        ..GroupSpec::new("g")
    };
    engine.create_group(1, group).unwrap();
    for number in 1..=messages {
        let message = NewMessage {
            tag: Some(format!("tag-{}", number % 2)),
            message_group: fifo.then(|| "line".to_owned()),
            delivery: engine::Delivery::At {
                due_ms: number * 1_000,
            },
            ..NewMessage::default()
        };
        engine.send(1, "t", &message).unwrap();
    }
    settle(&mut engine, 1);
    engine
}

fn settle(engine: &mut Engine<MemoryStore>, now_ms: u64) {
    engine.tick(now_ms).unwrap();
    engine.apply(now_ms).unwrap();
    let epoch = engine.applied_epoch();
    engine.durable(epoch);
}

fn receive(engine: &mut Engine<MemoryStore>, now_ms: u64, filter: &str) -> usize {
    let request = ReceiveRequest {
        messages_max: 3,
        ..request(filter)
    };
    let mut count = 0;
    // The second look comes after the floor was renewed, which the first one may ask for.
    for _ in 0..2 {
        settle(engine, now_ms);
        count += engine.receive(now_ms, &request).unwrap().len();
    }
    settle(engine, now_ms);
    count
}

fn request(filter: &str) -> ReceiveRequest {
    ReceiveRequest {
        topic: "t".into(),
        group: "g".into(),
        messages_max: 1,
        invisible_ms: 600_000,
        run: false,
        filter: TagFilter::parse(filter),
    }
}

fn skipped(messages: u64, retrying: u64) -> Skipped {
    Skipped { messages, retrying }
}

#[test]
fn messages_that_a_filter_leaves_out_are_counted() {
    for fifo in [false, true] {
        let mut engine = engine(fifo, 9);
        assert_eq!(engine.skipped_by_filter("t", "g"), 0);
        receive(&mut engine, 10_000, "none");
        assert_eq!(engine.skipped_by_filter("t", "g"), 9, "fifo {fifo}");
        assert_eq!(engine.differing_filters(10_000), 0);
        receive(&mut engine, 20_000, "*");
        assert_eq!(engine.differing_filters(20_000), 1);
        assert_eq!(engine.differing_filters(20_000 + 300_000), 0);
        assert_eq!(engine.skipped_by_filter("t", "nowhere"), 0);
    }
}

#[test]
fn a_reset_says_what_it_skips() {
    let mut engine = engine(false, 9);
    let by_reset = |engine: &mut Engine<MemoryStore>, now_ms, to_ms| {
        engine.skipped_by_reset(now_ms, "t", "g", to_ms).unwrap()
    };
    // The group has not read the topic yet.
    assert_eq!(by_reset(&mut engine, 1, 4_000), skipped(3, 0));
    let delivered = receive(&mut engine, 3_500, "*");
    assert_eq!(delivered, 3);
    // Three are with a consumer, six wait.
    assert_eq!(by_reset(&mut engine, 3_500, 0), skipped(0, 0));
    assert_eq!(by_reset(&mut engine, 3_500, 2_500), skipped(2, 0));
    assert_eq!(by_reset(&mut engine, 3_500, 6_000), skipped(5, 0));
    assert_eq!(by_reset(&mut engine, 3_500, 60_000), skipped(9, 0));
    engine.reset_group(3_500, "t", "g", 6_000).unwrap();
    settle(&mut engine, 3_500);
    assert_eq!(by_reset(&mut engine, 3_500, 6_000), skipped(0, 0));
    assert_eq!(by_reset(&mut engine, 3_500, 8_000), skipped(2, 0));
    let mut engine = self::engine(false, 2);
    engine.receive(1_500, &request("*")).unwrap();
    settle(&mut engine, 1_500);
    let one = engine.receive(1_500, &request("*")).unwrap();
    let handle = one.first().map(|one| one.handle);
    engine.retry_later(1_500, &handle.unwrap(), None).unwrap();
    settle(&mut engine, 1_500);
    assert_eq!(by_reset(&mut engine, 1_500, 60_000), skipped(1, 1));
}

#[test]
fn a_deletion_says_what_it_takes() {
    let mut engine = engine(false, 9);
    assert_eq!(receive(&mut engine, 2_000, "*"), 2);
    settle(&mut engine, 5_000);
    let lost = skipped(5, 0);
    assert_eq!(
        engine.skipped_by_unsubscribe(5_000, "t", "g").unwrap(),
        lost
    );
    assert_eq!(engine.skipped_by_deletion(5_000, "g").unwrap(), lost);
    assert!(engine.skipped_by_deletion(5_000, "none").is_err());
    assert_eq!(engine.losses(), Losses::default());
}
