//! Starts `duetime serve` as a separate process, and reads the resources it uses.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use broker::clock::Stopwatch;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::process::Usage;

/// How long a server may take to start.
const START_TIME: Duration = Duration::from_mins(1);

/// A running server; killed when it is dropped.
pub(super) struct Server {
    /// Where RocketMQ clients connect.
    pub(super) address: String,
    /// From the start of the process until it printed where it listens.
    pub(super) started_in: Duration,
    api: String,
    process: Child,
}

/// The program, which cargo builds next to this one.
fn program() -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("duetime");
    anyhow::ensure!(
        program.is_file(),
        "{} is missing: build it first with the same profile, such as `cargo build --profile dist -p duetime`",
        program.display()
    );
    Ok(program)
}

impl Server {
    /// On free ports, with its data in a folder.
    pub(super) async fn start(folder: &Path) -> Result<Self> {
        let watch = Stopwatch::start();
        let mut command = Command::new(program()?);
        command.arg("serve").arg("--data").arg(folder);
        for setting in [
            "grpc.listen=127.0.0.1:0",
            "http.listen=127.0.0.1:0",
            "server.listen=127.0.0.1:0",
            "log.level=warn",
        ] {
            command.args(["--set", setting]);
        }
        let mut process = command
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start duetime serve")?;
        let stdout = process.stdout.take().context("take its output")?;
        let mut lines = BufReader::new(stdout).lines();
        let (mut address, mut api) = (None, None);
        let addresses = async {
            while let Some(line) = lines.next_line().await? {
                address = address.or_else(|| value_of(&line, "RocketMQ clients"));
                api = api.or_else(|| value_of(&line, "broker"));
                if let (Some(address), Some(api)) = (&address, &api) {
                    return Ok((address.clone(), api.clone()));
                }
            }
            anyhow::bail!("duetime serve ended without printing where it listens")
        };
        let (address, api) = broker::clock::monotonic::timeout(START_TIME, addresses)
            .await
            .context("wait for duetime serve")??;
        let started_in = watch.elapsed();
        // The rest is for people, but the pipe must stay open.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self {
            address,
            started_in,
            api,
            process,
        })
    }

    pub(super) async fn create_topic(&self, name: &str) -> Result<()> {
        let output = Command::new(program()?)
            .args(["topic", "create", name, "--kind", "delay", "--queues", "8"])
            .env("DUETIME_URL", &self.api)
            .output()
            .await?;
        anyhow::ensure!(output.status.success(), "create topic {name}: {output:?}");
        Ok(())
    }

    pub(super) fn usage(&self) -> Result<Usage> {
        Usage::of(self.process.id().context("the server has ended")?)
    }
}

/// The first word after a name in a line of the start block.
fn value_of(line: &str, name: &str) -> Option<String> {
    let rest = line.trim_start().strip_prefix(name)?;
    rest.split_whitespace().next().map(str::to_owned)
}
