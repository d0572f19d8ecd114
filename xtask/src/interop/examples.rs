//! Provides `cargo xtask examples`: everything in `examples/`, run against a server of its own.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::program::{Place, command_of, install};
use super::server::Server;
use super::{Language, build, target_folder};

/// Kinds of events that a consumer must have printed.
const KINDS: [&str; 4] = [
    "order.created",
    "order.paid",
    "order.closed",
    "refund.succeeded",
];
/// How long an example may take.
const TIME_MAX: Duration = Duration::from_mins(2);

/// The consumers of order events; each is installed like a client of `cargo xtask interop`.
const CONSUMERS: [Language; 2] = [
    Language {
        name: "python-consumer",
        shown: "Python",
        package: "rocketmq-python-client",
        version: "5.1.2",
        manifest: "requirements.txt",
        install: &[
            "python3 -m venv {}/venv",
            "{}/venv/bin/pip install --quiet --disable-pip-version-check --requirement requirements.txt",
        ],
        run: "{}/venv/bin/python consumer.py",
        trust: None,
    },
    Language {
        name: "java-consumer",
        shown: "Java",
        package: "rocketmq-client-java",
        version: "5.2.0",
        manifest: "pom.xml",
        install: &[
            "mvn --batch-mode --quiet -DbuildDirectory={} compile dependency:copy-dependencies -DoutputDirectory={}/jars",
        ],
        run: "java -cp {}/classes:{}/jars/* events.Consumer",
        trust: None,
    },
];

/// Runs the examples and says whether all did what they should; with `--release` against the optimised server.
pub(crate) fn run(root: &Path, flags: &[&str]) -> Result<bool> {
    ensure!(
        matches!(flags, [] | ["--release"]),
        "the only flag of examples is --release"
    );
    let target = target_folder(root)?;
    let binary = build(root, &target, !flags.is_empty())?;
    let data = target.join("examples-data");
    let server = Server::start_empty(&binary, &data)?;
    let mut failed = 0;
    let mut note = |name: &str, result: Result<()>| {
        failed += usize::from(result.is_err());
        match result {
            Ok(()) => println!("{name:<16} ok"),
            Err(error) => println!("{name:<16} FAIL  {error:#}"),
        }
    };
    note("embedded-broker", embedded(root));
    note("shop-curl", shop(root, &server));
    for consumer in &CONSUMERS {
        note(consumer.name, consume(root, &target, consumer, &server));
    }
    Ok(failed == 0)
}

/// The broker as a library.
fn embedded(root: &Path) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["run", "--quiet", "--locked", "--package", "broker"])
        .args(["--example", "embedded-broker"])
        .current_dir(root);
    let output = output_of(command)?;
    ensure!(
        output.contains("received \"close order 42\""),
        "it printed {output:?}"
    );
    Ok(())
}

/// The shop over curl, whose events the consumers then read.
fn shop(root: &Path, server: &Server) -> Result<()> {
    let mut command = Command::new("sh");
    command
        .arg(root.join("examples/shop-curl/shop.sh"))
        .arg(&server.orders);
    output_of(command).map(drop)
}

/// How many events the shop's script has led to.
fn count_events(server: &Server) -> Result<usize> {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--fail"])
        .arg(format!("{}/v1/events?limit=200", server.orders));
    let output = command.output().context("start curl")?;
    ensure!(
        output.status.success(),
        "curl failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let page: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let items = page.get("items").and_then(serde_json::Value::as_array);
    Ok(items.context("the page of events has no items")?.len())
}

/// A consumer of the events there are; it ends when it has printed so many.
fn consume(root: &Path, target: &Path, language: &Language, server: &Server) -> Result<()> {
    let place = Place {
        sources: root.join("examples").join(language.name),
        folder: target.join("examples-installed").join(language.name),
    };
    install(language, &place)?;
    let mut command = command_of(language.run, &place)?;
    command
        .arg(count_events(server)?.to_string())
        .env("DUETIME_ENDPOINT", &server.address);
    let output = output_of(command)?;
    for kind in KINDS {
        ensure!(output.contains(kind), "it printed no event {kind}");
    }
    Ok(())
}

/// Runs a command to its end, and answers what it printed; it has to succeed, and in time.
fn output_of(mut command: Command) -> Result<String> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {command:?}"))?;
    let id = child.id().to_string();
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || {
        // The receiver is gone only after the limit, when the output is of no use.
        drop(ended.send(child.wait_with_output()));
    });
    let Ok(output) = end.recv_timeout(TIME_MAX) else {
        drop(Command::new("kill").arg(id).status());
        bail!("{command:?} did not end within {TIME_MAX:?}");
    };
    let output = output.with_context(|| format!("wait for {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    print!("{text}");
    ensure!(
        output.status.success(),
        "{command:?} ended with {}",
        output.status
    );
    Ok(text)
}
