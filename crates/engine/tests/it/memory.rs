//! Tests that what readers hold in memory keeps its budget, and that a budget that is too small costs reads only.

use std::cell::Cell;

use bytes::Bytes;
use engine::{
    Batch, Config, Delivered, Delivery, Engine, GroupSpec, Limits, MemoryStore, NewMessage,
    PartitionId, ReceiveRequest, Rows, Space, Store, StoreError, TagFilter, TopicKind, TopicSpec,
};

const NOW_MS: u64 = 1_000_000;
const HOUR_MS: u64 = 3_600_000;

/// A store that counts how often partitions are read.
#[derive(Default)]
struct Counting {
    store: MemoryStore,
    scans: Cell<usize>,
}

impl Store for Counting {
    fn apply(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.store.apply(batch)
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.store.get(space, key)
    }

    fn scan(&self, space: Space, from: &[u8], to: &[u8]) -> Result<Rows<'_>, StoreError> {
        if matches!(space, Space::Partition(_)) {
            self.scans.set(self.scans.get() + 1);
        }
        self.store.scan(space, from, to)
    }

    fn partitions(&self) -> Vec<PartitionId> {
        self.store.partitions()
    }

    fn drop_partition(&mut self, partition: PartitionId) -> Result<(), StoreError> {
        self.store.drop_partition(partition)
    }

    fn free_bytes(&self) -> Result<u64, StoreError> {
        self.store.free_bytes()
    }
}

struct Bench {
    engine: Engine<Counting>,
    now_ms: u64,
}

fn request(topic: &str, group: &str, messages_max: usize) -> ReceiveRequest {
    ReceiveRequest {
        topic: topic.to_owned(),
        group: group.to_owned(),
        messages_max,
        invisible_ms: 60_000,
        filter: TagFilter::All,
        run: false,
    }
}

impl Bench {
    fn new(held_bytes_max: usize) -> Self {
        let limits = Limits {
            held_bytes_max,
            ..Limits::default()
        };
        let config = Config {
            limits,
            ..Config::default()
        };
        Self {
            engine: Engine::open(Counting::default(), config).unwrap(),
            now_ms: NOW_MS,
        }
    }

    fn topic(&mut self, name: &str, queues: u16) {
        let spec = TopicSpec::new(name, TopicKind::Mixed).with_queues(queues);
        self.engine.create_topic(spec).unwrap();
    }

    fn send(&mut self, topic: &str, body: Bytes, delay_ms: u64) {
        let message = NewMessage {
            body,
            delivery: Delivery::After { delay_ms },
            ..NewMessage::default()
        };
        self.engine.send(self.now_ms, topic, &message).unwrap();
    }

    fn settle(&mut self) {
        self.engine.apply(self.now_ms).unwrap();
        let epoch = self.engine.applied_epoch();
        self.engine.durable(epoch);
    }

    /// Receives, with everything before applied and durable.
    fn receive(&mut self, topic: &str, group: &str, messages_max: usize) -> Vec<Delivered> {
        self.settle();
        let request = request(topic, group, messages_max);
        self.engine.receive(self.now_ms, &request).unwrap()
    }

    fn held(&self) -> usize {
        usize::try_from(self.engine.held_bytes()).unwrap()
    }

    fn scans(&self) -> usize {
        self.engine.store().scans.get()
    }

    /// Forgets what is in memory.
    fn restart(&mut self, held_bytes_max: usize) {
        self.settle();
        let fresh = Self::new(held_bytes_max);
        let config = fresh.engine.config().clone();
        let store = std::mem::replace(&mut self.engine, fresh.engine).into_store();
        self.engine = Engine::open(store, config).unwrap();
    }
}

