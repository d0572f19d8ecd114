//! Measures how often threads wait for one another for a send and for a delivery, with few and with many in flight.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use broker::clock::{Clock as _, Stopwatch};
use broker::{Broker, Delivery};
use hdrhistogram::Histogram;

use super::drain::fill;
use super::{Bodies, Scale, Subject, request};
use crate::process::Usage;
use crate::report::Figure;

/// Calls in flight, the topic that is sent to, and the topic that is received from.
const LEVELS: [(u64, &str, &str); 3] = [
    (1, "sent-1", "due-1"),
    (16, "sent-16", "due-16"),
    (256, "sent-256", "due-256"),
];
/// Sends of a level for each second of the scale.
const SENDS_PER_S: u64 = 2_000;
/// Instants for each second of the scale at which as many messages are due as there are consumers.
const INSTANTS_PER_S: u64 = 40;
/// Time between two of those instants, in ms.
const INSTANT_MS: u64 = 10;

pub(crate) async fn run(folder: &Path, scale: Scale) -> anyhow::Result<Vec<Figure>> {
    let subject = Subject::open(folder)?;
    let mut figures = Vec::new();
    for (in_flight, sent, due) in LEVELS {
        subject.create_topic(sent).await?;
        subject.create_topic(due).await?;
        figures.extend(measure_sends(&subject.broker, sent, in_flight, scale).await?);
        figures.push(measure_deliveries(&subject, due, in_flight, scale).await?);
    }
    Ok(figures)
}

async fn measure_sends(
    broker: &Broker,
    topic: &'static str,
    in_flight: u64,
    scale: Scale,
) -> anyhow::Result<[Figure; 2]> {
    let each = std::cmp::max(SENDS_PER_S * scale.seconds / in_flight, 20);
    let before = Usage::now()?;
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..in_flight {
        let broker = broker.clone();
        tasks.spawn(async move {
            let mut bodies = Bodies::new(seed);
            let mut latency = Histogram::<u64>::new(3)?;
            for _ in 0..each {
                let delay_ms = 3_600_000 + bodies.below(3_600_000);
                let message = bodies.message(Delivery::After { delay_ms });
                let watch = Stopwatch::start();
                broker.send(topic, message).await?;
                latency.record(u64::try_from(watch.elapsed().as_micros())?)?;
            }
            anyhow::Ok(latency)
        });
    }
    let mut latency = Histogram::<u64>::new(3)?;
    while let Some(done) = tasks.join_next().await {
        latency.add(done??)?;
    }
    let after = Usage::now()?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of messages and of us fit a double"
    )]
    let (sends, p50_ms) = (
        latency.len() as f64,
        latency.value_at_quantile(0.5) as f64 / 1_000.0,
    );
    let note = format!("{in_flight} in flight, {sends} sends, one message each, fsync");
    Ok([
        Figure::new(
            &format!("switches_per_send_at_{in_flight}"),
            (after.switches - before.switches) / sends,
            "",
            note.clone(),
        ),
        Figure::new(&format!("send_p50_ms_at_{in_flight}"), p50_ms, "ms", note),
    ])
}

async fn measure_deliveries(
    subject: &Subject,
    topic: &'static str,
    in_flight: u64,
    scale: Scale,
) -> anyhow::Result<Figure> {
    let messages = in_flight * INSTANTS_PER_S * scale.seconds;
    let start_ms = subject.now_ms() + 1_000 + messages / 25;
    let number = AtomicU64::new(0);
    fill(&subject.broker, topic, messages, |bodies| {
        let instant = number.fetch_add(1, Ordering::Relaxed) / in_flight;
        let due_ms = start_ms + instant * INSTANT_MS;
        bodies.message(Delivery::At { due_ms })
    })
    .await?;
    anyhow::ensure!(
        subject.now_ms() + 500 < start_ms,
        "filling took longer than the messages wait"
    );
    let left = Arc::new(AtomicU64::new(messages));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..in_flight {
        tasks.spawn(consume(subject.broker.clone(), topic, Arc::clone(&left)));
    }
    subject.clock.sleep_until(start_ms - 200).await;
    let before = Usage::now()?;
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let after = Usage::now()?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a count of messages fits a double"
    )]
    let count = messages as f64;
    let note = format!(
        "{messages} messages, {in_flight} due at once to as many consumers that wait, each acknowledged"
    );
    Ok(Figure::new(
        &format!("switches_per_delivery_at_{in_flight}"),
        (after.switches - before.switches) / count,
        "",
        note,
    ))
}

/// Receives and acknowledges one message after the other until none is left.
async fn consume(broker: Broker, topic: &str, left: Arc<AtomicU64>) -> anyhow::Result<()> {
    while left.load(Ordering::Relaxed) > 0 {
        let delivered = broker
            .receive(request(topic, 1), Duration::from_millis(500))
            .await?;
        for delivery in delivered {
            for acked in broker.ack(vec![delivery.handle]).await? {
                acked?;
            }
            left.fetch_sub(1, Ordering::Relaxed);
        }
    }
    Ok(())
}
