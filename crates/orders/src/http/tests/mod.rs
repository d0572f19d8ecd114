//! Checks the HTTP API through its router: every route, every error, the document, the page, and a real port.

mod docs;
mod envelope;
mod events;
mod hostile;
mod keys;
mod money;
mod outbox;
mod port;
mod resources;
mod rig;
mod shop;
mod storm;
mod webhooks;
mod world;

use self::rig::{Api, Call};
