//! Tests of how far readers may read: nothing undurable, nothing past the floor, nothing early.

use crate::script::check;

#[test]
fn readers_stay_below_what_is_not_durable() {
    check(
        "
        topic t delay
        recv t g
        = nothing
        manual
        send t a after=10
        = due +10
        at 20
        recv t g
        = nothing
        apply
        recv t g
        = nothing
        sync
        recv t g
        = a#1
        ",
    );
}

#[test]
fn readers_stay_below_a_removal_that_is_not_durable() {
    check(
        "
        topic t delay
        send t a after=100
        = due +100
        send t b after=120
        = due +120
        recv t g
        = nothing
        manual
        recall a
        = Cancelled
        apply
        at 130
        recv t g
        = nothing
        sync
        recv t g
        = b#1
        ",
    );
}

#[test]
fn readers_wait_for_the_floor() {
    check(
        "
        topic t delay
        send t a after=150
        = due +150
        send t b after=1000
        = due +1000
        recv t g
        = nothing
        manual
        at 150
        recv t g
        = a#1
        at 1000
        # Nothing was committed since, so the floor on the disk is at +200.
        recv t g
        = nothing
        # The poll asked for a new floor.
        apply
        sync
        recv t g
        = b#1
        ",
    );
}

#[test]
fn a_poll_renews_the_floor_before_something_is_due() {
    check(
        "
        topic t delay
        send t a after=1000
        = due +1000
        recv t g
        = nothing
        manual
        watch t g
        next
        = +900
        at 899
        tick
        apply
        next
        = +900
        at 900
        tick
        apply
        sync
        next
        = +1000
        at 1000
        woken
        = t/g
        recv t g
        = a#1
        ",
    );
}

#[test]
fn a_poll_that_comes_late_is_served_too() {
    check(
        "
        topic t delay
        recv t g
        = nothing
        send t a after=1000
        = due +1000
        manual
        at 5000
        tick
        recv t g
        = nothing
        watch t g
        next
        = +262800000
        apply
        sync
        woken
        = t/g
        recv t g
        = a#1
        ",
    );
}

#[test]
fn nothing_is_early_after_a_crash_within_the_floor() {
    // The floor on the disk is 200 ms ahead; a reader after the restart still waits for the clock.
    check(
        "
        topic t delay
        send t a after=100
        = due +100
        send t b after=300
        = due +300
        crash
        at 10
        recv t g
        = nothing
        at 99
        recv t g
        = nothing
        at 100
        recv t g
        = a#1
        at 300
        recv t g
        = b#1
        ",
    );
}

#[test]
fn nothing_is_written_or_removed_below_the_floor_after_a_crash() {
    check(
        "
        topic t delay
        send t a after=150
        = due +150
        send t b after=250
        = due +250
        recv t g
        = nothing
        at 50
        crash
        # The floor is at +200.
        send t now
        = due +201
        recall a
        = TooLate
        recall b
        = Cancelled
        at 150
        recv t g
        = a#1
        at 400
        recv t g
        = now#1
        ",
    );
}

#[test]
fn a_clock_set_back_between_two_runs_fires_nothing_early() {
    check(
        "
        topic t delay
        at 7200000
        send t a after=3600000
        = due +10800000
        send t b
        = due +7200001
        at 7200010
        recv t g
        = b#1
        ack g b
        crash
        at 0
        recv t g
        = nothing
        recall b
        = TooLate
        at 10799999
        recv t g
        = nothing
        at 10800000
        recv t g
        = a#1
        ",
    );
}

#[test]
fn what_was_asked_for_now_comes_a_millisecond_later_at_the_most() {
    check(
        "
        topic t delay
        send t a
        = due +1
        manual
        recv t g
        = nothing
        apply
        sync
        recv t g
        = nothing
        send t b
        = due +1
        apply
        sync
        at 1
        recv t g
        = a#1 b#1
        ",
    );
}

#[test]
fn a_delayed_message_waits_for_no_other_topic() {
    check(
        "
        topic a delay
        topic b delay
        send b d after=10
        = due +10
        recv a g
        = nothing
        recv b g
        = nothing
        manual
        watch b g
        send a x
        = due +1
        at 10
        woken
        = b/g
        recv b g
        = d#1
        apply
        recv a g
        = nothing
        watch a g
        woken
        = none
        sync
        woken
        = a/g
        recv a g
        = x#1
        ",
    );
}

#[test]
fn a_delayed_message_waits_for_no_other_queue_and_not_for_retries() {
    check(
        "
        topic t delay queues=2
        send t a after=10
        = due +10
        send t b after=20
        = due +20
        recv t g
        = nothing
        manual
        send t c after=5
        = due +5
        at 10
        recv t g
        = nothing
        at 20
        recv t g
        = b#1
        nack g b after=0
        recv t g
        = nothing
        apply
        sync
        recv t g
        = c#1 a#1
        at 21
        recv t g
        = b#2
        ",
    );
}

#[test]
fn what_is_due_and_not_durable_wakes_its_poller_once_it_is() {
    check(
        "
        topic t delay queues=2
        recv t g
        = nothing
        manual
        send t a after=10
        = due +10
        send t b after=20
        = due +20
        watch t g
        next
        = +10
        at 10
        woken
        = none
        apply
        woken
        = none
        # A second change of the same queue comes before the first is durable.
        send t c
        = due +10
        sync
        woken
        = none
        apply
        sync
        woken
        = t/g
        recv t g
        = a#1 c#1
        watch t g
        next
        = +20
        at 20
        woken
        = t/g
        recv t g
        = b#1
        ",
    );
}

#[test]
fn a_group_that_begins_with_the_latest_skips_nothing_that_is_sent_from_now_on() {
    check(
        "
        topic t delay
        group late latest
        send t old
        = due +1
        manual
        at 10
        send t x
        = due +10
        recv t late
        = nothing
        send t y
        = due +10
        apply
        sync
        recv t late
        = x#1 y#1
        ",
    );
}
