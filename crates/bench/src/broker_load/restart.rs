//! Measures a restart after a kill with millions of waiting messages, up to the first delivery.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use broker::Delivery;
use broker::clock::Stopwatch;

use super::{Bodies, Subject, TOPIC, request};
use crate::process::Usage;
use crate::report::Figure;

pub(crate) async fn run(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let watch = Stopwatch::start();
    let subject = Subject::open(folder)?;
    let opened = watch.elapsed();
    let broker = subject.broker.clone();
    let poll = tokio::spawn(async move {
        broker
            .receive(request(TOPIC, 1), Duration::from_mins(1))
            .await
    });
    subject
        .broker
        .send(TOPIC, Bodies::new(1).message(Delivery::Now))
        .await
        .context("send")?;
    let delivered = poll.await?.context("receive")?;
    let first = watch.elapsed();
    anyhow::ensure!(delivered.len() == 1, "nothing was delivered");
    let waiting = subject
        .broker
        .topic_stats(TOPIC)
        .await
        .context("read the counts")?
        .waiting;
    let usage = Usage::now()?;
    let note = format!(
        "after kill -9 with {waiting} waiting; open took {} ms",
        opened.as_millis()
    );
    Ok(vec![
        Figure::new(
            "restart_first_delivery_ms",
            first.as_secs_f64() * 1_000.0,
            "ms",
            note,
        ),
        Figure::new(
            "restart_rss_mb",
            usage.resident_mib,
            "MiB",
            "right after that delivery",
        ),
    ])
}
