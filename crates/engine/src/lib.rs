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
mod config;
mod delivery;
mod engine;
mod error;
mod format;
#[cfg(test)]
mod hostile;
mod ids;
pub mod limits;
mod memory_store;
mod message;
mod place;
mod state;
mod store;
mod upkeep;

pub use commands::browse::Browsed;
pub use commands::change::{GroupChange, TopicChange};
pub use commands::checks::Check;
pub use commands::given_up::{GivenUp, OpenTransaction};
pub use commands::histogram::Bucket;
pub use commands::losses::Skipped;
pub use commands::recall::{Recall, Reschedule};
pub use commands::receive::ReceiveRequest;
pub use commands::stats::{Found, GroupStats, TopicStats};
pub use commands::timer::{TIMER_PROPERTY, Timer, TimerContent, TimerSet};
pub use commands::transaction::{Outcome, Prepared};
pub use config::{Config, TransactionConfig};
pub use delivery::dead_letter::{
    DEAD_LETTER_ATTEMPTS_PROPERTY, DEAD_LETTER_ID_PROPERTY, DEAD_LETTER_TOPIC_PROPERTY,
};
pub use engine::{Engine, Room};
pub use error::Error;
pub use format::handle::{HandleError, MessageHandle, ReceiptHandle, TransactionHandle};
pub use format::record::FORMAT;
pub use ids::{GroupId, TopicId, TopicKind};
pub use limits::Limits;
pub use memory_store::MemoryStore;
pub use message::{
    BodyDigest, CARRIED_PREFIX, DelayLevels, Delivered, Delivery, Message, MessageFilter,
    NewMessage, Sent, TagFilter,
};
pub use place::{PartitionId, Place};
pub use state::alarms::Alarm;
pub use state::counters::{Losses, Tallies, Traffic};
pub use state::spec::{DEAD_LETTER_PREFIX, GroupSpec, StartFrom, TopicSpec};
pub use store::{Batch, ChangeRef, Rows, Space, Store, StoreError};
