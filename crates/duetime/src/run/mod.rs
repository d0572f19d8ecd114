//! Starts everything that runs in this process, and stops it in order.

mod grpc;
mod http;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use broker::clock::Clock;
use broker::{Broker, BrokerConfig, DelayLevels, Health, StoreConfig, TopicKind};
use orders::embedded::Embedded as EmbeddedMessaging;
use orders::gateway::Gateways;
use orders::gateway::simulator::{GATEWAY_NAME, HttpSink, Simulator, SimulatorConfig};
use orders::http::{ApiSettings, ApiState, OperatorKey, install_metrics};
use orders::{MerchantId, NewApiKey, NewGatewayAccount, Platform, Running, UnknownPolicy};
use server::http::HttpLimits;
use server::{Everybody, LoopbackOnly};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::grpc::Door;
pub(crate) use self::grpc::certificate_file;
use self::http::Api;
use crate::config::{Config, Durability, FlagValue, Sources, UnknownAnswer};

/// File in the data folder the simulator's secrets are derived from.
const SIMULATOR_SECRET_FILE: &str = "simulator.secret";
/// Name of the gateway account that a new shop finds.
const FIRST_ACCOUNT: &str = "simulator";

/// What is to be started.
pub(crate) struct Setup {
    config: Config,
    /// Whether a first start makes a gateway account at the simulator, so that the first payment works.
    first_account: bool,
}

impl Setup {
    /// What the configuration says.
    pub(crate) fn new(config: Config) -> Self {
        let first_account = config.orders.gateway_simulator;
        Self {
            config,
            first_account,
        }
    }

