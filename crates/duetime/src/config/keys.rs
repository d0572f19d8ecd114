//! Defines the table of all settings: parser, resolved configuration, example file and reference are made from it.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use broker::TopicKind;
use orders::UnknownPolicy;

use super::kind::{Kind, Value};
use super::resolve::{Config, LogFormat, Trust};
use super::units::{DAY_MS, GIB, HOUR_MS, MIB, MINUTE_MS, SECOND_MS};

/// A setting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// `section.name`.
    pub(crate) path: &'static str,
    /// What may be written.
    pub(crate) kind: Kind,
    /// The default, written as in the environment.
    pub(crate) default: &'static str,
    /// What it does, in one or two sentences.
    pub(crate) about: &'static str,
    /// Its short flag on the command line, if it has one.
    pub(crate) flag: Option<&'static str>,
    /// Writes its value to its field.
    put: Put,
}

/// Writes a value of one kind to a field of the configuration.
#[derive(Clone, Copy, Debug)]
enum Put {
    Address(fn(&mut Config, SocketAddr)),
    Path(fn(&mut Config, &Path)),
    /// `None` if it is empty; an error is a sentence about the text.
    Text(fn(&mut Config, Option<&str>) -> Result<(), String>),
    /// `None` if it is empty.
    Secret(fn(&mut Config, Option<&str>)),
    Switch(fn(&mut Config, bool)),
    Choice(fn(&mut Config, &'static str)),
    /// A duration in ms, a size in bytes, or a count.
    Number(fn(&mut Config, u64)),
    /// Durations in ms.
    Numbers(fn(&mut Config, &[u64])),
}

impl Key {
    /// The part before the dot.
    pub(crate) fn section(&self) -> &'static str {
        self.path.split_once('.').map_or("", |(section, _)| section)
    }

    /// The part after the dot.
    pub(crate) fn name(&self) -> &'static str {
        self.path
            .split_once('.')
            .map_or(self.path, |(_, name)| name)
    }

    /// The environment variable: `DUETIME_SECTION_NAME`.
    pub(crate) fn variable(&self) -> String {
        format!("DUETIME_{}", self.path.replace('.', "_").to_uppercase())
    }

    /// Writes a value of this key's kind to its field; fails if the text cannot be used there.
    pub(crate) fn apply(&self, config: &mut Config, value: &Value) -> Result<(), String> {
        match (self.put, value) {
            (Put::Address(put), Value::Address(address)) => put(config, *address),
            (Put::Path(put), Value::Path(path)) => put(config, path),
            (Put::Text(put), Value::Text(text)) => {
                return put(config, Some(text.as_str()).filter(|text| !text.is_empty()));
            }
            (Put::Secret(put), Value::Secret(text)) => {
                put(config, Some(text.as_str()).filter(|text| !text.is_empty()));
            }
            (Put::Switch(put), Value::Switch(on)) => put(config, *on),
            (Put::Choice(put), Value::Choice(word)) => put(config, word),
            (
                Put::Number(put),
                Value::Duration(number) | Value::Size(number) | Value::Count(number),
            ) => put(config, *number),
            (Put::Numbers(put), Value::Durations(numbers)) => put(config, numbers),
            _ => unreachable!(
                "the constructors of {} pair its kind with its field",
                self.path
            ),
        }
        Ok(())
    }

    const fn flag(self, flag: &'static str) -> Self {
        Self {
            flag: Some(flag),
            ..self
        }
    }
}

/// The sections in the order of the documents, each with what it is about.
pub(crate) const SECTIONS: &[(&str, &str)] = &[
    (
        "server",
        "The API of the order platform, and how the process stops.",
    ),
    (
        "http",
        "The JSON API of the broker: messages, timers, administration, metrics.",
    ),
    ("grpc", "The gRPC port for RocketMQ 5 clients."),
    ("tls", "TLS on every port."),
    ("access", "Who may use the broker."),
    ("log", "The log, written to standard error."),
    ("storage", "The data folder of the broker and the orders."),
    ("broker", "The message broker."),
    (
        "limits",
        "Limits of the message broker. They bound its memory, however many messages wait.",
    ),
    ("orders", "The order platform."),
];

const fn key(
    path: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
    put: Put,
) -> Key {
    Key {
        path,
        kind,
        default,
        about,
        flag: None,
        put,
    }
}

