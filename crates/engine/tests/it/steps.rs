//! Tests that a step with a limit does a bounded amount of work, and that the next one goes on.

use std::collections::BTreeMap;

use engine::limits::{READ_MESSAGES_MAX, RECEIVE_UNITS};
use engine::{
    Config, Delivery, Engine, GroupSpec, Limits, MemoryStore, NewMessage, Place, ReceiveRequest,
    TagFilter, TopicKind, TopicSpec,
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

/// Topic t, and a group g that has handed `count` messages of it back for an hour.
fn handed_back(count: usize) -> (Engine<MemoryStore>, ReceiveRequest) {
    let mut engine = Engine::open(MemoryStore::default(), Config::default()).unwrap();
    engine
        .create_topic(TopicSpec::new("t", TopicKind::Mixed))
        .unwrap();
    for _ in 0..count {
        send(&mut engine, "old");
    }
    settle(&mut engine);
    let request = ReceiveRequest {
        topic: "t".into(),
        group: "g".into(),
        messages_max: 256,
        invisible_ms: 60_000,
        filter: TagFilter::All,
        run: false,
    };
    for _ in 0..count.div_ceil(256) {
        for one in engine.receive(NOW_MS + 10, &request).unwrap() {
            let handle = one.handle;
            engine
                .retry_later(NOW_MS + 10, &handle, Some(3_600_000))
                .unwrap();
        }
    }
    settle(&mut engine);
    let stats = engine.group_stats(NOW_MS + 10, "t", "g").unwrap();
    assert_eq!(stats.retrying, count as u64);
    (engine, request)
}

/// Lets time pass until readers may have what is due by then.
fn pass(engine: &mut Engine<MemoryStore>, now_ms: u64) {
    // A poll that finds nothing asks for a new floor, which the disk then has.
    engine.watch("t", "g");
    for _ in 0..3 {
        engine.tick(now_ms).unwrap();
        engine.stage_notes();
        engine.apply(now_ms).unwrap();
        let epoch = engine.applied_epoch();
        engine.durable(epoch);
    }
}

/// Ticks until nothing is left to do; returns how many ticks that took.
fn finish(engine: &mut Engine<MemoryStore>, now_ms: u64) -> u32 {
    let mut steps = 0;
    while engine.next_event_ms().is_some_and(|at_ms| at_ms <= now_ms) {
        engine.begin_step(512);
        engine.tick(now_ms).unwrap();
        let staged = engine.staged_bytes();
        assert!(staged < 64 * 1024, "{staged} bytes in a step");
        assert!(engine.spent() < 1_024, "{} units", engine.spent());
        settle(engine);
        steps += 1;
    }
    steps
}

#[test]
fn many_retries_of_a_group_that_is_reset_go_in_steps_over_a_restart() {
    let (mut engine, request) = handed_back(3_000);
    let now_ms = NOW_MS + 20;
    engine.reset_group(now_ms, "t", "g", now_ms).unwrap();
    let staged = engine.staged_bytes();
    assert!(staged < 1_024, "{staged} bytes for a reset");
    settle(&mut engine);
    let stats = engine.group_stats(now_ms, "t", "g").unwrap();
    assert_eq!((stats.retrying, stats.in_flight), (0, 0));
    let before = engine.store().rows();
    // Some of the rows go, and the broker is restarted.
    for _ in 0..3 {
        engine.begin_step(512);
        engine.tick(now_ms).unwrap();
        settle(&mut engine);
    }
    assert!((before - 1_000..before - 500).contains(&engine.store().rows()));
    let mut engine = Engine::open(engine.into_store(), Config::default()).unwrap();
    // What is handed back from now on comes at its time, before and after the others are gone.
    engine
        .send(now_ms + 1_000, "t", &NewMessage::default())
        .unwrap();
    settle(&mut engine);
    let mut at_ms = now_ms + 2_000;
    pass(&mut engine, at_ms);
    let fresh = engine.receive(at_ms, &request).unwrap();
    assert_eq!(fresh.len(), 1);
    let handle = fresh[0].handle;
    engine.retry_later(at_ms, &handle, Some(3_600_000)).unwrap();
    settle(&mut engine);
    at_ms += 3_600_000;
    pass(&mut engine, at_ms);
    let again = engine.receive(at_ms, &request).unwrap();
    assert_eq!(again.len(), 1, "only the new one");
    assert_eq!(again[0].attempt, 2);
    settle(&mut engine);
    assert!(finish(&mut engine, at_ms) > 1);
    engine.ack(at_ms, &again[0].handle).unwrap();
    settle(&mut engine);
    // One message, one position and one head: no row of a retry is left, nor what said that they are void.
    assert_eq!(engine.tallies().missing_bodies, 0);
    let rows = engine.store().rows();
    assert!(rows < before - 2_990, "{rows} of {before} rows");
}

#[test]
fn many_retries_of_a_topic_that_is_deleted_go_in_steps() {
    let (mut engine, _) = handed_back(2_000);
    let now_ms = NOW_MS + 20;
    let before = engine.store().rows();
    engine.delete_topic("t").unwrap();
    let staged = engine.staged_bytes();
    assert!(staged < 1_024, "{staged} bytes for a topic");
    settle(&mut engine);
    assert!(finish(&mut engine, now_ms) > 5);
    let rows = engine.store().rows();
    assert!(rows <= before - 2_000, "{rows} of {before} rows");
    // Nothing is left to do after a restart either.
    let mut engine = Engine::open(engine.into_store(), Config::default()).unwrap();
    assert_eq!(finish(&mut engine, now_ms), 1);
}

#[test]
fn leased_retries_in_front_after_a_restart_are_passed_in_steps() {
    let (mut engine, request) = handed_back(3_000);
    let now_ms = NOW_MS + 3_600_020;
    pass(&mut engine, now_ms);
    for _ in 0..4 {
        assert_eq!(engine.receive(now_ms, &request).unwrap().len(), 256);
        engine.stage_notes();
    }
    settle(&mut engine);
    let mut engine = Engine::open(engine.into_store(), Config::default()).unwrap();
    pass(&mut engine, now_ms + 300);
    let mut receives = 0;
    let delivered = loop {
        engine.begin_step(100_000);
        let delivered = engine.receive(now_ms + 300, &request).unwrap();
        receives += 1;
        let most = RECEIVE_UNITS + READ_MESSAGES_MAX as u64 + 1_024;
        assert!(engine.spent() <= most, "{} units", engine.spent());
        if !delivered.is_empty() || !engine.is_unfinished("t", "g") {
            break delivered;
        }
    };
    assert!(delivered.len() > 200, "{} came", delivered.len());
    assert!(receives > 1);
}

#[test]
fn the_windows_of_many_fifo_queues_are_looked_at_in_steps() {
    const QUEUES: u16 = 100;
    let limits = Limits {
        fifo_window: 128,
        ..Limits::default()
    };
    let config = Config {
        limits,
        ..Config::default()
    };
    let mut engine = Engine::open(MemoryStore::default(), config).unwrap();
    engine
        .create_topic(TopicSpec::new("t", TopicKind::Fifo).with_queues(QUEUES))
        .unwrap();
    // One message group for each queue, and more of its messages than the window takes.
    let mut of_queue = BTreeMap::new();
    for number in 0.. {
        if of_queue.len() == usize::from(QUEUES) {
            break;
        }
        let message = NewMessage {
            message_group: Some(format!("{number}")),
            ..NewMessage::default()
        };
        let sent = engine.send(NOW_MS, "t", &message).unwrap();
        if of_queue
            .insert(sent.handle.queue, message.clone())
            .is_some()
        {
            continue;
        }
        for _ in 0..128 {
            engine.send(NOW_MS, "t", &message).unwrap();
        }
    }
    settle(&mut engine);
    let request = ReceiveRequest {
        topic: "t".into(),
        group: "g".into(),
        messages_max: 1_000,
        invisible_ms: 60_000,
        filter: TagFilter::All,
        run: false,
    };
    // Every queue is read until its window is full of what waits for its first message.
    let mut held = Vec::new();
    while held.len() < usize::from(QUEUES) || engine.is_unfinished("t", "g") {
        engine.begin_step(2_048);
        held.extend(engine.receive(NOW_MS + 10, &request).unwrap());
    }
    for one in held.iter().step_by(7) {
        let handle = one.handle;
        engine.retry_later(NOW_MS + 10, &handle, Some(0)).unwrap();
        let mut receives = 0;
        loop {
            engine.begin_step(100_000);
            let again = engine.receive(NOW_MS + 10, &request).unwrap();
            receives += 1;
            let most = RECEIVE_UNITS + 128;
            assert!(engine.spent() <= most, "{} units", engine.spent());
            assert!(receives <= 4, "it is not found");
            if again.iter().any(|one| one.handle.place == handle.place) {
                break;
            }
        }
    }
}

#[test]
fn a_page_of_many_queues_reads_little_of_each() {
    let mut engine = Engine::open(MemoryStore::default(), Config::default()).unwrap();
    engine
        .create_topic(TopicSpec::new("t", TopicKind::Delay).with_queues(100))
        .unwrap();
    for number in 0..20_000_u32 {
        let message = NewMessage {
            body: number.to_be_bytes().to_vec().into(),
            delivery: Delivery::At {
                due_ms: NOW_MS + 1_000 + u64::from(number),
            },
            ..NewMessage::default()
        };
        engine.send(NOW_MS, "t", &message).unwrap();
    }
    settle(&mut engine);
    let mut next = 0_u32;
    let mut after = Place::START;
    for _ in 0..4 {
        engine.begin_step(u64::MAX);
        let page = engine.browse(NOW_MS, "t", after, 200).unwrap();
        assert!(engine.spent() < 4_000, "{} units", engine.spent());
        assert!(!page.complete);
        for one in &page.found {
            assert_eq!(one.message.body.as_ref(), next.to_be_bytes());
            next += 1;
        }
        after = page.found.last().unwrap().message.place;
    }
    assert_eq!(next, 800);
}
