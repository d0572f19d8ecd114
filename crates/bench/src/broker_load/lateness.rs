//! Measures the lateness of messages that become due at a steady rate.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use broker::clock::{Clock as _, SystemClock};
use broker::{Broker, Delivery};
use hdrhistogram::Histogram;

use super::drain::fill;
use super::{Bodies, Scale, Subject, TOPIC, request};
use crate::report::Figure;

/// Messages that become due per second.
const DUE_PER_S: u64 = 5_000;
/// Tasks that receive.
const CONSUMERS: usize = 4;

/// Messages of the delay topic that become due per second while another topic takes sends.
const LOADED_DUE_PER_S: u64 = 1_000;
/// Durable sends per second on the other topic.
const LOAD_PER_S: u64 = 50_000;
/// Another topic.
const OTHER: &str = "other";

pub(crate) async fn run(folder: &Path, scale: Scale) -> anyhow::Result<Vec<Figure>> {
    let subject = Subject::open(folder)?;
    let messages = DUE_PER_S * scale.seconds;
    let (_, consumers) = prepare(&subject, messages, DUE_PER_S).await?;
    let lateness = Lateness::of(consumers, messages).await?;
    let note = format!("{messages} at {DUE_PER_S}/s due, {CONSUMERS} consumers");
    Ok(vec![
        Figure::new("lateness_p50_ms", lateness.ms(0.5), "ms", note.clone()),
        Figure::new("lateness_p99_ms", lateness.ms(0.99), "ms", note.clone()),
        Figure::new("lateness_max_ms", lateness.ms(1.0), "ms", note),
        lateness.early("early"),
    ])
}

/// The same at a lower rate while another topic takes durable sends.
pub(crate) async fn run_loaded(folder: &Path, scale: Scale) -> anyhow::Result<Vec<Figure>> {
    let subject = Subject::open(folder)?;
    subject.create_topic(OTHER).await?;
    let messages = LOADED_DUE_PER_S * scale.seconds;
    let (start_ms, consumers) = prepare(&subject, messages, LOADED_DUE_PER_S).await?;
    let end_ms = start_ms + 1_000 * scale.seconds;
    let load = tokio::spawn(load(
        subject.broker.clone(),
        Arc::clone(&subject.clock),
        (start_ms - 300, end_ms),
    ));
    let lateness = Lateness::of(consumers, messages).await?;
    let per_s = load.await??;
    let note = format!(
        "{messages} at {LOADED_DUE_PER_S}/s due, while another topic takes {per_s:.0} durable sends/s"
    );
    Ok(vec![
        Figure::new(
            "lateness_loaded_p50_ms",
            lateness.ms(0.5),
            "ms",
            note.clone(),
        ),
        Figure::new(
            "lateness_loaded_p99_ms",
            lateness.ms(0.99),
            "ms",
            note.clone(),
        ),
        Figure::new("lateness_loaded_max_ms", lateness.ms(1.0), "ms", note),
        lateness.early("loaded_early"),
    ])
}

type Consumers = tokio::task::JoinSet<anyhow::Result<(Histogram<u64>, u64)>>;

/// Stores the messages and starts the consumers; returns when the first is due.
async fn prepare(subject: &Subject, messages: u64, per_s: u64) -> anyhow::Result<(u64, Consumers)> {
    subject.create_topic(TOPIC).await?;
    let start_ms = subject.now_ms() + 2_000 + messages / 25;
    let number = AtomicU64::new(0);
    let make = |bodies: &mut Bodies| {
        let due_ms = start_ms + number.fetch_add(1, Ordering::Relaxed) * 1_000 / per_s;
        bodies.message(Delivery::At { due_ms })
    };
    fill(&subject.broker, TOPIC, messages, make).await?;
    anyhow::ensure!(
        subject.now_ms() + 500 < start_ms,
        "filling took longer than the messages wait"
    );
    let left = Arc::new(AtomicU64::new(messages));
    let mut consumers = Consumers::new();
    for _ in 0..CONSUMERS {
        consumers.spawn(consume(
            subject.broker.clone(),
            Arc::clone(&subject.clock),
            Arc::clone(&left),
        ));
    }
    Ok((start_ms, consumers))
}

/// Sends at a steady rate from one instant to another; returns the rate that came about.
async fn load(
    broker: Broker,
    clock: Arc<SystemClock>,
    (start_ms, end_ms): (u64, u64),
) -> anyhow::Result<f64> {
    let topic: Arc<str> = Arc::from(OTHER);
    let mut bodies = Bodies::new(5);
    let (mut sends, mut answers) = (0_u64, tokio::task::JoinSet::new());
    let mut next_ms = start_ms;
    while next_ms < end_ms {
        clock.sleep_until(next_ms).await;
        let mut started = Vec::new();
        for _ in 0..LOAD_PER_S / 1_000 {
            let message = bodies.message(Delivery::After {
                delay_ms: 3_600_000,
            });
            started.push(broker.start_send(&topic, message).await?);
        }
        sends += started.len() as u64;
        answers.spawn(async move {
            for answer in started {
                answer.await?;
            }
            anyhow::Ok(())
        });
        while let Some(done) = answers.try_join_next() {
            done??;
        }
        next_ms += 1;
    }
    while let Some(done) = answers.join_next().await {
        done??;
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "numbers of ms and of messages fit a double"
    )]
    let (sends, ms) = (sends as f64, (clock.now_ms() - start_ms) as f64);
    Ok(sends * 1_000.0 / ms)
}

/// What the consumers saw together.
struct Lateness {
    histogram: Histogram<u64>,
    early: u64,
}

impl Lateness {
    /// Waits for the consumers.
    async fn of(mut consumers: Consumers, messages: u64) -> anyhow::Result<Self> {
        let mut histogram = Histogram::<u64>::new(3)?;
        let mut early = 0;
        while let Some(done) = consumers.join_next().await {
            let (of_one, early_of_one) = done??;
            histogram.add(of_one)?;
            early += early_of_one;
        }
        anyhow::ensure!(
            histogram.len() == messages,
            "{} of {messages} were delivered",
            histogram.len()
        );
        Ok(Self { histogram, early })
    }

    #[expect(clippy::cast_precision_loss, reason = "a lateness in us fits a double")]
    fn ms(&self, quantile: f64) -> f64 {
        self.histogram.value_at_quantile(quantile) as f64 / 1_000.0
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a count of messages fits a double"
    )]
    fn early(&self, name: &str) -> Figure {
        Figure::new(
            name,
            self.early as f64,
            "",
            "deliveries before the due time",
        )
    }
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
