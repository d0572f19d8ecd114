//! Tests of keyed timers, browsing, dead letters, and which group reads which topic.

use engine::{
    Config, DEAD_LETTER_TOPIC_PROPERTY, Delivered, Delivery, Engine, Error, Found, GroupSpec,
    MemoryStore, NewMessage, Place, Recall, ReceiveRequest, TIMER_PROPERTY, TagFilter, Timer,
    TimerContent, TopicKind, TopicSpec,
};

use crate::script::START_MS;

/// An engine whose changes are durable after each step.
struct Operator {
    engine: Engine<MemoryStore>,
    now_ms: u64,
}

impl Operator {
    fn new() -> Self {
        let mut engine = Engine::open(MemoryStore::default(), Config::default()).unwrap();
        let topic = TopicSpec::new("t", TopicKind::Delay).with_queues(2);
        engine.create_topic(topic).unwrap();
        let group = GroupSpec {
            attempts_max: 2,
            backoff_ms: vec![10],
            ..GroupSpec::new("g")
        };
        engine.create_group(START_MS, group).unwrap();
        let mut operator = Self {
            engine,
            now_ms: START_MS,
        };
        operator.settle();
        operator
    }

    fn settle(&mut self) {
        for _ in 0..3 {
            self.engine.tick(self.now_ms).unwrap();
            self.engine.apply(self.now_ms).unwrap();
            let epoch = self.engine.applied_epoch();
            self.engine.durable(epoch);
        }
    }

    fn at(&mut self, after_ms: u64) {
        self.now_ms = START_MS + after_ms;
        self.settle();
    }

    /// Goes on with what the store holds, as after a restart.
    fn restart(&mut self) {
        self.settle();
        let store = self.engine.store().clone();
        self.engine = Engine::open(store, Config::default()).unwrap();
        self.now_ms += 1_000;
        self.settle();
    }

    fn send(&mut self, body: &str, delivery: Delivery) {
        let message = NewMessage {
            body: body.to_owned().into(),
            keys: vec!["k".to_owned()],
            delivery,
            ..NewMessage::default()
        };
        self.engine.send(self.now_ms, "t", &message).unwrap();
        self.settle();
    }

    fn receive(&mut self, topic: &str, group: &str) -> Vec<Delivered> {
        self.settle();
        let request = ReceiveRequest {
            topic: topic.to_owned(),
            group: group.to_owned(),
            messages_max: 32,
            invisible_ms: 1_000,
            filter: TagFilter::All,
            run: false,
        };
        let mut delivered = self.engine.receive(self.now_ms, &request).unwrap();
        // As a poll that waits a little: what was only held back by the disk comes now.
        self.settle();
        delivered.extend(self.engine.receive(self.now_ms, &request).unwrap());
        self.settle();
        delivered
    }

    /// Makes dead letters of messages with these bodies.
    fn make_dead_letters(&mut self, bodies: &[&str]) -> Vec<Found> {
        for body in bodies {
            self.send(body, Delivery::Now);
        }
        self.now_ms += 1;
        let mut delivered = self.receive("t", "g");
        delivered.sort_by_key(|delivery| delivery.message.place);
        for delivery in delivered {
            self.engine
                .dead_letter(self.now_ms, &delivery.handle)
                .unwrap();
        }
        self.now_ms += 1;
        self.settle();
        self.browse("%DLQ%g")
    }

    fn browse(&mut self, topic: &str) -> Vec<Found> {
        let browsed = self.engine.browse(self.now_ms, topic, Place::START, 100);
        browsed.unwrap().found
    }

    fn set(&mut self, key: &str, delay_ms: u64, content: TimerContent) -> (u64, bool) {
        let delivery = Delivery::After { delay_ms };
        let set = self
            .engine
            .set_timer(self.now_ms, ("t", key), delivery, content);
        self.settle();
        let set = set.unwrap();
        (set.sent.due_ms() - START_MS, set.created)
    }

    fn timer(&mut self, key: &str) -> Timer {
        self.engine.timer(self.now_ms, "t", key).unwrap()
    }

