//! Front ends of the broker: what speaks a protocol on one side and calls a [`broker::Broker`] on the other.
//!
//! Protocol types, status codes and credentials end here; the broker knows none of them.

mod access;
mod carried;
mod connections;
mod filter;
pub mod grpc;
pub mod http;
mod metrics;

pub use access::{
    Account, Accounts, AccountsError, Action, Authenticate, Caller, Credentials, Everybody,
    LoopbackOnly, Refused,
};
/// The crate the front ends stand in front of, so that whoever starts them names the same one.
pub use broker;
pub use connections::{Connection, Connections, NoConnections};
pub use edge::accept::Bounds;
pub use edge::tls::{CERTIFICATE_FILE, Certificate, Tls, TlsError};
pub use filter::{FilterError, SqlFilter};
