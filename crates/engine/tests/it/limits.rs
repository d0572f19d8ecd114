//! Tests of every limit, and of the text of each refusal.

use engine::{Config, Engine, GroupSpec, Limits, MemoryStore, NewMessage, TopicKind, TopicSpec};

use crate::script::{START_MS, check, check_with};

#[test]
fn kinds_of_topics_hold_what_they_say() {
    check(
        "
        topic n normal
        topic f fifo
        topic d delay
        topic m mixed
        topic x transaction
        send n a
        = due +1
        send n a after=1
        = refused: topic 'n' holds NORMAL messages; this one is DELAY. Send it to a DELAY or MIXED topic
        send n a level=0
        = due +1
        send n a level=3
        = refused: topic 'n' holds NORMAL messages; this one is DELAY. Send it to a DELAY or MIXED topic
        send n a group=g
        = refused: topic 'n' holds NORMAL messages; this one is FIFO. Send it to a FIFO or MIXED topic
        send f a
        = refused: topic 'f' holds FIFO messages; this one is NORMAL. Send it to a NORMAL or MIXED topic
        send f a group=g
        = due +1
        send f a group=g after=10
        = due +10
        send d a
        = due +1
        send d a after=10
        = due +10
        send d a group=g
        = refused: topic 'd' holds DELAY messages; this one is FIFO. Send it to a FIFO or MIXED topic
        send m a after=5 group=g
        = due +5
        send x a
        = refused: topic 'x' holds TRANSACTION messages; this one is NORMAL. Send it to a NORMAL or MIXED topic
        send nowhere a
        = refused: topic 'nowhere' does not exist
        ",
    );
}

#[test]
fn delays_have_a_longest() {
    let limits = Limits {
        delay_ms_max: 10_000,
        ..Limits::default()
    };
    check_with(
        Config {
            limits,
            ..Config::default()
        },
        "
        topic t delay
        send t a after=10000
        = due +10000
        send t a after=10001
        = refused: delay in ms is 10001; the most allowed is 10000
        send t a after=18446744073709551615
        = refused: delay in ms is 18446744073709551615; the most allowed is 10000
        send t a at=10000
        = due +10000
        send t a at=10001
        = refused: delay in ms is 10001; the most allowed is 10000
        send t b after=100
        = due +100
        move b after=10001
        = refused: delay in ms is 10001; the most allowed is 10000
        move b after=10000
        = due +10000
        recv t g
        = nothing
        at 10
        send t c
        = due +11
        at 20
        recv t g
        = c#1
        nack g c after=10001
        = c: delay in ms is 10001; the most allowed is 10000
        hide g c after=43200001
        = c: invisible duration in ms is 43200001; the most allowed is 43200000
        hide g c after=43200000
        recv t g hide=43200001
        = refused: invisible duration in ms is 43200001; the most allowed is 43200000
        ",
    );
}

#[test]
fn numbers_of_topics_and_groups_have_a_limit() {
    let limits = Limits {
        topics_max: 1,
        groups_max: 1,
        batch_max: 5,
        ..Limits::default()
    };
    check_with(
        Config {
            limits,
            ..Config::default()
        },
        "
        topic a delay
        topic a delay
        topic a normal
        = refused: topic 'a' exists already with other settings: kind is DELAY, not NORMAL
        topic b delay
        = refused: topics is 2; the most allowed is 1
        topic b/c delay
        = refused: topic name may hold letters, digits and _ - % | . only
        topic c delay queues=0
        = refused: queues must be at least 1
        topic c delay queues=1025
        = refused: queues is 1025; the most allowed is 1024
        group g
        group g
        group g fifo
        = refused: consumer group 'g' exists already with other settings: fifo is false, not true
        group h
        = refused: consumer groups is 2; the most allowed is 1
        group h attempts=0
        = refused: attempts_max must be at least 1
        recv a h
        = refused: messages_max is 32; the most allowed is 5
        recv a g max=6
        = refused: messages_max is 6; the most allowed is 5
        recv nowhere g
        = refused: messages_max is 32; the most allowed is 5
        topics
        = a
        groups
        = g
        ",
    );
}

#[test]
fn groups_are_made_on_first_use_if_that_is_configured() {
    let config = Config {
        auto_topic: Some((TopicKind::Mixed, 2)),
        auto_group: false,
        ..Config::default()
    };
    check_with(
        config,
        "
        send t a after=99999999999999
        = refused: delay in ms is 99999999999999; the most allowed is 316224000000
        topics
        send t a
        = due +0
        topic t mixed queues=2
        recv t g
        = refused: consumer group 'g' does not exist
        group g
        at 10
        recv t g
        = a#1
        ",
    );
}

#[test]
fn a_topic_keeps_to_its_quota() {
    check(
        "
        topic t delay quota=1000
        send t a size=900
        = due +1
        send t b size=900
        = due +1
        send t c
        = refused: topic 't' holds 1880 bytes; its quota is 1000
        topic u delay
        send u c
        = due +1
        stats t
        = waiting 2 of 2, 1880 bytes, appended 2, removed 0
        recv t g
        = nothing
        at 10
        recv t g
        = a#1 b#1
        ack g a b
        send t c
        = refused: topic 't' holds 1880 bytes; its quota is 1000
        ",
    );
}

