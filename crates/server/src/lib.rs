//! Serves a [`broker::Broker`] over the network: the gRPC front end for RocketMQ clients, and the JSON API.
//!
//! Protocol types, status codes and credentials are not used beyond this crate.

mod access;
mod answers;
mod carried;
mod connections;
mod filter;
pub mod grpc;
pub mod http;
mod metrics;

pub use access::{
    Account, Accounts, AccountsError, Action, Authenticate, Caller, Credentials, LoopbackOnly,
    OpenAccess, Refused,
};
/// The crate of the broker, re-exported so that a caller uses the same version.
pub use broker;
pub use connections::{Connection, Connections, NoConnections};
pub use edge::accept::Bounds;
pub use edge::tls::{CERTIFICATE_FILE, Certificate, Tls, TlsError};
pub use filter::{FilterError, SqlFilter};
