//! Starts everything that runs in this process, and stops it in order.

mod descriptors;
mod grpc;
mod http;
mod simulator;
mod stop;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use broker::clock::Clock;
use broker::{Broker, Health};
use gateway::Gateways;
use gateway::simulator::GATEWAY_NAME;
use orders::embedded::Embedded as EmbeddedMessaging;
use orders::http::{ApiSettings, ApiState, OperatorKey, install_metrics};
use orders::{NewApiKey, Platform, Running, Topic};
use server::http::OwnedNames;
use server::{LoopbackOnly, OpenAccess, Tls};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::grpc::{Admission, GrpcServer};
use self::http::BrokerApi;
use self::stop::ended;
use crate::config::{Config, FlagValue, Sources};

pub(crate) use self::grpc::certificate_file;

/// What to start.
pub(crate) struct Setup {
    config: Config,
    /// Whether a first start makes a gateway account at the simulator, so that the first payment works.
    first_account: bool,
}

impl Setup {
    /// A server with this configuration.
    pub(crate) fn new(config: Config) -> Self {
        let first_account = config.gateway_simulator;
        Self {
            config,
            first_account,
        }
    }

    /// The defaults, in this folder and on this address; files and variables are not read.
    pub(crate) fn demo(folder: &Path, address: SocketAddr) -> Result<Self> {
        let flag = |path: &str, value: String| FlagValue {
            flag: "demo".to_owned(),
            path: path.to_owned(),
            value,
        };
        let flags = vec![
            flag("storage.data", folder.display().to_string()),
            flag("server.listen", address.to_string()),
            // A demo runs beside a server that has the usual ports.
            flag("http.listen", "127.0.0.1:0".to_owned()),
            flag("grpc.listen", "127.0.0.1:0".to_owned()),
        ];
        let sources = Sources {
            file: None,
            environment: Vec::new(),
            flags,
        };
        let settings =
            crate::config::load(&sources).map_err(|problems| anyhow::anyhow!("{problems}"))?;
        let config = settings
            .resolve()
            .map_err(|problems| anyhow::anyhow!("{problems}"))?;
        Ok(Self {
            config,
            first_account: false,
        })
    }
}

/// The ports, bound before anything is opened or made, so that one in use is an early error.
struct Ports {
    orders: TcpListener,
    broker: TcpListener,
    clients: TcpListener,
}

impl Ports {
    async fn bind(config: &Config) -> Result<Self> {
        let orders = TcpListener::bind(config.server.listen)
            .await
            .with_context(|| format!("listen on {} (server.listen)", config.server.listen))?;
        Ok(Self {
            orders,
            broker: http::bind(config.http.listen).await?,
            clients: grpc::bind(config.grpc.listen).await?,
        })
    }
}

/// What the ports of the broker share.
struct Common {
    metrics: server::http::PrometheusHandle,
    tls: Option<Tls>,
    stopped: watch::Receiver<bool>,
}

/// Serves RocketMQ clients and the JSON API on these ports, with the same accounts and TLS.
fn serve_broker(
    config: &Config,
    (clients, users): (TcpListener, TcpListener),
    broker: &Broker,
    common: Common,
) -> Result<(GrpcServer, BrokerApi)> {
    let accounts = grpc::accounts(config, broker.clock())?;
    let Common {
        metrics,
        tls,
        stopped,
    } = common;
    let admission = Admission {
        accounts: accounts.clone(),
        tls: tls.clone(),
    };
    let stopping = ended(stopped.clone());
    let grpc = grpc::serve(&config.grpc, clients, broker, admission, stopping)?;
    let settings = server::http::ApiSettings {
        authenticate: match accounts {
            Some(accounts) => accounts,
            // A web page shown by a browser on this machine is refused, though it calls from here.
            None if config.http.listen.ip().is_loopback() => Arc::new(LoopbackOnly),
            // The configuration was checked: other machines are let in only if access.open is set.
            None => Arc::new(OpenAccess),
        },
        connections: Arc::new(grpc.front.clone()),
        metrics,
        limits: config.http.limits.clone(),
        answers: grpc.front.answers(),
        owned: owned_names(&config.orders.prefix),
    };
    let stopping = ended(stopped);
    let api = http::serve(users, broker.clone(), settings, tls, stopping)?;
    Ok((grpc, api))
}

/// What the order platform depends on. The topic of events is not among it: an operator may make that one anew, with a
/// quota for instance, and the platform goes on with what comes after.
fn owned_names(prefix: &str) -> OwnedNames {
    let timers = Topic::ALL
        .into_iter()
        .filter(|topic| *topic != Topic::Events);
    OwnedNames {
        topics: timers.map(|topic| topic.name(prefix)).collect(),
        groups: Topic::ALL.map(|topic| topic.group(prefix)).to_vec(),
    }
}

/// Whether an account at another gateway than the simulator exists.
async fn has_real_gateway(platform: &Platform) -> Result<bool> {
    let accounts = platform.gateway_accounts(None).await?;
    Ok(accounts
        .iter()
        .any(|account| account.gateway != GATEWAY_NAME))
}

