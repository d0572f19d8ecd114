//! Measures sends of delayed messages, then what the broker uses while they wait.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use broker::clock::Stopwatch;
use broker::{Broker, Delivery};

use super::{Bodies, Scale, Subject, TOPIC};
use crate::process::Usage;
use crate::report::Figure;

/// Tasks that send.
const PRODUCERS: u64 = 64;
/// Messages in flight of each.
const IN_FLIGHT: usize = 64;
/// Due times are spread over this many ms.
const SPREAD_MS: u64 = 2 * 86_400_000;
/// The keyed phase sends the number of the plain one divided by this.
const KEYED_SHARE: u64 = 5;
/// How long the idle broker is measured.
const IDLE: Duration = Duration::from_secs(5);

/// The rows stored beside a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rows {
    /// None: the broker assigns the id, which names the place.
    Plain,
    /// An index row for the id and one for the key.
    Keyed,
}

pub(crate) async fn run(folder: &Path, scale: Scale) -> anyhow::Result<Vec<Figure>> {
    let subject = Subject::open(folder)?;
    subject.create_topic(TOPIC).await?;
    let before = Usage::now()?;
    let watch = Stopwatch::start();
    send_all(&subject.broker, scale.messages, Rows::Plain).await?;
    let seconds = watch.elapsed().as_secs_f64();
    let after = Usage::now()?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a count of messages fits a double"
    )]
    let messages = scale.messages as f64;
    let note = format!(
        "{} of 256 B random, due over 2 days, fsync, {PRODUCERS} producers x {IN_FLIGHT}",
        scale.messages
    );
    let mut figures = vec![
        Figure::new("send_per_s", messages / seconds, "/s", note),
        Figure::new(
            "send_cpu_us",
            (after.cpu_us - before.cpu_us) / messages,
            "us",
            "CPU time a send, producers included",
        ),
        Figure::new(
            "send_bytes_written",
            (after.written_bytes - before.written_bytes) / messages,
            "B",
            "a send",
        ),
    ];
    // Flushes started by the load end first.
    settle().await?;
    let idle_before = Usage::now()?;
    let idle_watch = Stopwatch::start();
    broker::clock::monotonic::sleep(IDLE).await;
    let idle_after = Usage::now()?;
    let percent =
        (idle_after.cpu_us - idle_before.cpu_us) / 10_000.0 / idle_watch.elapsed().as_secs_f64();
    figures.push(Figure::new(
        "waiting_rss_mb",
        idle_after.resident_mib,
        "MiB",
        format!("with {} waiting", scale.messages),
    ));
    figures.push(Figure::new(
        "idle_cpu_percent",
        percent,
        "%",
        "of one core, all of them waiting",
    ));
    Ok(figures)
}

/// The same with an id and a key chosen by the producer: two index rows for each message.
pub(crate) async fn run_keyed(folder: &Path, scale: Scale) -> anyhow::Result<Vec<Figure>> {
    let subject = Subject::open(folder)?;
    subject.create_topic(TOPIC).await?;
    let count = scale.messages / KEYED_SHARE;
    let watch = Stopwatch::start();
    send_all(&subject.broker, count, Rows::Keyed).await?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a count of messages fits a double"
    )]
    let per_s = count as f64 / watch.elapsed().as_secs_f64();
    let note = format!("{count} like send_per_s, each with an id of its producer and a key");
    Ok(vec![Figure::new("send_keyed_per_s", per_s, "/s", note)])
}

/// Waits for a second in which the process uses almost no CPU time.
async fn settle() -> anyhow::Result<()> {
    for _ in 0..120 {
        let before = Usage::now()?.cpu_us;
        broker::clock::monotonic::sleep(Duration::from_secs(1)).await;
        if Usage::now()?.cpu_us - before < 50_000.0 {
            return Ok(());
        }
    }
    anyhow::bail!("the broker does not become idle")
}

/// Sends `messages` messages, due at random over the next two days.
pub(crate) async fn send_all(broker: &Broker, messages: u64, rows: Rows) -> anyhow::Result<()> {
    let mut producers = tokio::task::JoinSet::new();
    for number in 0..PRODUCERS {
        let count = messages / PRODUCERS + u64::from(number < messages % PRODUCERS);
        producers.spawn(produce(broker.clone(), number, count, rows));
    }
    while let Some(done) = producers.join_next().await {
        done??;
    }
    Ok(())
}

async fn produce(broker: Broker, seed: u64, count: u64, rows: Rows) -> anyhow::Result<()> {
    let topic: Arc<str> = Arc::from(TOPIC);
    let mut bodies = Bodies::new(seed);
    let mut under_way = VecDeque::with_capacity(IN_FLIGHT);
    for nth in 0..count {
        if under_way.len() == IN_FLIGHT
            && let Some(oldest) = under_way.pop_front()
        {
            oldest.await?;
        }
        let delay_ms = bodies.below(SPREAD_MS);
        let mut message = bodies.message(Delivery::After { delay_ms });
        if rows == Rows::Keyed {
            message.message_id = Some(format!("{seed}-{nth}"));
            message.keys = vec![format!("ord_{}", bodies.below(u64::MAX))];
        }
        under_way.push_back(broker.start_send(&topic, message).await?);
    }
    for sent in under_way {
        sent.await?;
    }
    Ok(())
}
