//! Implements what happens without a request: recovery at the start, retention, alarms.

pub(crate) mod alarm;
pub(crate) mod recovery;
pub(crate) mod retention;
