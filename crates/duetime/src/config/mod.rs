//! Defines the configuration: every source is read, checked once, and becomes one [`Config`] passed by value.

mod check;
mod keys;
mod kind;
mod pages;
mod source;
mod suggest;
mod units;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use self::pages::{example, reference};
pub(crate) use self::source::FlagValue;
pub(crate) use self::units::{format_duration, parse_duration_ms, parse_size_bytes};

use self::kind::Value;
use self::source::{Setting, combine, read_environment, read_file, read_flags};

/// Everything that settings are read from, the weakest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// Name and text of the configuration file.
    pub(crate) file: Option<(String, String)>,
    /// The environment variables of the process.
    pub(crate) environment: Vec<(String, String)>,
    /// The settings given on the command line.
    pub(crate) flags: Vec<FlagValue>,
}

/// Everything that is wrong with a configuration, so that one run shows it all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problems(Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.join("\n       "))
    }
}

/// The resolved settings with their origins: what `duetime config` prints and [`Config`] is made from.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    list: Vec<Setting>,
    /// Things that look like a mistake and are none.
    pub(crate) warnings: Vec<String>,
}

/// The configuration of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) server: Server,
    pub(crate) http: Http,
    pub(crate) grpc: Grpc,
    pub(crate) tls: Encryption,
    pub(crate) access: Access,
    pub(crate) log: Log,
    pub(crate) storage: Storage,
    pub(crate) broker: Broker,
    pub(crate) limits: Limits,
    pub(crate) orders: Orders,
}

/// Addresses and access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) listen: SocketAddr,
    pub(crate) trust_loopback: bool,
    pub(crate) operator_key: Option<String>,
    pub(crate) shutdown_time: Duration,
}

/// The JSON API of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Http {
    pub(crate) listen: SocketAddr,
}

/// The door for RocketMQ clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grpc {
    pub(crate) listen: SocketAddr,
    /// A host and a port.
    pub(crate) advertise: Option<String>,
}

/// Encryption on the ports of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Encryption {
    pub(crate) on: bool,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

/// Who may use the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) accounts: Option<PathBuf>,
    pub(crate) open: bool,
}

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) format: LogFormat,
    /// A level by its lower-case name.
    pub(crate) level: &'static str,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    Text,
    Json,
}

/// What an answered request survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// A power cut.
    Fsync,
    /// A crash of the process.
    Os,
}

/// The data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Storage {
    pub(crate) data: PathBuf,
    pub(crate) durability: Durability,
    pub(crate) cache_bytes: u64,
    pub(crate) write_buffer_bytes: u64,
    pub(crate) free_space_reserve_bytes: u64,
}

/// Rules of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broker {
    pub(crate) retention: Duration,
    pub(crate) group_idle: Duration,
    pub(crate) auto_topic: Option<AutoTopic>,
    pub(crate) auto_group: bool,
    pub(crate) delay_levels: Vec<Duration>,
}

/// What a topic is created as on first use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AutoTopic {
    /// `normal`, `fifo`, `delay`, `transaction` or `mixed`.
    pub(crate) kind: &'static str,
    pub(crate) queues: u64,
}

/// Bounds of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) body_bytes: u64,
    pub(crate) delay: Duration,
    pub(crate) batch: u64,
    pub(crate) in_flight: u64,
    pub(crate) waiting_pollers: u64,
    pub(crate) topics: u64,
    pub(crate) groups: u64,
    pub(crate) queue_heads_bytes: u64,
    pub(crate) repeat_window: Duration,
    pub(crate) repeat_sends: u64,
}

/// Rules of the order platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Orders {
    pub(crate) deadline_default: Duration,
    pub(crate) deadline_min: Duration,
    pub(crate) deadline_max: Duration,
    pub(crate) gateway_calls: u64,
    pub(crate) gateway_simulator: bool,
    pub(crate) unknown_answer: UnknownAnswer,
    pub(crate) watch: Duration,
    pub(crate) sweep_every: Duration,
    pub(crate) sweep_grace: Duration,
    pub(crate) resume_per_second: u64,
    pub(crate) keep_events: Duration,
    pub(crate) keep_idempotency: Duration,
}

/// What becomes of an order whose gateway gives no usable answer while it closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnknownAnswer {
    /// It stays CLOSING, its stock held.
    Hold,
    /// It closes after so many tries.
    Close { tries: u64 },
}

/// Reads all sources; fails with everything that is wrong in them.
pub(crate) fn load(sources: &Sources) -> Result<Settings, Problems> {
    let file = sources
        .file
        .as_ref()
        .map(|(name, text)| read_file(name, text));
    let (environment, warnings) = read_environment(&sources.environment);
    let found = file
        .into_iter()
        .chain([environment, read_flags(&sources.flags)])
        .collect();
    let list = combine(found).map_err(Problems)?;
    Ok(Settings { list, warnings })
}

