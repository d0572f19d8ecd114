//! Tests of the command line from outside: the real program against a real broker on a free port.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that panics has said what it found"
)]

mod admin;
mod docs;
mod platform;
mod rig;
mod serve;
