//! The broker as a deterministic state machine over a small [`Store`] trait.
//!
//! Each message queue of a topic is a *timeline*: an ordered map from `(due, sequence)` to the message. A
//! normal message is a delayed one whose due time is now. Nothing is moved when it becomes due; readers
//! simply may not pass the *frontier*, which follows the engine clock and stays below everything that is
//! not yet durable.
//!
//! There is no I/O here, no async, and no clock: time comes in as `now_ms`. The `broker` crate joins the
//! engine with a store and a clock.

mod alarm;
mod browse;
mod catalog;
mod change_catalog;
mod codec;
mod damage;
mod dead_letter;
mod engine;
mod error;
mod handle;
#[cfg(test)]
mod hostile;
mod keys;
mod lease;
mod letters;
pub mod limits;
mod load;
mod memory;
mod message;
mod place;
mod query;
mod read;
mod recall;
mod receive;
mod record;
mod repeat;
mod retry;
mod send;
mod settle;
mod stage;
mod store;
mod subscription;
mod timeline;
mod timer;
mod topic;
mod transaction;
mod upkeep;
mod wake;
mod window;

pub use alarm::Alarm;
pub use browse::Browsed;
pub use catalog::{DEAD_LETTER_PREFIX, GroupSpec, StartFrom, TopicKind, TopicSpec};
pub use dead_letter::{
    DEAD_LETTER_ATTEMPTS_PROPERTY, DEAD_LETTER_ID_PROPERTY, DEAD_LETTER_TOPIC_PROPERTY,
};
pub use engine::{Config, Engine, Room, Tallies, Traffic};
pub use error::Error;
pub use handle::{HandleError, MessageHandle, ReceiptHandle};
pub use limits::Limits;
pub use memory::MemoryStore;
pub use message::{
    DelayLevels, Delivered, Delivery, Message, MessageFilter, NewMessage, TagFilter,
};
pub use place::{PartitionId, Place};
pub use query::{Bucket, Found, GroupStats, TopicStats};
pub use recall::{Recall, Reschedule};
pub use receive::ReceiveRequest;
pub use record::{FORMAT, GroupId, TopicId};
pub use send::Sent;
pub use store::{Batch, ChangeRef, Rows, Space, Store, StoreError};
pub use timer::{TIMER_PROPERTY, Timer, TimerContent, TimerSet};
pub use transaction::{Check, Outcome, Prepared, TransactionConfig, TransactionHandle};
