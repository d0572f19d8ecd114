//! Receives and acknowledges messages that are due.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use broker::Broker;
use broker::Delivery;
use broker::clock::Stopwatch;

use super::{Bodies, Scale, Subject, TOPIC, request};
use crate::report::Figure;

/// Tasks that receive.
pub(crate) const CONSUMERS: usize = 16;
/// Messages a receive asks for.
pub(crate) const BATCH: usize = 256;

pub(crate) async fn run(folder: &Path, scale: Scale) -> anyhow::Result<Vec<Figure>> {
    let subject = Subject::open(folder)?;
    subject.create_topic(TOPIC).await?;
    let messages = scale.messages / 5;
    fill(&subject.broker, TOPIC, messages, |bodies| {
        bodies.message(Delivery::Now)
    })
    .await?;
    let watch = Stopwatch::start();
    drain(&subject.broker, TOPIC, messages).await?;
    let seconds = watch.elapsed().as_secs_f64();
    #[expect(
        clippy::cast_precision_loss,
        reason = "a count of messages fits a double"
    )]
    let rate = messages as f64 / seconds;
    let note =
        format!("{messages} due, {CONSUMERS} consumers, batches of {BATCH}, acks durable (fsync)");
    Ok(vec![Figure::new("receive_ack_per_s", rate, "/s", note)])
}

/// Stores `messages` messages, in batches.
pub(crate) async fn fill(
    broker: &Broker,
    topic: &str,
    messages: u64,
    make: impl Fn(&mut Bodies) -> broker::NewMessage,
) -> anyhow::Result<()> {
    let mut bodies = Bodies::new(99);
    let mut left = messages;
    while left > 0 {
        let count = std::cmp::min(left, 2_048);
        left -= count;
        let batch = (0..count).map(|_| make(&mut bodies)).collect();
        for sent in broker.send_batch(topic, batch).await? {
            sent?;
        }
    }
    Ok(())
}

/// Receives and acknowledges until `messages` were acknowledged.
pub(crate) async fn drain(broker: &Broker, topic: &str, messages: u64) -> anyhow::Result<()> {
    let left = Arc::new(AtomicU64::new(messages));
    let mut consumers = tokio::task::JoinSet::new();
    for _ in 0..CONSUMERS {
        let (broker, topic, left) = (broker.clone(), topic.to_owned(), Arc::clone(&left));
        consumers.spawn(async move {
            while left.load(Ordering::Relaxed) > 0 {
                let delivered = broker
                    .receive(request(&topic, BATCH), Duration::from_millis(200))
                    .await?;
                let handles: Vec<_> = delivered.iter().map(|delivery| delivery.handle).collect();
                let count = handles.len() as u64;
                if count == 0 {
                    continue;
                }
                for acked in broker.ack(handles).await? {
                    acked?;
                }
                left.fetch_sub(count, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = consumers.join_next().await {
        done??;
    }
    Ok(())
}
