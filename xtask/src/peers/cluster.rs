//! Runs a small Apache RocketMQ cluster on this machine: a name server, a broker and a proxy.

use std::fs::{self, File, Permissions};
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::jvm::{Jvm, Program};
use super::{DEAD_GROUP, NORMAL_TOPIC};

/// The topics, by the message type each takes. The client's program uses these names when the server creates no
/// topic by itself.
const TOPICS: &[(&str, &[&str])] = &[
    (
        "NORMAL",
        &[
            "client-normal",
            "client-redelivery",
            "client-dead",
            "client-push",
            "client-tags",
            "client-sql",
            "client-credentials",
            "client-tls",
            "client-large",
            "client-restart",
            NORMAL_TOPIC,
        ],
    ),
    ("DELAY", &["client-delay", "client-recall"]),
    ("FIFO", &["client-fifo", "client-push-fifo"]),
    ("TRANSACTION", &["client-transaction"]),
];
/// Queues of each topic.
const QUEUES: u32 = 4;
/// Deliveries of a message to a group, unless the test is about that.
const ATTEMPTS: u32 = 17;
/// Attempts to find consecutive free ports.
const PORT_TRIES: usize = 100;

/// The account of the proxy.
const ACCOUNT: &str = "interop";

/// A running cluster in a folder of its own.
pub(super) struct Cluster {
    jars: PathBuf,
    home: PathBuf,
    ports: Ports,
    secret: String,
    // In the order they are to be stopped.
    proxy: Option<Jvm>,
    broker: Option<Jvm>,
    _name_server: Jvm,
}

impl Cluster {
    /// Starts one, with the topics and groups the client's program needs.
    ///
    /// Name server and broker listen on loopback; the proxy has no such setting and listens everywhere, so every call
    /// needs an account, whose secret is made for this run.
    pub(super) fn start(jars: &Path, home: &Path) -> Result<Self> {
        if home.exists() {
            fs::remove_dir_all(home).with_context(|| format!("empty {}", home.display()))?;
        }
        fs::create_dir_all(home)
            .and_then(|()| fs::set_permissions(home, Permissions::from_mode(0o700)))
            .with_context(|| format!("make {}", home.display()))?;
        let ports = Ports::find()?;
        let secret = secret().context("make a secret")?;
        for (name, text) in files(&ports, home, &secret) {
            let path = home.join(name);
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        }
        let name_server = Program {
            name: "name server",
            main: "org.apache.rocketmq.namesrv.NamesrvStartup",
            heap_mb: 128,
            arguments: &words(&["-c", "name-server.conf"]),
            jars,
            home,
        };
        let name_server = name_server.start("The Name Server boot success")?;
        let mut cluster = Self {
            jars: jars.to_owned(),
            home: home.to_owned(),
            ports,
            secret,
            proxy: None,
            broker: None,
            _name_server: name_server,
        };
        cluster.broker = Some(cluster.start_broker()?);
        // Both mostly wait for one core each.
        let (proxy, made) = thread::scope(|scope| {
            let proxy = scope.spawn(|| cluster.start_proxy());
            let made = cluster.make("updateTopicList", "topics.json");
            let made = made.and_then(|()| cluster.make("updateSubGroupList", "groups.json"));
            (proxy.join(), made)
        });
        made?;
        let Ok(proxy) = proxy else {
            bail!("the thread that started the proxy has panicked");
        };
        cluster.proxy = Some(proxy?);
        Ok(cluster)
    }

