//! Defines the resolved configuration: the crates' own configurations, and the settings of the process itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use broker::BrokerConfig;
use server::grpc::GrpcConfig;
use server::http::HttpLimits;

/// An address that no setting has been written to yet.
const UNSET: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// The configuration of a server.
///
/// The table of settings writes every value to its field here, so a field is named nowhere else between the
/// table and its use. Fields without a setting keep the default of their crate.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The data folder.
    pub(crate) data: PathBuf,
    pub(crate) server: Server,
    pub(crate) http: Http,
    pub(crate) grpc: GrpcConfig,
    pub(crate) tls: Encryption,
    pub(crate) access: Access,
    pub(crate) log: Log,
    pub(crate) broker: BrokerConfig,
    pub(crate) orders: orders::Config,
    /// Whether the payment gateway simulator is on.
    pub(crate) gateway_simulator: bool,
}

/// The order platform's API, and how the process stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) listen: SocketAddr,
    pub(crate) trust_loopback: Trust,
    pub(crate) operator_key: Option<String>,
    pub(crate) shutdown_time: Duration,
}

/// Whether callers on this machine need no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// While this is a trial: the simulator is the only gateway, and no port listens for other machines.
    Auto,
    On,
    Off,
}

/// The JSON API of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Http {
    pub(crate) listen: SocketAddr,
    pub(crate) limits: HttpLimits,
}

/// TLS on all ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Encryption {
    pub(crate) on: bool,
    /// Whether calls in clear text are refused.
    pub(crate) required: bool,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

/// Who may use the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) accounts: Option<PathBuf>,
    pub(crate) open: bool,
}

/// What is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) format: LogFormat,
    /// A level by its lower-case name.
    pub(crate) level: &'static str,
}

/// The format of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    Text,
    Json,
}

impl Config {
    /// The crates' defaults. The settings of the process have no value before the table is applied.
    pub(super) fn unset() -> Self {
        Self {
            data: PathBuf::new(),
            server: Server {
                listen: UNSET,
                trust_loopback: Trust::Off,
                operator_key: None,
                shutdown_time: Duration::ZERO,
            },
            http: Http {
                listen: UNSET,
                limits: HttpLimits::default(),
            },
            grpc: GrpcConfig::default(),
            tls: Encryption::default(),
            access: Access::default(),
            log: Log::default(),
            broker: BrokerConfig::default(),
            orders: orders::Config::new(PathBuf::new()),
            gateway_simulator: false,
        }
    }

    /// Copies to the gRPC front end what it shares with the broker.
    pub(super) fn complete(&mut self) {
        let engine = &self.broker.engine;
        self.grpc.body_bytes_max = engine.limits.body_bytes_max;
        self.grpc.auto_topic = engine.auto_topic;
        self.grpc.auto_group = engine.auto_group;
    }

    /// Whether callers on this machine need no key; `real_gateway`: an account at another gateway than the simulator exists.
    pub(crate) fn trusts_this_machine(&self, real_gateway: bool) -> bool {
        let listens = [self.server.listen, self.http.listen, self.grpc.listen];
        match self.server.trust_loopback {
            Trust::On => true,
            Trust::Off => false,
            Trust::Auto => {
                let local = listens.iter().all(|listen| listen.ip().is_loopback());
                self.gateway_simulator && local && !real_gateway
            }
        }
    }

    /// Whether that ends when an account at another gateway is made.
    pub(crate) fn trust_ends_with_real_gateway(&self) -> bool {
        self.server.trust_loopback == Trust::Auto
    }

    /// How long requests in flight may take once the process stops; the rest of the time is for the store.
    pub(crate) fn drain(&self) -> Duration {
        self.server.shutdown_time / 2
    }
}
