//! Keeps what the calls of one connection share.

use std::net::SocketAddr;

/// A connection; it is dropped when the connection is closed.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The address of the peer.
    pub(crate) remote: SocketAddr,
}

impl Connection {
    pub(crate) fn new(remote: SocketAddr) -> Self {
        Self { remote }
    }
}
