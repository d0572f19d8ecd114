//! Duetime's broker as a library: a durable message broker built around delay, in this process.
//!
//! A [`Broker`] is opened on a folder. A holder of its handle sends messages that become visible at an instant,
//! receives them as a member of a consumer group, acknowledges them, and cancels or moves those that wait.
//!
//! ```
//! use std::time::Duration;
//!
//! use broker::{Broker, BrokerConfig, Delivery, NewMessage, Recall, ReceiveRequest, TagFilter, TopicKind, TopicSpec};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let folder = tempfile::tempdir()?;
//! let broker = Broker::open(folder.path(), BrokerConfig::default())?;
//! broker.create_topic(TopicSpec::new("orders", TopicKind::Delay)).await?;
//!
//! // Due in 20 ms; the call returns once the message is on the disk.
//! let message = NewMessage { body: "close order 42".into(), delivery: Delivery::After { delay_ms: 20 }, ..NewMessage::default() };
//! broker.send("orders", message.clone()).await?;
//!
//! // Due in an hour, and cancelled before.
//! let later = NewMessage { delivery: Delivery::After { delay_ms: 3_600_000 }, ..message };
//! let sent = broker.send("orders", later).await?;
//! assert_eq!(broker.recall(sent.handle).await?, Recall::Cancelled);
//!
//! let request = ReceiveRequest {
//!     topic: "orders".into(),
//!     group: "closer".into(),
//!     messages_max: 10,
//!     invisible_ms: 30_000,
//!     filter: TagFilter::All,
//!     run: false,
//! };
//! // Waits until something is due, here about 20 ms.
//! let delivered = broker.receive(request, Duration::from_secs(5)).await?;
//! assert_eq!(delivered[0].message.body, "close order 42");
//! broker.ack(vec![delivered[0].handle]).await?;
//!
//! broker.shutdown().await;
//! # Ok(())
//! # })
//! # }
//! ```

mod admin;
mod alarms;
mod batch;
mod broker;
mod command;
mod core;
mod deliveries;
mod error;
mod inbox;
mod lanes;
mod limits;
mod losses;
mod transactions;
mod writer;

#[cfg(test)]
mod tests;

pub use ::clock;
pub use admin::Space;
pub use broker::{Broker, BrokerConfig};
pub use command::{Answer, Command, Poll, Reply, Room, Work};
pub use core::Core;
pub use engine::{
    BodyDigest, Browsed, Bucket, CARRIED_PREFIX, Check, Config, DEAD_LETTER_ATTEMPTS_PROPERTY,
    DEAD_LETTER_ID_PROPERTY, DEAD_LETTER_PREFIX, DEAD_LETTER_TOPIC_PROPERTY, DelayLevels,
    Delivered, Delivery, Error as Refusal, Found, GivenUp, GroupChange, GroupSpec, GroupStats,
    HandleError, Limits, Losses, Message, MessageFilter, MessageHandle, NewMessage,
    OpenTransaction, Outcome, Place, Prepared, Recall, ReceiptHandle, ReceiveRequest, Reschedule,
    Sent, Skipped, StartFrom, StoreError, TIMER_PROPERTY, TagFilter, Tallies, Timer, TimerContent,
    TimerSet, TopicChange, TopicKind, TopicSpec, TopicStats, Traffic, TransactionConfig,
    TransactionHandle,
};
pub use error::{Error, OpenError};
pub use losses::Warnings;
pub use storage::{Durability, StoreConfig};
pub use writer::Health;
