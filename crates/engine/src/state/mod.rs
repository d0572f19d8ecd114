//! Provides what the engine keeps in memory; nothing here reads or writes the store.

pub(crate) mod alarms;
pub(crate) mod catalog;
pub(crate) mod counters;
pub(crate) mod dedup;
pub(crate) mod frontier;
pub(crate) mod spec;
pub(crate) mod stage;
pub(crate) mod subscription;
pub(crate) mod topic;
pub(crate) mod window;
