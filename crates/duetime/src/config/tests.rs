//! Tests the configuration as a whole: sources in, `Config` and documents out.

use std::time::Duration;

use broker::{BrokerConfig, DelayLevels, Durability, StoreConfig, TopicKind};
use orders::UnknownPolicy;
use server::Bounds;
use server::grpc::GrpcConfig;
use server::http::HttpLimits;

use super::resolve::{Access, Encryption, Http, Server, Trust};
use super::settings::Problems;
use super::*;

fn from_file(text: &str) -> Sources {
    Sources {
        file: Some(("duetime.toml".to_owned(), text.to_owned())),
        ..Sources::default()
    }
}

fn resolved(text: &str) -> Result<Config, Problems> {
    load(&from_file(text)).and_then(|settings| settings.resolve())
}

fn defaults() -> Config {
    load(&Sources::default()).unwrap().resolve().unwrap()
}

#[test]
fn defaults_resolve() {
    let config = defaults();
    let engine = &config.broker.engine;
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.server.operator_key, None);
    assert_eq!(config.broker.store.durability, Durability::Fsync);
    assert_eq!(engine.retention_ms, 72 * 3_600_000);
    assert_eq!(engine.auto_topic, None);
    assert_eq!(engine.levels.delays_ms.len(), 18);
    assert_eq!(engine.limits.body_bytes_max, 4 * 1024 * 1024);
    assert_eq!(config.orders.deadline_default_ms, 30 * 60_000);
    assert_eq!(config.orders.unknown_policy, UnknownPolicy::Hold);
}

/// The fields of a configuration, one a line, so that a difference names its field.
fn fields(value: &impl std::fmt::Debug) -> String {
    format!("{value:#?}")
}

#[test]
fn defaults_of_the_table_are_the_defaults_of_the_crates() {
    let config = defaults();
    assert_eq!(fields(&config.broker), fields(&BrokerConfig::default()));
    assert_eq!(fields(&config.grpc), fields(&GrpcConfig::default()));
    assert_eq!(fields(&config.http.limits), fields(&HttpLimits::default()));
    let orders = orders::Config::new("data/orders.db");
    assert_eq!(fields(&config.orders), fields(&orders));
}

