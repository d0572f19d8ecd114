//! Tests of retention: partitions past it, what pins them, unseen groups.

use engine::{Config, Delivery, Engine, MemoryStore, NewMessage, TopicKind, TopicSpec};

use crate::script::{START_MS, check, check_with};

const HOUR_MS: u64 = 3_600_000;

pub(crate) fn short() -> Config {
    Config {
        retention_ms: HOUR_MS,
        group_idle_ms: 24 * HOUR_MS,
        ..Config::default()
    }
}

#[test]
fn what_everybody_has_passed_goes_after_its_retention() {
    check_with(
        short(),
        "
        topic t delay
        send t a
        = due +1
        send t b after=3600000
        = due +3600000
        send t far after=86400000
        = due +86400000
        partitions
        = 0+1h 1+1h 24+2h
        at 10
        recv t g
        = a#1
        ack g a
        at 7199999
        tick
        partitions
        = 0+1h 1+1h 24+2h
        at 7200000
        tick
        partitions
        = 1+1h 24+2h
        # One that is read but not acknowledged holds its partition.
        recv t g hide=43200000
        = b#1
        at 10800000
        tick
        partitions
        = 1+1h 24+2h
        stats t
        = waiting 1 of 2, 82 bytes, appended 3, removed 0
        ack g b
        at 10860000
        tick
        partitions
        = 24+2h
        at 10861000
        tick
        partitions
        = 24+2h
        stats t
        = waiting 1 of 1, 42 bytes, appended 3, removed 0
        restart
        stats t
        = waiting 1 of 1, 42 bytes, appended 3, removed 0
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 0, acked +3600000
        ",
    );
}

#[test]
fn a_later_partition_does_not_put_off_an_earlier_one() {
    check_with(
        short(),
        "
        topic t delay
        send t far after=864000000
        = due +864000000
        at 60000
        tick
        next
        = +925200000
        send t soon
        = due +60000
        next
        = +7200000
        at 7200000
        tick
        partitions
        = 240+16h
        ",
    );
}

#[test]
fn unread_messages_hold_their_partition() {
    check_with(
        short(),
        "
        topic t delay
        send t a
        = due +1
        at 10
        recv t g
        = a#1
        ack g a
        send t b
        = due +11
        at 7260000
        tick
        partitions
        = 0+1h
        recv t g
        = b#1
        ack g b
        recv t g
        = nothing
        at 7380000
        tick
        at 7381000
        tick
        partitions
        = none
        recv t late
        = nothing
        ",
    );
}

#[test]
fn the_end_of_the_head_is_not_the_end_of_the_queue() {
    // The head ends with m511; once that is recalled, an empty head must not pass for an empty queue.
    check_with(
        short(),
        "
        topic t delay
        send t m after=1000 count=600
        = due +1000
        recv t g
        = nothing
        recall m511
        = Cancelled
        at 1000
        drain t g max=73 rounds=7
        = 511 messages
        at 10000000
        tick
        partitions
        = 0+1h
        drain t g max=1000
        = 88 messages
        ",
    );
}

#[test]
fn a_retry_is_copied_when_it_alone_holds_a_partition() {
    check_with(
        short(),
        "
        topic t delay
        group g backoff=36000000
        send t a keys=k tag=x
        = due +1
        send t b
        = due +1
        at 10
        recv t g
        = a#1 b#1
        ack g b
        nack g a
        at 7300000
        tick
        partitions
        = 0+1h
        stats t
        = waiting 0 of 2, 115 bytes, appended 2, removed 0
        at 36000010
        recv t g
        = a#2
        nack g a after=100
        at 36001000
        recv t g
        = a#3
        crash
        at 36002000
        recv t g
        = a#3
        dead-letter g a
        at 36003000
        recv %DLQ%g d tags=x
        = a#1
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 1, acked +1
        tallies
        = Tallies { missing_bodies: 0, damaged_messages: 0, repeats: 0, groups_given_up: 0, partitions_dropped: 0, dead_letters: 1, transactions_given_up: 0 }
        ",
    );
}

#[test]
fn a_partition_goes_only_when_what_lets_it_go_is_durable() {
    check_with(
        short(),
        "
        topic t delay
        group g backoff=36000000
        send t a
        = due +1
        send t b
        = due +1
        at 10
        recv t g
        = a#1 b#1
        nack g a
        ack g b
        manual
        at 7300000
        tick
        apply
        # The copy is not on the disk yet.
        at 7301000
        tick
        partitions
        = 0+1h
        sync
        at 7302000
        tick
        partitions
        = none
        ",
    );
}