    fn cancel(&mut self, key: &str) -> Recall {
        let verdict = self.engine.cancel_timer(self.now_ms, "t", key).unwrap();
        self.settle();
        verdict
    }
}

fn content(body: &str) -> TimerContent {
    TimerContent {
        body: Some(body.to_owned().into()),
        tag: Some("tag".to_owned()),
        properties: vec![("p".to_owned(), body.to_owned())],
        message_group: None,
    }
}

fn bodies(delivered: &[Delivered]) -> Vec<String> {
    let text = |delivery: &Delivered| String::from_utf8_lossy(&delivery.message.body).into_owned();
    delivered.iter().map(text).collect()
}

fn found_bodies(found: &[Found]) -> Vec<String> {
    let text = |found: &Found| String::from_utf8_lossy(&found.message.body).into_owned();
    found.iter().map(text).collect()
}

#[test]
fn a_timer_is_made_once_and_moved_after_that() {
    let mut operator = Operator::new();
    operator.send(
        "an ordinary message with the key",
        Delivery::After { delay_ms: 50 },
    );
    assert_eq!(operator.set("k", 1_000, content("a")), (1_000, true));
    let Timer::Waiting(first) = operator.timer("k") else {
        panic!("it waits")
    };
    assert_eq!(
        operator.set("k", 3_000, TimerContent::default()),
        (3_000, false)
    );
    assert_eq!(operator.set("k", 2_000, content("b")), (2_000, false));
    assert_eq!(
        operator.set("other", 2_000, TimerContent::default()),
        (2_000, true)
    );
    let Timer::Waiting(moved) = operator.timer("k") else {
        panic!("it waits")
    };
    assert_eq!(moved.message.message_id, first.message.message_id);
    assert_eq!(moved.message.place.due_ms, START_MS + 2_000);
    assert_eq!(moved.message.body, "b");
    let marker = (TIMER_PROPERTY.to_owned(), "k".to_owned());
    assert_eq!(
        moved.message.properties,
        [("p".to_owned(), "b".to_owned()), marker]
    );
    operator.at(2_000);
    let mut delivered = bodies(&operator.receive("t", "g"));
    delivered.sort();
    assert_eq!(delivered, ["", "an ordinary message with the key", "b"]);
    // The first handle still names the message, wherever it went.
    assert_eq!(
        operator
            .engine
            .recall(operator.now_ms, &first.handle)
            .unwrap(),
        Recall::TooLate
    );
}

#[test]
fn a_timer_tells_the_truth_when_it_is_cancelled() {
    let mut operator = Operator::new();
    assert_eq!(operator.cancel("k"), Recall::Unknown);
    operator.set("k", 1_000, TimerContent::default());
    assert_eq!(operator.cancel("k"), Recall::Cancelled);
    assert_eq!(operator.timer("k"), Timer::Unknown);
    assert_eq!(operator.cancel("k"), Recall::Unknown);
    operator.set("k", 1_000, content("a"));
    operator.at(1_000);
    assert_eq!(operator.cancel("k"), Recall::TooLate);
    assert!(matches!(operator.timer("k"), Timer::Due(found) if found.message.body == "a"));
    // Its time has come, so the key is free for the next one.
    assert_eq!(operator.set("k", 500, content("b")), (1_500, true));
    assert!(matches!(operator.timer("k"), Timer::Waiting(found) if found.message.body == "b"));
    assert_eq!(operator.cancel("k"), Recall::Cancelled);
    assert_eq!(operator.cancel("k"), Recall::TooLate);
    assert_eq!(bodies(&operator.receive("t", "g")), ["a"]);
}

#[test]
fn a_timer_is_found_far_ahead_and_after_a_restart() {
    let mut operator = Operator::new();
    operator.set("k", 400 * 86_400_000, content("a"));
    operator.restart();
    assert!(matches!(operator.timer("k"), Timer::Waiting(_)));
    let (due_ms, created) = operator.set("k", 60_000, TimerContent::default());
    assert_eq!((due_ms, created), (61_000, false));
    assert_eq!(operator.browse("t").len(), 1);
    operator.at(61_000);
    assert_eq!(bodies(&operator.receive("t", "g")), ["a"]);
}

