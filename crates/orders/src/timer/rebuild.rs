//! Finds the things that wait for a time and have no timer, and rebuilds all timers from SQL alone.

use uuid::Uuid;

use crate::error::Result;
use crate::platform::Platform;
use crate::store::{Tx, column};
use crate::timer::sweep::rearm_all;
use crate::timer::{REARM_MIN_MS, TimerKind, TimerRow};

/// Timers that one transaction arms again.
const BATCH: i64 = 500;

/// Which timers are missing, with the name under which finds are counted.
///
/// Bound are the kind, the instant before which a thing must be due, when the timer fires, and how many at most. The
/// states are written out since only so does SQLite use the indexes of what is open; a test holds them.
const MISSING: &[(TimerKind, &str, &str)] = &[
    (
        TimerKind::OrderDeadline,
        "pending_order",
        "insert into timer (kind, id, merchant_id, due_ms, next_fire_ms, version, hop, tries, parked)
         select ?1, id, merchant_id, deadline_ms, min(deadline_ms, ?3), version, 0, 0, 0 from orders o
         where state = 1 and deadline_ms < ?2
           and not exists (select 1 from timer t where t.id = o.id and t.kind = ?1) limit ?4",
    ),
    (
        TimerKind::OrderClosing,
        "closing_order",
        "insert into timer (kind, id, merchant_id, due_ms, next_fire_ms, version, hop, tries, parked)
         select ?1, id, merchant_id, ?3, ?3, version, 0, 0, 0 from orders o
         where state = 2 and deadline_ms < ?2
           and not exists (select 1 from timer t where t.id = o.id and t.kind = ?1) limit ?4",
    ),
    (
        TimerKind::Attempt,
        "attempt",
        "insert into timer (kind, id, merchant_id, due_ms, next_fire_ms, version, hop, tries, parked)
         select ?1, id, merchant_id, expires_ms, ?3, version, 0, 0, 0 from attempt a
         where state in (1, 5) and expires_ms < ?2
           and not exists (select 1 from timer t where t.id = a.id and t.kind = ?1) limit ?4",
    ),
    (
        TimerKind::Refund,
        "refund",
        "insert into timer (kind, id, merchant_id, due_ms, next_fire_ms, version, hop, tries, parked)
         select ?1, id, merchant_id, ?3, ?3, version, 0, 0, 0 from refund r
         where state in (1, 2, 3, 5) and created_ms < ?2
           and not exists (select 1 from timer t where t.id = r.id and t.kind = ?1) limit ?4",
    ),
    (
        TimerKind::CouponExpiry,
        "coupon",
        "insert into timer (kind, id, merchant_id, due_ms, next_fire_ms, version, hop, tries, parked)
         select ?1, id, merchant_id, expires_ms, min(expires_ms, ?3), version, 0, 0, 0 from coupon c
         where state = 1 and expires_ms < ?2
           and not exists (select 1 from timer t where t.id = c.id and t.kind = ?1) limit ?4",
    ),
];

/// Which missing timers are written, and when they fire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Only of things that are due, or were made, before this instant, in ms since the Unix epoch.
    pub(crate) due_before_ms: i64,
    /// When they fire at the latest, in ms since the Unix epoch.
    pub(crate) fire_ms: i64,
    /// How many of each kind.
    pub(crate) limit: i64,
}

/// Writes timers that should exist and do not; answers how many of each kind of thing.
pub(crate) async fn write(tx: &mut Tx, bounds: Bounds) -> Result<Vec<(&'static str, usize)>> {
    tx.settle_timers().await?;
    let mut written = Vec::new();
    for (kind, name, statement) in MISSING {
        let done = sqlx::query(*statement)
            .bind(kind.stored())
            .bind(bounds.due_before_ms)
            .bind(bounds.fire_ms)
            .bind(bounds.limit)
            .execute(tx.conn())
            .await?;
        let count = usize::try_from(done.rows_affected()).unwrap_or(usize::MAX);
        if count > 0 {
            written.push((*name, count));
        }
    }
    Ok(written)
}

impl Platform {
    /// Writes missing timers from the orders, attempts, refunds and coupons, and publishes every timer anew.
    ///
    /// For a broker that was lost or replaced. Messages of before count no more, since each timer gets the next hop.
    pub async fn rebuild_timers(&self) -> Result<u64> {
        self.writer()
            .run((), |tx, ()| Box::pin(write_all(tx)))
            .await?;
        let mut after = Some((Uuid::nil(), 0));
        let mut rebuilt = 0;
        while let Some(cursor) = after {
            let (count, next) = self
                .writer()
                .run(cursor, |tx, (id, kind)| Box::pin(republish(tx, *id, *kind)))
                .await?;
            rebuilt += count;
            after = next;
        }
        Ok(rebuilt)
    }
}

async fn write_all(tx: &mut Tx) -> Result<()> {
    let bounds = Bounds {
        due_before_ms: i64::MAX,
        // Republishing moves what is past to the present.
        fire_ms: tx.now_ms(),
        limit: -1,
    };
    write(tx, bounds).await.map(drop)
}

/// Arms the next timers after the cursor again, whether parked or not; answers how many, and where to go on.
async fn republish(tx: &mut Tx, id: Uuid, kind: i64) -> Result<(u64, Option<(Uuid, i64)>)> {
    let rows = sqlx::query(
        "select kind, id, merchant_id, due_ms, next_fire_ms, version, hop, tries from timer
         where (id, kind) > (?, ?) order by id, kind limit ?",
    )
    .bind(id)
    .bind(kind)
    .bind(BATCH)
    .fetch_all(tx.conn())
    .await?;
    let next = match rows.last() {
        Some(last) => Some((column(last, "id")?, column(last, "kind")?)),
        None => None,
    };
    let soonest_ms = tx.now_ms() + REARM_MIN_MS;
    let fire_ms = |timer: &TimerRow| std::cmp::max(timer.next_fire_ms, soonest_ms);
    let count = rearm_all(tx, &rows, fire_ms, false).await?;
    Ok((u64::try_from(count).unwrap_or(0), next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::shop::Shop;
    use crate::{AttemptState, CouponState, OrderState, RefundState};
    use sqlx::Row;

    #[tokio::test]
    async fn open_things_are_found_by_an_index_of_what_is_open() {
        let shop = Shop::open().await;
        let indexes = [
            "orders_pending",
            "orders_closing",
            "attempt_open",
            "refund_open",
            "coupon_free",
        ];
        for ((_, name, statement), index) in MISSING.iter().zip(indexes) {
            let explain = format!("explain query plan {statement}");
            let rows = sqlx::query(sqlx::AssertSqlSafe(explain))
                .bind(1)
                .bind(1)
                .bind(1)
                .bind(1)
                .fetch_all(shop.platform().readers())
                .await
                .unwrap();
            let plan: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
            assert!(
                plan.iter().any(|step| step.contains(index))
                    && plan.iter().any(|step| step.contains("(id=? AND kind=?)")),
                "{name}: {plan:?}"
            );
        }
    }

    #[test]
    fn the_states_written_out_are_those_of_the_enums() {
        assert_eq!(OrderState::Pending.stored(), 1);
        assert_eq!(OrderState::Closing.stored(), 2);
        assert_eq!(AttemptState::Submitted.stored(), 1);
        assert_eq!(AttemptState::Unknown.stored(), 5);
        assert_eq!(CouponState::Free.stored(), 1);
        assert_eq!(RefundState::Succeeded.stored(), 4);
        assert_eq!(RefundState::NeedsOperator.stored(), 6);
    }
}
