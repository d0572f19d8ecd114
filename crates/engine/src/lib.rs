//! The broker as a deterministic state machine over a small [`Store`] trait.
//!
//! Each message queue of a topic is a *timeline*: an ordered map from `(due, sequence)` to the message. A
//! normal message is a delayed one whose due time is now. Nothing is moved when it becomes due; readers
//! simply may not pass the *frontier*, which follows the engine clock and stays below everything that is
//! not yet durable.
//!
//! There is no I/O here, no async, and no clock: time comes in as `now_ms`. The `broker` crate joins the
//! engine with a store and a clock.

mod commands;
mod delivery;
mod engine;
mod error;
mod format;
#[cfg(test)]
mod hostile;
pub mod limits;
mod memory_store;
mod message;
mod place;
mod state;
mod store;
mod upkeep;

pub use commands::browse::Browsed;
pub use commands::recall::{Recall, Reschedule};
pub use commands::receive::ReceiveRequest;
pub use commands::send::Sent;
pub use commands::stats::{Bucket, Found, GroupStats, TopicStats};
pub use commands::timer::{TIMER_PROPERTY, Timer, TimerContent, TimerSet};
pub use commands::transaction::{Check, Outcome, Prepared, TransactionConfig, TransactionHandle};
pub use delivery::dead_letter::{
    DEAD_LETTER_ATTEMPTS_PROPERTY, DEAD_LETTER_ID_PROPERTY, DEAD_LETTER_TOPIC_PROPERTY,
};
pub use engine::{Config, Engine, Room, Tallies, Traffic};
pub use error::Error;
pub use format::handle::{HandleError, MessageHandle, ReceiptHandle};
pub use format::record::{FORMAT, GroupId, TopicId};
pub use limits::Limits;
pub use memory_store::MemoryStore;
pub use message::{
    DelayLevels, Delivered, Delivery, Message, MessageFilter, NewMessage, TagFilter,
};
pub use place::{PartitionId, Place};
pub use state::catalog::{DEAD_LETTER_PREFIX, GroupSpec, StartFrom, TopicKind, TopicSpec};
pub use store::{Batch, ChangeRef, Rows, Space, Store, StoreError};
pub use upkeep::alarm::Alarm;
