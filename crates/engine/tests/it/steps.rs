//! Tests that a step with a limit does a bounded amount of work, and that the next one goes on.

use engine::limits::{READ_MESSAGES_MAX, RECEIVE_UNITS};
use engine::{
    Config, Engine, GroupSpec, MemoryStore, NewMessage, ReceiveRequest, TagFilter, TopicKind,
    TopicSpec,
};

const NOW_MS: u64 = 1_000_000;

fn send(engine: &mut Engine<MemoryStore>, tag: &str) {
    let message = NewMessage {
        tag: Some(tag.to_owned()),
        ..NewMessage::default()
    };
    engine.send(NOW_MS, "t", &message).unwrap();
}

fn settle(engine: &mut Engine<MemoryStore>) {
    engine.apply(NOW_MS).unwrap();
    let epoch = engine.applied_epoch();
    engine.durable(epoch);
}

#[test]
fn a_rare_filter_reads_a_bounded_stretch() {
    let mut engine = Engine::open(MemoryStore::default(), Config::default()).unwrap();
    engine
        .create_topic(TopicSpec::new("t", TopicKind::Mixed))
        .unwrap();
    for _ in 0..10_000 {
        send(&mut engine, "x");
    }
    send(&mut engine, "y");
    settle(&mut engine);
    let request = ReceiveRequest {
        topic: "t".into(),
        group: "g".into(),
        messages_max: 10,
        invisible_ms: 1_000,
        filter: TagFilter::parse("y"),
        run: false,
    };
    let mut receives = 0;
    let delivered = loop {
        engine.begin_step(100_000);
        let delivered = engine.receive(NOW_MS + 10, &request).unwrap();
        receives += 1;
        let most = RECEIVE_UNITS + READ_MESSAGES_MAX as u64 + 1;
        assert!(engine.spent() <= most, "{} units", engine.spent());
        if !delivered.is_empty() {
            break delivered;
        }
        assert!(engine.is_unfinished("t", "g"), "it gave up");
    };
    assert_eq!(delivered[0].message.tag.as_deref(), Some("y"));
    assert!(receives > 10, "{receives} receives");
    assert!(!engine.is_unfinished("t", "g"));
}

#[test]
fn a_read_of_the_store_writes_nothing_and_misses_nothing_that_is_collected() {
    let mut engine = Engine::open(MemoryStore::default(), Config::default()).unwrap();
    engine
        .create_topic(TopicSpec::new("t", TopicKind::Mixed))
        .unwrap();
    send(&mut engine, "x");
    settle(&mut engine);
    send(&mut engine, "y");
    let applied = engine.applied_epoch();
    let request = ReceiveRequest {
        topic: "t".into(),
        group: "g".into(),
        messages_max: 10,
        invisible_ms: 1_000,
        filter: TagFilter::All,
        run: false,
    };
    let receive = |engine: &mut Engine<MemoryStore>| {
        let delivered = engine.receive(NOW_MS + 10, &request).unwrap();
        let tags = delivered.iter().map(|one| one.message.tag.clone().unwrap());
        tags.collect::<Vec<_>>()
    };
    assert_eq!(
        receive(&mut engine).len(),
        0,
        "the first waits for the second"
    );
    assert_eq!(engine.applied_epoch(), applied);
    settle(&mut engine);
    assert_eq!(receive(&mut engine), ["x", "y"]);
}

#[test]
fn leases_of_a_lost_consumer_end_in_steps() {
    let mut engine = Engine::open(MemoryStore::default(), Config::default()).unwrap();
    engine
        .create_topic(TopicSpec::new("t", TopicKind::Mixed))
        .unwrap();
    let group = GroupSpec {
        attempts_max: 1,
        ..GroupSpec::new("g")
    };
    engine.create_group(NOW_MS, group).unwrap();
    for number in 0..300_u32 {
        let mut body = vec![0; 100_000];
        body[..4].copy_from_slice(&number.to_be_bytes());
        let message = NewMessage {
            body: body.into(),
            ..NewMessage::default()
        };
        engine.send(NOW_MS, "t", &message).unwrap();
    }
    settle(&mut engine);
    let request = ReceiveRequest {
        topic: "t".into(),
        group: "g".into(),
        messages_max: 32,
        invisible_ms: 1_000,
        filter: TagFilter::All,
        run: false,
    };
    while !engine.receive(NOW_MS + 10, &request).unwrap().is_empty() {}
    let (now_ms, mut steps) = (NOW_MS + 1_010, 0);
    while engine.next_event_ms().is_some_and(|at_ms| at_ms <= now_ms) {
        engine.begin_step(512);
        engine.tick(now_ms).unwrap();
        let staged = engine.staged_bytes();
        assert!(staged < 4 * 1024 * 1024, "{staged} bytes in a step");
        engine.apply(now_ms).unwrap();
        let epoch = engine.applied_epoch();
        engine.durable(epoch);
        steps += 1;
    }
    assert!(steps > 10, "{steps} steps");
    let letters = engine.peek(0, "%DLQ%g", 512).unwrap();
    let numbers: Vec<_> = letters
        .iter()
        .map(|one| u32::from_be_bytes(one.message.body[..4].try_into().unwrap()))
        .collect();
    assert_eq!(engine.tallies().dead_letters, 300);
    assert!(numbers.is_sorted(), "{numbers:?}");
}
