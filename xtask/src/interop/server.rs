//! Runs `duetime serve` for the clients: starts it, kills it, starts it again on the same data.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

/// The line of `duetime serve` with the address for RocketMQ clients.
const CLIENTS: &str = "RocketMQ clients";
/// The line with the address for its own commands.
const COMMANDS: &str = "broker";
/// Where it says that the API of the order platform is.
const ORDERS: &str = "order platform";

/// A server, killed when it is dropped: its data is for the test only.
pub(super) struct Server {
    binary: PathBuf,
    data: PathBuf,
    settings: Vec<String>,
    child: Child,
    /// Where clients connect.
    pub(super) address: String,
    /// The base of its JSON API.
    pub(super) commands: String,
    /// The base of the order platform's API.
    pub(super) orders: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Server {
    /// Starts one on free ports, with settings of the form `section.key=value`.
    pub(super) fn start(binary: &Path, data: &Path, settings: &[&str]) -> Result<Self> {
        let common = [
            "server.listen=127.0.0.1:0",
            "http.listen=127.0.0.1:0",
            "storage.free_space_reserve=64MiB",
            "log.level=warn",
        ];
        let settings = common.iter().chain(settings);
        let settings: Vec<String> = settings.map(|setting| (*setting).to_owned()).collect();
        let (child, said) = spawn(binary, data, &settings, "127.0.0.1:0")?;
        Ok(Self {
            binary: binary.to_owned(),
            data: data.to_owned(),
            settings,
            child,
            address: said.clients,
            commands: said.commands,
            orders: said.orders,
        })
    }

    /// Starts one without settings of its own, on a folder that holds nothing.
    pub(super) fn start_empty(binary: &Path, data: &Path) -> Result<Self> {
        empty(data)?;
        Self::start(binary, data, &[])
    }

    /// Kills it as a power cut would, and starts it again at the same address.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.kill();
        let (child, said) = spawn(&self.binary, &self.data, &self.settings, &self.address)?;
        self.child = child;
        self.commands = said.commands;
        self.orders = said.orders;
        Ok(())
    }

    /// Runs a command of `duetime` on it, its words parted by blanks.
    pub(super) fn command(&self, words: &str) -> Result<()> {
        let output = Command::new(&self.binary)
            .args(words.split_whitespace())
            .env("DUETIME_URL", &self.commands)
            .output()
            .with_context(|| format!("start `duetime {words}`"))?;
        ensure!(
            output.status.success(),
            "`duetime {words}` failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn kill(&mut self) {
        // It may have ended by itself, which the client has noticed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Removes a folder of data, if it is there.
pub(super) fn empty(data: &Path) -> Result<()> {
    if data.exists() {
        fs::remove_dir_all(data).with_context(|| format!("empty {}", data.display()))?;
    }
    Ok(())
}

/// What a server says of itself when it has started.
#[derive(Default)]
struct Said {
    clients: String,
    commands: String,
    orders: String,
}

fn spawn(binary: &Path, data: &Path, settings: &[String], listen: &str) -> Result<(Child, Said)> {
    let mut command = Command::new(binary);
    command.arg("serve").arg("--data").arg(data);
    command.args(["--set", &format!("grpc.listen={listen}")]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", binary.display()))?;
    let output = child.stdout.take().context("take the server's output")?;
    let mut lines = BufReader::new(output).lines();
    let mut said = Said::default();
    for line in &mut lines {
        let line = line.context("read the server's output")?;
        if let Some(address) = value(&line, COMMANDS) {
            said.commands = address;
        }
        if let Some(address) = value(&line, CLIENTS) {
            said.clients = address;
        }
        if let Some(address) = value(&line, ORDERS) {
            said.orders = address;
        }
        if !said.commands.is_empty() && !said.clients.is_empty() {
            // The rest is for people; reading on keeps the server from waiting for a reader.
            std::thread::spawn(move || lines.for_each(drop));
            return Ok((child, said));
        }
    }
    drop(child.kill());
    drop(child.wait());
    bail!("the server ended before it said where it listens")
}

/// The address in a line of this name.
fn value(line: &str, name: &str) -> Option<String> {
    let rest = line.trim().strip_prefix(name)?;
    let address = rest.strip_prefix("  ")?.split_whitespace().next()?;
    Some(address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_what_a_server_says() {
        let line = "  RocketMQ clients  127.0.0.1:8081   (gRPC, TLS or not)";
        assert_eq!(value(line, CLIENTS).as_deref(), Some("127.0.0.1:8081"));
        let line = "  broker            http://127.0.0.1:8082   (duetime topic)";
        assert_eq!(
            value(line, COMMANDS).as_deref(),
            Some("http://127.0.0.1:8082")
        );
        assert_eq!(value("broker of nothing", COMMANDS), None);
    }
}