    /// Where clients connect.
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.proxy)
    }

    /// The secret of the account.
    pub(super) fn secret(&self) -> &str {
        &self.secret
    }

    /// Kills proxy and broker as a power cut would, and starts them again at the same addresses.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.proxy = None;
        self.broker = None;
        self.broker = Some(self.start_broker()?);
        self.proxy = Some(self.start_proxy()?);
        Ok(())
    }

    /// Starts the broker, and makes it register its topics with the name server. By itself it does that ten seconds later,
    /// and a proxy that starts sooner does not find its cluster, and ends.
    fn start_broker(&self) -> Result<Jvm> {
        let arguments = words(&["-n", &self.name_server(), "-c", "broker.conf"]);
        let broker = self
            .program(
                "broker",
                "org.apache.rocketmq.broker.BrokerStartup",
                &arguments,
            )
            .start("boot success")?;
        // Setting the permission to its present value makes a broker register again.
        self.administer(&["updateBrokerConfig", "-k", "brokerPermission", "-v", "6"])?;
        Ok(broker)
    }

    fn start_proxy(&self) -> Result<Jvm> {
        let arguments = words(&[
            "-n",
            &self.name_server(),
            "-pm",
            "cluster",
            "-pc",
            "proxy.json",
        ]);
        self.program(
            "proxy",
            "org.apache.rocketmq.proxy.ProxyStartup",
            &arguments,
        )
        .start("startup successfully")
    }

    /// Makes what a file lists.
    fn make(&self, command: &str, file: &str) -> Result<()> {
        self.administer(&[command, "-f", file])
    }

    /// Runs a command of the admin tool on the broker.
    fn administer(&self, command: &[&str]) -> Result<()> {
        let broker = format!("127.0.0.1:{}", self.ports.broker());
        let mut arguments = words(command);
        arguments.extend(words(&["-n", &self.name_server(), "-b", &broker]));
        let program = Program {
            heap_mb: 128,
            ..self.program(
                "admin tool",
                "org.apache.rocketmq.tools.command.MQAdminStartup",
                &arguments,
            )
        };
        program.run("success")
    }

    fn name_server(&self) -> String {
        format!("127.0.0.1:{}", self.ports.name_server)
    }

    fn program<'a>(
        &'a self,
        name: &'static str,
        main: &'static str,
        arguments: &'a [String],
    ) -> Program<'a> {
        Program {
            name,
            main,
            heap_mb: 320,
            arguments,
            jars: &self.jars,
            home: &self.home,
        }
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Ports that were free a moment ago: Apache RocketMQ cannot choose a free port and report it.
struct Ports {
    name_server: u16,
    /// The first of three in a row: the broker's second port is two below its first.
    row: u16,
    proxy: u16,
    proxy_tcp: u16,
}

impl Ports {
    fn find() -> Result<Self> {
        let any = || TcpListener::bind("127.0.0.1:0");
        let number = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
        for _ in 0..PORT_TRIES {
            // All are held until all are found, so that they differ.
            let [name_server, row, proxy, proxy_tcp] = [any()?, any()?, any()?, any()?];
            let first = number(&row)?;
            let others: Vec<_> = (1..=2)
                .filter_map(|step| first.checked_add(step))
                .filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
                .collect();
            if others.len() == 2 {
                return Ok(Self {
                    name_server: number(&name_server)?,
                    row: first,
                    proxy: number(&proxy)?,
                    proxy_tcp: number(&proxy_tcp)?,
                });
            }
        }
        bail!("no three free ports in a row were found in {PORT_TRIES} tries")
    }

    fn broker(&self) -> u16 {
        self.row + 2
    }

    /// Where replicas would connect.
    fn replicas(&self) -> u16 {
        self.row + 1
    }
}

