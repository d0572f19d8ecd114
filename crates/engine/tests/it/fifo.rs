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

#[test]
fn a_run_of_a_message_group_goes_to_one_consumer() {
    check(
        "
        topic t fifo
        group g fifo
        send t a1 a2 a3 a4 group=a
        = due +1
        send t b1 b2 group=b
        = due +1
        at 10
        recv t g run max=3
        = a1#1 a2#1 a3#1
        recv t g run
        = b1#1 b2#1
        recv t g run
        = nothing
        # Settled out of order: nothing else comes before all of the run is settled.
        ack g a2 a3
        recv t g run
        = nothing
        group-stats t g
        = ready 1, in flight 3, retrying 0, dead 0, acked 0
        ack g a1
        recv t g run
        = a4#1
        ack g a4 b1 b2
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 0, acked +1
        ",
    );
}

#[test]
fn what_follows_a_failure_in_its_run_comes_again_after_it() {
    check(
        "
        topic t fifo
        group g fifo attempts=3
        send t a1 a2 a3 a4 group=a
        = due +1
        at 10
        recv t g run max=4
        = a1#1 a2#1 a3#1 a4#1
        ack g a3
        nack g a2 after=100
        group-stats t g
        = ready 1, in flight 1, retrying 1, dead 0, acked 0
        # What follows was not worked on: that counts as no delivery, and its receipt is void.
        ack g a4
        = a4: the receipt handle has expired: the message was redelivered or finished since
        ack g a1
        at 110
        recv t g run
        = a2#2 a4#1
        nack g a2 after=0
        recv t g
        = a2#3
        recv t g
        = nothing
        # The last delivery fails: a dead letter, and the next is free.
        nack g a2
        recv t g run
        = a4#1
        ack g a4
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 1, acked +1
        ",
    );
}

#[test]
fn a_dead_letter_and_an_end_of_the_group_take_nothing_away_from_a_run() {
    check(
        "
        topic t fifo
        group g fifo attempts=1
        send t a1 a2 a3 a4 group=a
        = due +1
        at 10
        recv t g run
        = a1#1 a2#1 a3#1 a4#1
        dead-letter g a1
        nack g a2
        ack g a3 a4
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 2, acked +1
        ",
    );
}

#[test]
fn a_run_that_lapses_fails_with_its_first_message_only() {
    check(
        "
        topic t fifo
        group g fifo attempts=2
        send t a1 a2 a3 group=a
        = due +1
        at 10
        recv t g run hide=1000
        = a1#1 a2#1 a3#1
        at 1010
        recv t g run hide=1000
        = a1#2 a2#1 a3#1
        # The first one is kept longer, the others are not.
        hide g a1 after=5000
        at 2010
        recv t g run
        = nothing
        ack g a2
        = a2: the receipt handle has expired: the message was redelivered or finished since
        ack g a1
        recv t g run hide=1000
        = a2#1 a3#1
        at 3010
        recv t g run hide=1000
        = a2#2 a3#1
        at 4010
        recv t g run
        = a3#1
        ack g a3
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 1, acked +1
        ",
    );
}

#[test]
fn a_run_that_is_handed_back_unworked_comes_again_in_order() {
    check(
        "
        topic t fifo
        group g fifo attempts=1
        send t a1 a2 a3 group=a
        = due +1
        at 10
        recv t g run
        = a1#1 a2#1 a3#1
        give-back g a3 a2 a1
        recv t g run
        = a1#1 a2#1 a3#1
        give-back g a1
        give-back g a2
        = a2: the receipt handle has expired: the message was redelivered or finished since
        recv t g run max=2
        = a1#1 a2#1
        ack g a1 a2
        recv t g run
        = a3#1
        ",
    );
}

#[test]
fn a_run_outlives_a_crash() {
    check(
        "
        topic t fifo
        group g fifo
        send t a1 a2 a3 a4 group=a
        = due +1
        at 10
        recv t g run max=3 hide=5000
        = a1#1 a2#1 a3#1
        ack g a2
        note
        crash
        at 20
        recv t g run
        = nothing
        at 5009
        recv t g run
        = nothing
        at 5010
        recv t g run
        = a1#2 a3#1 a4#1
        ack g a3
        crash
        recv t g run
        = nothing
        ack g a1 a4
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 0, acked +1
        ",
    );
}

#[test]
fn a_run_is_no_longer_than_the_window_and_the_memory_allow() {
    let limits = Limits {
        fifo_window: 3,
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
        at 10
        recv t g run
        = a0#1 a1#1 a2#1
        ack g a1
        recv t g run
        = nothing
        ack g a0 a2
        recv t g run
        = a3#1 a4#1 a5#1
        ",
    );
}
