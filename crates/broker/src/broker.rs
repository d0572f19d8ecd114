//! Provides the handle of a broker: cheap to clone, safe to use from anywhere.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use engine::{
    Bucket, Delivery, Engine, Found, GroupSpec, GroupStats, MessageHandle, NewMessage, Recall,
    Reschedule, Sent, Tallies, TopicSpec, TopicStats,
};
use storage::{FjallStore, StoreConfig};
use tokio::sync::{oneshot, watch};

use crate::clock::{Clock, SystemClock};
use crate::command::{Answer, Command};
use crate::core::Core;
use crate::error::{Error, OpenError};
use crate::inbox::Event;
use crate::limits::OTHER_WEIGHT;
use crate::writer::{Health, Writer};

/// How a broker is set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerConfig {
    /// Rules and limits.
    pub engine: engine::Config,
    /// Durability and memory.
    pub store: StoreConfig,
}

/// A running broker. Clones are handles of the same one; it ends when it is shut down, or when the last
/// handle is dropped.
#[derive(Clone, Debug)]
pub struct Broker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    writer: Arc<Writer>,
    clock: Arc<dyn Clock>,
    health: watch::Receiver<Health>,
    /// When the first check of a transaction may be due, in ms; 0 until the engine was asked. It is set with
    /// the engine, so that both always agree.
    next_check: watch::Sender<u64>,
    waiting_pollers_max: usize,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.writer.signal(Event::Stop);
    }
}

impl Broker {
    /// Opens the broker in `folder`, or makes a new one there, on the system's clock.
    pub fn open(folder: &Path, config: BrokerConfig) -> Result<Self, OpenError> {
        Self::open_with_clock(folder, config, Arc::new(SystemClock::start()))
    }

    /// Opens a broker on a given clock.
    pub fn open_with_clock(
        folder: &Path,
        config: BrokerConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let store = FjallStore::open(folder, config.store)?;
        let syncer = store.syncer();
        let waiting_pollers_max = config.engine.limits.waiting_pollers_max;
        let engine = Engine::open(store, config.engine)?;
        clock.resume_at(engine.last_stamp_ms());
        let core = Core::new(engine);
        let (writer, health) = Writer::start(core, syncer, Arc::clone(&clock))?;
        let moved = Arc::downgrade(&writer);
        clock.on_move(Box::new(move || {
            if let Some(writer) = moved.upgrade() {
                writer.signal(Event::ClockMoved);
            }
        }));
        Ok(Self {
            shared: Arc::new(Shared {
                writer,
                clock,
                health,
                next_check: watch::Sender::new(0),
                waiting_pollers_max,
            }),
        })
    }

    /// The engine clock all due times are on.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    /// Stores a message; returns once it is durable.
    ///
    /// A call that is dropped before it returns may have stored the message or not.
    pub async fn send(&self, topic: &str, message: NewMessage) -> Result<Sent, Error> {
        self.start_send(&Arc::from(topic), message).await?.await
    }

