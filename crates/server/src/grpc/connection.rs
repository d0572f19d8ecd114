//! Keeps what the calls of one connection share.

use std::net::SocketAddr;

use edge::budget;

/// A connection; it is dropped when the connection is closed.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The address of the peer.
    pub(crate) remote: SocketAddr,
    /// What it may take of the budgets that all share.
    pub(crate) parts: budget::Connection,
}

impl Connection {
    pub(crate) fn new(remote: SocketAddr) -> Self {
        Self {
            remote,
            parts: budget::Connection::default(),
        }
    }
}