#[test]
fn new_messages_stop_at_the_disk_reserve_and_everything_else_goes_on() {
    check(
        "
        topic t delay
        group g backoff=10
        send t a b c
        = due +1
        send t later after=5000
        = due +5000
        send t moved after=5000
        = due +5000
        at 10
        recv t g
        = a#1 b#1 c#1
        free 1073741823
        send t x
        = refused: the disk has 1073741823 bytes free; new messages stop at a reserve of 1073741824
        ack g a
        nack g b
        dead-letter g c
        recall later
        = Cancelled
        move moved after=100
        = due +110
        at 30
        recv t g
        = b#2
        recv %DLQ%g d
        = c#1
        at 110
        recv t g
        = moved#1
        free 1073741824
        send t x
        = due +111
        ",
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn fields_of_a_message_have_limits() {
    let mut engine = Engine::open(MemoryStore::default(), Config::default()).unwrap();
    engine
        .create_topic(TopicSpec::new("t", TopicKind::Mixed))
        .unwrap();
    let text = |length: usize| "x".repeat(length);
    let good = NewMessage::default;
    let mut refusal = |message: NewMessage| match engine.send(START_MS, "t", &message) {
        Ok(_) => "stored".to_owned(),
        Err(error) => error.to_string(),
    };
    let cases = [
        (
            NewMessage {
                body: vec![0; 4 << 20].into(),
                ..good()
            },
            "stored",
        ),
        (
            NewMessage {
                body: vec![0; (4 << 20) + 1].into(),
                ..good()
            },
            "body is 4194305; the most allowed is 4194304",
        ),
        (
            NewMessage {
                message_id: Some(text(255)),
                ..good()
            },
            "stored",
        ),
        (
            NewMessage {
                message_id: Some(text(256)),
                ..good()
            },
            "message_id is 256; the most allowed is 255",
        ),
        (
            NewMessage {
                tag: Some(text(16 << 10)),
                ..good()
            },
            "stored",
        ),
        (
            NewMessage {
                tag: Some(text((16 << 10) + 1)),
                ..good()
            },
            "tag is 16385; the most allowed is 16384",
        ),
        (
            NewMessage {
                keys: vec![text(272); 64],
                ..good()
            },
            "stored",
        ),
        (
            NewMessage {
                keys: vec![text(1); 65],
                ..good()
            },
            "keys is 65; the most allowed is 64",
        ),
        (
            NewMessage {
                keys: vec![text((16 << 10) + 1)],
                ..good()
            },
            "key is 16385; the most allowed is 16384",
        ),
        (
            NewMessage {
                message_group: Some(text(64)),
                ..good()
            },
            "stored",
        ),
        (
            NewMessage {
                message_group: Some(text(65)),
                ..good()
            },
            "message_group is 65; the most allowed is 64",
        ),
        (
            NewMessage {
                properties: vec![(text(1), text(127)); 136],
                ..good()
            },
            "stored",
        ),
        (
            NewMessage {
                properties: vec![(text(1), text(128)); 136],
                ..good()
            },
            "properties, tag and keys in bytes is 17544; the most allowed is 17408",
        ),
        (
            NewMessage {
                tag: Some(text(16 << 10)),
                keys: vec![text(1_000)],
                properties: vec![(text(1), text(24))],
                ..good()
            },
            "properties, tag and keys in bytes is 17409; the most allowed is 17408",
        ),
        (
            NewMessage {
                properties: vec![(text(1), text(1)); 137],
                ..good()
            },
            "properties is 137; the most allowed is 136",
        ),
        (
            NewMessage {
                tag: Some(String::new()),
                ..good()
            },
            "message_id, message_group or tag must not be empty when given",
        ),
    ];
    for (message, expected) in cases {
        assert_eq!(refusal(message), expected);
    }
}

#[test]
fn names_of_groups_have_limits() {
    let mut engine = Engine::open(MemoryStore::default(), Config::default()).unwrap();
    for (name, expected) in [
        ("g".repeat(120), "created"),
        (
            "g".repeat(121),
            "consumer group name is 121; the most allowed is 120",
        ),
        (String::new(), "consumer group name must not be empty"),
    ] {
        let result = engine.create_group(START_MS, GroupSpec::new(name));
        assert_eq!(
            result.map_or_else(|error| error.to_string(), |_| "created".into()),
            expected
        );
    }
    let steps = GroupSpec {
        backoff_ms: vec![1; 65],
        ..GroupSpec::new("steps")
    };
    let error = engine.create_group(START_MS, steps).unwrap_err();
    assert_eq!(
        error.to_string(),
        "backoff_ms is 65; the most allowed is 64"
    );
}

#[test]
fn repeated_sends_are_stored_once_within_the_window() {
    let limits = Limits {
        repeat_window_ms: 1_000,
        repeat_window_sends: 2,
        ..Limits::default()
    };
    check_with(
        Config {
            limits,
            ..Config::default()
        },
        "
        topic t delay
        topic u delay
        send t a id=1 after=500
        = due +500
        send t a id=1 after=700
        = due +500 repeated
        send t b id=1 after=500
        = refused: message_id '1' was used for another message 0 s ago. Choose another id, or cancel that message first
        send u c id=1
        = due +1
        # Two sends are remembered: with this one the first is forgotten.
        send t d id=2
        = due +1
        send t e id=1
        = due +1
        # By now the window has passed.
        at 1100
        send t f id=1
        = due +1100
        at 1150
        send t f id=1
        = due +1100 repeated
        stats t
        = waiting 0 of 4, 292 bytes, appended 4, removed 0
        ",
    );
}

#[test]
fn a_repeat_is_the_same_message_and_that_is_still_there() {
    check(
        "
        topic t delay
        send t a id=1 after=1000 tag=x keys=k1,k2 group=m properties=2
        = refused: topic 't' holds DELAY messages; this one is FIFO. Send it to a FIFO or MIXED topic
        send t a id=1 after=1000 tag=x keys=k1,k2 properties=2
        = due +1000
        send t a id=1 after=1000 tag=x keys=k1,k2 properties=2
        = due +1000 repeated
        at 1999
        send t a id=1 after=1000 tag=y keys=k1,k2 properties=2
        = refused: message_id '1' was used for another message 1 s ago. Choose another id, or cancel that message first
        send t a id=1 after=1000 tag=x keys=k1 properties=2
        = refused: message_id '1' was used for another message 1 s ago. Choose another id, or cancel that message first
        send t a id=1 after=1000 tag=x keys=k1,k2 properties=1
        = refused: message_id '1' was used for another message 1 s ago. Choose another id, or cancel that message first
        # A cancelled message frees its id.
        send t b id=2 after=1000
        = due +2999
        recall b
        = Cancelled
        send t b id=2 after=1000
        = due +2999
        send t b id=2 after=1000
        = due +2999 repeated
        # Cancelled again, by the handle of the repeated send.
        recall b
        = Cancelled
        send t b id=2 after=1000
        = due +2999
        # A moved one keeps it, and the answer says where it is now.
        move b after=3000
        = due +4999
        send t b id=2 after=1000
        = due +4999 repeated
        at 2000
        move b after=500
        = due +2500
        send t b id=2 after=1000
        = due +2500 repeated
        at 2500
        recv t g
        = a#1
        recv t g
        = b#1
        ack g a b
        # It was delivered, so it is not stored again.
        send t b id=2 after=1000
        = due +2500 repeated
        ",
    );
}

#[test]
fn a_repeat_is_recognised_after_a_restart_where_the_topic_is_indexed() {
    check(
        "
        topic t delay
        topic u delay unindexed
        send t a id=1 after=600000
        = due +600000
        send t b id=2 after=600000
        = due +600000
        send t c id=3 after=600000
        = due +600000
        send t d id=4 after=600000 keys=5
        = due +600000
        send u z id=1 after=600000
        = due +600000
        recall b
        = Cancelled
        move c after=86400000
        = due +86400000
        at 119999
        crash
        send t a id=1 after=600000
        = due +600000 repeated
        send t x id=1 after=600000
        = refused: message_id '1' was used for another message 119 s ago. Choose another id, or cancel that message first
        send t b id=2 after=600000
        = due +719999
        send t c id=3 after=600000
        = due +86400000 repeated
        # The key of another message is no id.
        send t e id=5 after=600000
        = due +719999
        send u z id=1 after=600000
        = due +719999
        restart
        # Moved and cancelled in the group of changes that the repeated send comes in.
        manual
        move a after=900000
        = due +1019999
        send t a id=1 after=600000
        = due +1019999 repeated
        recall d
        = Cancelled
        send t d id=4 after=600000 keys=5
        = due +719999
        automatic
        at 120001
        restart
        # The window has passed.
        send t a id=1 after=600000
        = due +720001
        ",
    );
}

#[test]
fn a_busy_topic_makes_no_other_forget_its_sends() {
    let limits = Limits {
        repeat_window_sends: 100,
        ..Limits::default()
    };
    let config = Config {
        limits,
        ..Config::default()
    };
    let mut engine = Engine::open(MemoryStore::default(), config).unwrap();
    for topic in ["busy", "calm"] {
        engine
            .create_topic(TopicSpec::new(topic, TopicKind::Mixed))
            .unwrap();
    }
    let mut repeats = |topic: &str, number: usize| {
        let message = NewMessage {
            message_id: Some(format!("m-{number}")),
            ..NewMessage::default()
        };
        engine.send(START_MS, topic, &message).unwrap().repeated
    };
    for number in 0..1_000 {
        assert!(!repeats("busy", number));
    }
    for number in 0..40 {
        assert!(!repeats("calm", number));
    }
    for number in 1_000..5_000 {
        assert!(!repeats("busy", number));
    }
    assert!((0..40).all(|number| repeats("calm", number)));
    assert!((4_960..5_000).all(|number| repeats("busy", number)));
    assert!(!repeats("busy", 4_900));
}
