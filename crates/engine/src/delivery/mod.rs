//! Implements what commands share: append, read, leases, retries, dead letters, wake-ups.

pub(crate) mod append;
pub(crate) mod damage;
pub(crate) mod dead_letter;
pub(crate) mod fifo;
pub(crate) mod fresh;
pub(crate) mod gather;
pub(crate) mod held;
pub(crate) mod lease;
pub(crate) mod read;
pub(crate) mod retry;
pub(crate) mod timeline;
pub(crate) mod wake;
