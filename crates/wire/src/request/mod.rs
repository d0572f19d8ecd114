//! Defines the parameters of the requests that have many; the others are read from [`Fields`] where they are served.

mod end_transaction;
mod pull;
mod send;

pub use end_transaction::{EndTransaction, Outcome};
pub use pull::{Pull, pull_flag};
pub use send::{SendMessage, SendResponse};

#[cfg(doc)]
use crate::fields::Fields;