#[test]
fn a_timer_that_is_not_allowed_changes_nothing() {
    let mut operator = Operator::new();
    let unindexed = TopicSpec {
        indexed: false,
        ..TopicSpec::new("bare", TopicKind::Delay)
    };
    operator.engine.create_topic(unindexed).unwrap();
    let mut set = |topic, key, content| {
        let delivery = Delivery::After { delay_ms: 1_000 };
        operator
            .engine
            .set_timer(START_MS, (topic, key), delivery, content)
            .unwrap_err()
    };
    assert!(matches!(
        set("nowhere", "k", TimerContent::default()),
        Error::TopicNotFound { .. }
    ));
    assert!(matches!(
        set("bare", "k", TimerContent::default()),
        Error::Invalid { field: "topic", .. }
    ));
    assert!(matches!(
        set("t", "", TimerContent::default()),
        Error::Invalid { field: "key", .. }
    ));
    let long = "k".repeat(256);
    assert!(matches!(
        set("t", &long, TimerContent::default()),
        Error::OverLimit { field: "key", .. }
    ));
    operator.set("k", 1_000, content("a"));
    let mut large = content("b");
    large.tag = Some("x".repeat((16 << 10) + 1));
    let delivery = Delivery::After { delay_ms: 2_000 };
    let refused = operator
        .engine
        .set_timer(operator.now_ms, ("t", "k"), delivery, large);
    assert!(matches!(
        refused,
        Err(Error::OverLimit { field: "tag", .. })
    ));
    assert!(matches!(operator.timer("k"), Timer::Waiting(found) if found.message.body == "a"));
}

#[test]
fn browsing_goes_through_a_topic_in_order_and_in_pages() {
    let mut operator = Operator::new();
    for number in 0..7 {
        let delay_ms = 1_000 * (7 - number);
        operator.send(&number.to_string(), Delivery::After { delay_ms });
    }
    operator.at(2_000);
    assert_eq!(found_bodies(&operator.browse("t")).concat(), "6543210");
    let mut after = Place::START;
    let mut pages = Vec::new();
    loop {
        let page = operator
            .engine
            .browse(operator.now_ms, "t", after, 3)
            .unwrap();
        pages.push(found_bodies(&page.found).concat());
        if page.complete {
            break;
        }
        after = page.found.last().unwrap().message.place;
    }
    assert_eq!(pages, ["654", "321", "0"]);
    let waiting = operator.engine.peek(operator.now_ms, "t", 2).unwrap();
    assert_eq!(found_bodies(&waiting).concat(), "43");
}

#[test]
fn browsing_ends_a_page_by_its_bytes_without_leaving_anything_out() {
    let mut operator = Operator::new();
    for number in 0..12_u8 {
        let body = vec![b'a' + number; 400_000];
        let message = NewMessage {
            body: body.into(),
            delivery: Delivery::After {
                delay_ms: 1_000 + u64::from(number),
            },
            ..NewMessage::default()
        };
        operator
            .engine
            .send(operator.now_ms, "t", &message)
            .unwrap();
    }
    operator.settle();
    let (mut after, mut seen, mut pages) = (Place::START, String::new(), 0);
    loop {
        let page = operator
            .engine
            .browse(operator.now_ms, "t", after, 100)
            .unwrap();
        assert!(page.found.len() <= 3);
        for found in &page.found {
            seen.push(char::from(found.message.body[0]));
            after = found.message.place;
        }
        pages += 1;
        if page.complete {
            break;
        }
    }
    assert_eq!(seen, "abcdefghijkl");
    assert!(pages >= 4);
}