/// A platform, its broker and its HTTP API, running.
pub(crate) struct Embedded {
    broker: Broker,
    running: Running,
    address: SocketAddr,
    /// The JSON API of the broker.
    api: BrokerApi,
    /// The port for RocketMQ clients.
    grpc: GrpcServer,
    /// The key of the merchant `default`, if this start made it.
    first_key: Option<NewApiKey>,
    /// Whether the simulator is on.
    simulator: bool,
    /// Whether callers on this machine need no key.
    trust_loopback: bool,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
    callbacks: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Starts the broker, then the platform on it, then the API in front.
    pub(crate) async fn start(setup: Setup, clock: Arc<dyn Clock>) -> Result<Self> {
        let Setup {
            config,
            first_account,
        } = setup;
        descriptors::raise();
        let metrics = install_metrics()?;
        let tls = grpc::tls(&config)?;
        let ports = Ports::bind(&config).await?;
        let address = ports
            .orders
            .local_addr()
            .context("read the bound address")?;
        let folder = config.data.join("broker");
        let broker = Broker::open_with_clock(&folder, config.broker.clone(), Arc::clone(&clock))?;
        let (stop, stopped) = watch::channel(false);
        let common = Common {
            metrics: metrics.clone(),
            tls: tls.clone(),
            stopped: stopped.clone(),
        };
        let (grpc, api) = serve_broker(&config, (ports.clients, ports.broker), &broker, common)?;
        let gateways = Gateways::default();
        let longest_delay = Duration::from_millis(config.broker.engine.limits.delay_ms_max);
        let messaging = EmbeddedMessaging::new(broker.clone()).with_longest_delay(longest_delay);
        let messaging = Arc::new(messaging);
        let running = Running::open(config.orders.clone(), Arc::clone(&clock), gateways).await?;
        let platform = running.platform.clone();
        let first_key = platform.ensure_default_merchant().await?;
        let simulator = if config.gateway_simulator {
            Some(simulator::open(&config.data, &platform, &clock).await?)
        } else {
            None
        };
        let trust_loopback = config.trusts_this_machine(has_real_gateway(&platform).await?);
        if let (Some(simulator), true) = (&simulator, first_account) {
            simulator::make_first_account(&platform, simulator).await?;
        }
        // Timers that are overdue fire at once, and need the gateways that were connected just now.
        let running = running.begin(messaging).await?;
        let call_back = |simulator| simulator::call_back(simulator, address, stopped.clone());
        let callbacks = simulator.clone().map(call_back).transpose()?;
        let settings = ApiSettings {
            operator_key: config.server.operator_key.as_deref().map(OperatorKey::new),
            trust_loopback,
            trust_ends_with_real_gateway: config.trust_ends_with_real_gateway(),
            simulator: simulator.clone(),
        };
        let state = ApiState::new(platform, clock, metrics, settings);
        let server = tokio::spawn(orders::http::run(
            ports.orders,
            state,
            tls,
            ended(stopped),
            config.drain(),
        ));
        let simulator = simulator.is_some();
        Ok(Self {
            broker,
            running,
            address,
            api,
            grpc,
            first_key,
            simulator,
            trust_loopback,
            stop,
            server,
            callbacks,
        })
    }

    /// Where the API listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the JSON API of the broker listens.
    pub(crate) fn broker_address(&self) -> SocketAddr {
        self.api.address
    }

    /// Where RocketMQ clients connect.
    pub(crate) fn grpc_address(&self) -> SocketAddr {
        self.grpc.address
    }

    /// The key of the merchant `default`, if this start made it; it is not shown again.
    pub(crate) fn first_key(&self) -> Option<&NewApiKey> {
        self.first_key.as_ref()
    }

    /// Whether the payment gateway simulator is on.
    pub(crate) fn has_simulator(&self) -> bool {
        self.simulator
    }

    /// Whether callers on this machine need no key.
    pub(crate) fn trusts_this_machine(&self) -> bool {
        self.trust_loopback
    }

    /// The platform inside.
    pub(crate) fn platform(&self) -> &Platform {
        &self.running.platform
    }

    /// Ends when a part has ended that should be running, and says which.
    pub(crate) async fn broken(&mut self) -> String {
        let Self {
            broker,
            running,
            server,
            api,
            grpc,
            ..
        } = self;
        tokio::select! {
            // The servers end because the broker has: its reason is the one to report.
            biased;
            health = broker.ended() => match health {
                Health::Failed(reason) => format!("the broker's store failed: {reason}"),
                Health::Running | Health::Stopped => "the broker has ended".to_owned(),
            },
            () = running.broken() => "a task of the order platform has ended".to_owned(),
            _ = server => "the HTTP server has ended".to_owned(),
            _ = &mut api.served => "the HTTP server of the broker has ended".to_owned(),
            _ = &mut grpc.served => "the gRPC server has ended".to_owned(),
        }
    }

    /// Refuses new requests, finishes those in flight, then stops the platform and at last the broker, each with
    /// everything written to the disk.
    pub(crate) async fn stop(self) -> Result<()> {
        self.stop.send_replace(true);
        if let Some(callbacks) = self.callbacks {
            callbacks.await.context("stop the simulator")?;
        }
        // Why a server ended earlier was reported by `broken`.
        let _ = self.server.await;
        let _ = self.api.served.await;
        let _ = self.grpc.served.await;
        self.running.stop().await;
        match self.broker.shutdown().await {
            Health::Failed(reason) => bail!("the broker's store failed: {reason}"),
            Health::Running | Health::Stopped => Ok(()),
        }
    }
}
