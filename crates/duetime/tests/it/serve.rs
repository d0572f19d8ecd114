//! Tests of `duetime serve` from outside: it listens where it prints, and the commands work on it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use server::{Certificate, Tls};
use tempfile::TempDir;

use crate::rig::{run_at, run_in};

/// A server in a process of its own, on free ports.
pub(crate) struct Server {
    process: Child,
    /// What it printed when it was ready.
    welcome: String,
    folder: TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(tempfile::tempdir().unwrap(), &[])
    }

    /// A server with more settings and its files in `folder`.
    fn start_with(folder: TempDir, settings: &[&str]) -> Self {
        let binary = Command::new(env!("CARGO_BIN_EXE_duetime"));
        Self::start_by(binary, folder, settings)
    }

    /// A server whose binary `command` starts with the arguments that are added to it.
    fn start_by(mut command: Command, folder: TempDir, settings: &[&str]) -> Self {
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(folder.path().join("data"));
        for setting in [
            "http.listen=127.0.0.1:0",
            "grpc.listen=127.0.0.1:0",
            "storage.free_space_reserve=64MiB",
        ]
        .iter()
        .chain(settings)
        {
            command.args(["--set", setting]);
        }
        let mut process = command
            .env_clear()
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut welcome = String::new();
        // The lines to paste end the block; so does the end of the process.
        while let Some(Ok(line)) = lines.next() {
            welcome.push_str(&line);
            welcome.push('\n');
            if line.trim_start().starts_with("sleep") {
                break;
            }
        }
        Self {
            process,
            welcome,
            folder,
        }
    }

    /// The address printed under this name.
    pub(crate) fn url(&self, name: &str) -> String {
        let mut lines = self.welcome.lines();
        let line = lines.find(|line| line.trim_start().starts_with(name));
        let words = line.unwrap_or_else(|| panic!("no {name} in {}", self.welcome));
        let mut words = words.split_whitespace();
        words
            .find(|word| word.starts_with("http://"))
            .unwrap()
            .to_owned()
    }

    fn stop(mut self) -> i32 {
        let id = self.process.id().to_string();
        let killed = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(killed.success());
        self.process.wait().unwrap().code().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After a successful test it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_commands_work_on_a_server_and_it_stops_cleanly() {
    let server = Server::start();
    let url = server.url("broker");
    let said = run_at(&url, "topic create reminders", "");
    assert_eq!(said.code, 0, "{said:?}");
    let said = run_at(&url, "timer set reminders order-42 30m close", "");
    assert!(said.out.starts_with("order-42  created, due "), "{said:?}");
    let said = run_at(&url, "timer show reminders order-42 --json", "");
    let timer: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(timer["message"]["body"], "close");
    // The order platform's own topics are the broker's like all others.
    let said = run_at(&url, "topic list", "");
    assert!(said.out.lines().count() > 2, "{said:?}");
    let orders = server.url("order platform");
    assert_ne!(orders, url);
    let said = run_at(&orders, "topic list", "");
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err.contains("is not the broker's HTTP API"),
        "{said:?}"
    );
    let said = run_at(&url, "topic delete duetime-refunds --dry-run", "");
    assert!(said.err.contains("THE ORDER PLATFORM"), "{said:?}");
    let said = run_at(&url, "topic delete duetime-refunds --yes", "");
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("force=platform"), "{said:?}");
    let said = run_at(&url, "group delete duetime-refund --yes", "");
    assert_eq!(said.code, 1, "{said:?}");
    let said = run_at(
        &url,
        "topic delete duetime-refunds --yes --force-platform",
        "",
    );
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(server.stop(), 0);
}

const ACCOUNTS: &str = r#"
[[account]]
name = "shop"
secret = "secret-of-shop"
publish = ["orders"]
consume = ["orders"]
groups = ["closer"]

[[account]]
name = "operator"
secret = "secret-of-operator"
administer = true
"#;