#[test]
fn waiting_readers_of_many_queues_keep_the_budget() {
    const BUDGET: usize = 2 << 20;
    let mut bench = Bench::new(BUDGET);
    let topics: Vec<_> = (0..200).map(|number| format!("t{number}")).collect();
    for topic in &topics {
        bench.topic(topic, 8);
        for _ in 0..8 * 20 {
            bench.send(topic, vec![7; 1_024].into(), HOUR_MS);
        }
        bench.settle();
    }
    bench.restart(BUDGET);
    let mut taken = allocation_counter::measure(|| {
        for topic in &topics {
            assert!(bench.receive(topic, "g", 32).is_empty());
            bench.engine.watch(topic, "g");
            assert!(bench.held() <= BUDGET, "{topic}: {}", bench.held());
        }
    });
    // The rest is the state of 1,600 queues and their records in the store.
    assert!(
        taken.bytes_current < i64::try_from(BUDGET).unwrap() + 2_000 * 1_600,
        "{taken:?}"
    );
    assert!(bench.held() > BUDGET / 2, "what fits is kept");
    // Those that gave up what they held wake as they would have, and not before.
    assert_eq!(bench.engine.take_woken(bench.now_ms + HOUR_MS / 2), None);
    bench.now_ms += HOUR_MS + 1;
    bench.receive("t0", "g", 1);
    let mut woken = 0;
    taken = allocation_counter::measure(|| {
        bench.settle();
        while let Some((topic, group)) = bench.engine.take_woken(bench.now_ms) {
            let mut left = 8 * 20 - usize::from(topic == "t0");
            while left > 0 {
                let delivered = bench.receive(&topic, &group, 32);
                assert!(!delivered.is_empty(), "{topic}: {left} left");
                left -= delivered.len();
                for one in delivered {
                    bench.engine.ack(bench.now_ms, &one.handle).unwrap();
                }
                assert!(bench.held() <= BUDGET + BUDGET / 16, "{}", bench.held());
            }
            woken += 1;
        }
    });
    assert_eq!(woken, topics.len());
    assert!(taken.bytes_max < 2 * BUDGET as u64 + (2 << 20), "{taken:?}");
}

#[test]
fn two_queues_that_are_watched_read_the_store_once() {
    // Each one alone fits, both do not.
    let mut bench = Bench::new(40_000);
    for topic in ["a", "b"] {
        bench.topic(topic, 1);
        for _ in 0..20 {
            bench.send(topic, vec![7; 1_000].into(), 1_000);
        }
    }
    bench.restart(40_000);
    for topic in ["a", "b"] {
        assert!(bench.receive(topic, "g", 4).is_empty());
        bench.engine.watch(topic, "g");
    }
    let scans = bench.scans();
    for _ in 0..10 {
        bench.now_ms += 50;
        bench.settle();
        assert_eq!(bench.engine.take_woken(bench.now_ms), None);
        for topic in ["a", "b"] {
            assert!(bench.receive(topic, "g", 4).is_empty());
        }
    }
    assert_eq!(bench.scans(), scans, "a poll in vain reads nothing");
    let due_ms = NOW_MS + 1_000;
    bench.now_ms = due_ms - 1;
    bench.engine.tick(bench.now_ms).unwrap();
    bench.settle();
    assert_eq!(bench.engine.next_event_ms(), Some(due_ms));
    bench.now_ms = due_ms;
    let mut woken = Vec::new();
    while let Some((topic, _)) = bench.engine.take_woken(bench.now_ms) {
        woken.push(topic);
    }
    woken.sort();
    assert_eq!(woken, ["a", "b"]);
    // Both go on in turn, each from where it was.
    let mut left = [20, 20];
    while left != [0, 0] {
        for (left, topic) in left.iter_mut().zip(["a", "b"]) {
            let delivered = bench.receive(topic, "g", 4);
            *left -= delivered.len();
            assert!(bench.held() <= 44_000, "{}", bench.held());
        }
    }
    assert!(bench.scans() <= scans + 24, "{} scans", bench.scans());
}

#[test]
fn what_waits_for_the_disk_is_not_asked_for_again_and_again() {
    for (held_bytes_max, messages) in [(1, 1), (1, 3), (64 << 20, 1_100)] {
        let mut bench = Bench::new(held_bytes_max);
        bench.topic("t", 1);
        assert!(bench.receive("t", "g", 1).is_empty());
        bench.engine.watch("t", "g");
        for _ in 0..messages {
            bench.send("t", vec![7; 10].into(), 5);
        }
        bench.now_ms += 10;
        bench.engine.tick(bench.now_ms).unwrap();
        assert_eq!(bench.engine.take_woken(bench.now_ms), None);
        assert!(!bench.engine.has_woken(), "{held_bytes_max}");
        bench.settle();
        let woken = bench.engine.take_woken(bench.now_ms);
        assert!(woken.is_some(), "{held_bytes_max}");
        assert_eq!(bench.receive("t", "g", 1).len(), 1);
    }
}

