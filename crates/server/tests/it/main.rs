//! Tests of the front ends over a real port, with the client generated from the same protocol.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::unnecessary_wraps,
    reason = "a test may panic; clippy allows it in test functions only, not in what they share; fields of the protocol are optional"
)]

mod counting;
mod delivering;
mod flooding;
mod hostile;
mod namespaces;
mod rig;
mod routing;
mod secrets;
mod sending;
mod settling;
mod telling;
mod transactions;
