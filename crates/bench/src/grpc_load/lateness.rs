//! Measures the lateness at the client of messages that become due at a steady rate.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use broker::clock::SystemClock;
use client::{Producer, Received, SimpleConsumer};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use super::server::Server;
use super::{Scale, config, double, receive, send};
use crate::report::Figure;

const TOPIC: &str = "timers";
/// Messages that become due per second.
const DUE_PER_S: u64 = 5_000;
/// Tasks that receive.
const CONSUMERS: u64 = 8;

pub(super) async fn run(folder: &Path, scale: Scale) -> Result<Vec<Figure>> {
    let server = Server::start(folder).await?;
    server.create_topic(TOPIC).await?;
    let producer = Producer::builder(config(&server.address)?)
        .start()
        .await
        .context("start the producer")?;
    let clock = Arc::new(SystemClock::start());
    let now_ms = || u64::try_from(clock.now_us() / 1_000);
    let messages = DUE_PER_S * scale.seconds;
    let start_ms = now_ms()? + 2_000 + messages / 10;
    send::fill(&producer, TOPIC, messages, move |message, number| {
        let due_ms = start_ms + number * 1_000 / DUE_PER_S;
        message.deliver_at(UNIX_EPOCH + Duration::from_millis(due_ms))
    })
    .await?;
    anyhow::ensure!(
        now_ms()? + 500 < start_ms,
        "filling took longer than the messages wait"
    );
    let consumer = receive::consumer(&server.address, TOPIC).await?;
    let (lateness, early) = watch(&consumer, &clock, messages).await?;
    anyhow::ensure!(
        lateness.len() == messages,
        "{} of {messages} were delivered",
        lateness.len()
    );
    let ms = |quantile: f64| double(lateness.value_at_quantile(quantile)) / 1_000.0;
    let note = format!("{messages} at {DUE_PER_S}/s due, {CONSUMERS} in flight, at the client");
    Ok(vec![
        Figure::new("lateness_p50_ms", ms(0.5), "ms", note.clone()),
        Figure::new("lateness_p99_ms", ms(0.99), "ms", note.clone()),
        Figure::new("lateness_max_ms", ms(1.0), "ms", note),
        Figure::new("early", double(early), "", "before the due time"),
    ])
}

/// Receives everything; returns the lateness of each message, in us, and the number of early ones.
async fn watch(
    consumer: &SimpleConsumer,
    clock: &Arc<SystemClock>,
    messages: u64,
) -> Result<(Histogram<u64>, u64)> {
    let left = Arc::new(AtomicU64::new(messages));
    let mut tasks = JoinSet::new();
    for _ in 0..CONSUMERS {
        let (consumer, clock, left) = (consumer.clone(), Arc::clone(clock), Arc::clone(&left));
        tasks.spawn(async move {
            let mut lateness = Histogram::new(3)?;
            let mut early = 0;
            receive::take(consumer, left, |received| {
                early += record(received, clock.now_us(), &mut lateness)?;
                Ok(())
            })
            .await?;
            anyhow::Ok((lateness, early))
        });
    }
    let mut lateness = Histogram::<u64>::new(3)?;
    let mut early = 0;
    while let Some(done) = tasks.join_next().await {
        let (of_task, early_of_task) = done??;
        lateness.add(of_task)?;
        early += early_of_task;
    }
    Ok((lateness, early))
}

/// Records the lateness of messages; returns the number of early ones.
fn record(received: &[Received], now_us: i64, lateness: &mut Histogram<u64>) -> Result<u64> {
    let mut early = 0;
    for message in received {
        let due = message.due.context("a message has no due time")?;
        let due_us = i64::try_from(due.duration_since(UNIX_EPOCH)?.as_micros())?;
        early += u64::from(now_us < due_us);
        lateness.record(u64::try_from(now_us - due_us).unwrap_or(0))?;
    }
    Ok(early)
}
