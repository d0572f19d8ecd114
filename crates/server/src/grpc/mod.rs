//! Serves the protocol of RocketMQ 5 clients over gRPC, in clear text and TLS on one port.
//!
//! The outcome of a call is the `Status` inside its answer. A gRPC error means that the transport failed, or
//! that the call is one that no released client makes.

mod batch;
mod body;
mod connection;
mod convert;
mod deliveries;
mod filters;
#[cfg(test)]
mod hostile;
mod limits;
mod listen;
pub(crate) mod metrics;
mod names;
mod peer;
mod recall;
mod receive;
mod route;
mod send;
mod service;
mod session;
mod settings;
mod settle;
mod status;
mod telemetry;
mod transaction;
mod validate;

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use broker::clock::Clock;
use broker::{Broker, ReceiptHandle, TopicKind};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

pub use self::limits::GrpcLimits;
pub use self::peer::Access;
pub use self::route::HostPort;

use self::deliveries::Outstanding;
use self::filters::Filters;
use self::listen::Front;
use self::metrics::CallMetrics;
use self::names::Names;
use self::session::Sessions;
use self::transaction::Halves;
use crate::connections::{Connection, Connections};
use edge::accept::Listener;
use edge::budget::Budget;
use edge::tls::Tls;

/// The configuration of the front end.
#[derive(Clone, Debug)]
pub struct GrpcConfig {
    /// Its address, returned to clients that do not send the endpoints they used.
    pub listen: SocketAddr,
    /// The address that clients are to use; `None`: the one they used.
    pub advertise: Option<HostPort>,
    /// Largest body of a message, in bytes; the broker's own limit.
    pub body_bytes_max: usize,
    /// The kind and the number of queues of a topic that is created when its route is first queried.
    pub auto_topic: Option<(TopicKind, u16)>,
    /// Whether consumer groups are created on first use.
    pub auto_group: bool,
    /// The limits.
    pub limits: GrpcLimits,
}

impl Default for GrpcConfig {
    /// Returns 127.0.0.1:8081, bodies of 4 MiB, topics created explicitly, groups on first use.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)),
            advertise: None,
            body_bytes_max: 4 * 1024 * 1024,
            auto_topic: None,
            auto_group: true,
            limits: GrpcLimits::default(),
        }
    }
}

/// The gRPC front end of a broker. Clones share everything.
#[derive(Clone, Debug)]
pub struct Grpc {
    shared: Arc<Shared>,
}

/// The state shared by all calls.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) broker: Broker,
    pub(crate) config: GrpcConfig,
    pub(crate) access: Access,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) outstanding: Outstanding,
    pub(crate) names: Names,
    pub(crate) filters: Filters,
    pub(crate) halves: Halves,
    pub(crate) metrics: CallMetrics,
    /// The bytes of requests under way.
    pub(crate) requests: Arc<Budget>,
    /// The bytes of messages being sent to consumers.
    pub(crate) answers: Arc<Budget>,
    /// The store host in delivered messages.
    pub(crate) store_host: String,
    stop: watch::Sender<bool>,
    unsent: mpsc::UnboundedSender<Vec<ReceiptHandle>>,
    /// Taken by the task that runs the front end.
    unsent_taker: std::sync::Mutex<Option<mpsc::UnboundedReceiver<Vec<ReceiptHandle>>>>,
}

impl Shared {
    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        self.broker.clock()
    }

    /// Completes when the front end stops.
    pub(crate) async fn stopping(&self) {
        let mut stop = self.stop.subscribe();
        // The sender lives as long as `self`.
        drop(stop.wait_for(|stop| *stop).await);
    }

    /// Returns deliveries that did not reach their consumer. Their number is limited by what may be in flight.
    pub(crate) fn return_later(&self, handles: Vec<ReceiptHandle>) {
        // After the end their leases expire.
        drop(self.unsent.send(handles));
    }
}

impl Grpc {
    /// Creates a front end of `broker`.
    pub fn new(broker: Broker, config: GrpcConfig, access: Access) -> Self {
        metrics::describe();
        let clock = Arc::clone(broker.clock());
        let (unsent, unsent_taker) = mpsc::unbounded_channel();
        let store_host = config
            .advertise
            .as_ref()
            .map_or_else(|| config.listen.to_string(), HostPort::to_string);
        Self {
            shared: Arc::new(Shared {
                sessions: Arc::new(Sessions::new(clock, config.limits.sessions_max)),
                outstanding: Outstanding::default(),
                names: Names::default(),
                filters: Filters::default(),
                halves: Halves::default(),
                metrics: CallMetrics::new(),
                requests: Budget::new(config.limits.requests_bytes_max),
                answers: Budget::new(config.limits.answers_bytes_max),
                store_host,
                stop: watch::Sender::new(false),
                unsent,
                unsent_taker: std::sync::Mutex::new(Some(unsent_taker)),
                broker,
                config,
                access,
            }),
        }
    }

    /// Serves clients on `listener` until `shutdown` ends or the broker does; calls under way then get the drain limit
    /// to end. With `tls` both clear text and TLS are spoken; the first byte of a connection decides.
    ///
    /// May be called once.
    pub async fn run(
        self,
        listener: TcpListener,
        tls: Option<Tls>,
        shutdown: impl Future<Output = ()>,
    ) {
        let shared = self.shared;
        let taker = shared
            .unsent_taker
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        let mut chores = tokio::task::JoinSet::new();
        chores.spawn(Arc::clone(&shared).renew_leases());
        chores.spawn(Arc::clone(&shared).ask_producers());
        if let Some(unsent) = taker {
            chores.spawn(Arc::clone(&shared).return_unsent(unsent));
        }
        let server = Listener {
            protocol: Front(Arc::clone(&shared)),
            bounds: shared.config.limits.bounds,
            tls,
            clock: Arc::clone(shared.clock()),
            stopping: shared.stop.subscribe(),
        };
        let connections = {
            let broker = shared.broker.clone();
            let stop = async {
                tokio::select! {
                    () = shutdown => {}
                    _ = broker.ended() => {}
                }
            };
            server.accept(&listener, stop).await
        };
        drop(listener);
        shared.stop.send_replace(true);
        shared.sessions.end_all();
        server.drain(connections).await;
        // Background tasks end when the front end stops.
        while chores.join_next().await.is_some() {}
    }
}

impl Grpc {
    /// The budget of the messages that are being sent to consumers, for the other front ends.
    pub fn answers(&self) -> Arc<Budget> {
        Arc::clone(&self.shared.answers)
    }
}

impl Connections for Grpc {
    fn connections(&self) -> Vec<Connection> {
        self.shared.sessions.connections()
    }
}
