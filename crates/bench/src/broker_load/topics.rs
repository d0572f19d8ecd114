//! Measures a restart with thousands of topics, each with a consumer group and a message that waits.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use broker::Delivery;
use broker::clock::Stopwatch;

use super::{Bodies, Subject, TOPIC, request};
use crate::report::Figure;

/// Topics; the default limit is 4,096.
const TOPICS: u64 = 4_000;
/// Requests in flight while they are made.
const IN_FLIGHT: usize = 64;
/// When the messages in them are due.
const DELAY_MS: u64 = 86_400_000;

/// Makes the topics.
pub(crate) async fn fill(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let subject = Subject::open(folder)?;
    subject.create_topic(TOPIC).await?;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 1..TOPICS {
        if tasks.len() == IN_FLIGHT
            && let Some(done) = tasks.join_next().await
        {
            let done: anyhow::Result<()> = done?;
            done?;
        }
        let broker = subject.broker.clone();
        let spec = broker::TopicSpec::new(format!("topic-{number}"), broker::TopicKind::Delay)
            .with_queues(super::QUEUES);
        tasks.spawn(async move {
            let topic = spec.name.clone();
            broker.create_topic(spec).await?;
            let mut bodies = Bodies::new(number);
            let message = bodies.message(Delivery::After { delay_ms: DELAY_MS });
            broker.send(&topic, message).await?;
            broker.receive(request(&topic, 1), Duration::ZERO).await?;
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(Vec::new())
}

/// Starts again after a kill, up to the first delivery.
pub(crate) async fn restart(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let watch = Stopwatch::start();
    let subject = Subject::open(folder)?;
    let opened = watch.elapsed();
    let broker = subject.broker.clone();
    let poll = tokio::spawn(async move {
        broker
            .receive(request(TOPIC, 1), Duration::from_mins(1))
            .await
    });
    let message = Bodies::new(1).message(Delivery::Now);
    subject.broker.send(TOPIC, message).await.context("send")?;
    let delivered = poll.await?.context("receive")?;
    let first = watch.elapsed();
    anyhow::ensure!(delivered.len() == 1, "nothing was delivered");
    let note = format!(
        "after kill -9 with {TOPICS} topics of {} queues, a group and a message each, to the first delivery; open took {} ms",
        super::QUEUES,
        opened.as_millis()
    );
    let first_ms = first.as_secs_f64() * 1_000.0;
    Ok(vec![Figure::new("restart_topics_ms", first_ms, "ms", note)])
}
