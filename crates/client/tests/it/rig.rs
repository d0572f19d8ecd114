//! Provides a server in a process of its own, and the steps that tests share.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use client::{Config, Filter, Message, Producer, Received, SimpleConsumer};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// Invisible duration of received messages, unless the test is about that.
pub(crate) const INVISIBLE: Duration = Duration::from_secs(30);

/// A `duetime serve` on free ports, with a temporary folder.
pub(crate) struct Server {
    /// Where RocketMQ clients connect.
    pub(crate) address: String,
    api: String,
    process: Child,
    settings: Vec<String>,
    folder: tempfile::TempDir,
}

/// The server's program.
fn program() -> PathBuf {
    built("duetime")
}

/// A program in the folder above the tests' own, where cargo puts what it builds.
pub(crate) fn built(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let program = own
        .ancestors()
        .nth(2)
        .expect("tests are in a folder of the target folder")
        .join(name);
    assert!(
        program.is_file(),
        "{} is missing: run `cargo build -p duetime`, and all tests of this crate, first",
        program.display()
    );
    program
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With settings, each as `section.key=value`.
    pub(crate) async fn with(settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        settings.extend(
            [
                "grpc.listen=127.0.0.1:0",
                "http.listen=127.0.0.1:0",
                "server.listen=127.0.0.1:0",
                "storage.free_space_reserve=64 MiB",
                "log.level=warn",
            ]
            .map(str::to_owned),
        );
        let (process, address, api) = serve(folder.path(), &settings).await;
        Self {
            address,
            api,
            process,
            settings,
            folder,
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn config(&self) -> Config {
        Config::new(&self.address).unwrap()
    }

    /// Runs a command of the command line, such as `topic create t --kind fifo`.
    pub(crate) async fn run(&self, words: &[&str]) {
        let output = Command::new(program())
            .args(words)
            .env("DUETIME_URL", &self.api)
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
    }

    pub(crate) async fn topic(&self, name: &str, kind: &str) {
        self.run(&["topic", "create", name, "--kind", kind]).await;
    }

    /// Kills the process as a power cut would, and starts another one on the same folder and port.
    pub(crate) async fn crash(&mut self) {
        self.process.kill().await.unwrap();
        self.settings.push(format!("grpc.listen={}", self.address));
        let (process, address, api) = serve(self.folder.path(), &self.settings).await;
        assert_eq!(address, self.address);
        self.process = process;
        self.api = api;
    }

    pub(crate) async fn producer(&self) -> Producer {
        Producer::builder(self.config()).start().await.unwrap()
    }

    /// A simple consumer of one topic that waits for as long as it may.
    pub(crate) async fn reader(&self, topic: &str, group: &str) -> SimpleConsumer {
        self.chooser(topic, group, Filter::all()).await
    }

    pub(crate) async fn chooser(&self, topic: &str, group: &str, filter: Filter) -> SimpleConsumer {
        SimpleConsumer::builder(self.config(), group)
            .subscribe(topic, filter)
            .start()
            .await
            .unwrap()
    }
}

/// Starts the process, and reads where it listens.
async fn serve(folder: &Path, settings: &[String]) -> (Child, String, String) {
    let mut command = Command::new(program());
    command.arg("serve").arg("--data").arg(folder);
    for setting in settings {
        command.args(["--set", setting]);
    }
    let mut process = command
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let (mut address, mut api) = (None, None);
    while let Some(line) = lines.next_line().await.unwrap() {
        let value = |name: &str| {
            let rest = line.trim_start().strip_prefix(name)?;
            rest.split_whitespace().next().map(str::to_owned)
        };
        address = address.or_else(|| value("RocketMQ clients"));
        api = api.or_else(|| value("broker").filter(|value| value.starts_with("http://")));
        if let (Some(address), Some(api)) = (&address, &api) {
            let addresses = (address.clone(), api.clone());
            // The pipe must stay open, or the server could not write.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return (process, addresses.0, addresses.1);
        }
    }
    panic!("the server ended: {:?}", process.wait().await);
}

/// A message whose body is its name.
pub(crate) fn message(topic: &str, body: &str) -> Message {
    Message::new(topic, body.to_owned())
}

pub(crate) fn body(received: &Received) -> &str {
    std::str::from_utf8(&received.body).unwrap()
}

/// Receives and acknowledges `count` messages; returns their bodies in order of arrival.
pub(crate) async fn drain(consumer: &SimpleConsumer, count: usize) -> Vec<String> {
    let mut bodies = Vec::new();
    while bodies.len() < count {
        let received = consumer.receive(32, INVISIBLE).await.unwrap();
        for outcome in consumer.ack_all(&received).await {
            outcome.unwrap();
        }
        bodies.extend(received.iter().map(|received| body(received).to_owned()));
    }
    bodies
}

/// The wall clock, which both processes share.
pub(crate) fn now() -> SystemTime {
    clock::wall::now()
}
