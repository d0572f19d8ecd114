//! Joins engine and storage: the writer loop, the clock, wake-ups and the cheap `Broker` handle.
pub mod clock;
