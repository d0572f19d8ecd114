//! Measures the start of a server, and what it uses while idle.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use broker::clock::Stopwatch;
use client::Producer;

use super::config;
use super::server::Server;
use crate::report::Figure;

/// How long the idle server is measured.
const IDLE: Duration = Duration::from_secs(5);

pub(super) async fn run(folder: &Path) -> Result<Vec<Figure>> {
    let first = Server::start(folder).await?;
    let first_start = first.started_in;
    drop(first);
    let watch = Stopwatch::start();
    let server = Server::start(folder).await?;
    let producer = Producer::builder(config(&server.address)?).start().await?;
    let answered = watch.elapsed();
    producer.shutdown().await;
    // Work left by the start ends meanwhile.
    broker::clock::monotonic::sleep(IDLE).await;
    let before = server.usage()?;
    let idle = Stopwatch::start();
    broker::clock::monotonic::sleep(IDLE).await;
    let after = server.usage()?;
    let percent = (after.cpu_us - before.cpu_us) / 10_000.0 / idle.elapsed().as_secs_f64();
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    Ok(vec![
        Figure::new(
            "start_ms",
            ms(server.started_in),
            "ms",
            "until it prints where it listens, after a kill -9",
        ),
        Figure::new(
            "start_first_ms",
            ms(first_start),
            "ms",
            "in an empty folder",
        ),
        Figure::new(
            "start_first_answer_ms",
            ms(answered),
            "ms",
            "until a client has its settings, after a kill -9",
        ),
        Figure::new(
            "idle_rss_mb",
            after.resident_mib,
            "MiB",
            "broker and order platform, nothing stored",
        ),
        Figure::new("idle_cpu_percent", percent, "%", "of one core"),
    ])
}
