//! Measures a burst of messages due in the same millisecond, and its effect on another topic.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use broker::clock::{Clock as _, SystemClock};
use broker::{Broker, Delivery};

use super::drain::{drain, fill};
use super::{Bodies, Scale, Subject, TOPIC, request};
use crate::report::Figure;

/// A topic without a burst.
const OTHER: &str = "other";
/// Messages a second on the other topic.
const OTHER_PER_S: u64 = 500;

pub(crate) async fn run(folder: &Path, scale: Scale) -> anyhow::Result<Vec<Figure>> {
    let subject = Subject::open(folder)?;
    subject.create_topic(TOPIC).await?;
    subject.create_topic(OTHER).await?;
    // Far enough ahead that all of them are stored by then.
    let due_ms = subject.now_ms() + 2_000 + scale.burst / 25;
    fill(&subject.broker, TOPIC, scale.burst, |bodies| {
        bodies.message(Delivery::At { due_ms })
    })
    .await?;
    anyhow::ensure!(
        subject.now_ms() + 500 < due_ms,
        "filling took longer than the messages wait"
    );
    let stop = Arc::new(AtomicBool::new(false));
    let other = tokio::spawn(watch_other(
        subject.broker.clone(),
        Arc::clone(&subject.clock),
        Arc::clone(&stop),
        due_ms,
    ));
    subject.clock.sleep_until(due_ms - 200).await;
    drain(&subject.broker, TOPIC, scale.burst).await?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a time of seconds fits a double"
    )]
    let seconds = (subject.now_ms() - due_ms) as f64 / 1_000.0;
    stop.store(true, Ordering::Relaxed);
    let lateness = other.await??;
    let note = format!(
        "{} due in the same ms, until the last acknowledgement was durable",
        scale.burst
    );
    #[expect(clippy::cast_precision_loss, reason = "a lateness in us fits a double")]
    let p99_ms = lateness.value_at_quantile(0.99) as f64 / 1_000.0;
    let other_note = format!(
        "{} messages at {OTHER_PER_S}/s on another topic meanwhile",
        lateness.len()
    );
    Ok(vec![
        Figure::new("burst_drain_s", seconds, "s", note),
        Figure::new("burst_other_topic_p99_ms", p99_ms, "ms", other_note),
    ])
}

/// Sends messages due shortly after on the other topic, and returns their lateness from the burst on, in us.
async fn watch_other(
    broker: Broker,
    clock: Arc<SystemClock>,
    stop: Arc<AtomicBool>,
    burst_ms: u64,
) -> anyhow::Result<hdrhistogram::Histogram<u64>> {
    let mut lateness = hdrhistogram::Histogram::new(3)?;
    let sender = broker.clone();
    let sending = Arc::clone(&stop);
    let send_clock = Arc::clone(&clock);
    let producer = tokio::spawn(async move {
        let topic: Arc<str> = Arc::from(OTHER);
        let mut bodies = Bodies::new(7);
        let mut next_ms = send_clock.now_ms();
        while !sending.load(Ordering::Relaxed) {
            next_ms += 1_000 / OTHER_PER_S;
            send_clock.sleep_until(next_ms).await;
            let message = bodies.message(Delivery::At {
                due_ms: next_ms + 100,
            });
            drop(sender.start_send(&topic, message).await?);
        }
        anyhow::Ok(())
    });
    while !stop.load(Ordering::Relaxed) {
        let delivered = broker
            .receive(request(OTHER, 64), Duration::from_millis(200))
            .await?;
        let now_us = clock.now_us();
        for delivery in &delivered {
            let due_ms = delivery.message.place.due_ms;
            let late_us = now_us - i64::try_from(due_ms * 1_000)?;
            if due_ms >= burst_ms {
                lateness.record(u64::try_from(late_us).unwrap_or(0))?;
            }
        }
        drop(
            broker
                .ack(delivered.iter().map(|delivery| delivery.handle).collect())
                .await?,
        );
    }
    producer.await??;
    Ok(lateness)
}
