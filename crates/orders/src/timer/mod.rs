//! Arms, postpones and disarms timers, and publishes their messages.
//!
//! The row decides, the message is a hint. A message counts only if it carries the row's `hop`; arming again is a
//! conditional `hop + 1`, and only its winner publishes the next message, so a timer never has two messages that count.

pub(crate) mod fire;
pub(crate) mod pause;
pub(crate) mod prune;
mod rebuild;
pub(crate) mod sweep;

use uuid::Uuid;

use crate::error::Result;
use crate::ids::{AttemptId, OrderId};
use crate::metrics::Metric;
use crate::model::outbox::{OutboxRow, Topic};
use crate::model::timer::{NewTimer, Rearm, TimerBody, TimerKind, TimerRow};
use crate::store::{Tx, timers};

/// A timer that is armed again fires no sooner than this, in ms.
pub(crate) const REARM_MIN_MS: i64 = 1_000;

/// Sets a timer that does not exist yet.
pub(crate) fn arm(tx: &mut Tx, new: NewTimer) {
    let row = TimerRow {
        kind: new.kind,
        id: new.id,
        merchant_id: new.merchant_id,
        due_ms: new.due_ms,
        next_fire_ms: new.fire_ms,
        version: new.version,
        hop: 1,
        tries: 0,
    };
    publish(tx, &row);
    tx.arm(row);
}

/// Puts the message of the timer's present hop into the outbox.
fn publish(tx: &mut Tx, row: &TimerRow) {
    let subject = row.kind.subject(row.id);
    let body = TimerBody {
        kind: row.kind,
        id: subject.clone(),
        due_ms: row.due_ms,
        version: row.version,
        hop: row.hop,
    };
    let created_ms = tx.now_ms();
    tx.publish(OutboxRow {
        merchant_id: row.merchant_id.clone(),
        topic: Topic::Timers(row.kind),
        // With the version, since a timer that is set anew for the same thing counts its hops from 1 again.
        message_id: format!(
            "{subject}-{}-{}-{}",
            row.kind.as_str(),
            row.version,
            row.hop
        ),
        subject,
        tag: row.kind.as_str(),
        deliver_at_ms: Some(row.next_fire_ms),
        body: serde_json::to_string(&body).expect("texts and numbers are always JSON"),
        created_ms,
    });
}

/// Arms timers again and publishes their messages; answers how many had not moved on.
pub(crate) async fn rearm(tx: &mut Tx, kind: TimerKind, timers: &[Rearm]) -> Result<usize> {
    if timers.is_empty() {
        return Ok(0);
    }
    let rows = timers::rearm(tx, kind, timers).await?;
    for row in &rows {
        publish(tx, row);
    }
    let count = rows.len();
    tx.record(Metric::Rearmed { kind, count });
    Ok(count)
}

/// Arms timers of any kinds again, each at its instant (ms since the Unix epoch); answers how many of each kind.
pub(crate) async fn rearm_all(
    tx: &mut Tx,
    timers: &[TimerRow],
    fire_ms: impl Fn(&TimerRow) -> i64,
) -> Result<Vec<(TimerKind, usize)>> {
    let mut counts = Vec::with_capacity(TimerKind::ALL.len());
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
        counts.push((kind, rearm(tx, kind, &rearms).await?));
    }
    Ok(counts)
}

/// Arms a timer that has fired without a final result again, `delay_ms` ahead, and counts the try.
pub(crate) async fn retry_after(tx: &mut Tx, row: &TimerRow, delay_ms: i64) -> Result<()> {
    again(tx, row, delay_ms, 1).await
}

/// Arms a timer again that could not even try, `delay_ms` ahead.
pub(crate) async fn wait_for(tx: &mut Tx, row: &TimerRow, delay_ms: i64) -> Result<()> {
    again(tx, row, delay_ms, 0).await
}

async fn again(tx: &mut Tx, row: &TimerRow, delay_ms: i64, tries: i64) -> Result<()> {
    let again = Rearm {
        id: row.id,
        hop: row.hop,
        fire_ms: tx.now_ms() + std::cmp::max(delay_ms, REARM_MIN_MS),
        tries,
    };
    rearm(tx, row.kind, &[again]).await?;
    Ok(())
}

/// Fires the timers of the order's open attempts now, except one attempt's; parked ones go on waiting.
pub(crate) async fn hurry_attempts(
    tx: &mut Tx,
    order_id: OrderId,
    except: Option<AttemptId>,
) -> Result<()> {
    for row in timers::hurry_attempts(tx, order_id, except).await? {
        publish(tx, &row);
    }
    Ok(())
}

/// Moves a timer to a new due time, whatever its hop, and publishes its message; answers whether it exists.
async fn postpone(tx: &mut Tx, timer: &NewTimer) -> Result<bool> {
    let Some(row) = timers::postpone(tx, timer).await? else {
        return Ok(false);
    };
    publish(tx, &row);
    Ok(true)
}

/// Sets a timer whether it exists or not: moves the one that there is, or arms a new one.
pub(crate) async fn set(tx: &mut Tx, new: NewTimer) -> Result<()> {
    if !postpone(tx, &new).await? {
        arm(tx, new);
    }
    Ok(())
}

/// Leaves the timers as they are, without a message, until a pause ends.
pub(crate) async fn park(tx: &mut Tx, kind: TimerKind, ids: &[Uuid]) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    timers::park(tx, kind, ids).await
}

/// Removes the timers: nothing more can happen.
pub(crate) async fn disarm(
    tx: &mut Tx,
    kind: TimerKind,
    ids: impl IntoIterator<Item = Uuid>,
) -> Result<()> {
    timers::delete(tx, kind, ids).await
}
