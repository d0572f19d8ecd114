//! Tests of what is delivered to whom, when, and in which order.

use engine::{
    Config, Engine, Limits, MemoryStore, NewMessage, ReceiveRequest, TagFilter, TopicKind,
    TopicSpec,
};

use crate::script::{check, check_with};

#[test]
fn nothing_comes_before_it_is_due() {
    check(
        "
        topic t mixed
        send t now
        = due +1
        send t soon after=100
        = due +100
        send t absolute at=250
        = due +250
        send t past at=-5000
        = due +1
        send t level level=1
        = due +1000
        send t zero level=0
        = due +1
        send t last level=99
        = due +7200000
        recv t g
        = nothing
        at 99
        recv t g
        = now#1 past#1 zero#1
        at 100
        recv t g
        = soon#1
        at 249
        recv t g
        = nothing
        at 250
        recv t g
        = absolute#1
        at 999
        recv t g
        = nothing
        at 1000
        recv t g
        = level#1
        at 7199999
        recv t g
        = now#2 past#2 zero#2 soon#2 absolute#2 level#2
        at 7200000
        recv t g
        = last#1
        ",
    );
}

#[test]
fn a_queue_is_read_in_order_of_due_time_and_then_of_arrival() {
    check(
        "
        topic t delay
        send t c after=300
        = due +300
        send t a after=100
        = due +100
        send t b1 after=200
        = due +200
        send t b2 after=200
        = due +200
        at 50
        send t b3 after=150
        = due +200
        send t first after=20
        = due +70
        at 1000
        recv t g max=2
        = first#1 a#1
        recv t g max=3
        = b1#1 b2#1 b3#1
        recv t g max=3
        = c#1
        recv t g max=3
        = nothing
        ",
    );
}

#[test]
fn every_group_sees_every_message_and_consumers_of_a_group_share() {
    check(
        "
        topic t delay
        send t m count=4
        = due +1
        at 10
        recv t g max=2
        = m0#1 m1#1
        recv t h max=3
        = m0#1 m1#1 m2#1
        recv t g max=3
        = m2#1 m3#1
        recv t h max=3
        = m3#1
        recv t g
        = nothing
        ack g m0 m1 m2 m3
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 0, acked +1
        group-stats t h
        = ready 0, in flight 4, retrying 0, dead 0, acked 0
        group late latest
        at 20
        recv t late
        = nothing
        send t fresh
        = due +21
        at 30
        recv t late
        = fresh#1
        recv t g
        = fresh#1
        ",
    );
}

#[test]
fn queues_take_turns() {
    check(
        "
        topic t delay queues=3
        send t m count=9
        = due +1
        at 10
        recv t g max=1
        = m0#1
        recv t g max=1
        = m1#1
        recv t g max=1
        = m2#1
        recv t g max=4
        = m3#1 m6#1 m4#1 m7#1
        recv t g max=4
        = m5#1 m8#1
        ",
    );
}

#[test]
fn what_a_filter_does_not_want_counts_as_consumed() {
    check(
        "
        topic t mixed
        send t a1 tag=a
        = due +1
        send t b1 tag=b
        = due +1
        send t none
        = due +1
        send t c1 tag=c
        = due +1
        send t a2 tag=a
        = due +1
        at 10
        recv t g tags=a||c max=2
        = a1#1 c1#1
        recv t g tags=b
        = nothing
        recv t g tags=a
        = nothing
        ack g a1 c1
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 0, acked +1
        recv t h tags=*
        = a1#1 b1#1 none#1 c1#1 a2#1
        recv t only-b tags=zzz
        = nothing
        group-stats t only-b
        = ready 0, in flight 0, retrying 0, dead 0, acked +1
        ",
    );
}

#[test]
fn far_more_than_one_read_of_the_store_comes_out_in_order() {
    check(
        "
        topic t delay
        send t m after=100 count=1500
        = due +100
        send t n after=200 count=600
        = due +200
        at 50
        recv t g
        = nothing
        at 150
        drain t g max=100
        = 1500 messages
        at 199
        drain t g
        = 0 messages
        at 200
        drain t g max=1000
        = 600 messages
        drain t h max=1000
        = 2100 messages
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 0, acked +200
        ",
    );
}

#[test]
fn a_recall_at_the_end_of_the_head_does_not_hide_what_lies_behind() {
    // One read fetches 512 messages, so m511 is where the head of the queue ends.
    check(
        "
        topic t delay
        send t m after=1000 count=600
        = due +1000
        recv t g
        = nothing
        recall m511
        = Cancelled
        at 1000
        drain t g max=1000
        = 599 messages
        ",
    );
}