    /// The defaults, in this folder and on this address, whatever files and variables say.
    pub(crate) fn demo(folder: &Path, address: SocketAddr) -> Result<Self> {
        let flag = |path: &str, value: String| FlagValue {
            flag: "demo".to_owned(),
            path: path.to_owned(),
            value,
        };
        let flags = vec![
            flag("storage.data", folder.display().to_string()),
            flag("server.listen", address.to_string()),
            // A demo runs beside a server that has the usual port.
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

/// The ports that are listened on. One that is taken is found out before anything is opened or made.
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

/// Lets RocketMQ clients and users of the JSON API in, on these ports; both know the same accounts.
fn open_doors(
    config: &Config,
    (clients, users): (TcpListener, TcpListener),
    broker: &Broker,
    figures: server::http::Figures,
    stopped: &watch::Receiver<bool>,
) -> Result<(Door, Api)> {
    let accounts = grpc::accounts(config, broker.clock())?;
    let tls = grpc::tls(config)?;
    let rules = grpc::Rules {
        accounts: accounts.clone(),
        tls: tls.clone(),
    };
    let door = grpc::open(config, clients, broker, rules, ended(stopped.clone()))?;
    let settings = server::http::ApiSettings {
        authenticate: match accounts {
            Some(accounts) => accounts,
            // A page that a browser shows on this machine is no user of it, so there it stays closed to others.
            None if config.http.listen.ip().is_loopback() => Arc::new(LoopbackOnly),
            // The configuration was refused unless this is meant.
            None => Arc::new(Everybody),
        },
        connections: Arc::new(door.front.clone()),
        figures,
        limits: HttpLimits {
            drain: config.server.shutdown_time / 2,
            ..HttpLimits::default()
        },
    };
    let stopping = ended(stopped.clone());
    let api = http::serve(users, broker.clone(), settings, tls, stopping)?;
    Ok((door, api))
}

/// A platform, its broker and its HTTP API, running.
pub(crate) struct Embedded {
    broker: Broker,
    running: Running,
    address: SocketAddr,
    /// The JSON API of the broker.
    api: Api,
    /// Where RocketMQ clients come in.
    door: Door,
    /// The key of the merchant `default`, if this start made it.
    first_key: Option<NewApiKey>,
    /// Whether the simulator is on.
    simulator: bool,
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
        let figures = install_metrics()?;
        let ports = Ports::bind(&config).await?;
        let address = ports.orders.local_addr().context("ask for the address")?;
        let folder = config.storage.data.join("broker");
        let broker = Broker::open_with_clock(&folder, broker_config(&config)?, Arc::clone(&clock))?;
        let (stop, stopped) = watch::channel(false);
        let drain = config.server.shutdown_time / 2;
        let (door, api) = open_doors(
            &config,
            (ports.clients, ports.broker),
            &broker,
            figures.clone(),
            &stopped,
        )?;
        let gateways = Gateways::default();
        let messaging = Arc::new(EmbeddedMessaging::new(broker.clone()));
        let running = Running::start(
            orders_config(&config)?,
            Arc::clone(&clock),
            messaging,
            gateways,
        )
        .await?;
        let platform = running.platform.clone();
        let first_key = platform.ensure_default_merchant().await?;
        let simulator = simulator(&config, &platform, &clock).await?;
        if let (Some(simulator), true) = (&simulator, first_account) {
            make_first_account(&platform, simulator).await?;
        }
        let callbacks = match simulator.clone() {
            Some(simulator) => Some(call_back(simulator, address, stopped.clone())?),
            None => None,
        };
        let settings = ApiSettings {
            operator_key: config.server.operator_key.as_deref().map(OperatorKey::new),
            trust_loopback: config.server.trust_loopback,
            simulator: simulator.clone(),
        };
        let state = ApiState::new(platform, clock, figures, settings);
        let server = tokio::spawn(orders::http::run(
            ports.orders,
            state,
            ended(stopped),
            drain,
        ));
        let simulator = simulator.is_some();
        Ok(Self {
            broker,
            running,
            address,
            api,
            door,
            first_key,
            simulator,
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
    pub(crate) fn door(&self) -> SocketAddr {
        self.door.address
    }

    /// The key of the merchant `default`, if this start made it; it is not shown again.
    pub(crate) fn first_key(&self) -> Option<&NewApiKey> {
        self.first_key.as_ref()
    }

    /// Whether the payment gateway simulator is on.
    pub(crate) fn has_simulator(&self) -> bool {
        self.simulator
    }

    /// The platform inside.
    pub(crate) fn platform(&self) -> &Platform {
        &self.running.platform
    }

    /// Ends when something in here has ended that should not have, and says what.
    pub(crate) async fn broken(&mut self) -> String {
        let Self {
            broker,
            running,
            server,
            api,
            door,
            ..
        } = self;
        tokio::select! {
            health = broker.ended() => match health {
                Health::Failed(reason) => format!("the broker's store failed: {reason}"),
                Health::Running | Health::Stopped => "the broker has ended".to_owned(),
            },
            () = running.broken() => "a task of the order platform has ended".to_owned(),
            _ = server => "the HTTP server has ended".to_owned(),
            _ = &mut api.served => "the HTTP server of the broker has ended".to_owned(),
            _ = &mut door.served => "the gRPC server has ended".to_owned(),
        }
    }

    /// Stops taking requests, lets those under way end, then stops the platform and at last the broker, each
    /// with everything on the disk.
    pub(crate) async fn stop(self) -> Result<()> {
        self.stop.send_replace(true);
        if let Some(callbacks) = self.callbacks {
            callbacks.await.context("stop the simulator")?;
        }
        // A server that ended before has told why already.
        let _ = self.server.await;
        let _ = self.api.served.await;
        let _ = self.door.served.await;
        self.running.stop().await;
        match self.broker.shutdown().await {
            Health::Failed(reason) => bail!("the broker's store failed: {reason}"),
            Health::Running | Health::Stopped => Ok(()),
        }
    }
}

/// Ends when the sender says so.
async fn ended(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone: time to end too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// An address this process can call: one that listens everywhere listens here too.
fn reachable(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        let local: std::net::IpAddr = if address.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        };
        address.set_ip(local);
    }
    address
}

/// The payment gateway simulator, if it is on.
async fn simulator(
    config: &Config,
    platform: &Platform,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Simulator>> {
    if !config.orders.gateway_simulator {
        return Ok(None);
    }
    let secret = simulator_secret(&config.storage.data)?;
    let simulator = Simulator::new(SimulatorConfig::default(), &secret, Arc::clone(clock));
    simulator.open_accounts(platform).await?;
    Ok(Some(simulator))
}

/// Lets the simulator call back at the API that listens on `address`.
fn call_back(
    simulator: Simulator,
    address: SocketAddr,
    stopped: watch::Receiver<bool>,
) -> Result<JoinHandle<()>> {
    let sink = HttpSink::new(format!("http://{}", reachable(address)));
    let sink = Arc::new(sink.context("make an HTTP client")?);
    Ok(tokio::spawn(simulator.run(sink, ended(stopped))))
}

/// Gives the merchant `default` an account at the simulator if it has no account at all.
async fn make_first_account(platform: &Platform, simulator: &Simulator) -> Result<()> {
    let merchant = MerchantId::fallback();
    if !platform.gateway_accounts(Some(&merchant)).await?.is_empty() {
        return Ok(());
    }
    let account = NewGatewayAccount {
        gateway: GATEWAY_NAME.to_owned(),
        name: FIRST_ACCOUNT.to_owned(),
        settings: String::from("{}"),
    };
    let account = platform
        .create_gateway_account(&merchant, account, None)
        .await?
        .value;
    simulator.open_account(platform, account.id);
    Ok(())
}

/// Reads what the simulator's secrets are derived from, or makes it, readable by its owner only.
fn simulator_secret(data: &Path) -> Result<Vec<u8>> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = data.join(SIMULATOR_SECRET_FILE);
    if path.exists() {
        return std::fs::read(&path).with_context(|| format!("read {}", path.display()));
    }
    let secret: [u8; 32] = rand::random();
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&path);
    let written = file.and_then(|mut file| file.write_all(&secret));
    written.with_context(|| format!("write {}", path.display()))?;
    Ok(secret.to_vec())
}

fn millis(duration: Duration) -> Result<u64> {
    u64::try_from(duration.as_millis()).context("a duration is too long")
}

fn signed_millis(duration: Duration) -> Result<i64> {
    i64::try_from(duration.as_millis()).context("a duration is too long")
}

pub(crate) fn broker_config(config: &Config) -> Result<BrokerConfig> {
    let limits = &config.limits;
    let rules = &config.broker;
    let auto_topic = match &rules.auto_topic {
        Some(auto) => Some((topic_kind(auto.kind)?, u16::try_from(auto.queues)?)),
        None => None,
    };
    let delays_ms = rules
        .delay_levels
        .iter()
        .map(|delay| millis(*delay))
        .collect::<Result<_>>()?;
    Ok(BrokerConfig {
        engine: broker::Config {
            limits: broker::Limits {
                body_bytes_max: usize::try_from(limits.body_bytes)?,
                batch_max: usize::try_from(limits.batch)?,
                in_flight_max: usize::try_from(limits.in_flight)?,
                waiting_pollers_max: usize::try_from(limits.waiting_pollers)?,
                topics_max: usize::try_from(limits.topics)?,
                groups_max: usize::try_from(limits.groups)?,
                delay_ms_max: millis(limits.delay)?,
                head_bytes_max: usize::try_from(limits.queue_heads_bytes)?,
                repeat_window_ms: millis(limits.repeat_window)?,
                repeat_window_sends: usize::try_from(limits.repeat_sends)?,
                free_bytes_reserve: config.storage.free_space_reserve_bytes,
                ..broker::Limits::default()
            },
            levels: DelayLevels { delays_ms },
            retention_ms: millis(rules.retention)?,
            group_idle_ms: millis(rules.group_idle)?,
            auto_topic,
            auto_group: rules.auto_group,
            ..broker::Config::default()
        },
        store: StoreConfig {
            durability: match config.storage.durability {
                Durability::Fsync => broker::Durability::Fsync,
                Durability::Os => broker::Durability::Os,
            },
            cache_bytes: config.storage.cache_bytes,
            write_buffer_bytes: config.storage.write_buffer_bytes,
        },
    })
}

fn topic_kind(name: &str) -> Result<TopicKind> {
    Ok(match name {
        "normal" => TopicKind::Normal,
        "fifo" => TopicKind::Fifo,
        "delay" => TopicKind::Delay,
        "transaction" => TopicKind::Transaction,
        "mixed" => TopicKind::Mixed,
        other => bail!("there is no topic kind {other:?}"),
    })
}

fn orders_config(config: &Config) -> Result<orders::Config> {
    let rules = &config.orders;
    let database: PathBuf = config.storage.data.join("orders.db");
    Ok(orders::Config {
        deadline_default_ms: signed_millis(rules.deadline_default)?,
        deadline_min_ms: signed_millis(rules.deadline_min)?,
        deadline_max_ms: signed_millis(rules.deadline_max)?,
        gateway_calls: usize::try_from(rules.gateway_calls)?,
        unknown_policy: match rules.unknown_answer {
            UnknownAnswer::Hold => UnknownPolicy::Hold,
            UnknownAnswer::Close { tries } => UnknownPolicy::CloseAndRefundLate {
                tries: u32::try_from(tries)?,
            },
        },
        watch_ms: signed_millis(rules.watch)?,
        sweep_every: rules.sweep_every,
        sweep_grace_ms: signed_millis(rules.sweep_grace)?,
        resume_per_second: u32::try_from(rules.resume_per_second)?,
        keep_events_ms: signed_millis(rules.keep_events)?,
        keep_idempotency_ms: signed_millis(rules.keep_idempotency)?,
        ..orders::Config::new(database)
    })
}
