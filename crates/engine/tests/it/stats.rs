//! Tests of the statistics of topics and groups, and of the search for messages.

use crate::script::check;

#[test]
fn counts_of_a_topic_and_a_group() {
    check(
        "
        topic t delay
        group g attempts=2 backoff=1000
        send t a b c
        = due +1
        send t x after=60000
        = due +60000
        send t y after=7200000
        = due +7200000
        stats t
        = waiting 5 of 5, 200 bytes, appended 5, removed 0
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 0, acked
        at 10
        recv t g max=2
        = a#1 b#1
        group-stats t g
        = ready 1, in flight 2, retrying 0, dead 0, acked 0
        ack g a
        nack g b
        group-stats t g
        = ready 1, in flight 0, retrying 1, dead 0, acked +1
        recv t g
        = c#1
        dead-letter g c
        group-stats t g
        = ready 0, in flight 0, retrying 1, dead 1, acked +1
        recall x
        = Cancelled
        stats t
        = waiting 1 of 4, 160 bytes, appended 5, removed 1
        at 60000
        recv t g
        = b#2
        nack g b
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 2, acked +1
        stats %DLQ%g
        = waiting 1 of 2, 402 bytes, appended 2, removed 0
        group-stats t unknown
        = refused: consumer group 'unknown' does not exist
        group-stats nowhere g
        = refused: topic 'nowhere' does not exist
        crash
        stats t
        = waiting 1 of 4, 160 bytes, appended 5, removed 1
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 2, acked +1
        ",
    );
}

#[test]
fn what_a_topic_holds_in_bytes_comes_back_to_nothing() {
    check(
        "
        topic t delay
        send t a b after=3600000
        = due +3600000
        send t c after=3600000 id=chosen keys=k1,k2
        = due +3600000
        move a after=7200000
        = due +7200000
        move c after=100000000
        = due +100000000
        recall a
        = Cancelled
        recall b
        = Cancelled
        recall c
        = Cancelled
        stats t
        = waiting 0 of 0, 0 bytes, appended 5, removed 5
        topic u delay unindexed
        send u a b after=3600000
        = due +3600000
        send u c after=3600000 id=chosen keys=k1,k2
        = due +3600000
        move a after=7200000
        = due +7200000
        recall a
        = Cancelled
        recall b
        = Cancelled
        recall c
        = Cancelled
        stats u
        = waiting 0 of 0, 0 bytes, appended 4, removed 4
        ",
    );
}

#[test]
fn the_histogram_of_the_future() {
    check(
        "
        topic t delay
        send t a count=3 after=30000
        = due +30000
        send t b count=2 after=90000
        = due +90000
        send t c after=3700000
        = due +3700000
        send t d count=2 after=200000000
        = due +200000000
        histogram t step=60000 steps=3
        = +0..+60000: 3
        = +60000..+120000: 2
        = +120000..never: 3
        histogram t step=3600000 steps=2
        = +0..+3600000: 5
        = +3600000..never: 3
        at 60000
        histogram t step=60000 steps=2
        = +60000..+120000: 2
        = +120000..never: 3
        stats t
        = waiting 5 of 8, 327 bytes, appended 8, removed 0
        recall b0
        = Cancelled
        histogram t step=60000 steps=2
        = +60000..+120000: 1
        = +120000..never: 3
        histogram t step=0 steps=2
        = refused: step_ms and steps must be at least 1
        histogram t step=1 steps=513
        = refused: steps is 513; the most allowed is 512
        ",
    );
}

#[test]
fn the_bars_add_up_to_what_waits_and_are_exact_where_they_are_fine() {
    check(
        "
        topic t delay
        at 7000
        send t a after=1
        = due +7001
        send t b after=3000
        = due +10000
        send t c after=50000
        = due +57000
        send t d after=70000
        = due +77000
        send t e after=3540000
        = due +3547000
        send t f after=3660000
        = due +3667000
        histogram t step=3600000 steps=3
        = +7000..+3607000: 5
        = +3607000..+7207000: 1
        = +7207000..never: 0
        histogram t step=10000 steps=9
        = +7000..+17000: 2
        = +17000..+27000: 0
        = +27000..+37000: 0
        = +37000..+47000: 0
        = +47000..+57000: 0
        = +57000..+67000: 1
        = +67000..+77000: 0
        = +77000..+87000: 1
        = +87000..never: 2
        stats t
        = waiting 6 of 6, 240 bytes, appended 6, removed 0
        ",
    );
}

