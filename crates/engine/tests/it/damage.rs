//! Tests of messages whose rows are damaged on the disk: they are reported once and block nothing.

use engine::limits::DAMAGED_MAX;
use engine::{
    Config, Engine, MemoryStore, NewMessage, ReceiveRequest, StoreError, TagFilter, TopicKind,
    TopicSpec,
};

use crate::script::{START_MS, check};

#[test]
fn a_damaged_message_is_passed_over_and_told_of_once() {
    check(
        "
        topic t delay
        send t a b c
        = due +1
        send t later last after=5000
        = due +5000
        rot b later
        restart
        at 10
        recv t g
        = a#1 c#1
        alarms
        = damaged in t, due +1, damaged in t, due +5000
        recv t other
        = a#1 c#1
        alarms
        ack g a c
        recv t g
        = nothing
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 0, acked +1
        stats t
        = waiting 1 of 5, 207 bytes, appended 5, removed 0, damaged 2
        peek t 10
        = last +5000
        at 5000
        recv t g
        = last#1
        ack g last
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 0, acked +5000
        # The next process reports it again, for it still exists.
        restart
        recv t late
        = a#1 c#1 last#1
        alarms
        = damaged in t, due +1, damaged in t, due +5000
        ",
    );
}

#[test]
fn a_message_damaged_while_it_waits_for_its_retry_does_not_come_again() {
    check(
        "
        topic t delay
        group g backoff=100 attempts=3
        send t a b
        = due +1
        at 10
        recv t g
        = a#1 b#1
        nack g a b
        rot a
        at 200
        recv t g
        = b#2
        alarms
        = damaged in t, due +1
        ack g b
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 0, acked +1
        tallies
        = Tallies { missing_bodies: 0, damaged_messages: 1, repeats: 0, groups_given_up: 0, partitions_dropped: 0, dead_letters: 0, transactions_given_up: 0 }
        ",
    );
}

#[test]
fn a_damaged_message_is_neither_cancelled_nor_moved() {
    check(
        "
        topic t delay
        send t a b after=5000
        = due +5000
        rot a b
        restart
        recall a
        = Unknown
        move b after=9000
        = Unknown
        alarms
        = damaged in t, due +5000, damaged in t, due +5000
        ",
    );
}

#[test]
fn a_damaged_message_goes_with_its_partition() {
    check(
        "
        topic t delay
        send t a b
        = due +1
        rot a
        restart
        at 10
        recv t g
        = b#1
        ack g b
        stats t
        = waiting 0 of 2, 80 bytes, appended 2, removed 0, damaged 1
        at 266400000
        tick
        at 266402000
        stats t
        = waiting 0 of 0, 0 bytes, appended 2, removed 0
        ",
    );
}

#[test]
fn a_store_with_many_damaged_rows_counts_as_failed() {
    let mut engine = Engine::open(MemoryStore::default(), Config::default()).unwrap();
    engine
        .create_topic(TopicSpec::new("t", TopicKind::Delay))
        .unwrap();
    let sent: Vec<_> = (0..=DAMAGED_MAX)
        .map(|_| engine.send(START_MS, "t", &NewMessage::default()).unwrap())
        .collect();
    engine.apply(START_MS).unwrap();
    let mut store = engine.into_store();
    for sent in &sent {
        assert!(store.damage(&sent.handle));
    }
    let mut engine = Engine::open(store, Config::default()).unwrap();
    let now_ms = START_MS + 10;
    let request = ReceiveRequest {
        topic: "t".into(),
        group: "g".into(),
        messages_max: 10,
        invisible_ms: 1_000,
        filter: TagFilter::All,
        run: false,
    };
    let error = engine.receive(now_ms, &request).unwrap_err();
    let engine::Error::Store(error) = error else {
        panic!("{error}");
    };
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}