    /// Hands in a message and returns as soon as it is queued; the future it returns ends once the message
    /// is durable. Messages handed in one after the other on one topic are stored in that order.
    pub async fn start_send(
        &self,
        topic: &Arc<str>,
        message: NewMessage,
    ) -> Result<impl Future<Output = Result<Sent, Error>> + Send + use<>, Error> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Send {
            lane: lane(topic),
            topic: Arc::clone(topic),
            message: Box::new(message),
            reply,
        };
        self.queue(command).await?;
        let health = self.shared.health.clone();
        Ok(async move { answer.await.unwrap_or_else(|_| Err(end_of(&health))) })
    }

    /// How many receives may wait at a time.
    pub fn waiting_pollers_max(&self) -> usize {
        self.shared.waiting_pollers_max
    }

    /// Cancels a message that waits, and answers what became of it.
    pub async fn recall(&self, handle: MessageHandle) -> Result<Recall, Error> {
        self.with(u64::from(handle.topic), move |engine, now_ms| {
            engine.recall(now_ms, &handle)
        })
        .await
    }

    /// Moves a message that waits to another instant.
    pub async fn reschedule(
        &self,
        handle: MessageHandle,
        delivery: Delivery,
    ) -> Result<Reschedule, Error> {
        self.with(u64::from(handle.topic), move |engine, now_ms| {
            engine.reschedule(now_ms, &handle, delivery)
        })
        .await
    }

    /// Creates a topic, or confirms that it exists with the same settings.
    pub async fn create_topic(&self, spec: TopicSpec) -> Result<(), Error> {
        self.with(0, move |engine, _| engine.create_topic(spec).map(drop))
            .await
    }

    /// Creates a consumer group, or confirms that it exists with the same settings.
    pub async fn create_group(&self, spec: GroupSpec) -> Result<(), Error> {
        self.with(0, move |engine, now_ms| {
            engine.create_group(now_ms, spec).map(drop)
        })
        .await
    }

    /// Names of all topics.
    pub async fn topics(&self) -> Result<Vec<String>, Error> {
        self.with(0, |engine, _| Ok(engine.topics())).await
    }

    /// Names of all consumer groups.
    pub async fn groups(&self) -> Result<Vec<String>, Error> {
        self.look(0, |engine, _| Ok(engine.groups())).await
    }

    /// How many messages of a topic wait, and how many are on disk.
    pub async fn topic_stats(&self, topic: &str) -> Result<TopicStats, Error> {
        let topic = topic.to_owned();
        self.look(0, move |engine, now_ms| engine.topic_stats(now_ms, &topic))
            .await
    }

    /// How far a group has come on a topic.
    pub async fn group_stats(&self, topic: &str, group: &str) -> Result<GroupStats, Error> {
        let (topic, group) = (topic.to_owned(), group.to_owned());
        self.look(0, move |engine, now_ms| {
            engine.group_stats(now_ms, &topic, &group)
        })
        .await
    }

    /// Messages of a topic by when they are due, in `steps` spans of `step`; the last one holds the rest.
    pub async fn histogram(
        &self,
        topic: &str,
        step: Duration,
        steps: usize,
    ) -> Result<Vec<Bucket>, Error> {
        let topic = topic.to_owned();
        let step_ms = u64::try_from(step.as_millis()).unwrap_or(u64::MAX);
        self.look(0, move |engine, now_ms| {
            engine.histogram(now_ms, &topic, step_ms, steps)
        })
        .await
    }

    /// The next messages of a topic by due time, without delivering them.
    pub async fn peek(&self, topic: &str, messages_max: usize) -> Result<Vec<Found>, Error> {
        let topic = topic.to_owned();
        self.with(0, move |engine, now_ms| {
            engine.peek(now_ms, &topic, messages_max)
        })
        .await
    }

    /// Messages of a topic with this message id or key.
    pub async fn find(&self, topic: &str, id_or_key: &str) -> Result<Vec<Found>, Error> {
        let (topic, id_or_key) = (topic.to_owned(), id_or_key.to_owned());
        self.with(0, move |engine, now_ms| {
            engine.find(now_ms, &topic, &id_or_key)
        })
        .await
    }

    /// Counters since the start.
    pub async fn tallies(&self) -> Result<Tallies, Error> {
        self.look(0, |engine, _| Ok(engine.tallies())).await
    }

    /// The health of the broker now.
    pub fn health(&self) -> Health {
        self.shared.health.borrow().clone()
    }

    /// Ends when the broker does, and says why.
    pub async fn ended(&self) -> Health {
        let mut health = self.shared.health.clone();
        match health.wait_for(|health| *health != Health::Running).await {
            Ok(health) => health.clone(),
            Err(_) => Health::Stopped,
        }
    }

    /// Finishes the commands it has, makes them durable, and ends.
    pub async fn shutdown(&self) -> Health {
        self.shared.writer.signal(Event::Stop);
        self.ended().await
    }

    /// Does something with the engine and returns once its effect is durable.
    pub(crate) async fn with<T: Send + 'static>(
        &self,
        lane: u64,
        work: impl FnOnce(&mut Engine<FjallStore>, u64) -> Result<T, engine::Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.start(lane, OTHER_WEIGHT, work).await?.await
    }

    /// Hands in something to do with the engine; the future it returns ends once its effect is durable.
    pub(crate) async fn start<T: Send + 'static, W>(
        &self,
        lane: u64,
        weight: usize,
        work: W,
    ) -> Result<impl Future<Output = Result<T, Error>> + Send + use<T, W>, Error>
    where
        W: FnOnce(&mut Engine<FjallStore>, u64) -> Result<T, engine::Error> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let work = move |engine: &mut Engine<FjallStore>, now_ms: u64| {
            let result = work(engine, now_ms).map_err(Error::Refused);
            Answer::Other(Box::new(move |durable: Result<(), Error>| {
                drop(reply.send(durable.and(result)));
            }))
        };
        self.queue(Command::Other {
            lane,
            weight,
            work: Box::new(work),
        })
        .await?;
        let health = self.shared.health.clone();
        Ok(async move { answer.await.unwrap_or_else(|_| Err(end_of(&health))) })
    }

    /// Reads something of the engine. What it reads may not be on the disk yet, so it is answered at once.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        lane: u64,
        work: impl FnOnce(&mut Engine<FjallStore>, u64) -> Result<T, engine::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let work = move |engine: &mut Engine<FjallStore>, now_ms: u64| {
            let result = work(engine, now_ms).map_err(Error::Refused);
            Answer::Now(Box::new(move || drop(reply.send(result))))
        };
        self.queue(Command::Other {
            lane,
            weight: OTHER_WEIGHT,
            work: Box::new(work),
        })
        .await?;
        self.answer(answer).await
    }

    /// Waits for the answer to a command.
    pub(crate) async fn answer<T>(
        &self,
        answer: oneshot::Receiver<Result<T, Error>>,
    ) -> Result<T, Error> {
        answer.await.unwrap_or_else(|_| Err(self.end()))
    }

    /// Where it is published when the first check of a transaction may be due.
    pub(crate) fn next_check(&self) -> watch::Sender<u64> {
        self.shared.next_check.clone()
    }

    pub(crate) async fn queue(&self, command: Command<FjallStore>) -> Result<(), Error> {
        self.shared
            .writer
            .send(command)
            .await
            .map_err(|_| self.end())
    }

    pub(crate) fn end(&self) -> Error {
        end_of(&self.shared.health)
    }
}

/// The error for a command that will not be answered.
fn end_of(health: &watch::Receiver<Health>) -> Error {
    match &*health.borrow() {
        Health::Failed(_) => Error::Failed,
        Health::Running | Health::Stopped => Error::Stopped,
    }
}

/// A number for a topic, by which commands take turns.
pub(crate) fn lane(topic: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    topic.hash(&mut hasher);
    // Small numbers are lanes of acknowledgements and rare commands.
    hasher.finish() | 1 << 63
}
