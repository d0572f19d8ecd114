//! Provides what the engine keeps in memory; nothing here reads or writes the store.

pub(crate) mod catalog;
pub(crate) mod dedup;
pub(crate) mod frontier;
pub(crate) mod subscription;
pub(crate) mod topic;
pub(crate) mod window;
