//! Defines the interface between the order platform and a message broker.
//!
//! The shape is what both an embedded broker and an Apache RocketMQ cluster can keep: delivery at least
//! once, batches, opaque handles, acknowledgement of whole messages, and no transaction that spans the
//! broker and the database. Everything the platform needs beyond that lives in its SQL tables.

pub(crate) mod consumer;
pub(crate) mod dispatch;
pub(crate) mod drained;
pub mod embedded;
pub(crate) mod event;
pub(crate) mod follow;
pub(crate) mod parked;
pub(crate) mod progress;
pub(crate) mod publishing;
pub(crate) mod relay;
pub(crate) mod topics;

use std::time::Duration;

use async_trait::async_trait;

/// A message to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The topic it goes to.
    pub topic: String,
    /// Identity chosen by the producer; a broker stores a repeated one once within its window.
    pub message_id: String,
    /// A key to find it by, an order id for instance.
    pub key: Option<String>,
    /// What consumers filter by, an event type for instance.
    pub tag: Option<String>,
    /// Messages of one group are delivered in order, one at a time (FIFO topics only).
    pub message_group: Option<String>,
    /// When it may be delivered, in ms since the Unix epoch; `None` means at once.
    pub deliver_at_ms: Option<u64>,
    /// The payload.
    pub body: Vec<u8>,
}

/// A delivered message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Identity given by the producer.
    pub message_id: String,
    /// The tag given by the producer.
    pub tag: Option<String>,
    /// The payload.
    pub body: Vec<u8>,
    /// 1 for the first delivery.
    pub attempt: u32,
    /// What [`Subscription::ack`] and [`Subscription::retry_later`] take.
    pub handle: Handle,
}

/// Names one delivery of a message; only the broker knows what is inside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Handle(pub String);

/// What a topic holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicKind {
    /// Messages with a due time.
    Delay,
    /// Messages of a message group are delivered in order.
    Fifo,
}

/// Whether a topic had to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// It did not exist before: whatever was published to one of that name is gone.
    New,
    /// It existed.
    Existing,
}

/// What can go wrong at the broker.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessagingError {
    /// The broker is away, full or overloaded: the same call may work later.
    #[error("the broker is unavailable: {0}")]
    Unavailable(String),
    /// The topic or the consumer group does not exist; once it is made again the same call may work.
    #[error("it does not exist at the broker: {0}")]
    Missing(String),
    /// The broker will never take this message or call.
    #[error("the broker refused: {0}")]
    Rejected(String),
}

/// A message broker, seen from the order platform.
#[async_trait]
pub trait Messaging: Send + Sync + 'static {
    /// Creates the topic with `queues` message queues unless it exists; answers whether it had to.
    async fn ensure_topic(
        &self,
        topic: &str,
        kind: TopicKind,
        queues: u16,
    ) -> Result<Made, MessagingError>;

    /// The longest delay that the broker keeps; a message asked for later than that must be cut to it.
    fn longest_delay(&self) -> Duration {
        Duration::from_hours(10 * 365 * 24)
    }

    /// Publishes a batch; the answer has one result per message, in the same order.
    ///
    /// `Ok` means the broker has made the message durable. After an error a message may still have been
    /// stored; publishing it again with the same `message_id` is safe.
    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<(), MessagingError>>;

    /// Joins the consumer group on the topic; every call is one more consumer of the group.
    async fn subscribe(
        &self,
        topic: &str,
        group: &str,
    ) -> Result<Box<dyn Subscription>, MessagingError>;
}

/// One consumer of a consumer group.
#[async_trait]
pub trait Subscription: Send + Sync {
    /// Waits until a message can be delivered, then returns up to `max` of them; an empty answer after `wait`.
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Incoming>, MessagingError>;

    /// Acknowledges deliveries. One that has expired meanwhile is redelivered; that is no error.
    async fn ack(&self, handles: &[Handle]) -> Result<(), MessagingError>;

    /// Hands one delivery back, to come again after `delay` with a higher attempt.
    async fn retry_later(&self, handle: &Handle, delay: Duration) -> Result<(), MessagingError>;
}
