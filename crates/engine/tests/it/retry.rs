//! Tests of failed deliveries: leases, back-off, attempts, dead letters, handles that have expired.

use crate::script::check;

#[test]
fn a_failed_message_comes_again_after_the_back_off() {
    check(
        "
        topic t delay
        group g attempts=4 backoff=100,200
        send t a
        = due +1
        at 10
        recv t g
        = a#1
        nack g a
        at 109
        recv t g
        = nothing
        at 110
        recv t g
        = a#2
        nack g a
        at 309
        recv t g
        = nothing
        at 310
        recv t g
        = a#3
        nack g a
        at 510
        recv t g
        = a#4
        group-stats t g
        = ready 0, in flight 1, retrying 1, dead 0, acked +1
        nack g a
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 1, acked +1
        at 520
        recv t g
        = nothing
        recv %DLQ%g d
        = a#1
        ",
    );
}

#[test]
fn a_failure_does_not_hold_up_others() {
    check(
        "
        topic t delay
        group g backoff=100
        send t a b
        = due +1
        at 10
        recv t g max=1
        = a#1
        nack g a
        recv t g
        = b#1
        ack g b
        group-stats t g
        = ready 0, in flight 0, retrying 1, dead 0, acked +1
        at 110
        send t c
        = due +111
        at 120
        recv t g
        = a#2 c#1
        ack g a c
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 0, acked +111
        ",
    );
}

#[test]
fn a_lease_that_runs_out_is_a_failure() {
    check(
        "
        topic t delay
        group g attempts=3
        send t a b
        = due +1
        at 10
        recv t g hide=1000
        = a#1 b#1
        next
        = +1010
        at 1009
        recv t g
        = nothing
        hide g a after=500
        next
        = +1010
        at 1010
        recv t g
        = b#2
        at 1508
        recv t g
        = nothing
        at 1509
        recv t g
        = a#2
        ack g a#1
        = a#1: the receipt handle has expired: the message was redelivered or finished since
        ack g b#1
        = b#1: the receipt handle has expired: the message was redelivered or finished since
        ack g a#2
        hide g b after=2000
        at 3508
        recv t g
        = nothing
        at 3509
        recv t g
        = b#3
        at 33509
        recv t g
        = nothing
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 1, acked +1
        tallies
        = Tallies { missing_bodies: 0, damaged_messages: 0, repeats: 0, groups_given_up: 0, partitions_dropped: 0, dead_letters: 1, transactions_given_up: 0 }
        ",
    );
}

#[test]
fn a_handle_that_has_expired_is_refused() {
    check(
        "
        topic t delay
        group g backoff=100
        send t front
        = due +1
        send t a
        = due +1
        at 10
        recv t g
        = front#1 a#1
        nack g a
        # The message comes again, so an acknowledgement of the delivery that failed must not say that it is done.
        ack g a#1
        = a#1: the receipt handle has expired: the message was redelivered or finished since
        nack g a#1
        = a#1: the receipt handle has expired: the message was redelivered or finished since
        hide g a#1 after=100
        = a#1: the receipt handle has expired: the message was redelivered or finished since
        dead-letter g a#1
        = a#1: the receipt handle has expired: the message was redelivered or finished since
        at 110
        recv t g
        = a#2
        ack g a#1
        = a#1: the receipt handle has expired: the message was redelivered or finished since
        ack g a#2
        ack g a#2
        = a#2: the receipt handle has expired: the message was redelivered or finished since
        ack g front
        ack g front
        = front: the receipt handle has expired: the message was redelivered or finished since
        recv t g
        = nothing
        at 40000
        recv t g
        = nothing
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 0, acked +1
        ",
    );
}

#[test]
fn an_acknowledgement_may_be_repeated_while_it_is_remembered() {
    check(
        "
        topic t delay
        send t a b c
        = due +1
        at 10
        recv t g
        = a#1 b#1 c#1
        ack g b
        ack g b
        ack g a
        ack g a
        = a: the receipt handle has expired: the message was redelivered or finished since
        ack g c
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 0, acked +1
        ",
    );
}

