//! Sends delayed messages with a fixed number in flight.

use std::time::Duration;

use anyhow::Result;
use broker::clock::Stopwatch;
use client::Producer;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use super::Messages;

/// Due times are spread over this many ms.
const SPREAD_MS: u64 = 2 * 86_400_000;
/// Messages of one request when a topic is filled.
const FILL_BATCH: u64 = 128;
/// Requests in flight when a topic is filled.
const FILL_TASKS: u64 = 4;

/// The results of a steady load.
pub(super) struct Load {
    pub(super) messages: u64,
    pub(super) seconds: f64,
    /// From the call to the answer, in us.
    pub(super) latency: Histogram<u64>,
}

/// Sends for `time`: each of `in_flight` tasks sends one message after the other, one per call.
pub(super) async fn steadily(
    producer: &Producer,
    topic: &'static str,
    in_flight: u64,
    time: Duration,
) -> Result<Load> {
    let watch = Stopwatch::start();
    let mut tasks = JoinSet::new();
    for seed in 0..in_flight {
        let producer = producer.clone();
        tasks.spawn(one_by_one(
            producer,
            Messages::new(topic, seed),
            watch,
            time,
        ));
    }
    let mut latency = Histogram::new(3)?;
    while let Some(done) = tasks.join_next().await {
        latency.add(done??)?;
    }
    Ok(Load {
        messages: latency.len(),
        seconds: watch.elapsed().as_secs_f64(),
        latency,
    })
}

async fn one_by_one(
    producer: Producer,
    mut messages: Messages,
    watch: Stopwatch,
    time: Duration,
) -> Result<Histogram<u64>> {
    let mut latency = Histogram::new(3)?;
    loop {
        let begun = watch.elapsed();
        if begun >= time {
            return Ok(latency);
        }
        let wait = Duration::from_millis(messages.below(SPREAD_MS));
        producer.send(messages.next().deliver_after(wait)).await?;
        let took = watch.elapsed().saturating_sub(begun);
        latency.record(u64::try_from(took.as_micros())?)?;
    }
}

/// Fills a topic as fast as possible; `due` sets the due time of the message with a number.
pub(super) async fn fill(
    producer: &Producer,
    topic: &'static str,
    count: u64,
    due: impl Fn(client::Message, u64) -> client::Message + Send + Sync + Clone + 'static,
) -> Result<()> {
    let mut tasks = JoinSet::new();
    for task in 0..FILL_TASKS {
        let (producer, due) = (producer.clone(), due.clone());
        let mut messages = Messages::new(topic, task);
        let first = count * task / FILL_TASKS;
        let end = count * (task + 1) / FILL_TASKS;
        tasks.spawn(async move {
            let mut next = first;
            while next < end {
                let batch_end = std::cmp::min(next + FILL_BATCH, end);
                let batch = (next..batch_end).map(|number| due(messages.next(), number));
                for outcome in producer.send_all(batch.collect()).await? {
                    outcome?;
                }
                next = batch_end;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}
