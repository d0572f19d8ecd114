//! Tests of changing the settings of topics and groups that exist.

use crate::script::check;

#[test]
fn attempts_and_waits_of_a_group_hold_from_the_next_failure_on() {
    check(
        "
        topic t delay
        send t a
        = due +1
        at 10
        recv t g
        = a#1
        change-group g attempts=2 backoff=1000
        nack g a
        at 1010
        recv t g
        = a#2
        nack g a#2
        crash
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 1, acked +1
        change-group g attempts=0
        = refused: attempts_max must be at least 1
        change-group none attempts=3
        = refused: consumer group 'none' does not exist
        ",
    );
}

#[test]
fn a_group_turns_to_keep_order_while_it_has_nothing_open() {
    check(
        "
        topic t fifo
        group g
        send t a b group=x
        = due +1
        at 10
        recv t g
        = a#1 b#1
        alarms
        = g keeps no order on t
        change-group g fifo=yes
        = refused: consumer group 'g' is not empty (in flight or blocked: 2, to be delivered again: 0); whether it is FIFO can be changed only while it is
        ack g a
        nack g b after=1000
        change-group g fifo=yes
        = refused: consumer group 'g' is not empty (in flight or blocked: 0, to be delivered again: 1); whether it is FIFO can be changed only while it is
        at 1010
        recv t g
        = b#2
        ack g b
        change-group g fifo=yes
        send t c d group=x
        = due +1011
        at 1020
        recv t g
        = c#1
        ack g c
        recv t g
        = d#1
        change-group g fifo=no
        = refused: consumer group 'g' is not empty (in flight or blocked: 1, to be delivered again: 0); whether it is FIFO can be changed only while it is
        ack g d
        change-group g fifo=no
        send t e f group=x
        = due +1021
        at 1030
        recv t g
        = e#1 f#1
        alarms
        = g keeps no order on t
        ",
    );
}

#[test]
fn a_topic_gets_more_queues_and_its_groups_read_them() {
    check(
        "
        topic t delay
        group late latest
        send t a after=10
        = due +10
        recv t g
        = nothing
        recv t late
        = nothing
        watch t g
        change-topic t queues=3
        send t b c d after=10
        = due +10
        at 20
        woken
        = t/g
        recv t g
        = a#1 b#1 c#1 d#1
        ack g a b c d
        recv t late
        = a#1 b#1 c#1 d#1
        crash
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 0, acked +10 +10 +10
        change-topic t queues=2
        = refused: queues can only grow
        change-topic t queues=1025
        = refused: queues is 1025; the most allowed is 1024
        topic m mixed
        change-topic m queues=2
        send m x group=x
        = due +221
        change-topic m queues=3
        = refused: topic 'm' is not empty (messages: 1); queues can be added to a FIFO or MIXED topic only while it is, because a message group would change its queue
        ",
    );
}

#[test]
fn a_topic_gets_another_quota_and_an_index() {
    check(
        "
        topic t delay quota=1
        send t a
        = due +1
        send t b
        = refused: topic 't' holds 40 bytes; its quota is 1
        change-topic t quota=100000
        send t b keys=k after=60000
        = due +60000
        change-topic t indexed=no
        send t c keys=k after=60000
        = due +60000
        find t k
        = b +60000
        change-topic t indexed=yes quota=none
        crash
        send t d keys=k after=60000
        = due +60000
        find t k
        = b +60000, d +60000
        recall b
        = Cancelled
        recall c
        = Cancelled
        recall d
        = Cancelled
        # What is kept is exact, whether a message was indexed or not.
        stats t
        = waiting 1 of 1, 40 bytes, appended 4, removed 3
        ",
    );
}