#[test]
fn a_lease_in_front_blocks_nothing() {
    check(
        "
        topic t delay
        send t m count=4200
        = due +1
        at 10
        recv t g max=1
        = m0#1
        group-stats t g
        = ready 4199, in flight 1, retrying 0, dead 0, acked 0
        drain t g max=1000
        = 4199 messages
        # The first lease is still open, and nothing has to make way for it: what is done takes no place.
        group-stats t g
        = ready 0, in flight 1, retrying 0, dead 0, acked 0
        hide g m0 after=60000
        ack g m0
        ack g m0
        = m0: the receipt handle has expired: the message was redelivered or finished since
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 0, acked +1
        at 30010
        recv t g
        = nothing
        ",
    );
}

#[test]
fn a_lease_in_front_that_runs_out_comes_again() {
    check(
        "
        topic t delay
        send t m count=4200
        = due +1
        at 10
        recv t g max=1
        = m0#1
        drain t g max=1000
        = 4199 messages
        crash
        recv t g
        = nothing
        at 30009
        recv t g
        = nothing
        at 30010
        recv t g
        = m0#2
        ack g m0#1
        = m0#1: the receipt handle has expired: the message was redelivered or finished since
        ack g m0#2
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 0, acked +1
        ",
    );
}

#[test]
fn a_message_handed_over_as_dead_letter_says_where_it_comes_from() {
    check(
        "
        topic t delay
        group g
        send t a id=mine keys=k tag=x
        = due +1
        at 10
        recv t g
        = a#1
        dead-letter g a
        dead-letter g a
        = a: the receipt handle has expired: the message was redelivered or finished since
        at 20
        recv %DLQ%g d tags=x
        = a#1
        find %DLQ%g mine
        = a +11
        find %DLQ%g k
        = a +11
        recv t g
        = nothing
        ",
    );
}

#[test]
fn a_dead_letter_is_not_acknowledged_by_a_handle_from_before() {
    check(
        "
        topic t delay
        group g attempts=1
        send t front a b
        = due +1
        at 10
        recv t g
        = front#1 a#1 b#1
        dead-letter g a
        ack g a
        = a: the receipt handle has expired: the message was redelivered or finished since
        nack g b
        ack g b
        = b: the receipt handle has expired: the message was redelivered or finished since
        ack g front
        at 20
        recv %DLQ%g d
        = a#1 b#1
        ",
    );
}

#[test]
fn retries_are_not_early_either() {
    check(
        "
        topic t delay
        group g backoff=100
        send t a
        = due +1
        at 10
        recv t g
        = a#1
        manual
        nack g a
        apply
        at 110
        recv t g
        = nothing
        sync
        recv t g
        = a#2
        ",
    );
}

#[test]
fn retries_come_in_the_order_of_their_time() {
    check(
        "
        topic t delay
        group g
        send t m count=5
        = due +1
        at 10
        recv t g
        = m0#1 m1#1 m2#1 m3#1 m4#1
        nack g m4 after=50
        nack g m0 after=200
        nack g m1 after=100
        at 60
        recv t g
        = m4#2
        at 300
        recv t g max=1
        = m1#2
        recv t g max=1
        = m0#2
        recv t g max=1
        = nothing
        ",
    );
}