#[test]
fn an_account_limits_what_its_caller_may_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("accounts.toml");
    fs::write(&file, ACCOUNTS).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let server = Server::start_with(folder, &["access.accounts=accounts.toml"]);
    let url = server.url("broker");
    for (words, code, expected) in [
        (
            "topic list",
            1,
            "credentials are required; pass those of an account with --account",
        ),
        (
            "topic list --token secret-of-no-account",
            1,
            "the credentials are wrong",
        ),
        (
            "topic create orders --account shop:secret-of-shop",
            1,
            "account \"shop\" may not administer",
        ),
        (
            "topic create orders --token secret-of-operator",
            0,
            "topic orders exists",
        ),
        (
            "timer set orders k 1h --account shop:secret-of-shop",
            0,
            "k  created",
        ),
        (
            "timer set other k 1h --account shop:secret-of-shop",
            1,
            "may not send to topic \"other\"",
        ),
        (
            "message receive orders other --account shop:secret-of-shop",
            1,
            "as group \"other\"",
        ),
        (
            "group clients --account operator:secret-of-operator",
            0,
            "nothing found",
        ),
    ] {
        let said = run_at(&url, words, "");
        assert_eq!(said.code, code, "{words}: {said:?}");
        assert!(
            said.out.contains(expected) || said.err.contains(expected),
            "{words}: {said:?}"
        );
    }
    assert_eq!(server.stop(), 0);
}

#[test]
fn the_commands_speak_tls_and_trust_what_they_should() {
    let server = Server::start();
    let url = server.url("broker").replace("http://", "https://");
    let folder = server.folder.path();
    // On the server's machine the configuration names its certificate.
    let said = run_in(folder, &url, "topic create reminders", "");
    assert_eq!(said.code, 0, "{said:?}");
    // The port of the order platform has the same certificate.
    let orders = server.url("order platform").replace("http://", "https://");
    let said = run_in(folder, &orders, "topic list", "");
    assert!(
        said.err.contains("is not the broker's HTTP API"),
        "{said:?}"
    );
    let by_name = url.replace("127.0.0.1", "localhost");
    let said = run_in(folder, &by_name, "topic list", "");
    assert!(said.out.contains("reminders"), "{said:?}");
    // Elsewhere --ca has to name it.
    let other = tempfile::tempdir().unwrap();
    let certificate = folder.join("data/tls/certificate.pem");
    let words = format!("topic list --ca {}", certificate.display());
    let said = run_in(other.path(), &url, &words, "");
    assert!(said.out.contains("reminders"), "{said:?}");
    let authority = other.path().join("authority.pem");
    Tls::open(&Certificate::SelfSigned {
        folder: other.path().to_owned(),
        names: Vec::new(),
    })
    .unwrap();
    fs::rename(other.path().join("certificate.pem"), &authority).unwrap();
    let said = run_in(other.path(), &url, "topic list --ca authority.pem", "");
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err.contains("is not trusted") && said.err.contains("--ca"),
        "{said:?}"
    );
    let said = run_in(other.path(), &url, "topic list --ca nowhere.pem", "");
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.err.contains("nowhere.pem"), "{said:?}");
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_server_without_tls_is_distinguished_from_one_with_a_wrong_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(folder, &["tls.on=false"]);
    assert!(!server.welcome.contains("TLS"), "{}", server.welcome);
    let url = server.url("broker").replace("http://", "https://");
    let other = tempfile::tempdir().unwrap();
    Tls::open(&Certificate::SelfSigned {
        folder: other.path().to_owned(),
        names: Vec::new(),
    })
    .unwrap();
    let said = run_in(other.path(), &url, "topic list --ca certificate.pem", "");
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("does not speak TLS"), "{said:?}");
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_low_limit_of_open_files_is_raised_at_the_start() {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "ulimit -S -n 256 && exec \"$0\" \"$@\""]);
    command.arg(env!("CARGO_BIN_EXE_duetime"));
    let server = Server::start_by(command, tempfile::tempdir().unwrap(), &[]);
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.process.id())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    // The soft limit, then the hard one.
    assert_eq!(words[3], words[4], "{line}");
    assert_ne!(words[3], "256");
    assert_eq!(server.stop(), 0);
}
