//! Defines the table of all settings: the parser, the example file and the reference are made from it.

use super::kind::Kind;
use super::units::{DAY_MS, GIB, HOUR_MS, MIB, MINUTE_MS, SECOND_MS};

/// A setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// `section.name`.
    pub(crate) path: &'static str,
    /// What may be written.
    pub(crate) kind: Kind,
    /// The default, written as in the environment.
    pub(crate) default: &'static str,
    /// What it does, in one or two sentences.
    pub(crate) about: &'static str,
    /// The flag of its own that it has on the command line.
    pub(crate) flag: Option<&'static str>,
}

impl Key {
    /// The part before the dot.
    pub(crate) fn section(&self) -> &'static str {
        self.path.split_once('.').map_or("", |(section, _)| section)
    }

    /// The part behind the dot.
    pub(crate) fn name(&self) -> &'static str {
        self.path
            .split_once('.')
            .map_or(self.path, |(_, name)| name)
    }

    /// The environment variable: `DUETIME_SECTION_NAME`.
    pub(crate) fn variable(&self) -> String {
        format!("DUETIME_{}", self.path.replace('.', "_").to_uppercase())
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
    ("server", "Addresses and access."),
    (
        "http",
        "The JSON API of the broker: messages, timers, administration, figures.",
    ),
    ("grpc", "The door for RocketMQ 5 clients."),
    ("tls", "Encryption on the ports of the broker."),
    ("access", "Who may use the broker."),
    ("log", "What is logged, to standard error."),
    ("storage", "The data folder of broker and orders."),
    ("broker", "Rules of the message broker."),
    (
        "limits",
        "Bounds of the message broker: memory is bounded by these, not by how many messages wait.",
    ),
    ("orders", "Rules of the order platform."),
];

