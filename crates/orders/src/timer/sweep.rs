//! Sweeps the deadline indexes as a safety net, and throws old rows away.
//!
//! What the sweeper finds should have happened by a message: the target is zero, and each find is counted.

use std::time::Duration;

use sqlx::sqlite::SqliteRow;
use tokio::sync::watch;

use crate::coupon::issue;
use crate::error::Result;
use crate::ids::OrderId;
use crate::metrics::Metric;
use crate::platform::Platform;
use crate::store::outbox::SENT;
use crate::store::{Tx, column};
use crate::timer::rebuild::{self, Bounds};
use crate::timer::{self, REARM_MIN_MS, Rearm, TimerKind, TimerRow};

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
}

/// Sweeps until told to stop.
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
                    "the sweeper found something"
                );
            }
            Err(error) => tracing::error!(%error, "sweep"),
        }
        if let Err(error) = prune(&platform).await {
            tracing::error!(%error, "throw old rows away");
        }
    }
}

impl Platform {
    /// Looks for what should have happened long ago and sees to it.
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
    for (kind, count) in rebuild::write(tx, bounds).await? {
        tx.record(Metric::Swept { kind, count });
        total += count;
    }
    Ok(total)
}

/// Arms timers again whose messages are overdue; answers how many.
async fn sweep_timers(tx: &mut Tx, before_ms: i64) -> Result<usize> {
    tx.settle_timers().await?;
    let rows = sqlx::query(
        "select kind, id, merchant_id, due_ms, next_fire_ms, version, hop, tries from timer
         where parked = 0 and next_fire_ms < ? order by next_fire_ms limit ?",
    )
    .bind(before_ms)
    .bind(BATCH)
    .fetch_all(tx.conn())
    .await?;
    let now_ms = tx.now_ms();
    rearm_all(tx, &rows, |_| now_ms + REARM_MIN_MS, true).await
}

/// Arms all these timers again; answers how many.
pub(crate) async fn rearm_all(
    tx: &mut Tx,
    rows: &[SqliteRow],
    fire_ms: impl Fn(&TimerRow) -> i64,
    swept: bool,
) -> Result<usize> {
    let timers: Vec<TimerRow> = rows.iter().map(timer::from_row).collect::<Result<_>>()?;
    let mut total = 0;
    for kind in TimerKind::ALL {
        let rearms: Vec<Rearm> = timers
            .iter()
            .filter(|timer| timer.kind == kind)
            .map(|timer| Rearm {
                id: timer.id,
                hop: timer.hop,
                fire_ms: fire_ms(timer),
                tries: 0,
            })
            .collect();
        let count = timer::rearm(tx, kind, &rearms).await?;
        if swept && count > 0 {
            let kind = kind.as_str();
            tx.record(Metric::Swept { kind, count });
        }
        total += count;
    }
    Ok(total)
}

async fn sweep_coupons(platform: &Platform, before_ms: i64) -> Result<usize> {
    let rows = sqlx::query("select order_id from coupon_due where since_ms < ? limit ?")
        .bind(before_ms)
        .bind(BATCH)
        .fetch_all(platform.readers())
        .await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let ids: Vec<OrderId> = rows
        .iter()
        .map(|row| column(row, "order_id"))
        .collect::<Result<_>>()?;
    let count = ids.len();
    if let Some((_, error)) = issue::decide(platform, ids).await.pop() {
        return Err(error);
    }
    let kind = "coupon_due";
    Metric::Swept { kind, count }.record();
    Ok(count)
}

/// Throws away published events and idempotency keys that have been kept long enough.
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
    // Events that our own coupons have not recorded are kept whatever their age.
    let events = sqlx::query(
        "delete from outbox where seq in (select seq from outbox order by seq limit ?1)
           and unsent = ?2 and sent_ms < ?3
           and created_ms < coalesce((select min(since_ms) from coupon_due), ?3)",
    )
    .bind(BATCH)
    .bind(SENT)
    .bind(now_ms - keep.events_ms)
    .execute(tx.conn())
    .await?;
    let keys = sqlx::query(
        "delete from idempotency where rowid in (select rowid from idempotency order by rowid limit ?)
           and created_ms < ?",
    )
    .bind(BATCH)
    .bind(now_ms - keep.idempotency_ms)
    .execute(tx.conn())
    .await?;
    let rows = events.rows_affected() + keys.rows_affected();
    Ok(usize::try_from(rows).unwrap_or(usize::MAX))
}
