//! Tests of recalls and reschedules: the truth about every message, whatever was done to it before.

use crate::script::check;

#[test]
fn a_recall_tells_the_truth() {
    check(
        "
        topic t delay
        send t a after=1000
        = due +1000
        send t b after=1000
        = due +1000
        send t now
        = due +1
        recall a
        = Cancelled
        recall a
        = Cancelled
        at 999
        recall b
        = Cancelled
        at 1000
        recall a
        = Unknown
        recall b
        = Unknown
        recall now
        = TooLate
        recv t g
        = now#1
        recall now
        = TooLate
        ack g now
        recall now
        = TooLate
        ",
    );
}

#[test]
fn a_message_that_is_due_is_too_late_whether_read_or_not() {
    check(
        "
        topic t delay
        send t a after=1000
        = due +1000
        at 999
        recall a
        = Cancelled
        send t b after=1000
        = due +1999
        at 1998
        move b after=10
        = due +2008
        at 2007
        recall b
        = Cancelled
        send t c after=100
        = due +2107
        at 2107
        recall c
        = TooLate
        move c after=100
        = TooLate
        recv t g
        = c#1
        ",
    );
}

#[test]
fn recalls_in_the_group_of_changes_that_sent_the_message() {
    check(
        "
        topic t delay queues=2
        manual
        send t a b c after=1000
        = due +1000
        recall a
        = Cancelled
        recall a
        = Cancelled
        move b after=2000
        = due +2000
        recall b
        = Cancelled
        move b after=3000
        = Unknown
        recall b'
        = Cancelled
        move c after=500
        = due +500
        move c after=1500
        = due +1500
        recall c
        = Cancelled
        apply
        sync
        recall c
        = Cancelled
        automatic
        at 5000
        recv t g
        = nothing
        stats t
        = waiting 0 of 0, 0 bytes, appended 6, removed 6
        ",
    );
}

#[test]
fn a_cancelled_message_is_not_brought_back_by_its_first_handle() {
    check(
        "
        topic t delay
        send t a after=1000
        = due +1000
        move a after=2000
        = due +2000
        manual
        # Both in one group of changes, by the handle from before the move.
        recall a
        = Cancelled
        recall a
        = Cancelled
        move a after=3000
        = Unknown
        apply
        sync
        automatic
        stats t
        = waiting 0 of 0, 0 bytes, appended 2, removed 2
        at 5000
        recv t g
        = nothing
        ",
    );
}

#[test]
fn a_rescheduled_message_is_named_by_old_and_new_handles() {
    check(
        "
        topic t delay
        send t a after=1000
        = due +1000
        move a after=5000
        = due +5000
        move a after=2000
        = due +2000
        move a' after=3000
        = due +3000
        recall a''
        = Cancelled
        recall a
        = Cancelled
        recall a'
        = Cancelled
        send t b after=1000
        = due +1000
        move b after=200
        = due +200
        at 200
        recall b
        = TooLate
        move b after=10
        = TooLate
        recv t g
        = b#1
        ack g b
        recall b'
        = TooLate
        ",
    );
}

#[test]
fn a_reschedule_keeps_everything_but_the_time() {
    check(
        "
        topic t fifo
        group g fifo
        send t a group=m after=1000 tag=x keys=k id=mine
        = due +1000
        send t b group=m after=1000
        = due +1000
        move a after=2000
        = due +2000
        at 1000
        recv t g tags=x
        = nothing
        at 2000
        recv t g tags=x
        = a#1
        find t mine
        = a +2000
        ",
    );
}

#[test]
fn recalls_and_moves_outlive_a_crash() {
    check(
        "
        topic t delay
        send t a b after=1000
        = due +1000
        send t c after=10000
        = due +10000
        recall a
        = Cancelled
        move b after=3000
        = due +3000
        crash
        recall a
        = Cancelled
        at 1000
        recv t g
        = nothing
        recall b
        = Cancelled
        recall b
        = Cancelled
        move c after=100
        = due +1100
        crash
        recall c'
        = TooLate
        at 10000
        recv t g
        = c#1
        ",
    );
}

#[test]
fn what_was_not_durable_never_happened() {
    check(
        "
        topic t delay
        send t a after=1000
        = due +1000
        manual
        recall a
        = Cancelled
        apply
        crash
        automatic
        recall a
        = Cancelled
        at 1000
        recv t g
        = nothing
        ",
    );
}
