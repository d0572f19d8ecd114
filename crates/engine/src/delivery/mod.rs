//! Implements what commands share: append, read, leases, retries, dead letters, wake-ups.

pub(crate) mod append;
pub(crate) mod damage;
pub(crate) mod dead_letter;
pub(crate) mod lease;
pub(crate) mod queue;
pub(crate) mod read;
pub(crate) mod retry;
pub(crate) mod timeline;
pub(crate) mod wake;
