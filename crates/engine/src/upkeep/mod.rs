//! Implements what happens without a request: recovery at the start, retention, alarms, the end of void retries.

pub(crate) mod alarm;
pub(crate) mod recovery;
pub(crate) mod retention;
pub(crate) mod stragglers;
pub(crate) mod void_retries;
