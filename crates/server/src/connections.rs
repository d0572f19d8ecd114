//! Defines who is connected: what the front ends that keep connections tell the one that shows them.

/// A client of a front end that keeps connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The id the client gives itself.
    pub client_id: String,
    /// Address and port it comes from.
    pub remote: String,
    /// The protocol it speaks, `grpc` for instance.
    pub protocol: &'static str,
    /// `producer`, `push consumer`, `simple consumer`, or what else the client says it is.
    pub role: String,
    /// Language and version of its library, as it says.
    pub library: String,
    /// The consumer group it belongs to.
    pub group: Option<String>,
    /// Topics it sends to or is subscribed to.
    pub topics: Vec<String>,
    /// Since when it has been connected, in ms of the engine clock.
    pub since_ms: u64,
}

/// What knows who is connected.
pub trait Connections: std::fmt::Debug + Send + Sync {
    /// Everybody who is connected now.
    fn connections(&self) -> Vec<Connection>;
}

/// Nobody is ever connected: for a broker without other front ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoConnections;

impl Connections for NoConnections {
    fn connections(&self) -> Vec<Connection> {
        Vec::new()
    }
}
