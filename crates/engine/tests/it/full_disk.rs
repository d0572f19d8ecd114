//! Tests of what gives its space back before its retention: a full disk, deleted topics, cancelled messages.

use crate::retention::short;
use crate::script::check_with;

/// A burst that filled the disk and was consumed gives its space back before the hour is over.
#[test]
fn a_full_disk_heals_as_its_messages_are_consumed() {
    check_with(
        short(),
        "
        topic t delay
        topic other delay
        send t a b
        = due +1
        send t later after=3600000
        = due +3600000
        at 10
        recv t g
        = a#1 b#1
        free 1000
        tick
        # What is not acknowledged stays.
        ack g a
        at 2000
        tick
        partitions
        = 0+1h 1+1h
        ack g b
        at 4000
        tick
        at 6000
        tick
        partitions
        = 1+1h
        restart
        free 2000000000
        at 7000
        # The partition takes messages again, and only those are there.
        send t c
        = due +7000
        recv t g
        = c#1
        ack g c
        recv t late
        = c#1
        at 3600001
        recv t g
        = later#1
        ",
    );
}

/// While the disk is full a partition whose end has come goes without waiting for its retention.
#[test]
fn a_full_disk_keeps_nothing_for_the_retention_but_what_nobody_has_read() {
    check_with(
        short(),
        "
        topic t delay
        topic unread delay
        group g attempts=1
        send t a b
        = due +1
        send unread c after=3600000
        = due +3600000
        send t d after=3600000
        = due +3600000
        send t e after=7200000
        = due +7200000
        at 10
        recv t g hide=4000000
        = a#1 b#1
        ack g a
        at 3600010
        # The dead letter goes where c and d are.
        dead-letter g b
        recv t g
        = d#1
        ack g d
        at 7200010
        free 1000
        recv t g
        = e#1
        ack g e
        tick
        at 7202010
        tick
        at 7204010
        tick
        # a and b, and e; not the one with c and the dead letter.
        partitions
        = 1+1h
        recv unread h
        = c#1
        recv %DLQ%g h
        = b#1
        ",
    );
}

/// A deleted topic gives its space back, alone in a partition or beside others.
#[test]
fn a_deleted_topic_gives_its_space_back_at_once() {
    check_with(
        short(),
        "
        topic t delay
        topic gone delay
        send gone x after=864000000
        = due +864000000
        send gone y z after=3600000
        = due +3600000
        send t a after=3600000
        = due +3600000
        rows
        = 12
        drop-topic gone
        tick
        at 2000
        tick
        at 4000
        tick
        # Two rows of the message, its counts, the topic and the head.
        rows
        = 5
        partitions
        = 1+1h
        at 3600001
        recv t g
        = a#1
        ",
    );
}

/// Cancelled to the last message, a partition goes as well.
#[test]
fn a_partition_of_cancelled_messages_goes() {
    check_with(
        short(),
        "
        topic t delay
        send t a after=864000000
        = due +864000000
        recall a
        = Cancelled
        at 60000
        tick
        at 62000
        tick
        partitions
        = none
        ",
    );
}
