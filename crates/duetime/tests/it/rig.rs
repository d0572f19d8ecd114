//! Provides a broker with its HTTP API on a free port, and runs the program against it.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use broker::{Broker, BrokerConfig};
use serde_json::Value;
use server::http::{ApiSettings, ApiState, HttpLimits, OwnedNames, install_metrics};
use server::{LoopbackOnly, NoConnections};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A running broker.
pub(crate) struct Rig {
    url: String,
    runtime: Runtime,
    broker: Broker,
    serving: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    _folder: TempDir,
}

/// The output of the program.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Rig {
    pub(crate) fn start() -> Self {
        Self::start_with(BrokerConfig::default())
    }

    pub(crate) fn start_with(config: BrokerConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::new().unwrap();
        let broker = Broker::open(folder.path(), config).unwrap();
        let settings = ApiSettings {
            authenticate: Arc::new(LoopbackOnly),
            connections: Arc::new(NoConnections),
            metrics: install_metrics().unwrap(),
            limits: HttpLimits::default(),
            answers: server::http::Budget::new(64 * 1024 * 1024),
            owned: OwnedNames::default(),
        };
        let state = ApiState::new(broker.clone(), settings);
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            // An error means that the rig is gone: time to end too.
            let _ = stopped.await;
        };
        let serving = runtime.spawn(server::http::run(listener, state, None, shutdown));
        Self {
            url,
            runtime,
            broker,
            serving: Some((stop, serving)),
            _folder: folder,
        }
    }

    /// A broker with a topic `orders`.
    pub(crate) fn with_topic() -> Self {
        let rig = Self::start();
        rig.done("topic create orders");
        rig
    }

    /// Does something with the broker itself.
    pub(crate) fn with_broker<T>(&self, work: impl AsyncFnOnce(&Broker) -> T) -> T {
        self.runtime.block_on(work(&self.broker))
    }

    /// Runs the program; words are separated by blanks.
    pub(crate) fn run(&self, words: &str) -> Said {
        run_at(&self.url, words, "")
    }

    /// Runs the program with something on its standard input.
    pub(crate) fn run_with(&self, words: &str, input: &str) -> Said {
        run_at(&self.url, words, input)
    }

    /// Runs the program, which must succeed.
    pub(crate) fn done(&self, words: &str) -> Said {
        let said = self.run(words);
        assert_eq!(said.code, 0, "{words}: {said:?}");
        said
    }

    /// Runs the program with `--json`, which must succeed; one value for each line.
    pub(crate) fn json(&self, words: &str) -> Vec<Value> {
        let said = self.done(&format!("{words} --json"));
        let lines = said.out.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Runs the program, which must fail with this code and this text on standard error.
    pub(crate) fn fails(&self, words: &str, code: i32, expected: &str) {
        let said = self.run(words);
        assert_eq!(said.code, code, "{words}: {said:?}");
        assert!(said.err.contains(expected), "{words}: {said:?}");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some((stop, serving)) = self.serving.take() {
            let _ = stop.send(());
            self.runtime.block_on(serving).unwrap();
        }
        self.runtime.block_on(self.broker.shutdown());
    }
}

/// Runs the program against the API at `url`.
pub(crate) fn run_at(url: &str, words: &str, input: &str) -> Said {
    run_in(Path::new("."), url, words, input)
}

/// Runs the program in a folder.
pub(crate) fn run_in(folder: &Path, url: &str, words: &str, input: &str) -> Said {
    let mut child = Command::new(env!("CARGO_BIN_EXE_duetime"))
        .args(words.split_whitespace())
        .env_clear()
        .current_dir(folder)
        .env("TZ", "UTC")
        .env("DUETIME_URL", url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