/// Each setting with another value than its default, so that one which nothing reads is found.
const EVERYTHING: &str = "
[server]
listen = \"0.0.0.0:9\"
trust_loopback = false
operator_key = \"secret\"
shutdown_time = \"3s\"
[http]
listen = \"127.0.0.3:9\"
[grpc]
listen = \"127.0.0.2:9\"
advertise = \"a:1\"
[tls]
on = false
required = false
certificate = \"/c\"
key = \"/k\"
[access]
accounts = \"/a\"
open = true
[log]
format = \"json\"
level = \"warn\"
[storage]
data = \"/d\"
durability = \"os\"
cache = \"1 MiB\"
write_buffer = \"16 MiB\"
free_space_reserve = \"64 MiB\"
[broker]
retention = \"1h\"
group_idle = \"2h\"
auto_topic = \"mixed\"
auto_topic_queues = 3
auto_group = false
delay_levels = [\"1s\", \"2s\"]
[limits]
body = \"1 KiB\"
delay = \"400d\"
batch = 1
in_flight = 2
waiting_pollers = 3
topics = 9
groups = 10
queue_heads = \"2 MiB\"
repeat_window = \"5s\"
repeat_sends = 6
[orders]
deadline_default = \"2s\"
deadline_min = \"2s\"
deadline_max = \"3s\"
gateway_calls = 1
gateway_simulator = false
unknown_answer = \"close\"
unknown_tries = 2
watch = \"26h\"
sweep_every = \"3s\"
sweep_grace = \"4s\"
publish_grace = \"5s\"
clock_jump_max = \"7d\"
resume_per_second = 5
keep_events = \"8d\"
webhooks_private = true
keep_idempotency = \"3d\"
";

#[test]
fn every_setting_reaches_the_configuration() {
    let settings = load(&from_file(EVERYTHING)).unwrap();
    for setting in &settings.list {
        assert_ne!(
            setting.origin,
            source::Origin::Default,
            "{}",
            setting.key.path
        );
    }
    let config = settings.resolve().unwrap();
    assert_eq!(fields(&config), fields(&everything()));
}

/// What the settings of [`EVERYTHING`] resolve to.
fn everything() -> Config {
    let half = Duration::from_millis(1_500);
    let broker = broker_of_everything();
    Config {
        data: "/d".into(),
        server: Server {
            listen: "0.0.0.0:9".parse().unwrap(),
            trust_loopback: Trust::Off,
            operator_key: Some("secret".to_owned()),
            shutdown_time: Duration::from_secs(3),
        },
        http: Http {
            listen: "127.0.0.3:9".parse().unwrap(),
            limits: HttpLimits {
                bounds: Bounds {
                    drain: half,
                    ..HttpLimits::default().bounds
                },
                ..HttpLimits::default()
            },
        },
        grpc: GrpcConfig {
            listen: "127.0.0.2:9".parse().unwrap(),
            advertise: Some("a:1".parse().unwrap()),
            body_bytes_max: 1_024,
            auto_topic: broker.engine.auto_topic,
            auto_group: false,
            limits: server::grpc::GrpcLimits {
                bounds: Bounds {
                    drain: half,
                    ..Bounds::default()
                },
                ..server::grpc::GrpcLimits::default()
            },
        },
        tls: Encryption {
            on: false,
            required: false,
            certificate: Some("/c".into()),
            key: Some("/k".into()),
        },
        access: Access {
            accounts: Some("/a".into()),
            open: true,
        },
        log: Log {
            format: LogFormat::Json,
            level: "warn",
        },
        broker,
        orders: orders_of_everything(),
        gateway_simulator: false,
    }
}

fn broker_of_everything() -> BrokerConfig {
    BrokerConfig {
        engine: broker::Config {
            limits: broker::Limits {
                body_bytes_max: 1_024,
                delay_ms_max: 400 * 86_400_000,
                batch_max: 1,
                in_flight_max: 2,
                waiting_pollers_max: 3,
                topics_max: 9,
                groups_max: 10,
                held_bytes_max: 2 << 20,
                repeat_window_ms: 5_000,
                repeat_window_sends: 6,
                free_bytes_reserve: 64 << 20,
                ..broker::Limits::default()
            },
            levels: DelayLevels {
                delays_ms: vec![1_000, 2_000],
            },
            retention_ms: 3_600_000,
            group_idle_ms: 2 * 3_600_000,
            auto_topic: Some((TopicKind::Mixed, 3)),
            auto_group: false,
            ..broker::Config::default()
        },
        store: StoreConfig {
            durability: Durability::Os,
            cache_bytes: 1 << 20,
            write_buffer_bytes: 16 << 20,
        },
    }
}

fn orders_of_everything() -> orders::Config {
    orders::Config {
        deadline_default_ms: 2_000,
        deadline_min_ms: 2_000,
        deadline_max_ms: 3_000,
        gateway_calls: 1,
        unknown_policy: UnknownPolicy::CloseAndRefundLate { tries: 2 },
        watch_ms: 26 * 3_600_000,
        sweep_every: Duration::from_secs(3),
        sweep_grace_ms: 4_000,
        publish_grace_ms: 5_000,
        clock_jump_max_ms: 7 * 86_400_000,
        resume_per_second: 5,
        keep_events_ms: 8 * 86_400_000,
        webhooks_private: true,
        keep_idempotency_ms: 3 * 86_400_000,
        ..orders::Config::new("/d/orders.db")
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    for (text, expected) in [
        (
            "[orders]\ndeadline_min = \"1h\"\n",
            "orders.deadline_default is 30m, outside of 1h to 30d (orders.deadline_min, orders.deadline_max)",
        ),
        (
            "[orders]\ndeadline_min = \"2d\"\ndeadline_max = \"1d\"\n",
            "orders.deadline_min is 2d, above orders.deadline_max, which is 1d",
        ),
        (
            "[limits]\ndelay = \"1d\"\n",
            "orders.deadline_max is 30d, above limits.delay, which is 1d",
        ),
        (
            "[limits]\nbody = \"64 MiB\"\nqueue_heads = \"1 MiB\"\n",
            "limits.body is 64 MiB, above limits.queue_heads, which is 1 MiB",
        ),
        (
            "[orders]\nclock_jump_max = \"1d\"\n",
            "orders.clock_jump_max is 1d: write at least 2d, or 0s for no bound",
        ),
    ] {
        assert_eq!(resolved(text).unwrap_err().to_string(), expected);
    }
}

#[test]
fn other_machines_are_let_in_on_purpose_only() {
    for section in ["grpc", "http"] {
        let open = format!("[{section}]\nlisten = \"0.0.0.0:8081\"\n");
        let problem = resolved(&open).unwrap_err().to_string();
        let begins = format!("{section}.listen is 0.0.0.0:8081, which other machines reach");
        assert!(problem.starts_with(&begins), "{problem}");
        assert!(
            problem.contains("access.accounts") && problem.contains("access.open"),
            "{problem}"
        );
        for purpose in ["open = true", "accounts = \"accounts.toml\""] {
            assert!(resolved(&format!("{open}[access]\n{purpose}\n")).is_ok());
        }
    }
    for (text, words) in [
        (
            "[grpc]\nadvertise = \"nowhere\"\n",
            "grpc.advertise: `nowhere`",
        ),
        ("[tls]\nkey = \"k.pem\"\n", "both or neither"),
        (
            "[tls]\non = false\nrequired = true\n",
            "no call would be answered",
        ),
        ("[tls]\nrequired = true\n", "calls back in clear text"),
    ] {
        let problem = resolved(text).unwrap_err().to_string();
        assert!(problem.contains(words), "{problem}");
    }
    let required = "[tls]\nrequired = true\n[orders]\ngateway_simulator = false\n";
    assert!(resolved(required).unwrap().tls.required);
}

#[test]
fn callers_of_this_machine_need_a_key_once_it_is_no_trial() {
    let trusts = |text: &str| resolved(text).unwrap().trusts_this_machine(false);
    assert!(trusts(""));
    assert!(!defaults().trusts_this_machine(true));
    let off = "[orders]\ngateway_simulator = false\n";
    assert!(!trusts(off));
    assert!(!trusts(
        "[http]\nlisten = \"0.0.0.0:1\"\n[access]\nopen = true\n"
    ));
    assert!(trusts(&format!("{off}[server]\ntrust_loopback = true\n")));
    assert!(!trusts("[server]\ntrust_loopback = false\n"));
    let public = "[server]\nlisten = \"0.0.0.0:80\"\n";
    let problem = resolved(public).unwrap_err().to_string();
    assert!(
        problem.contains("orders.gateway_simulator = false"),
        "{problem}"
    );
    assert!(!trusts(&format!("{public}{off}")));
}

#[test]
fn example_file_in_the_repository_is_the_tables() {
    assert!(
        include_str!("../../../../config.example.toml") == example(),
        "run: cargo run -- config --example > config.example.toml"
    );
}

#[test]
fn reference_page_in_the_repository_is_the_tables() {
    assert!(
        include_str!("../../../../docs/configuration.md") == reference(),
        "run: cargo run -- config --reference > docs/configuration.md"
    );
}

#[test]
fn uncommented_example_is_the_defaults() {
    let uncommented: Vec<&str> = example_lines().collect();
    let settings = load(&from_file(&uncommented.join("\n"))).unwrap();
    assert!(
        settings
            .list
            .iter()
            .all(|setting| setting.origin != source::Origin::Default)
    );
    assert_eq!(fields(&settings.resolve().unwrap()), fields(&defaults()));
}

/// The lines of the example with the settings uncommented.
fn example_lines() -> impl Iterator<Item = &'static str> {
    let text: &'static str = include_str!("../../../../config.example.toml");
    text.lines().map(|line| match line.strip_prefix('#') {
        Some(assignment) if !assignment.starts_with(' ') => assignment,
        _ => line,
    })
}

#[test]
fn printed_settings_read_back_and_hide_secrets() {
    let text = "[server]\noperator_key = \"hush-hush\"\n[orders]\ndeadline_default = \"90s\"\n";
    let settings = load(&from_file(text)).unwrap();
    let printed = settings.to_toml();
    assert!(!printed.contains("hush-hush") && printed.contains("operator_key = \"(hidden)\""));
    assert!(printed.contains("deadline_default = \"90s\""), "{printed}");
    assert!(printed.contains("  # duetime.toml line 4\n"), "{printed}");
    let again = load(&from_file(&printed)).unwrap().resolve().unwrap();
    assert_eq!(
        fields(&again.orders),
        fields(&settings.resolve().unwrap().orders)
    );

    let json = settings.to_json();
    assert_eq!(json["orders"]["deadline_default"], "90s");
    assert_eq!(json["limits"]["batch"], 1_024);
    assert_eq!(json["server"]["operator_key"], "(hidden)");
}

#[test]
fn files_and_variables_of_any_content_are_read_or_refused() {
    let target = fuzz::Target::new(env!("CARGO_MANIFEST_DIR"), "config")
        .seed(EVERYTHING)
        .seed(example())
        .tokens(&[
            "[[",
            "]]",
            "\"\"\"",
            "= {",
            "inf",
            "0x",
            "1979-05-27T07:32:00Z",
            "\\u0000",
            "99999999999 GiB",
            "-5s",
            "[server]",
            "listen",
        ])
        .heap_bytes(2 << 20)
        .runs(400);
    target.check(|input| {
        let text = String::from_utf8_lossy(input);
        let _ = resolved(&text);
        let variable = |line: &str| {
            let (name, value) = line.split_once('=')?;
            let name = format!("DUETIME_{}", name.trim().to_uppercase());
            Some((name, value.trim().to_owned()))
        };
        let sources = Sources {
            environment: text.lines().filter_map(variable).take(4).collect(),
            ..Sources::default()
        };
        let _ = load(&sources).and_then(|settings| settings.resolve());
    });
}