#[test]
fn a_replayed_letter_comes_to_its_group_alone_with_all_its_deliveries() {
    let mut operator = Operator::new();
    let dead_letters = operator.make_dead_letters(&["a", "b"]);
    assert_eq!(found_bodies(&dead_letters), ["a", "b"]);
    assert_eq!(bodies(&operator.receive("t", "others")).len(), 2);
    operator
        .engine
        .replay_dead_letter(operator.now_ms, &dead_letters[0].handle)
        .unwrap();
    operator.now_ms += 5;
    operator.settle();
    assert_eq!(found_bodies(&operator.browse("%DLQ%g")), ["b"]);
    assert!(operator.receive("t", "others").is_empty());
    let delivered = operator.receive("t", "g");
    assert_eq!(bodies(&delivered), ["a"]);
    assert_eq!(delivered[0].attempt, 1);
    let message = &delivered[0].message;
    assert_eq!(message.message_id, dead_letters[0].message.message_id);
    let mut properties = message.properties.iter();
    assert!(!properties.any(|(name, _)| name == DEAD_LETTER_TOPIC_PROPERTY));
    // It fails twice again, and is a dead letter again.
    operator
        .engine
        .retry_later(operator.now_ms, &delivered[0].handle, None)
        .unwrap();
    operator.now_ms += 20;
    let again = operator.receive("t", "g");
    assert_eq!(again[0].attempt, 2);
    operator
        .engine
        .retry_later(operator.now_ms, &again[0].handle, None)
        .unwrap();
    operator.now_ms += 20;
    operator.settle();
    assert_eq!(found_bodies(&operator.browse("%DLQ%g")), ["b", "a"]);
    let twice = operator
        .engine
        .replay_dead_letter(operator.now_ms, &dead_letters[0].handle);
    assert!(matches!(twice, Err(Error::MessageNotFound)));
    let stats = operator
        .engine
        .group_stats(operator.now_ms, "t", "g")
        .unwrap();
    assert_eq!(
        (stats.retrying, stats.in_flight, stats.dead_letters),
        (0, 0, 2)
    );
    assert_eq!(operator.engine.tallies().missing_bodies, 0);
}

#[test]
fn a_replayed_letter_survives_a_restart_and_is_acknowledged() {
    let mut operator = Operator::new();
    let dead_letters = operator.make_dead_letters(&["a"]);
    operator
        .engine
        .replay_dead_letter(operator.now_ms, &dead_letters[0].handle)
        .unwrap();
    operator.restart();
    let delivered = operator.receive("t", "g");
    assert_eq!(bodies(&delivered), ["a"]);
    operator
        .engine
        .ack(operator.now_ms, &delivered[0].handle)
        .unwrap();
    operator.restart();
    assert!(operator.receive("t", "g").is_empty());
    assert!(operator.browse("%DLQ%g").is_empty());
    let traffic = operator.engine.traffic();
    assert_eq!(
        (traffic.replayed, traffic.acked),
        (0, 0),
        "counted since the start"
    );
}

#[test]
fn a_purged_letter_is_gone_whether_somebody_has_read_it_or_not() {
    let mut operator = Operator::new();
    let dead_letters = operator.make_dead_letters(&["a", "b", "c", "d", "e"]);
    // One consumer has a and b and is done with a; c to e are not read.
    let request = ReceiveRequest {
        topic: "%DLQ%g".to_owned(),
        group: "operators".to_owned(),
        messages_max: 2,
        invisible_ms: 600_000,
        filter: TagFilter::All,
        run: false,
    };
    let held = operator.engine.receive(operator.now_ms, &request).unwrap();
    assert_eq!(bodies(&held), ["a", "b"]);
    operator
        .engine
        .ack(operator.now_ms, &held[0].handle)
        .unwrap();
    operator.settle();
    for dead_letter in [&dead_letters[0], &dead_letters[1], &dead_letters[3]] {
        operator
            .engine
            .purge_dead_letter(operator.now_ms, &dead_letter.handle)
            .unwrap();
    }
    // Counts are exact at the borders of their buckets, which are a minute wide.
    operator.at(120_000);
    let stats = operator
        .engine
        .group_stats(operator.now_ms, "%DLQ%g", "operators")
        .unwrap();
    assert_eq!((stats.ready, stats.in_flight), (2, 0));
    let late = operator.engine.ack(operator.now_ms, &held[1].handle);
    assert!(matches!(late, Err(Error::Expired)));
    assert_eq!(bodies(&operator.receive("%DLQ%g", "operators")), ["c", "e"]);
    assert_eq!(found_bodies(&operator.browse("%DLQ%g")), ["c", "e"]);
    let stats = operator
        .engine
        .topic_stats(operator.now_ms, "%DLQ%g")
        .unwrap();
    assert_eq!((stats.messages, stats.removed), (2, 3));
    operator.restart();
    assert_eq!(found_bodies(&operator.browse("%DLQ%g")), ["c", "e"]);
}