#[test]
fn a_small_head_loses_nothing() {
    let limits = Limits {
        head_messages_max: 4,
        ..Limits::default()
    };
    check_with(
        Config {
            limits,
            ..Config::default()
        },
        "
        topic t delay
        recv t g
        = nothing
        send t x after=500 count=3
        = due +500
        send t m after=100 count=10
        = due +100
        send t k after=300 count=4
        = due +300
        recall x1
        = Cancelled
        recall m4
        = Cancelled
        recall k3
        = Cancelled
        at 100
        drain t g max=2
        = 9 messages
        at 500
        drain t g max=3
        = 5 messages
        drain t h
        = 14 messages
        group-stats t g
        = ready 0, in flight 0, retrying 0, dead 0, acked +500
        ",
    );
}

#[test]
fn a_head_without_room_for_bytes_loses_nothing() {
    let limits = Limits {
        held_bytes_max: 1,
        ..Limits::default()
    };
    check_with(
        Config {
            limits,
            ..Config::default()
        },
        "
        topic t delay queues=2
        recv t g
        = nothing
        send t m after=100 count=4
        = due +100
        send t n after=50 count=2
        = due +50
        at 60
        recv t g
        = n0#1 n1#1
        at 100
        recv t g
        = m1#1 m3#1 m0#1 m2#1
        send t now count=2
        = due +101
        at 110
        recv t g
        = now0#1 now1#1
        at 120
        recv t g
        = nothing
        ",
    );
}

#[test]
fn a_group_that_is_full_gets_nothing_until_something_ends() {
    let limits = Limits {
        in_flight_max: 2,
        ..Limits::default()
    };
    check_with(
        Config {
            limits,
            ..Config::default()
        },
        "
        topic t delay
        send t m count=4
        = due +1
        at 10
        recv t g
        = m0#1 m1#1
        recv t g
        = nothing
        watch t g
        woken
        = none
        ack g m0
        woken
        = t/g
        recv t g
        = m2#1
        recv t g
        = nothing
        at 40000
        recv t g max=1
        = m1#2
        group-stats t g
        = ready 1, in flight 1, retrying 2, dead 0, acked +1
        ",
    );
}

/// A full group waits for a free place, whatever frees it: here the lease of a last delivery that runs out.
#[test]
fn a_full_group_goes_on_when_the_last_delivery_of_a_message_runs_out() {
    let limits = Limits {
        in_flight_max: 1,
        ..Limits::default()
    };
    check_with(
        Config {
            limits,
            ..Config::default()
        },
        "
        topic t delay
        group g attempts=2
        send t a b
        = due +1
        at 10
        recv t g hide=1000
        = a#1
        at 1010
        tick
        at 1020
        recv t g hide=1000
        = a#2
        recv t g
        = nothing
        watch t g
        woken
        = none
        at 2020
        tick
        woken
        = t/g
        recv t g
        = b#1
        ",
    );
}

#[test]
fn a_full_group_goes_on_while_what_ran_out_waits_to_come_again() {
    let limits = Limits {
        in_flight_max: 1,
        ..Limits::default()
    };
    let config = Config {
        limits,
        ..Config::default()
    };
    for kind in ["", "fifo"] {
        let script = "
        topic t delay
        group g KIND
        send t a
        = due +1
        at 10
        recv t g
        = a#1
        give-back g a
        at 20
        recv t g
        = a#1
        give-back g a
        at 30
        recv t g
        = a#1
        give-back g a
        at 40
        recv t g
        = a#1
        send t b
        = due +41
        lapse g a after=10
        at 45
        recv t g
        = nothing
        watch t g
        woken
        = none
        at 50
        tick
        woken
        = t/g
        recv t g
        = b#1
        ";
        check_with(config.clone(), &script.replace("KIND", kind));
    }
}

#[test]
fn a_receipt_of_before_a_group_left_a_topic_fits_no_delivery_after_it() {
    let mut engine = Engine::open(MemoryStore::default(), Config::default()).unwrap();
    engine
        .create_topic(TopicSpec::new("t", TopicKind::Delay))
        .unwrap();
    engine.send(1_000, "t", &NewMessage::default()).unwrap();
    let receive = |engine: &mut Engine<MemoryStore>, now_ms| {
        engine.apply(now_ms).unwrap();
        engine.durable(engine.applied_epoch());
        let request = ReceiveRequest {
            topic: "t".into(),
            group: "g".into(),
            messages_max: 1,
            invisible_ms: 30_000,
            filter: TagFilter::All,
            run: false,
        };
        let delivered = engine.receive(now_ms, &request).unwrap();
        delivered.first().unwrap().handle
    };
    let before = receive(&mut engine, 1_100);
    engine.unsubscribe("t", "g").unwrap();
    let after = receive(&mut engine, 1_200);
    assert!(engine.ack(1_300, &before).is_err());
    assert!(engine.ack(1_300, &after).is_ok());
}
