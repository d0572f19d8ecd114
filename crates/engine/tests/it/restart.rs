//! Tests of what a restart keeps, and of stores that are damaged or too new.

use engine::{
    Batch, ChangeRef, Config, Engine, MemoryStore, NewMessage, Space, Store, StoreError, TopicKind,
    TopicSpec,
};

use crate::script::{START_MS, check};

#[test]
fn positions_and_waiting_messages_are_there_after_a_restart() {
    check(
        "
        topic t delay queues=2
        send t a b c d
        = due +1
        send t later after=5000
        = due +5000
        at 10
        recv t g
        = a#1 c#1 b#1 d#1
        ack g a d
        restart
        topics
        = t
        groups
        = g
        at 20
        recv t g
        = nothing
        ack g b c
        restart
        at 30
        recv t g
        = nothing
        at 5000
        recv t g
        = later#1
        group-stats t g
        = ready 0, in flight 1, retrying 0, dead 0, acked +1 +1
        ",
    );
}

#[test]
fn deliveries_from_before_a_crash_may_be_acknowledged_after_it() {
    check(
        "
        topic t delay
        send t a b c d
        = due +1
        at 10
        recv t g
        = a#1 b#1 c#1 d#1
        ack g c
        crash
        ack g b
        ack g d
        at 20
        recv t g
        = nothing
        ack g a
        ack g b
        = b: the receipt handle has expired: the message was redelivered or finished since
        recv t g
        = nothing
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 0, acked +1
        ",
    );
}

#[test]
fn retries_and_their_attempts_outlive_a_crash() {
    check(
        "
        topic t delay
        group g backoff=100 attempts=3
        send t a b
        = due +1
        at 10
        recv t g
        = a#1 b#1
        nack g a
        nack g b
        at 110
        recv t g
        = a#2 b#2
        crash
        ack g a#2
        ack g a#2
        = a#2: the receipt handle has expired: the message was redelivered or finished since
        recv t g
        = b#2
        nack g b
        group-stats t g
        = ready 0, in flight 0, retrying 1, dead 0, acked +1
        crash
        at 210
        recv t g
        = nothing
        nack g b
        = b: the receipt handle has expired: the message was redelivered or finished since
        group-stats t g
        = ready 0, in flight 0, retrying 1, dead 0, acked +1
        crash
        group-stats t g
        = ready 0, in flight 0, retrying 1, dead 0, acked +1
        at 220
        recv t g
        = b#3
        recv %DLQ%g d
        = refused: topic '%DLQ%g' does not exist
        ",
    );
}

#[test]
fn a_failed_delivery_is_not_acknowledged_by_its_old_handle_after_a_crash() {
    check(
        "
        topic t delay
        group g backoff=1000
        send t front a
        = due +1
        at 10
        recv t g
        = front#1 a#1
        nack g a
        crash
        ack g a#1
        = a#1: the receipt handle has expired: the message was redelivered or finished since
        recv t g
        = nothing
        at 1010
        recv t g
        = a#2
        at 30010
        recv t g
        = front#2
        ",
    );
}

#[test]
fn a_restart_ends_no_lease() {
    check(
        "
        topic t delay queues=2
        group g backoff=100
        send t a b c
        = due +1
        at 10
        recv t g hide=5000
        = a#1 c#1 b#1
        note
        hide g b after=9000
        note
        nack g c
        at 110
        recv t g hide=5000
        = c#2
        note
        crash
        at 200
        recv t g
        = nothing
        group-stats t g
        = ready 0, in flight 3, retrying 1, dead 0, acked 0 0
        next
        = +5010
        hide g c after=7000
        hide g a after=6000
        crash
        # The renewals were not written: a message comes again after its lease as it was.
        at 5009
        recv t g
        = nothing
        at 5010
        recv t g hide=60000
        = a#2
        ack g a#1
        = a#1: the receipt handle has expired: the message was redelivered or finished since
        at 5110
        at 5111
        recv t g hide=60000
        = c#3
        ack g b#1
        at 9020
        recv t g
        = nothing
        ack g a c
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 0, acked +1 +1
        ",
    );
}

#[test]
fn what_was_handed_out_and_not_noted_comes_again_as_the_same_delivery() {
    check(
        "
        topic t delay
        recv t g
        = nothing
        send t a b
        = due +1
        at 10
        recv t g
        = a#1 b#1
        crash
        at 20
        ack g b
        recv t g
        = a#1
        ack g a
        recv t g
        = nothing
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 0, acked +1
        ",
    );
}

#[test]
fn what_was_not_durable_is_gone_and_sequences_go_on() {
    check(
        "
        topic t delay
        send t a after=100
        = due +100
        manual
        send t b after=100
        = due +100
        apply
        crash
        automatic
        send t c after=100
        = due +201
        at 400
        recv t g
        = a#1
        stats t
        = waiting 0 of 2, 80 bytes, appended 2, removed 0
        ",
    );
}

#[test]
fn a_deleted_topic_stays_deleted_and_its_name_is_free() {
    check(
        "
        topic t delay
        group g
        send t a
        = due +1
        at 10
        recv t g
        = a#1
        nack g a after=0
        drop-topic t
        recv t g
        = refused: topic 't' does not exist
        ack g a
        = a: the receipt handle has expired: the message was redelivered or finished since
        topic t delay
        recv t g
        = nothing
        crash
        recv t g
        = nothing
        stats t
        = waiting 0 of 0, 0 bytes, appended 0, removed 0
        drop-group g
        groups
        recv t g
        = nothing
        drop-topic nowhere
        = refused: topic 'nowhere' does not exist
        drop-group unknown
        = refused: consumer group 'unknown' does not exist
        ",
    );
}

fn filled() -> MemoryStore {
    let mut engine = Engine::open(MemoryStore::default(), Config::default()).unwrap();
    engine
        .create_topic(TopicSpec::new("t", TopicKind::Delay))
        .unwrap();
    engine.send(START_MS, "t", &NewMessage::default()).unwrap();
    engine.apply(START_MS).unwrap();
    engine.into_store()
}

/// Rewrites the head record.
fn with_head(change: impl FnOnce(&mut Vec<u8>)) -> Result<(), StoreError> {
    let mut store = filled();
    let mut value = store.get(Space::Meta, &[1]).unwrap().unwrap().to_vec();
    change(&mut value);
    let mut batch = Batch::default();
    batch.put(Space::Meta, &[1], |buffer| buffer.extend_from_slice(&value));
    assert!(matches!(
        batch.changes().next(),
        Some(ChangeRef::Put { .. })
    ));
    store.apply(&batch).unwrap();
    Engine::open(store, Config::default()).map(drop)
}

#[test]
fn damage_is_told_with_its_place() {
    let error = with_head(|value| value[2] ^= 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "damaged record in Meta at key 01: its checksum does not match"
    );
    let error = with_head(|value| value.truncate(3)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "damaged record in Meta at key 01: it is too short"
    );
}

#[test]
fn a_record_of_a_newer_version_is_refused() {
    let error = with_head(|value| {
        value[0] = 9;
        let end = value.len() - 4;
        let checksum = crc32fast::hash(&value[..end]).to_le_bytes();
        value[end..].copy_from_slice(&checksum);
    })
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "record in Meta at key 01 has format 9; this version reads up to 2"
    );
}
