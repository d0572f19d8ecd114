//! Creates orders over HTTP, in the process, and without a broker, to measure the cost of each layer.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use broker::clock::Stopwatch;
use hdrhistogram::Histogram;
use orders::Deadline;
use tokio::task::JoinSet;

use super::{Scale, Subject};
use crate::process::Usage;
use crate::report::Figure;

/// Clients that create orders at the same time.
const CLIENTS: u64 = 64;
/// Deadline of the orders, in ms ahead: none falls due while they are created.
const FAR_MS: i64 = 3_600_000;

/// The parts measured without HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    /// The database, the relay and the broker.
    All,
    /// The database only.
    SqlOnly,
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a count of orders fits a double"
)]
fn per(total: f64, orders: u64) -> f64 {
    total / orders as f64
}

/// Waits until the outbox is empty: publishing is part of the cost of an order.
async fn published(subject: &Subject) -> Result<()> {
    while subject.platform().unpublished().await? > 0 {
        subject
            .clock
            .sleep(std::time::Duration::from_millis(20))
            .await;
    }
    Ok(())
}

/// Creates orders through the API, each with its own idempotency key.
pub(crate) async fn over_http(folder: &Path, scale: Scale) -> Result<Vec<Figure>> {
    let subject = Subject::start(folder, true).await?;
    let (address, stop, server) = subject.serve().await?;
    let client = reqwest::Client::builder()
        .pool_max_idle_per_host(64)
        .build()?;
    let body = format!(
        r#""buyer_id":"buyer-1","deadline_after_ms":{FAR_MS},"lines":[{{"product_id":"{}","quantity":1}}]"#,
        subject.product
    );
    let caller = Caller {
        client,
        url: format!("http://{address}/v1/orders"),
        body: body.into(),
    };
    let before = Usage::now()?;
    let watch = Stopwatch::start();
    let next = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(caller.clone().make_orders(Arc::clone(&next), scale.orders));
    }
    let mut latency = Histogram::new(3)?;
    while let Some(done) = clients.join_next().await {
        latency.add(done.context("join a client")??)?;
    }
    let seconds = watch.elapsed().as_secs_f64();
    published(&subject).await?;
    let cpu_us = Usage::now()?.cpu_us - before.cpu_us;
    drop(stop);
    server.await?;
    #[expect(clippy::cast_precision_loss, reason = "a latency in us fits a double")]
    let ms = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1_000.0;
    let orders = scale.orders;
    let note = format!(
        "{orders} over HTTP, {CLIENTS} clients in this process, each answered once durable"
    );
    Ok(vec![
        Figure::new(
            "orders_created_per_s",
            1.0 / per(seconds, orders),
            "/s",
            note,
        ),
        Figure::new("order_create_p50_ms", ms(0.5), "ms", "seen by the client"),
        Figure::new("order_create_p99_ms", ms(0.99), "ms", "seen by the client"),
        Figure::new(
            "order_cpu_us_http",
            per(cpu_us, orders),
            "us",
            "CPU an order: client, HTTP, SQL, relay, broker",
        ),
    ])
}

/// A client that creates orders through the API.
#[derive(Clone)]
struct Caller {
    client: reqwest::Client,
    url: String,
    /// The part of the body that all orders share.
    body: Arc<str>,
}

impl Caller {
    /// Creates orders until all clients together have created `orders`; returns how long each took, in us.
    async fn make_orders(self, next: Arc<AtomicU64>, orders: u64) -> Result<Histogram<u64>> {
        let mut latency = Histogram::new(3)?;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= orders {
                return Ok(latency);
            }
            let watch = Stopwatch::start();
            let body = format!(r#"{{"merchant_order_no":"B-{number}",{}}}"#, self.body);
            let request = self
                .client
                .post(&self.url)
                .header("Idempotency-Key", format!("o-{number}"));
            let response = request
                .header("Content-Type", "application/json")
                .body(body)
                .send()
                .await?;
            anyhow::ensure!(
                response.status().is_success(),
                "the platform answered {}",
                response.status()
            );
            response.bytes().await?;
            latency.record(u64::try_from(watch.elapsed().as_micros())?)?;
        }
    }
}

/// Creates orders by calling the platform.
pub(crate) async fn in_process(folder: &Path, scale: Scale, parts: Parts) -> Result<Vec<Figure>> {
    let subject = Arc::new(Subject::start(folder, parts == Parts::All).await?);
    let before = Usage::now()?;
    let watch = Stopwatch::start();
    make(&subject, scale.orders, Deadline::AfterMs(FAR_MS)).await?;
    let seconds = watch.elapsed().as_secs_f64();
    if parts == Parts::All {
        published(&subject).await?;
    }
    let cpu_us = Usage::now()?.cpu_us - before.cpu_us;
    let (rate, cpu, note) = match parts {
        Parts::All => (
            "orders_created_in_process_per_s",
            "order_cpu_us_platform",
            "SQL, relay and broker, without HTTP",
        ),
        Parts::SqlOnly => (
            "orders_created_sql_only_per_s",
            "order_cpu_us_sql",
            "SQL only, nothing published",
        ),
    };
    Ok(vec![
        Figure::new(rate, 1.0 / per(seconds, scale.orders), "/s", note),
        Figure::new(
            cpu,
            per(cpu_us, scale.orders),
            "us",
            format!("CPU an order: {note}"),
        ),
    ])
}

/// Creates orders with one deadline, as fast as they become durable.
pub(crate) async fn make(subject: &Arc<Subject>, orders: u64, deadline: Deadline) -> Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (subject, next) = (Arc::clone(subject), Arc::clone(&next));
        clients.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= orders {
                    return anyhow::Ok(());
                }
                let order = subject.order(number, deadline);
                subject
                    .platform()
                    .create_order(&subject.merchant, order, None)
                    .await?;
            }
        });
    }
    while let Some(done) = clients.join_next().await {
        done.context("join a client")??;
    }
    Ok(())
}
