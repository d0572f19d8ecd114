//! Provides the push consumer: it hands messages to a listener, which says what becomes of each.

mod cache;
mod consume;
mod poll;
mod settle;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use grpc_api::v2::settings::PubSub;
use grpc_api::v2::{ClientType, Resource};
use tokio::sync::{Semaphore, mpsc, watch};

use self::cache::Cache;
use crate::config::Config;
use crate::delivery;
use crate::error::Error;
use crate::filter::Filter;
use crate::message::Received;
use crate::producer::Held;
use crate::session::{Core, Profile};

/// Messages the listener works on at a time, unless told otherwise.
const CONCURRENCY: usize = 20;
/// Messages that may be in memory, unless told otherwise.
const CACHE_MESSAGES: usize = 1_024;
/// Bytes of messages that may be in memory, unless told otherwise.
const CACHE_BYTES: usize = 64 * 1024 * 1024;
/// Deliveries that may wait to be acknowledged together with others.
const ACKS_WAITING_MAX: usize = 1_024;

/// What a listener says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done with.
    Done,
    /// It shall come again, after the wait the server's rules give; once it has come as often as they allow, it
    /// becomes a dead letter. A listener that panics says this.
    Retry,
    /// The same, after a wait of its own.
    RetryAfter(Duration),
    /// It becomes a dead letter at once.
    DeadLetter,
}

type Listener =
    Arc<dyn Fn(Received) -> Pin<Box<dyn Future<Output = Verdict> + Send>> + Send + Sync>;

/// What a push consumer shall be; made by [`PushConsumer::builder`].
#[derive(Debug)]
pub struct PushConsumerBuilder {
    config: Config,
    group: String,
    subscriptions: Vec<(String, Filter)>,
    concurrency: usize,
    cache_messages: usize,
    cache_bytes: usize,
}

impl PushConsumerBuilder {
    /// Reads one more topic.
    #[must_use]
    pub fn subscribe(mut self, topic: impl Into<String>, filter: Filter) -> Self {
        self.subscriptions.push((topic.into(), filter));
        self
    }

    /// How many messages the listener works on at a time; 20 by default.
    #[must_use]
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// How many messages may be in memory, and how many bytes of them; 1,024 and 64 MiB by default.
    #[must_use]
    pub fn cache(mut self, messages: usize, bytes: usize) -> Self {
        self.cache_messages = messages;
        self.cache_bytes = bytes;
        self
    }

    /// Connects, and begins to hand messages to the listener.
    ///
    /// The server keeps a message hidden from others for as long as the listener works on it, up to its own limit
    /// of some hours. In a FIFO group the messages of one message group come one after the other, and the next
    /// does not come before the one in front is done with.
    ///
    /// A message whose body does not fit the digest that came with it is not handed to the listener, and a warning is
    /// logged. It is treated as if the listener had said [`Verdict::Retry`], in a FIFO group [`Verdict::DeadLetter`].
    ///
    /// # Errors
    ///
    /// Those of connecting, a refusal of the credentials, or an unknown topic.
    pub async fn start<F, Fut>(self, listener: F) -> Result<PushConsumer, Error>
    where
        F: Fn(Received) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Verdict> + Send + 'static,
    {
        if self.subscriptions.is_empty() || self.concurrency == 0 {
            let words = "the consumer reads no topic, or nothing at a time";
            return Err(Error::Invalid(words.to_owned()));
        }
        let group = Resource {
            resource_namespace: self.config.namespace.clone(),
            name: self.group,
        };
        let subscription = delivery::subscription(group.clone(), &self.subscriptions, None);
        let topics = self.subscriptions.iter().map(|(topic, _)| topic.clone());
        let profile = Profile {
            kind: ClientType::PushConsumer,
            group: Some(group),
            pub_sub: PubSub::Subscription(subscription),
            topics: topics.collect(),
        };
        let (core, _) = Core::start(self.config, profile).await?;
        let (acks, acks_out) = mpsc::channel(ACKS_WAITING_MAX);
        let worker = Arc::new(Worker {
            core: Arc::clone(&core),
            listener: Arc::new(move |message| Box::pin(listener(message))),
            concurrency: Semaphore::new(self.concurrency),
            cache: Cache::new(self.cache_messages, self.cache_bytes),
            acks,
            closing: watch::Sender::new(false),
        });
        core.spawn(settle::acknowledge(Arc::clone(&core), acks_out));
        for (topic, filter) in self.subscriptions {
            core.spawn(poll::follow(Arc::clone(&worker), topic, filter));
        }
        Ok(PushConsumer {
            held: Held(core),
            worker,
        })
    }
}

/// What the tasks of one push consumer share.
struct Worker {
    core: Arc<Core>,
    listener: Listener,
    concurrency: Semaphore,
    cache: Cache,
    /// Where deliveries go that are done with.
    acks: mpsc::Sender<settle::Done>,
    /// Whether no further messages are asked for.
    closing: watch::Sender<bool>,
}

/// Hands messages to a listener for as long as it is kept; see [`PushConsumerBuilder::start`].
pub struct PushConsumer {
    held: Held,
    worker: Arc<Worker>,
}

impl fmt::Debug for PushConsumer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PushConsumer")
            .field("core", &self.held)
            .finish_non_exhaustive()
    }
}

impl PushConsumer {
    /// A member of a consumer group of the server the configuration names.
    pub fn builder(config: Config, group: impl Into<String>) -> PushConsumerBuilder {
        PushConsumerBuilder {
            config,
            group: group.into(),
            subscriptions: Vec::new(),
            concurrency: CONCURRENCY,
            cache_messages: CACHE_MESSAGES,
            cache_bytes: CACHE_BYTES,
        }
    }

    /// Asks for no more messages, waits until the listener is done with those it has, says goodbye to the
    /// server, and ends. Put a time limit around it if the listener may hang; then they come again elsewhere.
    pub async fn shutdown(self) {
        self.worker.closing.send_replace(true);
        self.worker.cache.empty().await;
        self.held.0.end().await;
    }
}