impl Settings {
    /// Checks what two settings say together, and makes the configuration.
    pub(crate) fn resolve(&self) -> Result<Config, Problems> {
        let config = Config {
            server: self.server(),
            http: self.http(),
            grpc: self.grpc(),
            tls: self.tls(),
            access: self.access(),
            log: self.log(),
            storage: self.storage(),
            broker: self.broker(),
            limits: self.limits(),
            orders: self.orders(),
        };
        let problems = check::check(&config);
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(Problems(problems))
        }
    }

    fn server(&self) -> Server {
        Server {
            listen: self.address("server.listen"),
            trust_loopback: self.switch("server.trust_loopback"),
            operator_key: self.secret("server.operator_key"),
            shutdown_time: self.duration("server.shutdown_time"),
        }
    }

    fn http(&self) -> Http {
        Http {
            listen: self.address("http.listen"),
        }
    }

    fn grpc(&self) -> Grpc {
        Grpc {
            listen: self.address("grpc.listen"),
            advertise: self.text("grpc.advertise").map(str::to_owned),
        }
    }

    fn tls(&self) -> Encryption {
        Encryption {
            on: self.switch("tls.on"),
            certificate: self.text("tls.certificate").map(PathBuf::from),
            key: self.text("tls.key").map(PathBuf::from),
        }
    }

    fn access(&self) -> Access {
        Access {
            accounts: self.text("access.accounts").map(PathBuf::from),
            open: self.switch("access.open"),
        }
    }

    fn log(&self) -> Log {
        let format = match self.choice("log.format") {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            _ => LogFormat::Auto,
        };
        Log {
            format,
            level: self.choice("log.level"),
        }
    }

    fn storage(&self) -> Storage {
        let durability = match self.choice("storage.durability") {
            "os" => Durability::Os,
            _ => Durability::Fsync,
        };
        Storage {
            data: self.path("storage.data"),
            durability,
            cache_bytes: self.size("storage.cache"),
            write_buffer_bytes: self.size("storage.write_buffer"),
            free_space_reserve_bytes: self.size("storage.free_space_reserve"),
        }
    }

    fn broker(&self) -> Broker {
        let kind = self.choice("broker.auto_topic");
        let queues = self.count("broker.auto_topic_queues");
        Broker {
            retention: self.duration("broker.retention"),
            group_idle: self.duration("broker.group_idle"),
            auto_topic: (kind != "off").then_some(AutoTopic { kind, queues }),
            auto_group: self.switch("broker.auto_group"),
            delay_levels: self.durations("broker.delay_levels"),
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            body_bytes: self.size("limits.body"),
            delay: self.duration("limits.delay"),
            batch: self.count("limits.batch"),
            in_flight: self.count("limits.in_flight"),
            waiting_pollers: self.count("limits.waiting_pollers"),
            topics: self.count("limits.topics"),
            groups: self.count("limits.groups"),
            queue_heads_bytes: self.size("limits.queue_heads"),
            repeat_window: self.duration("limits.repeat_window"),
            repeat_sends: self.count("limits.repeat_sends"),
        }
    }

    fn orders(&self) -> Orders {
        let unknown_answer = match self.choice("orders.unknown_answer") {
            "close" => UnknownAnswer::Close {
                tries: self.count("orders.unknown_tries"),
            },
            _ => UnknownAnswer::Hold,
        };
        Orders {
            deadline_default: self.duration("orders.deadline_default"),
            deadline_min: self.duration("orders.deadline_min"),
            deadline_max: self.duration("orders.deadline_max"),
            gateway_calls: self.count("orders.gateway_calls"),
            gateway_simulator: self.switch("orders.gateway_simulator"),
            unknown_answer,
            watch: self.duration("orders.watch"),
            sweep_every: self.duration("orders.sweep_every"),
            sweep_grace: self.duration("orders.sweep_grace"),
            resume_per_second: self.count("orders.resume_per_second"),
            keep_events: self.duration("orders.keep_events"),
            keep_idempotency: self.duration("orders.keep_idempotency"),
        }
    }
}

/// Reads of single values. The kind of each path is fixed by the table, and a test resolves all of them.
impl Settings {
    fn value(&self, path: &str) -> &Value {
        let setting = self.list.iter().find(|setting| setting.key.path == path);
        &setting
            .expect("the configuration asks only for keys of the table")
            .value
    }

    fn address(&self, path: &str) -> SocketAddr {
        let Value::Address(address) = self.value(path) else {
            wrong_kind(path)
        };
        *address
    }

    fn path(&self, path: &str) -> PathBuf {
        let Value::Path(value) = self.value(path) else {
            wrong_kind(path)
        };
        value.clone()
    }

    /// `None` if it is empty.
    fn text(&self, path: &str) -> Option<&str> {
        let Value::Text(text) = self.value(path) else {
            wrong_kind(path)
        };
        (!text.is_empty()).then_some(text)
    }

    /// `None` if it is empty.
    fn secret(&self, path: &str) -> Option<String> {
        let Value::Secret(text) = self.value(path) else {
            wrong_kind(path)
        };
        (!text.is_empty()).then(|| text.clone())
    }

    fn switch(&self, path: &str) -> bool {
        let Value::Switch(on) = self.value(path) else {
            wrong_kind(path)
        };
        *on
    }

    fn choice(&self, path: &str) -> &'static str {
        let Value::Choice(word) = self.value(path) else {
            wrong_kind(path)
        };
        word
    }

    fn duration(&self, path: &str) -> Duration {
        let Value::Duration(ms) = self.value(path) else {
            wrong_kind(path)
        };
        Duration::from_millis(*ms)
    }

    fn durations(&self, path: &str) -> Vec<Duration> {
        let Value::Durations(list) = self.value(path) else {
            wrong_kind(path)
        };
        list.iter().copied().map(Duration::from_millis).collect()
    }

    fn size(&self, path: &str) -> u64 {
        let Value::Size(bytes) = self.value(path) else {
            wrong_kind(path)
        };
        *bytes
    }

    fn count(&self, path: &str) -> u64 {
        let Value::Count(number) = self.value(path) else {
            wrong_kind(path)
        };
        *number
    }
}

fn wrong_kind(path: &str) -> ! {
    unreachable!("the table gives {path} another kind than the configuration asks for")
}

#[cfg(test)]
mod tests;