#[test]
fn a_position_that_is_not_durable_lets_nothing_go() {
    check_with(
        short(),
        "
        topic t delay
        group g attempts=1
        send t a
        = due +1
        at 10
        recv t g hide=43200000
        = a#1
        at 7200000
        manual
        dead-letter g a
        # The dead letter is not on the disk yet.
        at 7300000
        tick
        apply
        at 7301000
        tick
        partitions
        = 0+1h 2+1h
        crash
        automatic
        recv t g
        = nothing
        dead-letter g a
        at 7303000
        recv %DLQ%g d
        = a#1
        partitions
        = 0+1h 2+1h
        ",
    );
}

#[test]
fn a_group_unseen_for_too_long_holds_nothing() {
    check_with(
        short(),
        "
        topic t delay
        group g
        send t a b
        = due +1
        at 10
        recv t g max=1
        = a#1
        at 82800000
        tick
        alarms
        = g held t after 22h
        tick
        alarms
        partitions
        = 0+1h
        at 90061000
        tick
        at 90063000
        tick
        partitions
        = none
        alarms
        = g lost t after 25h
        tallies
        = Tallies { missing_bodies: 0, damaged_messages: 0, repeats: 0, groups_given_up: 1, partitions_dropped: 1, dead_letters: 0, transactions_given_up: 0 }
        # What failed before went with the rest; b was read ahead.
        recv t g
        = b#1
        ",
    );
}

#[test]
fn the_retries_of_a_group_that_is_given_up_go_with_its_alarm() {
    let config = Config {
        retention_ms: 30 * HOUR_MS,
        ..short()
    };
    check_with(
        config,
        "
        topic t delay
        send t a
        = due +1
        at 10
        recv t g
        = a#1
        nack g a after=144000000
        recv t h
        = a#1
        nack h a after=115200000
        at 100000000
        recv t h
        = nothing
        # What h waits for is copied, what g has failed goes.
        at 111660000
        tick
        at 111662000
        tick
        partitions
        = none
        alarms
        = g lost t after 31h
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 0, acked +1
        at 115200010
        recv t h
        = a#2
        at 144000010
        recv t g
        = nothing
        tallies
        = Tallies { missing_bodies: 0, damaged_messages: 0, repeats: 0, groups_given_up: 1, partitions_dropped: 1, dead_letters: 0, transactions_given_up: 0 }
        ",
    );
}

#[test]
fn a_topic_that_a_group_has_left_goes_though_the_group_is_at_work() {
    let config = Config {
        group_idle_ms: 4 * HOUR_MS,
        ..short()
    };
    check_with(
        config,
        "
        topic kept delay
        topic left delay
        send left old
        = due +1
        at 10
        recv left g
        = old#1
        recv kept g
        = nothing
        at 3700000
        recv kept g
        = nothing
        crash
        at 7400000
        recv kept g
        = nothing
        alarms
        = g held left after 2h
        crash
        at 11100000
        recv kept g
        = nothing
        partitions
        = 0+1h
        crash
        at 14500000
        tick
        at 14561000
        tick
        at 14562000
        tick
        partitions
        = none
        alarms
        = g held left after 3h, g lost left after 4h
        ",
    );
}

#[test]
fn a_consumer_that_waits_on_a_silent_topic_is_seen_there() {
    let config = Config {
        group_idle_ms: 4 * HOUR_MS,
        ..short()
    };
    check_with(
        config,
        "
        topic t delay
        send t a
        = due +1
        at 10
        recv t g hide=43200000
        = a#1
        at 14000000
        waited t g
        at 14561000
        tick
        at 14562000
        tick
        partitions
        = 0+1h
        ",
    );
}

#[test]
fn a_group_leaves_a_topic_and_begins_anew() {
    check_with(
        short(),
        "
        topic t delay
        topic u delay
        send t a b
        = due +1
        at 10
        recv t g
        = a#1 b#1
        nack g a after=36000000
        recv u g
        = nothing
        leave t g
        leave t g
        = refused: consumer group 'g' does not read topic 't'
        ack g b
        = b: the receipt handle has expired: the message was redelivered or finished since
        group-stats t g
        = ready 2, in flight 0, retrying 0, dead 0, acked
        crash
        recv t g
        = a#1 b#1
        ack g a b
        leave t g
        at 7300000
        tick
        at 7301000
        tick
        partitions
        = none
        ",
    );
}

#[test]
fn deleting_a_group_lets_go_of_its_retries() {
    check_with(
        short(),
        "
        topic t delay
        group g
        group h
        send t a
        = due +1
        at 10
        recv t g
        = a#1
        recv t h
        = a#1
        ack h a
        nack g a after=36000000
        drop-group g
        at 7300000
        tick
        at 7301000
        tick
        partitions
        = none
        crash
        partitions
        = none
        rows
        = 5
        ",
    );
}

