//! Tests of the engine from outside: scripts over a store in memory, and random commands against a plain model.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that panics reports what it found"
)]

mod admin;
mod change;
mod damage;
mod delivery;
mod fifo;
mod frontier;
mod full_disk;
mod history;
mod limits;
mod losses;
mod memory;
mod model;
mod random;
mod recall;
mod repeats;
mod restart;
mod retention;
mod retry;
mod script;
mod stats;
mod steps;
