//! Sweeps the deadline indexes as a safety net, and deletes old rows.
//!
//! What the sweeper finds should have happened by a message: the target is zero, and each find is counted.

use std::time::Duration;

use tokio::sync::watch;

use crate::coupon::issue;
use crate::error::Result;
use crate::metrics::Metric;
use crate::platform::Platform;
use crate::store::timers::{self, Bounds};
use crate::store::{Tx, coupons, idempotency, outbox};
use crate::timer::{REARM_MIN_MS, pause, rearm_all};

/// Rows that one transaction of the sweeper works on.
const BATCH: i64 = 500;

/// What a sweep found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Orders, attempts, refunds and coupons that are overdue and had no timer; it was written.
    pub missing: usize,
    /// Timers whose message had not come; they were armed again. Those just written are among them.
    pub timers: usize,
    /// Paid orders whose coupon had not been decided; it was decided.
    pub coupons: usize,
    /// Timers that were parked although there is no pause; they were released.
    pub parked: usize,
}

/// Sweeps until stopped.
pub(crate) async fn run(platform: Platform, mut stop: watch::Receiver<bool>) {
    let every: Duration = platform.config().sweep_every;
    loop {
        tokio::select! {
            () = platform.clock().sleep(every) => {}
            _ = stop.changed() => return,
        }
        match platform.sweep().await {
            Ok(swept) if swept == Swept::default() => {}
            Ok(swept) => {
                tracing::warn!(
                    missing = swept.missing,
                    timers = swept.timers,
                    coupons = swept.coupons,
                    parked = swept.parked,
                    "the sweeper found something"
                );
            }
            Err(error) => tracing::error!(%error, "sweep"),
        }
        if let Err(error) = prune(&platform).await {
            tracing::error!(%error, "delete old rows");
        }
    }
}

impl Platform {
    /// Finds what should have happened long ago and makes it happen.
    pub async fn sweep(&self) -> Result<Swept> {
        let before_ms = self.now_ms() - self.config().sweep_grace_ms;
        let writer = self.writer();
        Ok(Swept {
            missing: writer
                .run_until_none(before_ms, |tx, before_ms| {
                    Box::pin(sweep_missing(tx, *before_ms))
                })
                .await?,
            timers: writer
                .run_until_none(before_ms, |tx, before_ms| {
                    Box::pin(sweep_timers(tx, *before_ms))
                })
                .await?,
            coupons: sweep_coupons(self, before_ms).await?,
            parked: sweep_parked(self).await?,
        })
    }
}

/// Writes the timers of overdue things that have none; answers how many. They are armed as overdue ones then.
async fn sweep_missing(tx: &mut Tx, before_ms: i64) -> Result<usize> {
    let bounds = Bounds {
        due_before_ms: before_ms,
        fire_ms: before_ms - 1,
        limit: BATCH,
    };
    let mut total = 0;
    for (kind, count) in timers::insert_missing(tx, bounds).await? {
        tx.record(Metric::Swept { kind, count });
        total += count;
    }
    Ok(total)
}

/// Arms timers again whose messages are overdue; answers how many.
async fn sweep_timers(tx: &mut Tx, before_ms: i64) -> Result<usize> {
    let overdue = timers::overdue(tx, before_ms, BATCH).await?;
    let fire_ms = tx.now_ms() + REARM_MIN_MS;
    let mut total = 0;
    for (kind, count) in rearm_all(tx, &overdue, |_| fire_ms).await? {
        if count > 0 {
            let kind = kind.as_str();
            tx.record(Metric::Swept { kind, count });
        }
        total += count;
    }
    Ok(total)
}

/// Decides coupons that should have been decided; answers how many.
async fn sweep_coupons(platform: &Platform, before_ms: i64) -> Result<usize> {
    let ids = coupons::due_before(platform.readers(), before_ms, BATCH).await?;
    if ids.is_empty() {
        return Ok(0);
    }
    let count = ids.len();
    if let Some((_, error)) = issue::decide(platform, ids).await.pop() {
        return Err(error);
    }
    let kind = "coupon_due";
    Metric::Swept { kind, count }.record();
    Ok(count)
}

/// Releases timers that are parked although there is no pause; answers how many.
async fn sweep_parked(platform: &Platform) -> Result<usize> {
    let count = pause::release_forgotten(platform).await?;
    if count > 0 {
        let kind = "parked_timer";
        Metric::Swept { kind, count }.record();
    }
    Ok(count)
}

/// Deletes published events and idempotency keys that have been kept long enough.
async fn prune(platform: &Platform) -> Result<()> {
    let config = platform.config();
    let keep = Keep {
        events_ms: config.keep_events_ms,
        idempotency_ms: config.keep_idempotency_ms,
    };
    platform
        .writer()
        .run_until_none(keep, |tx, keep| Box::pin(prune_some(tx, *keep)))
        .await?;
    Ok(())
}

#[derive(Clone, Copy)]
struct Keep {
    events_ms: i64,
    idempotency_ms: i64,
}

async fn prune_some(tx: &mut Tx, keep: Keep) -> Result<usize> {
    let now_ms = tx.now_ms();
    let events = outbox::delete_sent(tx, now_ms - keep.events_ms, BATCH).await?;
    let keys = idempotency::delete_used(tx, now_ms - keep.idempotency_ms, BATCH).await?;
    Ok(usize::try_from(events + keys).unwrap_or(usize::MAX))
}