#[test]
fn deleting_a_topic_lets_go_of_its_retries() {
    check_with(
        short(),
        "
        topic t delay
        group g
        send t a b
        = due +1
        at 10
        recv t g
        = a#1 b#1
        nack g a after=36000000
        manual
        nack g b after=36000000
        drop-topic t
        apply
        sync
        automatic
        at 7300000
        tick
        at 7301000
        tick
        partitions
        = none
        rows
        = 2
        ",
    );
}

#[test]
fn a_moved_message_is_known_until_its_partition_goes() {
    check_with(
        short(),
        "
        topic t delay
        send t a after=1000
        = due +1000
        move a after=2000
        = due +2000
        at 2000
        recall a
        = TooLate
        recv t g
        = a#1
        ack g a
        recall a
        = TooLate
        at 10900000
        tick
        recall a
        = Unknown
        at 10962000
        tick
        at 10963000
        tick
        partitions
        = none
        recall a
        = Unknown
        at 18000000
        tick
        rows
        = 5
        ",
    );
}

#[test]
fn a_message_moved_nearer_is_never_called_cancelled() {
    check_with(
        short(),
        "
        topic t delay
        send t a after=360000000
        = due +360000000
        move a after=720000000
        = due +720000000
        move a' after=2000
        = due +2000
        at 2000
        recv t g
        = a#1
        ack g a
        at 10900000
        tick
        recall a
        = Unknown
        at 10962000
        tick
        at 10963000
        tick
        partitions
        = none
        at 18000000
        tick
        recall a
        = Unknown
        recall a'
        = Unknown
        # Until the time that the last of its handles names has passed, and the retention of it.
        restart
        at 720000000
        tick
        recall a'
        = Unknown
        rows
        = 7
        at 763200000
        tick
        rows
        = 5
        at 763201000
        tick
        rows
        = 5
        recall a
        = Unknown
        ",
    );
}

#[test]
fn identities_are_forgotten_at_the_rate_they_come() {
    let mut engine = Engine::open(MemoryStore::default(), short()).unwrap();
    engine
        .create_topic(TopicSpec::new("t", TopicKind::Delay))
        .unwrap();
    let rows = |engine: &mut Engine<MemoryStore>, now_ms: u64| {
        engine.tick(now_ms).unwrap();
        engine.apply(now_ms).unwrap();
        engine.durable(engine.applied_epoch());
        engine.store().rows()
    };
    let before = rows(&mut engine, START_MS);
    let after = |delay_ms| Delivery::After { delay_ms };
    for _ in 0..2_100 {
        let message = NewMessage {
            delivery: after(1_000),
            ..NewMessage::default()
        };
        let sent = engine.send(START_MS, "t", &message).unwrap();
        engine
            .reschedule(START_MS, &sent.handle, after(2_000))
            .unwrap();
    }
    // What came within an hour goes within the time of a few rounds.
    let end_ms = START_MS + 4 * HOUR_MS;
    for round in 0..4 {
        rows(&mut engine, end_ms + 10 * round);
    }
    // Partitions go a second later, and leave what is counted of the topic.
    assert_eq!(rows(&mut engine, end_ms + 2_000), before + 1);
    assert_eq!(engine.next_event_ms(), None);
}

#[test]
fn ten_years_ahead_is_kept_and_comes() {
    check(
        "
        topic t delay
        send t a after=315360000000
        = due +315360000000
        send t b after=157680000000
        = due +157680000000
        partitions
        = 40672+4096h 81632+8192h
        at 157680000000
        recv t g
        = b#1
        ack g b
        crash
        at 315359999999
        recv t g
        = nothing
        at 315360000000
        recv t g
        = a#1
        ",
    );
}

/// Counts are kept for each topic of each partition, and loaded in one pass.
#[test]
fn the_counts_of_topics_that_share_partitions_outlive_a_restart() {
    check_with(
        short(),
        "
        topic t delay
        topic u delay
        topic empty delay
        send t a b
        = due +1
        send u c
        = due +1
        send t d after=3600000
        = due +3600000
        send u e f g after=3600000
        = due +3600000
        at 10
        recv t g
        = a#1 b#1
        ack g a b
        recv u g
        = c#1
        ack g c
        at 7200000
        tick
        partitions
        = 1+1h
        stats t
        = waiting 0 of 1, 40 bytes, appended 3, removed 0
        restart
        stats t
        = waiting 0 of 1, 40 bytes, appended 3, removed 0
        stats u
        = waiting 0 of 3, 120 bytes, appended 4, removed 0
        stats empty
        = waiting 0 of 0, 0 bytes, appended 0, removed 0
        ",
    );
}