#[test]
fn a_purged_letter_that_waits_for_a_retry_is_no_defect() {
    let mut operator = Operator::new();
    let dead_letters = operator.make_dead_letters(&["a"]);
    let held = operator.receive("%DLQ%g", "operators");
    operator
        .engine
        .retry_later(operator.now_ms, &held[0].handle, Some(10))
        .unwrap();
    operator
        .engine
        .purge_dead_letter(operator.now_ms, &dead_letters[0].handle)
        .unwrap();
    operator.now_ms += 20;
    assert!(operator.receive("%DLQ%g", "operators").is_empty());
    let stats = operator
        .engine
        .group_stats(operator.now_ms, "%DLQ%g", "operators")
        .unwrap();
    assert_eq!((stats.ready, stats.retrying, stats.in_flight), (0, 0, 0));
    assert_eq!(operator.engine.tallies().missing_bodies, 0);
}

#[test]
fn only_dead_letters_are_replayed_and_purged() {
    let mut operator = Operator::new();
    operator.send("a", Delivery::After { delay_ms: 1_000 });
    let ordinary = operator.browse("t").remove(0);
    let refused = operator
        .engine
        .purge_dead_letter(operator.now_ms, &ordinary.handle);
    assert!(matches!(
        refused,
        Err(Error::Invalid {
            field: "handle",
            ..
        })
    ));
    let dead_letter = operator.make_dead_letters(&["b"]).remove(0);
    operator.engine.delete_group("g").unwrap();
    let refused = operator
        .engine
        .replay_dead_letter(operator.now_ms, &dead_letter.handle);
    assert!(matches!(refused, Err(Error::GroupNotFound { .. })));
    operator.settle();
    assert_eq!(found_bodies(&operator.browse("%DLQ%g")), ["b"]);
}

#[test]
fn groups_and_topics_know_each_other_once_they_have_met() {
    let mut operator = Operator::new();
    assert!(operator.engine.groups_of("t").unwrap().is_empty());
    operator.make_dead_letters(&["a"]);
    operator.receive("t", "b");
    assert_eq!(operator.engine.groups_of("t").unwrap(), ["b", "g"]);
    assert_eq!(operator.engine.topics_of("g").unwrap(), ["t"]);
    assert_eq!(operator.engine.group("g").unwrap().0.attempts_max, 2);
    assert!(operator.engine.groups_of("nowhere").is_err());
    let traffic = operator.engine.traffic();
    assert_eq!((traffic.sent, traffic.delivered, traffic.acked), (1, 2, 0));
}

#[test]
fn one_receive_brings_a_bounded_number_of_bytes() {
    let mut operator = Operator::new();
    let body = "x".repeat(4 << 20);
    for _ in 0..9 {
        operator.send(&body, Delivery::Now);
    }
    operator.at(1_000);
    let request = ReceiveRequest {
        topic: "t".to_owned(),
        group: "g".to_owned(),
        messages_max: 32,
        invisible_ms: 1_000,
        filter: TagFilter::All,
        run: false,
    };
    let mut counts = Vec::new();
    while counts.iter().sum::<usize>() < 9 {
        let delivered = operator.engine.receive(operator.now_ms, &request).unwrap();
        counts.push(delivered.len());
        operator.settle();
    }
    // The first may find that the disk has to know of the instant before anything of it is shown.
    counts.retain(|count| *count > 0);
    assert_eq!(counts, [4, 4, 1]);
}
