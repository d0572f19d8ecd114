//! Measures the broker. Each phase runs in its own process, so that memory, CPU time and written bytes are its own.

mod burst;
mod drain;
mod lateness;
mod life;
mod restart;
mod send;
mod switches;
mod topics;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use broker::clock::SystemClock;
use broker::{
    Broker, BrokerConfig, Delivery, NewMessage, ReceiveRequest, TagFilter, TopicKind, TopicSpec,
};
use rand::rngs::SmallRng;
use rand::{RngCore as _, SeedableRng as _};

/// The topic most phases use.
pub(crate) const TOPIC: &str = "timers";
/// The consumer group of it.
pub(crate) const GROUP: &str = "workers";
/// Its message queues.
pub(crate) const QUEUES: u16 = 8;
/// Bytes of a body.
pub(crate) const BODY_BYTES: usize = 256;

/// The size of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Messages of the big phases; 5 M in a full run.
    pub(crate) messages: u64,
    /// Messages of the burst.
    pub(crate) burst: u64,
    /// Seconds of steady load.
    pub(crate) seconds: u64,
}

impl Scale {
    pub(crate) fn new(quick: bool) -> Self {
        if quick {
            Self {
                messages: 500_000,
                burst: 100_000,
                seconds: 5,
            }
        } else {
            Self {
                messages: 5_000_000,
                burst: 500_000,
                seconds: 20,
            }
        }
    }
}

/// A broker under load and the clock it runs on.
pub(crate) struct Subject {
    pub(crate) broker: Broker,
    pub(crate) clock: Arc<SystemClock>,
}

impl Subject {
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Self> {
        let clock = Arc::new(SystemClock::start());
        let broker = Broker::open_with_clock(folder, BrokerConfig::default(), clock.clone())
            .context("open the broker")?;
        Ok(Self { broker, clock })
    }

    pub(crate) async fn create_topic(&self, name: &str) -> anyhow::Result<()> {
        let spec = TopicSpec::new(name, TopicKind::Delay).with_queues(QUEUES);
        self.broker
            .create_topic(spec)
            .await
            .context("create the topic")
    }

    /// Now, in ms of the engine clock.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.now_us() / 1_000).unwrap_or(0)
    }
}

/// Bodies of random bytes, which cannot be compressed.
pub(crate) struct Bodies {
    rng: SmallRng,
}

impl Bodies {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(seed),
        }
    }

    pub(crate) fn message(&mut self, delivery: Delivery) -> NewMessage {
        let mut body = vec![0; BODY_BYTES];
        self.rng.fill_bytes(&mut body);
        NewMessage {
            body: body.into(),
            delivery,
            ..NewMessage::default()
        }
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }
}

pub(crate) fn request(topic: &str, messages_max: usize) -> ReceiveRequest {
    ReceiveRequest {
        topic: topic.to_owned(),
        group: GROUP.to_owned(),
        messages_max,
        invisible_ms: 60_000,
        filter: TagFilter::All,
        run: false,
    }
}

/// Runs one phase in this process and returns its results.
pub(crate) async fn run_phase(
    name: &str,
    folder: &Path,
    scale: Scale,
) -> anyhow::Result<Vec<crate::report::Figure>> {
    match name {
        "send" => send::run(folder, scale).await,
        "keyed" => send::run_keyed(folder, scale).await,
        "restart" => restart::run(folder).await,
        "drain" => drain::run(folder, scale).await,
        "burst" => burst::run(folder, scale).await,
        "lateness" => lateness::run(folder, scale).await,
        "loaded" => lateness::run_loaded(folder, scale).await,
        "life" => life::run(folder, scale).await,
        "topics" => topics::fill(folder).await,
        "restart-topics" => topics::restart(folder).await,
        "switches" => switches::run(folder, scale).await,
        other => anyhow::bail!("there is no phase {other:?}"),
    }
}

/// The phases in their order; those in one folder build upon one another.
pub(crate) const PHASES: [(&str, &str); 11] = [
    ("send", "fill"),
    ("restart", "fill"),
    ("keyed", "keyed"),
    ("drain", "drain"),
    ("burst", "burst"),
    ("lateness", "lateness"),
    ("loaded", "loaded"),
    ("life", "life"),
    ("topics", "topics"),
    ("restart-topics", "topics"),
    ("switches", "switches"),
];