#[test]
fn a_topic_that_is_left_takes_the_memory_from_no_other() {
    let mut bench = Bench::new(256 << 10);
    for topic in ["left", "busy"] {
        bench.topic(topic, 1);
        assert!(bench.receive(topic, "g", 1).is_empty());
    }
    // The consumers of one topic are gone; what is sent to it fills the memory.
    for _ in 0..500 {
        bench.now_ms += 1;
        bench.send("left", vec![7; 1_000].into(), 60_000);
    }
    assert!(bench.held() > 240 << 10);
    bench.now_ms += 1_000;
    let scans = bench.scans();
    for _ in 0..100 {
        bench.now_ms += 10;
        bench.send("busy", vec![7; 1_000].into(), 5);
        bench.send("left", vec![7; 1_000].into(), 30_000);
        bench.now_ms += 10;
        assert_eq!(bench.receive("busy", "g", 1).len(), 1);
    }
    assert_eq!(bench.scans(), scans, "the busy topic is served from memory");
    assert!(bench.held() <= 256 << 10);
}

#[test]
fn a_message_in_memory_keeps_nothing_but_itself() {
    let mut bench = Bench::new(64 << 20);
    bench.topic("t", 1);
    assert!(bench.receive("t", "g", 1).is_empty());
    let request = Bytes::from(vec![7; 1 << 20]);
    for from in (0..request.len()).step_by(64 << 10) {
        bench.send("t", request.slice(from..from + 50_000), 1_000);
        bench.send("t", request.slice(from..from + 10), 1_000);
    }
    assert!(bench.held() > 500_000);
    assert!(request.is_unique(), "a head keeps the request");
    // A row of the store is a part of a block.
    bench.restart(64 << 20);
    let read = allocation_counter::measure(|| {
        assert!(bench.receive("t", "g", 1).is_empty());
    });
    assert!(read.bytes_current > 0, "{read:?}");
    bench.now_ms += 2_000;
    let mut delivered = bench.receive("t", "g", 8);
    delivered.extend(bench.receive("t", "g", 8));
    let small = delivered.iter().filter(|one| one.message.body.len() == 10);
    let small: Vec<_> = small.collect();
    assert!(small.len() > 3);
    for one in small {
        assert!(one.message.body.is_unique(), "a body keeps its block");
    }
}

#[test]
fn deliveries_that_are_retried_with_their_messages_keep_rows_in_memory() {
    let mut bench = Bench::new(1 << 20);
    bench.topic("t", 1);
    let spec = GroupSpec {
        attempts_max: 2,
        ..GroupSpec::new("g")
    };
    bench.engine.create_group(NOW_MS, spec).unwrap();
    for _ in 0..64 {
        bench.send("t", vec![7; 100_000].into(), 0);
    }
    let mut failed = 0;
    while failed < 2 * 64 {
        bench.now_ms += 10;
        let delivered = bench.receive("t", "g", 64);
        failed += delivered.len();
        for one in delivered {
            let later = bench.engine.retry_later(bench.now_ms, &one.handle, Some(0));
            later.unwrap();
        }
    }
    bench.now_ms += 10;
    bench.settle();
    let mut replayed = 0;
    while let Some(letter) = bench.engine.peek(0, "%DLQ%g", 1).unwrap().pop() {
        let now_ms = bench.now_ms;
        let again = bench.engine.replay_dead_letter(now_ms, &letter.handle);
        again.unwrap();
        bench.settle();
        replayed += 1;
    }
    assert_eq!(replayed, 64);
    bench.now_ms += 10;
    let mut attempts = Vec::new();
    let taken = allocation_counter::measure(|| {
        while attempts.len() < 2 * 64 {
            bench.now_ms += 10;
            for one in bench.receive("t", "g", 4) {
                assert_eq!(one.message.body.len(), 100_000);
                attempts.push(one.attempt);
                let later = bench.engine.retry_later(bench.now_ms, &one.handle, Some(0));
                later.unwrap();
            }
            assert!(bench.held() <= 1 << 20);
        }
    });
    attempts.sort_unstable();
    assert_eq!((attempts[0], attempts[64], attempts.len()), (1, 2, 128));
    assert!(taken.bytes_max < 16 << 20, "{taken:?}");
    bench.settle();
    let letters = bench.engine.topic_stats(bench.now_ms, "%DLQ%g").unwrap();
    assert_eq!(letters.messages, 64);
}
