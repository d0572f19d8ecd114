//! Checks the JSON API through its router: every route, every error, the document, the examples, and a real port.

mod answers;
mod docs;
mod envelope;
mod hostile;
mod losses;
mod operators;
mod port;
mod rig;
mod senders;
mod transactions;

use self::rig::{Api, Call, START_MS};