#[test]
fn a_lease_that_made_way_is_as_good_as_any() {
    check(
        "
        topic t delay
        group g backoff=100 attempts=2
        send t m count=4100
        = due +1
        at 10
        take t g max=1000
        = 4100 messages
        # Four leases are on the retry timeline until they end.
        group-stats t g
        = ready 0, in flight 4096, retrying 4, dead 0, acked +1
        hide g m0 m1 after=60000
        nack g m2 after=500
        nack g m2
        = m2: the receipt handle has expired: the message was redelivered or finished since
        dead-letter g m3
        dead-letter g m3
        = m3: the receipt handle has expired: the message was redelivered or finished since
        group-stats t g
        = ready 0, in flight 4096, retrying 3, dead 1, acked +1
        at 510
        recv t g hide=60000
        = m2#2
        ack g m2#1
        = m2#1: the receipt handle has expired: the message was redelivered or finished since
        ack g m2#2
        at 20000
        hide g m1 after=10
        at 20009
        recv t g
        = nothing
        at 20010
        recv t g hide=60000
        = m1#2
        nack g m1#1
        = m1#1: the receipt handle has expired: the message was redelivered or finished since
        nack g m1#2
        group-stats t g
        = ready 0, in flight 4096, retrying 1, dead 2, acked +1
        ack g m0
        group-stats t g
        = ready 0, in flight 4096, retrying 0, dead 2, acked +1
        ",
    );
}

#[test]
fn the_last_delivery_is_the_last_although_its_lease_made_way() {
    check(
        "
        topic t delay
        group g attempts=1
        send t m count=4098
        = due +1
        at 10
        take t g max=1000
        = 4098 messages
        nack g m0 after=500
        group-stats t g
        = ready 0, in flight 4096, retrying 1, dead 1, acked +1
        at 30010
        recv t g
        = nothing
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 4098, acked +1
        ",
    );
}

#[test]
fn what_was_not_worked_on_costs_no_attempt() {
    check(
        "
        topic t delay
        topic f fifo
        group g attempts=1
        group o attempts=1 fifo
        send t front
        = due +1
        send t a
        = due +1
        send f b1 b2 group=b
        = due +1
        at 10
        recv t g
        = front#1 a#1
        give-back g a
        give-back g a#1
        = a#1: the receipt handle has expired: the message was redelivered or finished since
        at 20
        recv t g
        = a#1
        ack g front
        give-back g a
        at 30
        recv t g
        = a#1
        give-back g a
        at 40
        recv t g
        = a#1
        # The fourth time it waits.
        give-back g a
        at 1030
        recv t g
        = nothing
        at 1050
        recv t g hide=500
        = a#1
        nack g a
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 1, acked +1
        recv f o
        = b1#1
        give-back o b1
        ack o b1
        = b1: the receipt handle has expired: the message was redelivered or finished since
        recv f o
        = b1#1
        give-back o b1
        crash
        recv f o
        = b1#1
        ack o b1
        ",
    );
}

#[test]
fn a_lease_that_is_let_lapse_costs_no_attempt() {
    check(
        "
        topic t delay
        topic f fifo
        group g attempts=1
        group o attempts=1 fifo
        send f b group=b
        = due +1
        send t a
        = due +1
        at 10
        recv f o hide=60000
        = b#1
        recv t g hide=60000
        = a#1
        lapse o b after=100
        lapse g a after=100
        at 110
        at 111
        recv f o hide=60000
        = b#1
        recv t g hide=60000
        = a#1
        # A renewal makes it count again.
        lapse o b after=100
        hide o b after=200
        lapse g a after=100
        hide g a after=200
        at 311
        recv f o
        = nothing
        group-stats f o
        = ready 0, in flight 0, retrying 0, dead 1, acked +1
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 1, acked +1
        lapse o b after=100
        = b: the receipt handle has expired: the message was redelivered or finished since
        ",
    );
}

#[test]
fn what_is_handed_back_for_ever_becomes_a_dead_letter() {
    let mut script = String::from(
        "
        topic t delay
        group g attempts=2
        send t a
        = due +1
        ",
    );
    for round in 1..=10 {
        let attempt = if round < 10 { 1 } else { 2 };
        let at_ms = round * 100_000;
        let round = [
            format!("at {at_ms}"),
            "recv t g".into(),
            format!("= a#{attempt}"),
            "give-back g a".into(),
        ];
        script.push_str(&(round.join("\n") + "\n"));
    }
    script += "group-stats t g\n= ready 0, in flight 0, retrying 0, dead 1, acked +1\n";
    check(&script);
}
