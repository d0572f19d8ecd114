//! Tests of FIFO groups: one message of a message group in flight, order after failures.

use engine::{Config, Limits};

use crate::script::{check, check_with};

#[test]
fn one_message_of_a_message_group_is_in_flight() {
    check(
        "
        topic t fifo
        group g fifo
        send t a1 a2 a3 group=a
        = due +1
        send t b1 b2 group=b
        = due +1
        at 10
        recv t g
        = a1#1 b1#1
        recv t g
        = nothing
        ack g b1
        recv t g
        = b2#1
        ack g b2
        ack g a1
        recv t g
        = a2#1
        ack g a2
        recv t g
        = a3#1
        ack g a3
        recv t g
        = nothing
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 0, acked +1
        ",
    );
}

#[test]
fn messages_without_a_message_group_do_not_wait_for_each_other() {
    check(
        "
        topic t mixed
        group g fifo
        send t x y
        = due +1
        send t a1 a2 group=a
        = due +1
        at 10
        recv t g max=3
        = x#1 y#1 a1#1
        recv t g
        = nothing
        ",
    );
}

#[test]
fn a_failure_keeps_its_place_and_blocks_its_message_group() {
    check(
        "
        topic t fifo
        group g fifo attempts=3 backoff=100,200
        send t a1 a2 group=a
        = due +1
        send t b1 group=b
        = due +1
        at 10
        recv t g
        = a1#1 b1#1
        nack g a1
        ack g b1
        recv t g
        = nothing
        at 109
        recv t g
        = nothing
        at 110
        recv t g
        = a1#2
        nack g a1
        at 309
        recv t g
        = nothing
        at 310
        recv t g
        = a1#3
        nack g a1
        recv t g
        = a2#1
        ack g a2
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 1, acked +1
        recv %DLQ%g d
        = nothing
        at 320
        recv %DLQ%g d
        = a1#1
        ",
    );
}

#[test]
fn a_lease_that_runs_out_is_a_failure_without_a_wait() {
    check(
        "
        topic t fifo
        group g fifo
        send t a1 a2 group=a
        = due +1
        at 10
        recv t g hide=1000
        = a1#1
        at 1009
        recv t g
        = nothing
        at 1010
        recv t g
        = a1#2
        ack g a1#1
        = a1#1: the receipt handle has expired: the message was redelivered or finished since
        ack g a1#2
        recv t g
        = a2#1
        ",
    );
}

#[test]
fn readers_pass_a_bounded_window_of_blocked_messages() {
    let limits = Limits {
        fifo_window: 4,
        ..Limits::default()
    };
    check_with(
        Config {
            limits,
            ..Config::default()
        },
        "
        topic t fifo
        group g fifo
        send t a count=6 group=a
        = due +1
        send t b count=2 group=b
        = due +1
        at 10
        recv t g
        = a0#1
        recv t g
        = nothing
        watch t g
        woken
        = none
        ack g a0
        woken
        = t/g
        recv t g
        = a1#1
        ack g a1
        recv t g
        = a2#1
        ack g a2
        recv t g
        = a3#1 b0#1
        ack g a3
        recv t g
        = a4#1
        ack g b0
        recv t g
        = b1#1
        ",
    );
}

#[test]
fn order_and_attempts_outlive_a_crash() {
    check(
        "
        topic t fifo queues=2
        group g fifo attempts=3
        send t a1 a2 a3 group=a
        = due +1
        send t b1 b2 group=b
        = due +1
        at 10
        recv t g
        = a1#1 b1#1
        nack g a1 after=500
        ack g b1
        crash
        at 300
        recv t g
        = b2#1
        at 510
        recv t g
        = a1#2
        ack g a1
        recv t g
        = a2#1
        crash
        ack g b2
        recv t g
        = a2#1
        ack g a2
        recv t g
        = a3#1
        ack g a3
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 0, acked +1 +1
        ",
    );
}

#[test]
fn a_poller_is_woken_by_what_blocks_it() {
    check(
        "
        topic t fifo
        group g fifo
        send t a1 a2 group=a
        = due +1
        at 10
        recv t g
        = a1#1
        recv t g
        = nothing
        watch t g
        next
        = +30010
        woken
        = none
        ack g a1
        woken
        = t/g
        recv t g
        = a2#1
        watch t g
        nack g a2 after=500
        next
        = +30010
        at 509
        woken
        = t/g
        at 510
        woken
        = none
        recv t g
        = a2#2
        ",
    );
}

#[test]
fn what_failed_comes_again_at_its_time_while_a_new_message_waits_for_the_disk() {
    check(
        "
        topic t fifo
        group g fifo
        send t a group=a
        = due +1
        at 10
        recv t g
        = a#1
        nack g a after=100
        recv t g
        = nothing
        watch t g
        manual
        at 110
        send t b group=b
        = due +110
        woken
        = t/g
        recv t g
        = a#2
        ",
    );
}

#[test]
fn one_open_message_stops_no_other_message_group() {
    let limits = Limits {
        fifo_window: 4,
        ..Limits::default()
    };
    check_with(
        Config {
            limits,
            ..Config::default()
        },
        "
        topic t fifo
        group g fifo
        send t a0 a1 group=a
        = due +1
        send t b0 group=b
        = due +1
        send t c0 group=c
        = due +1
        send t d0 d1 group=d
        = due +1
        send t e0 group=e
        = due +1
        send t f0 f1 group=f
        = due +1
        at 10
        recv t g max=2 hide=3600000
        = a0#1 b0#1
        nack g a0 after=3000000
        ack g b0
        recv t g max=1
        = c0#1
        ack g c0
        recv t g max=1
        = d0#1
        ack g d0
        # a0 waits, and a1 for it; what is done takes no place in the window.
        recv t g max=1
        = d1#1
        ack g d1
        recv t g
        = e0#1 f0#1
        ack g e0 f0
        recv t g
        = f1#1
        ack g f1
        recv t g
        = nothing
        at 3000010
        recv t g
        = a0#2
        ack g a0
        recv t g
        = a1#1
        ack g a1
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 0, acked +1
        ",
    );
}

#[test]
fn a_message_group_stays_blocked_over_a_crash() {
    check(
        "
        topic t fifo
        group g fifo
        send t a1 a2 group=a
        = due +1
        send t b1 b2 group=b
        = due +1
        at 10
        recv t g hide=5000
        = a1#1 b1#1
        note
        crash
        at 20
        recv t g
        = nothing
        ack g b1
        recv t g
        = b2#1
        at 5009
        recv t g
        = nothing
        at 5010
        recv t g
        = a1#2
        ack g a1#1
        = a1#1: the receipt handle has expired: the message was redelivered or finished since
        ack g a1#2
        recv t g
        = a2#1
        ",
    );
}

#[test]
fn a_group_made_by_reading_a_fifo_topic_is_fifo() {
    check(
        "
        topic t fifo
        topic plain normal
        send t a1 a2 group=a
        = due +1
        at 10
        recv t new
        = a1#1
        recv t new
        = nothing
        alarms
        ack new a1
        recv t new
        = a2#1
        recv plain both
        = nothing
        alarms
        # This one was made by reading an ordinary topic, so it is reported.
        recv t both
        = a1#1 a2#1
        alarms
        = both keeps no order on t
        recv t both
        = nothing
        alarms
        restart
        recv t both
        = nothing
        alarms
        = both keeps no order on t
        ",
    );
}
