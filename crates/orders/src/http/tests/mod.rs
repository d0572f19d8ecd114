//! Checks the HTTP API through its router: every route, every error, the document, and a real port.

mod envelope;
mod port;
mod resources;
mod rig;

use self::rig::{Api, Call};
