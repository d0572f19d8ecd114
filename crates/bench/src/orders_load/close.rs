//! Measures how orders close: many due in one instant, and a steady stream.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use orders::Deadline;

use super::create::make;
use super::{Scale, Subject};
use crate::report::Figure;

/// Orders that fall due in a second of the steady stream.
const DUE_PER_S: u64 = 500;
/// How often to check whether all orders are closed.
const LOOK_EVERY: Duration = Duration::from_millis(10);

fn milliseconds(value: u64) -> Result<i64> {
    Ok(i64::try_from(value)?)
}

/// Waits until nothing is pending; returns that instant, in ms.
async fn all_closed(subject: &Subject) -> Result<u64> {
    loop {
        let tally = subject.platform().tally().await?;
        if tally.pending + tally.closing == 0 {
            return Ok(subject.clock.now_ms());
        }
        subject.clock.sleep(LOOK_EVERY).await;
    }
}

/// Orders that all fall due in the same instant, none of them paid.
pub(crate) async fn burst(folder: &Path, scale: Scale) -> Result<Vec<Figure>> {
    let subject = Arc::new(Subject::start(folder, true).await?);
    // Far enough ahead that all of them and their timers are stored by then.
    let due_ms = subject.clock.now_ms() + 5_000 + scale.burst;
    make(
        &subject,
        scale.burst,
        Deadline::AtWallMs(milliseconds(due_ms)?),
    )
    .await?;
    while subject.platform().unpublished().await? > 0 {
        subject.clock.sleep(LOOK_EVERY).await;
    }
    anyhow::ensure!(
        subject.clock.now_ms() + 200 < due_ms,
        "making the orders took longer than they wait"
    );
    subject.clock.sleep_until(due_ms).await;
    let closed_ms = all_closed(&subject).await?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a number of orders or ms fits a double"
    )]
    let per_s = scale.burst as f64 * 1_000.0 / (closed_ms - due_ms) as f64;
    let note = format!(
        "{} due in one instant, closed by their timers, durable",
        scale.burst
    );
    Ok(vec![Figure::new("orders_closed_per_s", per_s, "/s", note)])
}

/// Orders that fall due one after the other.
pub(crate) async fn lag(folder: &Path, scale: Scale) -> Result<Vec<Figure>> {
    let subject = Arc::new(Subject::start(folder, true).await?);
    let orders = DUE_PER_S * scale.seconds;
    let first_ms = subject.clock.now_ms() + 5_000 + orders;
    let mut makers = tokio::task::JoinSet::new();
    for number in 0..orders {
        let deadline = Deadline::AtWallMs(milliseconds(first_ms + number * 1_000 / DUE_PER_S)?);
        let subject = Arc::clone(&subject);
        makers.spawn(async move {
            let order = subject.order(number, deadline);
            subject
                .platform()
                .create_order(&subject.merchant, order, None)
                .await
                .map(drop)
        });
    }
    while let Some(made) = makers.join_next().await {
        made??;
    }
    anyhow::ensure!(
        subject.clock.now_ms() + 200 < first_ms,
        "making the orders took longer than they wait"
    );
    subject.clock.sleep_until(first_ms).await;
    subject
        .clock
        .sleep(Duration::from_secs(scale.seconds))
        .await;
    all_closed(&subject).await?;
    let mut lags_ms: Vec<_> = subject
        .platform()
        .close_lags_ms()
        .await?
        .into_iter()
        .map(|(_, lag_ms)| lag_ms)
        .collect();
    lags_ms.sort_unstable();
    let at = |part: usize| {
        lags_ms
            .get(lags_ms.len() * part / 1_000)
            .or_else(|| lags_ms.last())
            .copied()
            .unwrap_or(0)
    };
    let early = lags_ms.iter().filter(|lag_ms| **lag_ms < 0).count();
    let note = format!("{orders} at {DUE_PER_S}/s due, from the deadline to the closing update");
    #[expect(clippy::cast_precision_loss, reason = "a lag in ms fits a double")]
    Ok(vec![
        Figure::new("close_lag_p50_ms", at(500) as f64, "ms", note.clone()),
        Figure::new("close_lag_p99_ms", at(990) as f64, "ms", note.clone()),
        Figure::new("close_lag_max_ms", at(1_000) as f64, "ms", note),
        Figure::new(
            "closed_early",
            early as f64,
            "",
            "orders closed before their deadline",
        ),
    ])
}