/// A random secret.
fn secret() -> Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// The files the programs read, by their names.
fn files(ports: &Ports, home: &Path, secret: &str) -> [(&'static str, String); 5] {
    let pretty = |value: &Value| format!("{value:#}");
    [
        (
            "name-server.conf",
            format!("listenPort={}\nbindAddress=127.0.0.1\n", ports.name_server),
        ),
        ("broker.conf", broker_settings(ports, home, secret)),
        ("proxy.json", pretty(&proxy_settings(ports, secret))),
        ("topics.json", pretty(&topics())),
        ("groups.json", pretty(&groups())),
    ]
}

fn broker_settings(ports: &Ports, home: &Path, secret: &str) -> String {
    let store = home.join("store");
    let user = json!({ "username": ACCOUNT, "password": secret });
    let settings = [
        ("brokerClusterName", "DefaultCluster".to_owned()),
        ("brokerName", "broker-a".to_owned()),
        ("brokerId", "0".to_owned()),
        ("brokerIP1", "127.0.0.1".to_owned()),
        ("bindAddress", "127.0.0.1".to_owned()),
        ("listenPort", ports.broker().to_string()),
        ("haListenPort", ports.replicas().to_string()),
        ("storePathRootDir", store.display().to_string()),
        (
            "storePathCommitLog",
            store.join("commitlog").display().to_string(),
        ),
        // Small files, for a test of a minute.
        ("mappedFileSizeCommitLog", "33554432".to_owned()),
        ("mappedFileSizeConsumeQueue", "600000".to_owned()),
        ("maxHashSlotNum", "5000".to_owned()),
        ("maxIndexNum", "20000".to_owned()),
        // The limit counts the whole disk, not only what the test uses.
        ("diskMaxUsedSpaceRatio", "95".to_owned()),
        ("recallMessageEnable", "true".to_owned()),
        ("timerPrecisionMs", "100".to_owned()),
        ("autoCreateTopicEnable", "false".to_owned()),
        // Orphans are asked about soon, but not before ends of transactions are noted and producers are known.
        ("transactionTimeOut", "6000".to_owned()),
        ("transactionCheckInterval", "5000".to_owned()),
        // The broker keeps the accounts; the proxy checks them.
        ("authenticationEnabled", "false".to_owned()),
        (
            "authenticationMetadataProvider",
            "org.apache.rocketmq.auth.authentication.provider.LocalAuthenticationMetadataProvider"
                .to_owned(),
        ),
        ("initAuthenticationUser", user.to_string()),
    ];
    let lines = settings.map(|(name, value)| format!("{name}={value}\n"));
    lines.concat()
}

fn proxy_settings(ports: &Ports, secret: &str) -> Value {
    let inner = json!({ "accessKey": ACCOUNT, "secretKey": secret });
    json!({
        "rocketMQClusterName": "DefaultCluster",
        "grpcServerPort": ports.proxy,
        "remotingListenPort": ports.proxy_tcp,
        // How soon the broker knows a new producer, which it may ask about orphans.
        "transactionHeartbeatPeriodSecond": 1,
        "authenticationEnabled": true,
        "authenticationProvider":
            "org.apache.rocketmq.auth.authentication.provider.DefaultAuthenticationProvider",
        "authenticationMetadataProvider":
            "org.apache.rocketmq.proxy.auth.ProxyAuthenticationMetadataProvider",
        "innerClientAuthenticationCredentials": inner.to_string(),
    })
}

fn topics() -> Value {
    let topic = |name: &str, kind: &str| {
        json!({
            "topicName": name,
            "readQueueNums": QUEUES,
            "writeQueueNums": QUEUES,
            // Readable and writable.
            "perm": 6,
            "attributes": { "+message.type": kind },
        })
    };
    let topics = TOPICS
        .iter()
        .flat_map(|(kind, names)| names.iter().map(move |name| topic(name, kind)));
    // The broker would create it for the first dead letter, and the proxy remember for 20 s that it did not exist.
    let dead_letters = topic(&format!("%DLQ%{DEAD_GROUP}"), "NORMAL");
    topics.chain([dead_letters]).collect()
}

/// Groups with a short backoff. The client's program has one for each topic, and one for dead letters.
fn groups() -> Value {
    let group = |name: &str, attempts: u32, is_fifo: bool| {
        json!({
            "groupName": name,
            "retryMaxTimes": attempts - 1,
            "consumeMessageOrderly": is_fifo,
            "groupRetryPolicy": {
                "type": "CUSTOMIZED",
                "customizedRetryPolicy": { "next": [1_000] },
            },
        })
    };
    let of_topics = TOPICS.iter().flat_map(|(kind, names)| {
        let of_topic = |name| group(&format!("g-{name}"), ATTEMPTS, *kind == "FIFO");
        names.iter().map(of_topic).collect::<Vec<_>>()
    });
    let others = [
        group(DEAD_GROUP, 2, false),
        group("client-letters", ATTEMPTS, false),
    ];
    of_topics.chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ() {
        let ports = Ports::find().unwrap();
        let mut all = vec![
            ports.name_server,
            ports.row,
            ports.replicas(),
            ports.broker(),
            ports.proxy,
            ports.proxy_tcp,
        ];
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 6);
    }

    #[test]
    fn secrets_differ() {
        let (one, other) = (secret().unwrap(), secret().unwrap());
        assert!(one.len() == 32 && one != other);
    }

    #[test]
    fn every_topic_takes_one_type() {
        let topics = topics();
        let names = topics.as_array().unwrap().iter();
        let mut names: Vec<&str> = names
            .map(|topic| topic["topicName"].as_str().unwrap())
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!((names.len(), count), (17, 17));
    }
}