#[test]
fn many_messages_of_one_minute_are_estimated_and_not_shown_finer() {
    check(
        "
        topic t delay
        at 30000
        send t m count=600 after=60000
        = due +90000
        histogram t step=10000 steps=9
        = refused: a step of 10000 ms is finer than the counts are: in this stretch they are kept for spans of 60000 ms
        histogram t step=60000 steps=3
        = +30000..+90000: about 300
        = +90000..+150000: about 300
        = +150000..never: 0
        histogram t step=10000 steps=2
        = +30000..+40000: 0
        = +40000..never: 600
        # The rest of a minute that has begun is estimated in the same way for both.
        at 75000
        histogram t step=3600000 steps=2
        = +75000..+3675000: about 449
        = +3675000..never: 0
        stats t
        = waiting 449 of 600, 25690 bytes, appended 600, removed 0
        ",
    );
}

#[test]
fn the_next_messages_by_due_time() {
    check(
        "
        topic t delay queues=3
        send t a after=500
        = due +500
        send t b after=100
        = due +100
        send t c after=300
        = due +300
        send t d after=90000000
        = due +90000000
        send t now
        = due +1
        peek t
        = now +1, b +100, c +300, a +500, d +90000000
        peek t max=2
        = now +1, b +100
        recall c
        = Cancelled
        peek t max=2
        = now +1, b +100
        at 100
        peek t max=2
        = a +500, d +90000000
        peek t max=513
        = refused: messages_max is 513; the most allowed is 512
        ",
    );
}

#[test]
fn messages_are_found_by_key_and_id() {
    check(
        "
        topic t delay queues=2
        send t a after=500 keys=order-1,buyer-7
        = due +500
        send t b after=90000000 keys=order-2,buyer-7 id=chosen
        = due +90000000
        send t c
        = due +1
        find t order-1
        = a +500
        find t buyer-7
        = a +500, b +90000000
        find t chosen
        = b +90000000
        find t @a
        = a +500
        find t @c
        = c +1
        find t nothing
        = nothing
        move a after=700
        = due +700
        move b after=100
        = due +100
        find t @a
        = a +700
        find t order-1
        = a +700
        find t chosen
        = b +100
        move a after=900
        = due +900
        find t @a
        = a +900
        recall a
        = Cancelled
        find t @a
        = nothing
        find t order-1
        = nothing
        crash
        find t buyer-7
        = b +100
        topic u delay unindexed
        send u d after=500 keys=order-1 id=other
        = due +500
        send u e after=500 keys=order-1
        = due +500
        find u order-1
        = nothing
        find u other
        = nothing
        find u @e
        = e +500
        ",
    );
}

#[test]
fn what_is_ready_is_counted_one_by_one_up_to_a_bound() {
    check(
        "
        topic t delay queues=3
        group g attempts=2
        send t a count=200
        = due +1
        send t b count=50 after=20
        = due +20
        at 30
        recv t g max=1
        = a0#1
        group-stats t g
        = ready 249, in flight 1, retrying 0, dead 0, acked 0 0 0
        send t c count=5
        = due +31
        group-stats t g
        = ready 249, in flight 1, retrying 0, dead 0, acked 0 0 0
        crash
        group-stats t g
        = ready 249, in flight 1, retrying 0, dead 0, acked 0 0 0
        exact t g
        = waiting exact, ready exact
        at 300
        send t d count=1500 after=10
        = due +310
        at 320
        recv t g max=2
        = a3#1 a6#1
        group-stats t g
        = ready 1752, in flight 3, retrying 0, dead 0, acked 0 0 0
        # More than the bound: by the counts of what was sent and read.
        exact t g
        = waiting exact, ready estimated
        send t e count=300 after=5
        = due +325
        stats t
        = waiting 2044 of 2055, 88465 bytes, appended 2055, removed 0
        # More than the bound on both sides of the present: they are spread over the minute.
        exact t g
        = waiting estimated, ready estimated
        at 330
        drain t g max=1000
        = 2052 messages
        group-stats t g
        = ready 0, in flight 3, retrying 0, dead 0, acked 0 +325 +325
        exact t g
        = waiting exact, ready exact
        ",
    );
}

#[test]
fn what_waits_in_a_fifo_group_is_ready_and_what_failed_there_is_retried() {
    check(
        "
        topic t fifo
        group g fifo attempts=3 backoff=1000
        send t a1 a2 a3 group=a
        = due +1
        send t b1 b2 group=b
        = due +1
        at 10
        recv t g max=9
        = a1#1 b1#1
        group-stats t g
        = ready 3, in flight 2, retrying 0, dead 0, acked 0
        nack g a1
        group-stats t g
        = ready 3, in flight 1, retrying 1, dead 0, acked 0
        ack g b1
        recv t g max=9
        = b2#1
        group-stats t g
        = ready 2, in flight 1, retrying 1, dead 0, acked 0
        at 1010
        recv t g max=9
        = a1#2
        group-stats t g
        = ready 2, in flight 2, retrying 1, dead 0, acked 0
        ack g a1 b2
        group-stats t g
        = ready 2, in flight 0, retrying 0, dead 0, acked +1
        ",
    );
}
