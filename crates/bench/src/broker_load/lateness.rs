//! Measures the lateness of messages that become due at a steady rate.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use broker::clock::SystemClock;
use broker::{Broker, Delivery};
use hdrhistogram::Histogram;

use super::drain::fill;
use super::{Scale, Subject, TOPIC, request};
use crate::report::Figure;

/// Messages that become due per second.
const DUE_PER_S: u64 = 5_000;
/// Tasks that receive.
const CONSUMERS: usize = 4;

pub(crate) async fn run(folder: &Path, scale: Scale) -> anyhow::Result<Vec<Figure>> {
    let subject = Subject::open(folder)?;
    subject.create_topic(TOPIC).await?;
    let messages = DUE_PER_S * scale.seconds;
    let start_ms = subject.now_ms() + 2_000 + messages / 25;
    let number = AtomicU64::new(0);
    let make = |bodies: &mut super::Bodies| {
        let due_ms = start_ms + number.fetch_add(1, Ordering::Relaxed) * 1_000 / DUE_PER_S;
        bodies.message(Delivery::At { due_ms })
    };
    fill(&subject.broker, TOPIC, messages, make).await?;
    anyhow::ensure!(
        subject.now_ms() + 500 < start_ms,
        "filling took longer than the messages wait"
    );
    let left = Arc::new(AtomicU64::new(messages));
    let mut consumers = tokio::task::JoinSet::new();
    for _ in 0..CONSUMERS {
        consumers.spawn(consume(
            subject.broker.clone(),
            Arc::clone(&subject.clock),
            Arc::clone(&left),
        ));
    }
    let mut lateness = Histogram::<u64>::new(3)?;
    let mut early = 0;
    while let Some(done) = consumers.join_next().await {
        let (histogram, of_these) = done??;
        lateness.add(histogram)?;
        early += of_these;
    }
    anyhow::ensure!(
        lateness.len() == messages,
        "{} of {messages} were delivered",
        lateness.len()
    );
    #[expect(
        clippy::cast_precision_loss,
        reason = "numbers of us and of messages fit a double"
    )]
    let ms = |quantile: f64| lateness.value_at_quantile(quantile) as f64 / 1_000.0;
    let note = format!("{messages} at {DUE_PER_S}/s due, {CONSUMERS} consumers");
    #[expect(
        clippy::cast_precision_loss,
        reason = "a count of messages fits a double"
    )]
    let early = early as f64;
    Ok(vec![
        Figure::new("lateness_p50_ms", ms(0.5), "ms", note.clone()),
        Figure::new("lateness_p99_ms", ms(0.99), "ms", note.clone()),
        Figure::new("lateness_max_ms", ms(1.0), "ms", note),
        Figure::new("early", early, "", "deliveries before the due time"),
    ])
}

/// Receives until nothing is left; returns the lateness of each message, in us, and the number of early ones.
async fn consume(
    broker: Broker,
    clock: Arc<SystemClock>,
    left: Arc<AtomicU64>,
) -> anyhow::Result<(Histogram<u64>, u64)> {
    let mut lateness = Histogram::new(3)?;
    let mut early = 0_u64;
    while left.load(Ordering::Relaxed) > 0 {
        let delivered = broker
            .receive(request(TOPIC, 64), Duration::from_millis(500))
            .await?;
        let now_us = clock.now_us();
        for delivery in &delivered {
            let late_us = now_us - i64::try_from(delivery.message.place.due_ms * 1_000)?;
            early += u64::from(late_us < 0);
            lateness.record(u64::try_from(late_us).unwrap_or(0))?;
        }
        left.fetch_sub(delivered.len() as u64, Ordering::Relaxed);
        drop(
            broker
                .ack(delivered.iter().map(|delivery| delivery.handle).collect())
                .await?,
        );
    }
    Ok((lateness, early))
}