const fn key(path: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key {
        path,
        kind,
        default,
        about,
        flag: None,
    }
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

/// Every setting there is.
pub(crate) const KEYS: &[Key] = &[
    key("server.listen", Kind::Address, "127.0.0.1:8080",
        "Where the HTTP API of the order platform listens. Port 0 takes a free one and prints it.")
        .flag("--listen"),
    key("server.trust_loopback", Kind::Switch, "true",
        "Whether callers on this machine may leave the API key out; they are the operator and the merchant `default` then."),
    key("server.operator_key", Kind::Secret, "",
        "The key with which the operator calls from another machine. Empty: the operator calls from this machine only."),
    key("server.shutdown_time", span(SECOND_MS, 10 * MINUTE_MS), "10s",
        "How long a stop may take: requests in flight are answered, then everything is written and closed."),
    key("http.listen", Kind::Address, "127.0.0.1:8082",
        "Where the JSON API of the broker listens, on which `duetime topic` and its like work. Port 0 takes a free one and prints it."),
    key("grpc.listen", Kind::Address, "127.0.0.1:8081",
        "Where RocketMQ clients connect. Port 0 takes a free one and prints it."),
    key("grpc.advertise", Kind::Text, "",
        "Host and port at which clients reach this server, such as `broker.example:8081`. Empty: each client is sent back to where it came in.")
        .flag("--advertise"),
    key("tls.on", Kind::Switch, "true",
        "Whether TLS is spoken too, on the ports of `http.listen` and `grpc.listen`. A client's first byte tells it from clear text."),
    key("tls.certificate", Kind::Text, "",
        "File with the certificate and those that vouch for it, PEM, read again when it changes. Empty: one is made at first start, in `tls` in the data folder."),
    key("tls.key", Kind::Text, "",
        "File with the certificate's key, PEM."),
    key("access.accounts", Kind::Text, "",
        "File with the accounts, which only its owner may read; docs/rocketmq.md tells its form. Empty: there are none, and everybody who reaches the server may do everything."),
    key("access.open", Kind::Switch, "false",
        "Whether it is meant that a broker without accounts listens to other machines."),
    key("log.format", Kind::Choice(&["auto", "text", "json"]), "auto",
        "How a log line looks; `auto` is text on a terminal and JSON otherwise."),
    key("log.level", Kind::Choice(&["error", "warn", "info", "debug"]), "info",
        "The least important lines that are printed. `warn` means look today, `error` means look now."),
    key("storage.data", Kind::Path, "data",
        "The data folder; one process uses it at a time. It holds the broker's store and the order database.")
        .flag("--data"),
    key("storage.durability", Kind::Choice(&["fsync", "os"]), "fsync",
        "What an answered request survives: `fsync` a power cut, `os` a crash of the process only.")
        .flag("--durability"),
    key("storage.cache", size(MIB, 64 * GIB), "32 MiB",
        "Memory for blocks read from the broker's store."),
    key("storage.write_buffer", size(16 * MIB, 16 * GIB), "96 MiB",
        "Memory for messages not yet written to tables, of all partitions together."),
    key("storage.free_space_reserve", size(64 * MIB, 1024 * GIB), "1 GiB",
        "Free space on the disk below which new sends stop. Acknowledgements, retries and drops go on, so that a full disk heals."),
    key("broker.retention", span(HOUR_MS, 3_660 * DAY_MS), "72h",
        "How long a message is kept past its due time; then it goes, once every live group has passed it."),
    key("broker.group_idle", span(HOUR_MS, 3_660 * DAY_MS), "7d",
        "A consumer group unseen for so long no longer keeps data from being dropped."),
    key("broker.auto_topic", Kind::Choice(&["off", "normal", "fifo", "delay", "transaction", "mixed"]), "off",
        "What a topic is created as when something is first sent to it. `off`: topics are created explicitly."),
    key("broker.auto_topic_queues", count(1, 1_024), "8",
        "Message queues of a topic that is created on first use."),
    key("broker.auto_group", Kind::Switch, "true",
        "Whether a consumer group is created when it first asks for messages."),
    key("broker.delay_levels", Kind::Durations { min: 0, max: 3_660 * DAY_MS, count_max: 64 },
        "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h",
        "The delays of the levels 1, 2, ... of older RocketMQ clients; a higher level means the last one."),
    key("limits.body", size(1_024, 64 * MIB), "4 MiB",
        "Largest body of a message."),
    key("limits.delay", span(MINUTE_MS, 36_600 * DAY_MS), "3660d",
        "Longest delay of a message."),
    key("limits.batch", count(1, 65_536), "1024",
        "Most messages in one send, receive or acknowledgement."),
    key("limits.in_flight", count(1, 16_777_216), "65536",
        "Most messages delivered and not yet acknowledged, per consumer group and topic."),
    key("limits.waiting_pollers", count(1, 1_048_576), "16384",
        "Most receive calls that may wait at the same time."),
    key("limits.topics", count(8, 1_048_576), "4096",
        "Most topics."),
    key("limits.groups", count(8, 1_048_576), "4096",
        "Most consumer groups."),
    key("limits.queue_heads", size(MIB, 16 * GIB), "64 MiB",
        "Memory for the messages at the head of the queues, of all topics together."),
    key("limits.repeat_window", span(SECOND_MS, DAY_MS), "2m",
        "How long a repeated send (same topic and message id) is recognised and stored only once."),
    key("limits.repeat_sends", count(0, 100_000_000), "100000",
        "How many sends are remembered to recognise repeated ones."),
    key("orders.deadline_default", span(SECOND_MS, 366 * DAY_MS), "30m",
        "Deadline of an order that names none."),
    key("orders.deadline_min", span(SECOND_MS, 366 * DAY_MS), "1s",
        "Nearest deadline a request may ask for."),
    key("orders.deadline_max", span(SECOND_MS, 366 * DAY_MS), "30d",
        "Farthest deadline, counted from the order's creation, extensions included."),
    key("orders.gateway_calls", count(1, 4_096), "32",
        "How many calls to payment gateways run at once, per kind of work."),
    key("orders.gateway_simulator", Kind::Switch, "true",
        "Whether the payment gateway simulator is on; it moves no money."),
    key("orders.unknown_answer", Kind::Choice(&["hold", "close"]), "hold",
        "An order whose gateway gives no usable answer while it closes: `hold` keeps it CLOSING with its stock held, `close` closes it after `unknown_tries`; money that still arrives is refunded."),
    key("orders.unknown_tries", count(1, 1_000), "12",
        "How often the gateway is asked before `unknown_answer = \"close\"` closes the order."),
    key("orders.watch", span(25 * HOUR_MS, 366 * DAY_MS), "25h",
        "How long late money is watched for after an order ended."),
    key("orders.sweep_every", span(SECOND_MS, DAY_MS), "1m",
        "How often the sweeper looks for overdue timers. It is a safety net: what it finds is counted, and the target is zero."),
    key("orders.sweep_grace", span(SECOND_MS, DAY_MS), "2m",
        "How late a timer must be for the sweeper to count it and arm it again."),
    key("orders.resume_per_second", count(1, 1_000_000), "500",
        "How many parked timers a second are released when a pause ends."),
    key("orders.keep_events", span(7 * DAY_MS, 3_660 * DAY_MS), "7d",
        "How long published events are kept in the outbox, so that a broker can be rebuilt from it."),
    key("orders.keep_idempotency", span(DAY_MS, 366 * DAY_MS), "2d",
        "How long idempotency keys are remembered."),
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
    fn keys_of_a_section_stand_together_in_the_order_of_the_sections() {
        let mut order: Vec<&str> = KEYS.iter().map(Key::section).collect();
        order.dedup();
        let sections: Vec<&str> = SECTIONS.iter().map(|(section, _)| *section).collect();
        assert_eq!(order, sections);
    }
}
