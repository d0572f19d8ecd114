//! Provides the push consumer: it passes messages to a listener, which returns a verdict on each.

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
use crate::producer::SessionGuard;
use crate::session::{Profile, Session};

/// Default number of messages the listener works on at a time.
const CONCURRENCY: usize = 20;
/// Default limit of messages in memory.
const CACHE_MESSAGES: usize = 1_024;
/// Default limit of bytes of messages in memory.
const CACHE_BYTES: usize = 64 * 1024 * 1024;
/// Deliveries that may wait to be acknowledged in a batch.
const ACKS_WAITING_MAX: usize = 1_024;

/// A listener's verdict on a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Processed: the message is acknowledged.
    Done,
    /// Failed: the message is delivered again after the backoff of the server's settings, and becomes a dead letter after
    /// as many attempts as they allow. A panic of the listener counts as this.
    Retry,
    /// The same, with a backoff of its own.
    RetryAfter(Duration),
    /// The message becomes a dead letter at once.
    DeadLetter,
}

type Listener =
    Arc<dyn Fn(Received) -> Pin<Box<dyn Future<Output = Verdict> + Send>> + Send + Sync>;

/// The options of a push consumer; made by [`PushConsumer::builder`].
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
    /// Subscribes to a topic.
    #[must_use]
    pub fn subscribe(mut self, topic: impl Into<String>, filter: Filter) -> Self {
        self.subscriptions.push((topic.into(), filter));
        self
    }

    /// Sets how many messages the listener works on at a time; 20 by default.
    #[must_use]
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// Sets how many messages, and how many bytes of them, may be in memory; 1,024 and 64 MiB by default.
    #[must_use]
    pub fn cache(mut self, messages: usize, bytes: usize) -> Self {
        self.cache_messages = messages;
        self.cache_bytes = bytes;
        self
    }

    /// Connects, and begins to pass messages to the listener.
    ///
    /// The server keeps a message invisible to others while the listener works on it, up to its own limit of some
    /// hours. In a FIFO group the messages of one message group are passed one after the other, each after the one
    /// before it is settled.
    ///
    /// A message whose body does not match its digest is not passed to the listener, and a warning is logged. It is
    /// treated as if the listener had returned [`Verdict::Retry`], in a FIFO group [`Verdict::DeadLetter`].
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
            let message = "the consumer has no subscription, or a concurrency of 0";
            return Err(Error::Invalid(message.to_owned()));
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
        let (session, _) = Session::start(self.config, profile).await?;
        let (acks, acks_out) = mpsc::channel(ACKS_WAITING_MAX);
        let worker = Arc::new(Worker {
            session: Arc::clone(&session),
            listener: Arc::new(move |message| Box::pin(listener(message))),
            concurrency: Semaphore::new(self.concurrency),
            cache: Cache::new(self.cache_messages, self.cache_bytes),
            acks,
            closing: watch::Sender::new(false),
        });
        session.spawn(settle::acknowledge(Arc::clone(&session), acks_out));
        for (topic, filter) in self.subscriptions {
            session.spawn(poll::follow(Arc::clone(&worker), topic, filter));
        }
        Ok(PushConsumer {
            held: SessionGuard(session),
            worker,
        })
    }
}

/// What the tasks of one push consumer share.
struct Worker {
    session: Arc<Session>,
    listener: Listener,
    concurrency: Semaphore,
    cache: Cache,
    /// Receives the deliveries to acknowledge.
    acks: mpsc::Sender<settle::Processed>,
    /// Whether receiving has stopped.
    closing: watch::Sender<bool>,
}

/// Passes messages to a listener until it is dropped; see [`PushConsumerBuilder::start`].
pub struct PushConsumer {
    held: SessionGuard,
    worker: Arc<Worker>,
}

impl fmt::Debug for PushConsumer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PushConsumer")
            .field("session", &self.held)
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

    /// Stops receiving, waits until the listener has finished with the messages it has, notifies the server, and ends.
    /// Put a time limit around it if the listener may hang; the rest is then delivered to others.
    pub async fn shutdown(self) {
        self.worker.closing.send_replace(true);
        self.worker.cache.empty().await;
        self.held.0.shutdown().await;
    }
}
