//! Receives and acknowledges messages that are due.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use broker::clock::Stopwatch;
use client::{Filter, Received, SimpleConsumer};
use tokio::task::JoinSet;

use super::{GROUP, config};

/// Messages a receive asks for: as many as servers advise.
const BATCH: usize = 32;
/// How long they stay hidden.
const INVISIBLE: Duration = Duration::from_mins(1);
/// How long a receive waits.
const WAIT: Duration = Duration::from_millis(500);

/// A consumer of a topic.
pub(super) async fn consumer(address: &str, topic: &str) -> Result<SimpleConsumer> {
    SimpleConsumer::builder(config(address)?, GROUP)
        .subscribe(topic, Filter::all())
        .wait(WAIT)
        .start()
        .await
        .context("start the consumer")
}

/// Receives and acknowledges `messages` messages in `in_flight` tasks; returns the seconds it took.
pub(super) async fn drain(consumer: &SimpleConsumer, messages: u64, in_flight: u64) -> Result<f64> {
    let watch = Stopwatch::start();
    let left = Arc::new(AtomicU64::new(messages));
    let mut tasks = JoinSet::new();
    for _ in 0..in_flight {
        tasks.spawn(take(consumer.clone(), Arc::clone(&left), |_| Ok(())));
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(watch.elapsed().as_secs_f64())
}

/// Receives and acknowledges until nothing is left, after passing each batch to `see`.
pub(super) async fn take(
    consumer: SimpleConsumer,
    left: Arc<AtomicU64>,
    mut see: impl FnMut(&[Received]) -> Result<()>,
) -> Result<()> {
    while left.load(Ordering::Relaxed) > 0 {
        let received = consumer.receive(BATCH, INVISIBLE).await?;
        see(&received)?;
        for outcome in consumer.ack_all(&received).await {
            outcome?;
        }
        left.fetch_sub(u64::try_from(received.len())?, Ordering::Relaxed);
    }
    Ok(())
}
