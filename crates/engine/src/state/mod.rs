//! Provides what the engine keeps in memory; nothing here reads or writes the store.

pub(crate) mod ahead;
pub(crate) mod alarms;
pub(crate) mod catalog;
pub(crate) mod counters;
pub(crate) mod damaged;
pub(crate) mod dedup;
pub(crate) mod disk;
pub(crate) mod filters;
pub(crate) mod frontier;
pub(crate) mod memory;
pub(crate) mod notes;
pub(crate) mod partitions;
pub(crate) mod progress;
pub(crate) mod progress_record;
pub(crate) mod spec;
pub(crate) mod stage;
pub(crate) mod subscription;
pub(crate) mod topic;
pub(crate) mod transactions;
pub(crate) mod void_retries;
pub(crate) mod wakes;
pub(crate) mod window;
pub(crate) mod work;
