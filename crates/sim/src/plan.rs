//! Defines what a simulated run does: its settings, all drawn from one seed.

use engine::{Config, GroupSpec, Limits, TopicKind, TopicSpec};
use rand::Rng;
use rand::rngs::StdRng;

use crate::fault_store::Drops;
use crate::oracle::Rules;

/// Topics: one of plain messages, one whose messages have message groups.
pub(crate) const TOPICS: [&str; 2] = ["plain", "grouped"];
/// Consumer groups: one that shares messages freely, one that is FIFO.
pub(crate) const GROUPS: [&str; 2] = ["shared", "fifo"];
/// Most deliveries of a message to a group.
pub(crate) const ATTEMPTS_MAX: u16 = 4;
/// Longest lease a consumer asks for, in ms.
pub(crate) const HIDE_MS_MAX: u64 = 60_000;

/// A deliberate fault of the test itself: each must be found, or the oracle is blind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// The broker is given a time that is 40 ms ahead.
    ClockAhead,
    /// The disk forgets the last change that it said was durable, in a crash.
    SyncForgets,
    /// A recall is answered with success before it is durable.
    AnswersEarly,
    /// An acknowledgement never reaches the broker, and is answered with success.
    AckDropped,
}

/// How often the world breaks something, in parts of a thousand turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The process is killed.
    pub kill: u32,
    /// A sync fails, so the broker stops.
    pub sync: u32,
    /// A write fails, so the broker stops.
    pub write: u32,
    /// The disk is full for a while.
    pub full: u32,
    /// The wall clock is set.
    pub wall: u32,
    /// A bit of a message's row on the disk flips.
    pub rot: u32,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Everything random comes from it.
    pub seed: u64,
    /// Turns with producers and faults, before everything is drained.
    pub turns: u32,
    /// What breaks.
    pub faults: Faults,
    /// Rules and limits of the broker.
    pub config: Config,
    /// Units of work that a step of the broker may spend, instead of the usual number; such steps are also cut short at
    /// random, as by a slow machine.
    pub step_units: Option<u64>,
    /// Consumer groups are moved back to the beginning of a topic now and then.
    pub resets: bool,
    /// Everything takes so many times as long: a slow run comes past many partitions.
    pub pace: u32,
    /// Message queues of each topic.
    pub queues: u16,
    /// Longest a sync takes, in us.
    pub sync_us_max: i64,
    /// The store fails at this operation.
    pub fail_at: Option<u64>,
    /// Of the changes not yet durable at that failure, so many survive; `None`: chosen by the seed.
    pub kept: Option<usize>,
    /// What becomes of dropped partitions in a crash; `None`: chosen by the seed.
    pub drops: Option<Drops>,
    /// The deliberate fault, if any.
    pub canary: Option<Canary>,
}

impl Plan {
    /// A run of a seed.
    pub fn of_seed(seed: u64, rng: &mut StdRng) -> Self {
        let small = rng.random_bool(0.5);
        let limits = Limits {
            head_messages_max: if small { rng.random_range(1..6) } else { 1_024 },
            fifo_window: if small {
                rng.random_range(2..10)
            } else {
                1_024
            },
            in_flight_max: if rng.random_bool(0.2) { 12 } else { 65_536 },
            held_bytes_max: held_bytes_max(seed),
            ..Limits::default()
        };
        let rate = |rng: &mut StdRng| {
            if rng.random_bool(0.5) {
                rng.random_range(1..10)
            } else {
                0
            }
        };
        let faults = Faults {
            kill: rate(rng),
            sync: rate(rng) / 2,
            write: rate(rng) / 2,
            full: rate(rng),
            wall: rate(rng),
            // Not drawn, so that the other seeds mean what they always meant.
            rot: if seed % 4 == 2 { 8 } else { 0 },
        };
        Self {
            seed,
            turns: rng.random_range(50..600),
            faults,
            config: config(limits),
            // Not drawn either.
            resets: seed % 6 == 4,
            step_units: (seed % 5 == 2).then_some(64 + seed % 7 * 32),
            pace: if rng.random_bool(0.3) { 2_000 } else { 1 },
            queues: rng.random_range(1..4),
            sync_us_max: if rng.random_bool(0.1) { 400_000 } else { 8_000 },
            fail_at: None,
            kept: None,
            drops: None,
            canary: None,
        }
    }

    /// A short run in which nothing fails by chance, for going through its crash states one by one.
    pub fn quiet(seed: u64) -> Self {
        Self {
            seed,
            turns: 30,
            faults: Faults::default(),
            config: config(Limits::default()),
            resets: false,
            step_units: None,
            pace: 1,
            queues: 2,
            sync_us_max: 8_000,
            fail_at: None,
            kept: None,
            drops: None,
            canary: None,
        }
    }

    /// How the oracle judges such a run.
    pub fn rules(&self) -> Rules {
        Rules {
            fifo: GROUPS.iter().map(|name| is_fifo(name)).collect(),
            ordered: true,
            attempts_max: ATTEMPTS_MAX,
            retention_ms: self.config.retention_ms,
        }
    }

    /// The topics of a run; the last ones take the dead letters of the groups.
    pub fn topics(&self) -> Vec<TopicSpec> {
        let plain = TOPICS
            .iter()
            .map(|name| TopicSpec::new(*name, TopicKind::Mixed).with_queues(self.queues));
        let dead = groups()
            .into_iter()
            .map(|group| TopicSpec::new(group.dead_letter_topic(), TopicKind::Normal));
        plain.chain(dead).collect()
    }
}

/// The budget of readers' memory: a third of the seeds have room for a few messages only. It is not drawn, so that the
/// other seeds mean what they always meant.
pub(crate) fn held_bytes_max(seed: u64) -> usize {
    match seed % 9 {
        1 => 1,
        4 => 1_500,
        7 => 10_000,
        _ => Limits::default().held_bytes_max,
    }
}

fn config(limits: Limits) -> Config {
    Config {
        limits,
        // Short, so that partitions go while the run goes on.
        retention_ms: 600_000,
        group_idle_ms: 366 * 86_400_000,
        ..Config::default()
    }
}

fn is_fifo(group: &str) -> bool {
    group == "fifo"
}

/// The consumer groups of every run.
pub(crate) fn groups() -> Vec<GroupSpec> {
    let group = |name: &&str| GroupSpec {
        fifo: is_fifo(name),
        attempts_max: ATTEMPTS_MAX,
        backoff_ms: vec![100, 2_000],
        ..GroupSpec::new(*name)
    };
    GROUPS.iter().map(group).collect()
}
