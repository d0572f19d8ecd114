//! Defines the list of connected clients, which one front end provides and another shows.

/// A client of a front end that keeps connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The id that the client chose.
    pub client_id: String,
    /// Its address and port.
    pub remote: String,
    /// Its protocol, `grpc` for instance.
    pub protocol: &'static str,
    /// `producer`, `push consumer`, `simple consumer`, or another type that the client reports.
    pub role: String,
    /// Language and version of its library, as reported by the client.
    pub library: String,
    /// The consumer group it belongs to.
    pub group: Option<String>,
    /// The topics it sends to or is subscribed to.
    pub topics: Vec<String>,
    /// When it connected, in ms of the engine clock.
    pub since_ms: u64,
}

/// Lists the connected clients.
pub trait Connections: std::fmt::Debug + Send + Sync {
    /// Returns the clients that are connected now.
    fn connections(&self) -> Vec<Connection>;
}

/// An empty list, for a broker without other front ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoConnections;

impl Connections for NoConnections {
    fn connections(&self) -> Vec<Connection> {
        Vec::new()
    }
}
