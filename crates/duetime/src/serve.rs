//! Provides `duetime serve`: everything embedded, in this process.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use broker::clock::SystemClock;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::logs;
use crate::run::{Embedded, Setup};

/// Runs until the process is asked to stop, or a part fails that it needs.
pub(crate) fn run(config: &Config) -> Result<()> {
    logs::start(config.log)?;
    runtime()?.block_on(serve(config))
}

/// The runtime that serves connections, with a thread for each core but one: the broker's writer keeps that one busy
/// under load, and more threads would only compete.
fn runtime() -> Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::cmp::max(cores.saturating_sub(1), 1))
        .enable_all()
        .build()
        .context("start the runtime")
}

async fn serve(config: &Config) -> Result<()> {
    // From here on no signal is lost, however long the start takes.
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut embedded =
        Embedded::start(Setup::new(config.clone()), Arc::new(SystemClock::start())).await?;
    write!(std::io::stdout().lock(), "{}", welcome(config, &embedded))
        .context("write to standard output")?;
    tracing::info!(address = %embedded.address(), data = %config.data.display(), "started");
    let broken = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        reason = embedded.broken() => Some(reason),
    };
    if let Some(reason) = broken {
        bail!("{reason}");
    }
    tracing::info!(
        "stopping: requests in flight are finished, then everything is written to the disk"
    );
    let limit = config.server.shutdown_time;
    match broker::clock::monotonic::timeout(limit, embedded.stop()).await {
        Ok(stopped) => stopped?,
        Err(_) => bail!("the server did not stop within {limit:?} (server.shutdown_time)"),
    }
    tracing::info!("stopped");
    Ok(())
}

/// What listens where, where the data is, and lines to paste.
///
/// Programs read the addresses from here: the first word after a name is one.
fn welcome(config: &Config, embedded: &Embedded) -> String {
    let address = embedded.address();
    let data = config.data.canonicalize();
    let data = data.unwrap_or_else(|_| config.data.clone());
    let mut text = format!("Duetime {}\n", env!("CARGO_PKG_VERSION"));
    let scheme = if config.tls.required { "https" } else { "http" };
    let has_both = config.tls.on && !config.tls.required;
    let also = |words| if has_both { words } else { "" };
    let mut line = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:<18}{value}");
    };
    line(
        "order platform",
        &format!(
            "{scheme}://{address}   (API: /openapi.json, metrics: /metrics{})",
            also("; https too")
        ),
    );
    line(
        "broker",
        &format!(
            "{scheme}://{}   (duetime topic, timer, ...; API: /openapi.json, metrics: /metrics{})",
            embedded.broker_address(),
            also("; TLS too")
        ),
    );
    line(
        "RocketMQ clients",
        &format!(
            "{}   (gRPC{})",
            embedded.grpc_address(),
            if config.tls.required {
                ", TLS only"
            } else {
                also(", TLS too")
            }
        ),
    );
    line("data", &data.display().to_string());
    line(
        "durability",
        match config.broker.store.durability {
            broker::Durability::Fsync => "fsync: answered requests survive a power cut",
            broker::Durability::Os => "os: answered requests survive a crash of this process",
        },
    );
    if embedded.has_simulator() {
        line("payments", "built-in simulator, moves no money");
    }
    if let Some(key) = embedded.first_key() {
        line(
            "API key",
            &format!(
                "{}   (merchant default; shown only once{})",
                key.secret,
                if embedded.trusts_this_machine() {
                    ", not needed on this machine"
                } else {
                    ""
                }
            ),
        );
    }
    if !config.tls.required {
        try_it(&mut text, embedded);
    }
    text
}

/// Adds lines to paste.
fn try_it(text: &mut String, embedded: &Embedded) {
    let address = embedded.address();
    let (key, set) = if embedded.trusts_this_machine() {
        ("", "")
    } else {
        (
            r#" -H "Authorization: Bearer $DUETIME_KEY""#,
            " (with DUETIME_KEY set to the API key)",
        )
    };
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "\nTry it: paste these lines{set} and see an order close by itself after 10 s"
    );
    let lines = [
        format!(
            r#"  P=$(curl -s http://{address}/v1/products -H 'Idempotency-Key: p1'{key} --json '{{"name":"Tea","price_minor":500,"currency":"EUR","stock":9}}' | grep -o 'prd_[0-9a-z]*')"#
        ),
        format!(
            r#"  O=$(curl -s http://{address}/v1/orders -H 'Idempotency-Key: o1'{key} --json '{{"merchant_order_no":"A-1","buyer_id":"me","deadline_after_ms":10000,"lines":[{{"product_id":"'$P'","quantity":1}}]}}' | grep -o 'ord_[0-9a-z]*' | head -n 1)"#
        ),
        format!("  sleep 10; curl -s{key} http://{address}/v1/orders/$O"),
    ];
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
}