/// A key, its default and what it does.
type Entry = (&'static str, &'static str, &'static str);

const fn address((path, default, about): Entry, put: fn(&mut Config, SocketAddr)) -> Key {
    key(path, Kind::Address, default, about, Put::Address(put))
}

const fn path((path, default, about): Entry, put: fn(&mut Config, &Path)) -> Key {
    key(path, Kind::Path, default, about, Put::Path(put))
}

const fn text(
    (path, default, about): Entry,
    put: fn(&mut Config, Option<&str>) -> Result<(), String>,
) -> Key {
    key(path, Kind::Text, default, about, Put::Text(put))
}

const fn secret((path, default, about): Entry, put: fn(&mut Config, Option<&str>)) -> Key {
    key(path, Kind::Secret, default, about, Put::Secret(put))
}

const fn switch((path, default, about): Entry, put: fn(&mut Config, bool)) -> Key {
    key(path, Kind::Switch, default, about, Put::Switch(put))
}

const fn choice(
    words: &'static [&'static str],
    (path, default, about): Entry,
    put: fn(&mut Config, &'static str),
) -> Key {
    key(path, Kind::Choice(words), default, about, Put::Choice(put))
}

const fn number(kind: Kind, (path, default, about): Entry, put: fn(&mut Config, u64)) -> Key {
    key(path, kind, default, about, Put::Number(put))
}

const fn durations(kind: Kind, (path, default, about): Entry, put: fn(&mut Config, &[u64])) -> Key {
    key(path, kind, default, about, Put::Numbers(put))
}

const fn span(min: u64, max: u64) -> Kind {
    Kind::Duration { min, max }
}

const fn size(min: u64, max: u64) -> Kind {
    Kind::Size { min, max }
}

const fn count(min: u64, max: u64) -> Kind {
    Kind::Count { min, max }
}

/// A number of the table as the type of its field.
fn fit<T: TryFrom<u64, Error: Debug>>(number: u64) -> T {
    T::try_from(number).expect("the bounds of the table fit the field, which a test checks")
}

fn file(text: Option<&str>) -> Option<PathBuf> {
    text.map(PathBuf::from)
}

fn topic_kind(word: &str) -> Option<TopicKind> {
    match word {
        "normal" => Some(TopicKind::Normal),
        "fifo" => Some(TopicKind::Fifo),
        "delay" => Some(TopicKind::Delay),
        "transaction" => Some(TopicKind::Transaction),
        "mixed" => Some(TopicKind::Mixed),
        _ => None,
    }
}

/// Every setting there is. They are applied in this order, so one that refines another follows it.
pub(crate) const KEYS: &[Key] = &[
    address(("server.listen", "127.0.0.1:8080",
        "Where the HTTP API of the order platform listens. Port 0 takes a free port and prints it."),
        |config, address| config.server.listen = address)
        .flag("--listen"),
    choice(&["auto", "true", "false"], ("server.trust_loopback", "auto",
        "Whether callers on this machine may omit the API key; they are the operator and the merchant `default` then. With `auto` they may while \
         the simulator is the only gateway and no port listens for other machines."),
        |config, word| {
            config.server.trust_loopback = match word {
                "true" => Trust::On,
                "false" => Trust::Off,
                _ => Trust::Auto,
            };
        }),
    secret(("server.operator_key", "",
        "The API key of the operator, for calls from other machines. Empty: the operator calls from this machine only."),
        |config, key| config.server.operator_key = key.map(str::to_owned)),
    number(span(SECOND_MS, 10 * MINUTE_MS), ("server.shutdown_time", "10s",
        "How long a stop may take: requests in flight are answered, then everything is written and closed."),
        |config, ms| {
            config.server.shutdown_time = Duration::from_millis(ms);
            config.http.limits.bounds.drain = config.drain();
            config.grpc.limits.bounds.drain = config.drain();
        }),
    address(("http.listen", "127.0.0.1:8082",
        "Where the JSON API of the broker listens, which `duetime topic` and the other commands use. Port 0 takes a free port and prints it."),
        |config, address| config.http.listen = address),
    address(("grpc.listen", "127.0.0.1:8081",
        "Where RocketMQ clients connect. Port 0 takes a free port and prints it."),
        |config, address| config.grpc.listen = address),
    text(("grpc.advertise", "",
        "Host and port at which clients reach this server, such as `broker.example:8081`. Empty: each client gets the address it connected to."),
        |config, text| {
            config.grpc.advertise = text.map(str::parse).transpose()?;
            Ok(())
        })
        .flag("--advertise"),
    switch(("tls.on", "true",
        "Whether the ports of `server.listen`, `http.listen` and `grpc.listen` accept TLS too. The first byte of a connection shows whether it is TLS."),
        |config, on| config.tls.on = on),
    switch(("tls.required", "false",
        "Whether calls in clear text are refused on all three ports, except `/healthz` and `/readyz`, which carry no secret."),
        |config, required| config.tls.required = required),
    text(("tls.certificate", "",
        "File with the certificate and its chain, PEM, read again when it changes. Empty: a self-signed one is made at the first start, in `tls` in the data folder."),
        |config, text| {
            config.tls.certificate = file(text);
            Ok(())
        }),
    text(("tls.key", "",
        "File with the private key of the certificate, PEM."),
        |config, text| {
            config.tls.key = file(text);
            Ok(())
        }),
    text(("access.accounts", "",
        "File with the accounts, readable by its owner only; docs/rocketmq.md describes it. Empty: there are no accounts, and everybody who reaches the server may do everything."),
        |config, text| {
            config.access.accounts = file(text);
            Ok(())
        }),
    switch(("access.open", "false",
        "Whether a broker without accounts may listen to other machines."),
        |config, on| config.access.open = on),
    choice(&["auto", "text", "json"], ("log.format", "auto",
        "The format of a log line; `auto` is text on a terminal and JSON otherwise."),
        |config, word| {
            config.log.format = match word {
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                _ => LogFormat::Auto,
            };
        }),
    choice(&["error", "warn", "info", "debug"], ("log.level", "info",
        "The least severe lines that are printed. `warn` means look today, `error` means look now."),
        |config, word| config.log.level = word),
    path(("storage.data", "data",
        "The data folder; one process uses it at a time. It holds the store of the broker and the order database."),
        |config, folder| {
            config.data = PathBuf::from(folder);
            config.orders.database = folder.join("orders.db");
        })
        .flag("--data"),
    choice(&["fsync", "os"], ("storage.durability", "fsync",
        "What an answered request survives: `fsync` a power cut, `os` only a crash of the process."),
        |config, word| {
            config.broker.store.durability = match word {
                "os" => broker::Durability::Os,
                _ => broker::Durability::Fsync,
            };
        })
        .flag("--durability"),
    number(size(MIB, 64 * GIB), ("storage.cache", "32 MiB",
        "Memory for blocks read from the broker's store."),
        |config, bytes| config.broker.store.cache_bytes = bytes),
    number(size(16 * MIB, 16 * GIB), ("storage.write_buffer", "96 MiB",
        "Memory for messages not yet written to tables, for all partitions together."),
        |config, bytes| config.broker.store.write_buffer_bytes = bytes),
    number(size(64 * MIB, 1024 * GIB), ("storage.free_space_reserve", "1 GiB",
        "Free space on the disk below which new sends are refused. Acknowledgements, retries and drops go on, so that a full disk recovers."),
        |config, bytes| config.broker.engine.limits.free_bytes_reserve = bytes),
    number(span(HOUR_MS, 3_660 * DAY_MS), ("broker.retention", "72h",
        "How long a message is kept past its due time; then it is dropped, once every live group has passed it."),
        |config, ms| config.broker.engine.retention_ms = ms),
    number(span(HOUR_MS, 3_660 * DAY_MS), ("broker.group_idle", "7d",
        "A consumer group unseen for this long no longer keeps data from being dropped."),
        |config, ms| config.broker.engine.group_idle_ms = ms),
    choice(&["off", "normal", "fifo", "delay", "transaction", "mixed"], ("broker.auto_topic", "off",
        "The kind of a topic that is created when something is first sent to it. `off`: topics are created explicitly."),
        |config, word| config.broker.engine.auto_topic = topic_kind(word).map(|kind| (kind, 1))),
    number(count(1, 1_024), ("broker.auto_topic_queues", "8",
        "Message queues of a topic that is created on first use."),
        |config, queues| {
            if let Some((_, of_topic)) = &mut config.broker.engine.auto_topic {
                *of_topic = fit(queues);
            }
        }),
    switch(("broker.auto_group", "true",
        "Whether a consumer group is created when it first asks for messages."),
        |config, on| config.broker.engine.auto_group = on),
    durations(Kind::Durations { min: 0, max: 3_660 * DAY_MS, count_max: 64 }, ("broker.delay_levels", "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h",
        "The delays of the levels 1, 2, ... of older RocketMQ clients; a higher level means the last one."),
        |config, delays| config.broker.engine.levels.delays_ms = delays.to_vec()),
    number(size(1_024, 64 * MIB), ("limits.body", "4 MiB",
        "Largest body of a message."),
        |config, bytes| config.broker.engine.limits.body_bytes_max = fit(bytes)),
    number(span(MINUTE_MS, 36_600 * DAY_MS), ("limits.delay", "3660d",
        "Longest delay of a message."),
        |config, ms| config.broker.engine.limits.delay_ms_max = ms),
    number(count(1, 65_536), ("limits.batch", "1024",
        "Most messages in one send, receive or acknowledgement."),
        |config, number| config.broker.engine.limits.batch_max = fit(number)),
    number(count(1, 16_777_216), ("limits.in_flight", "65536",
        "Most messages delivered and not yet acknowledged, per consumer group and topic."),
        |config, number| config.broker.engine.limits.in_flight_max = fit(number)),
    number(count(1, 1_048_576), ("limits.waiting_pollers", "16384",
        "Most receive calls that wait at the same time."),
        |config, number| config.broker.engine.limits.waiting_pollers_max = fit(number)),
    number(count(8, 1_048_576), ("limits.topics", "4096",
        "Most topics."),
        |config, number| config.broker.engine.limits.topics_max = fit(number)),
    number(count(8, 1_048_576), ("limits.groups", "4096",
        "Most consumer groups."),
        |config, number| config.broker.engine.limits.groups_max = fit(number)),
    number(size(MIB, 16 * GIB), ("limits.queue_heads", "64 MiB",
        "Memory for messages held for readers, all topics together: heads of queues, what was read ahead, blocked messages, retries."),
        |config, bytes| config.broker.engine.limits.held_bytes_max = fit(bytes)),
    number(span(SECOND_MS, DAY_MS), ("limits.repeat_window", "2m",
        "How long a repeated send (same topic, message id and content) is recognised and stored only once."),
        |config, ms| config.broker.engine.limits.repeat_window_ms = ms),
    number(count(0, 100_000_000), ("limits.repeat_sends", "100000",
        "How many sends are remembered to recognise repeated ones. A topic with more than its share makes room for the others."),
        |config, number| config.broker.engine.limits.repeat_window_sends = fit(number)),
    number(span(SECOND_MS, 366 * DAY_MS), ("orders.deadline_default", "30m",
        "Deadline of an order that does not name one."),
        |config, ms| config.orders.deadline_default_ms = fit(ms)),
    number(span(SECOND_MS, 366 * DAY_MS), ("orders.deadline_min", "1s",
        "Nearest deadline a request may ask for."),
        |config, ms| config.orders.deadline_min_ms = fit(ms)),
    number(span(SECOND_MS, 366 * DAY_MS), ("orders.deadline_max", "30d",
        "Farthest deadline, counted from the creation of the order, extensions included."),
        |config, ms| config.orders.deadline_max_ms = fit(ms)),
    number(count(1, 4_096), ("orders.gateway_calls", "32",
        "How many calls to payment gateways run at once, per kind of work."),
        |config, number| config.orders.gateway_calls = fit(number)),
    switch(("orders.gateway_simulator", "true",
        "Whether the payment gateway simulator is on; it moves no money."),
        |config, on| config.gateway_simulator = on),
    choice(&["hold", "close"], ("orders.unknown_answer", "hold",
        "An order whose gateway gives no usable answer while it closes: `hold` keeps it CLOSING with its stock held, `close` closes it after `unknown_tries`; money that still arrives is refunded."),
        |config, word| {
            config.orders.unknown_policy = match word {
                "close" => UnknownPolicy::CloseAndRefundLate { tries: 1 },
                _ => UnknownPolicy::Hold,
            };
        }),
    number(count(1, 1_000), ("orders.unknown_tries", "12",
        "How often the gateway is asked before `unknown_answer = \"close\"` closes the order."),
        |config, number| {
            if let UnknownPolicy::CloseAndRefundLate { tries } = &mut config.orders.unknown_policy {
                *tries = fit(number);
            }
        }),
    number(span(25 * HOUR_MS, 366 * DAY_MS), ("orders.watch", "25h",
        "How long the platform watches for late money after an order ended."),
        |config, ms| config.orders.watch_ms = fit(ms)),
    number(span(SECOND_MS, DAY_MS), ("orders.sweep_every", "1m",
        "How often the sweep looks for overdue timers. It is a safety net: what it finds is counted, and the target is zero."),
        |config, ms| config.orders.sweep_every = Duration::from_millis(ms)),
    number(span(SECOND_MS, DAY_MS), ("orders.sweep_grace", "2m",
        "How late a timer must be for the sweep to handle it."),
        |config, ms| config.orders.sweep_grace_ms = fit(ms)),
    number(span(SECOND_MS, DAY_MS), ("orders.publish_grace", "30s",
        "How long the broker may take no timers before new orders are refused with 503."),
        |config, ms| config.orders.publish_grace_ms = fit(ms)),
    number(span(0, 36_600 * DAY_MS), ("orders.clock_jump_max", "366d",
        "How far ahead of the last recorded instant the clock may be without a pause of all closing, which a resume ends; 0s allows any."),
        |config, ms| config.orders.clock_jump_max_ms = fit(ms)),
    number(count(1, 1_000_000), ("orders.resume_per_second", "500",
        "How many parked timers are released per second when a pause ends."),
        |config, number| config.orders.resume_per_second = fit(number)),
    number(span(7 * DAY_MS, 3_660 * DAY_MS), ("orders.keep_events", "30d",
        "How long published events are kept: a shop that was away for no longer misses none."),
        |config, ms| config.orders.keep_events_ms = fit(ms)),
    switch(("orders.webhooks_private", "false",
        "Whether webhooks may be sent to private addresses, and over http: for receivers in the operator's own network. Every merchant can then reach that network."),
        |config, on| config.orders.webhooks_private = on),
    number(span(DAY_MS, 366 * DAY_MS), ("orders.keep_idempotency", "2d",
        "How long idempotency keys are remembered."),
        |config, ms| config.orders.keep_idempotency_ms = fit(ms)),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::kind::Written;
    use super::*;

    #[test]
    fn every_default_fits_its_kind() {
        for key in KEYS {
            let value = key.kind.read(&Written::Word(key.default.to_owned()));
            assert!(value.is_ok(), "{}: {value:?}", key.path);
        }
    }

    #[test]
    fn paths_and_variables_are_unique_and_sections_known() {
        let paths: BTreeSet<&str> = KEYS.iter().map(|key| key.path).collect();
        let variables: BTreeSet<String> = KEYS.iter().map(Key::variable).collect();
        assert_eq!((paths.len(), variables.len()), (KEYS.len(), KEYS.len()));
        for key in KEYS {
            assert!(
                SECTIONS
                    .iter()
                    .any(|(section, _)| *section == key.section()),
                "{}",
                key.path
            );
        }
    }

    #[test]
    fn keys_of_a_section_are_together_in_the_order_of_the_sections() {
        let mut order: Vec<&str> = KEYS.iter().map(Key::section).collect();
        order.dedup();
        let sections: Vec<&str> = SECTIONS.iter().map(|(section, _)| *section).collect();
        assert_eq!(order, sections);
    }

    /// The resolved configuration if this key has this value and every other key its default.
    fn with(key: &Key, written: &str) -> String {
        let mut config = Config::unset();
        for other in KEYS {
            let written = if other.path == key.path {
                written
            } else {
                other.default
            };
            let value = other.kind.read(&Written::Word(written.to_owned()));
            other.apply(&mut config, &value.unwrap()).unwrap();
        }
        format!("{config:?}")
    }

    #[test]
    fn bounds_of_numbers_fit_their_fields() {
        for key in KEYS {
            let (bounds, unit) = match key.kind {
                Kind::Duration { min, max } => ([min, max], "ms"),
                Kind::Size { min, max } => ([min, max], "B"),
                Kind::Count { min, max } => ([min, max], ""),
                _ => continue,
            };
            let [least, most] = bounds.map(|bound| with(key, &format!("{bound}{unit}")));
            // Two keys say more about another one, which has to be set for that.
            let refines = ["broker.auto_topic_queues", "orders.unknown_tries"];
            assert_eq!(least == most, refines.contains(&key.path), "{}", key.path);
        }
    }

    #[test]
    fn every_word_of_a_choice_has_a_meaning_of_its_own() {
        for key in KEYS {
            if let Kind::Choice(words) = key.kind {
                let meanings: BTreeSet<_> = words.iter().map(|word| with(key, word)).collect();
                assert_eq!(meanings.len(), words.len(), "{}", key.path);
            }
        }
    }
}
