//! Stores timers: one row per thing that must happen in time.
//!
//! New rows are collected by the open transaction; each statement here that reads or changes rows writes those first.

use uuid::Uuid;

use crate::error::Result;
use crate::ids::{AttemptId, OrderId};
use crate::model::stored::Stored as _;
use crate::model::timer::{NewTimer, Rearm, TimerKind, TimerMessage, TimerRow};
use crate::store::rows::{column, hex_json, hex_key, list_json, merchant_column, stored_column};
use crate::store::sql::{Connection, Readers, Row, query};
use crate::store::tx::Tx;

/// The columns that [`from_row`] reads, each with the prefix if one is given.
macro_rules! columns {
    () => {
        columns!("")
    };
    ($prefix:literal) => {
        concat!(
            $prefix,
            "kind, ",
            $prefix,
            "id, ",
            $prefix,
            "merchant_id, ",
            $prefix,
            "due_ms, ",
            $prefix,
            "next_fire_ms, ",
            $prefix,
            "version, ",
            $prefix,
            "hop, ",
            $prefix,
            "tries"
        )
    };
}

/// Arms the timers of a list again, whose hops have not moved on.
const REARM: &str = concat!(
    "update timer set hop = timer.hop + 1, next_fire_ms = again.fire_ms,
        tries = timer.tries + again.tries, parked = 0
     from (select unhex(value ->> 0) as id, value ->> 1 as hop, value ->> 2 as fire_ms,
                  value ->> 3 as tries from json_each(?)) as again
     where timer.kind = ? and timer.id = again.id and timer.hop = again.hop
     returning ",
    columns!()
);

/// The timers of a list of messages. A cross join keeps SQLite to this order: once through the list, a search each.
const CURRENT_OF: &str = concat!(
    "select distinct ",
    columns!("t."),
    " from json_each(?) m cross join timer t on t.kind = ? and t.id = unhex(m.value ->> 0)
          and t.version = m.value ->> 1 and t.hop = m.value ->> 2"
);

/// Moves the timers of an order's open attempts to an instant. The `+` keeps SQLite from going through all timers that
/// are not parked, and the states are written out as in the index.
const HURRY_ATTEMPTS: &str = concat!(
    "update timer set next_fire_ms = ?, hop = hop + 1
     where kind = ? and +parked = 0
       and id in (select id from attempt where order_id = ? and state in (1, 5) and id <> ?)
     returning ",
    columns!()
);

/// The overdue timers after a place. Parked ones are in another part of the index.
const OVERDUE: &str = concat!(
    "select ",
    columns!(),
    " from timer where parked = 0 and next_fire_ms < ?1 and (next_fire_ms, id, kind) > (?2, ?3, ?4)
      order by next_fire_ms, id, kind limit ?5"
);

/// Writes the new rows that the transaction has collected, so that a statement can see them.
pub(super) async fn flush(tx: &mut Tx) -> Result<()> {
    let (connection, rows) = tx.waiting_timers();
    if !rows.is_empty() {
        insert(connection, rows).await?;
        tx.set_timers_written();
    }
    Ok(())
}

async fn insert(connection: &mut Connection, rows: &[TimerRow]) -> Result<()> {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row.kind.stored(),
                hex_key(row.id),
                &row.merchant_id,
                row.due_ms,
                row.next_fire_ms,
                row.version,
                row.hop,
                row.tries,
            )
        })
        .collect();
    query(concat!(
        "insert into timer (",
        columns!(),
        ", parked)
         select value ->> 0, unhex(value ->> 1), value ->> 2, value ->> 3, value ->> 4, value ->> 5,
                value ->> 6, value ->> 7, 0
         from json_each(?)"
    ))
    .bind(list_json(&rows))
    .execute(connection)
    .await?;
    Ok(())
}

/// Moves timers to their next hops; answers those that had not moved on, as they are now.
pub(crate) async fn rearm(tx: &mut Tx, kind: TimerKind, timers: &[Rearm]) -> Result<Vec<TimerRow>> {
    flush(tx).await?;
    let list: Vec<_> = timers
        .iter()
        .map(|timer| (hex_key(timer.id), timer.hop, timer.fire_ms, timer.tries))
        .collect();
    let rows = query(REARM)
        .bind(list_json(&list))
        .bind(kind.stored())
        .fetch_all(tx.conn())
        .await?;
    rows.iter().map(from_row).collect()
}

/// Moves a timer to a new due time, whatever its hop; answers it as it is now, if it exists.
pub(crate) async fn postpone(tx: &mut Tx, timer: &NewTimer) -> Result<Option<TimerRow>> {
    flush(tx).await?;
    let row = query(concat!(
        "update timer set due_ms = ?, next_fire_ms = ?, version = ?, hop = hop + 1, parked = 0
         where kind = ? and id = ? returning ",
        columns!()
    ))
    .bind(timer.due_ms)
    .bind(timer.fire_ms)
    .bind(timer.version)
    .bind(timer.kind.stored())
    .bind(timer.id)
    .fetch_optional(tx.conn())
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// Moves the timers of the order's open attempts, except one attempt's, to now; answers them as they are now.
pub(crate) async fn hurry_attempts(
    tx: &mut Tx,
    order_id: OrderId,
    except: Option<AttemptId>,
) -> Result<Vec<TimerRow>> {
    flush(tx).await?;
    let now_ms = tx.now_ms();
    let rows = query(HURRY_ATTEMPTS)
        .bind(now_ms)
        .bind(TimerKind::Attempt.stored())
        .bind(order_id)
        .bind(except.map_or_else(Uuid::nil, AttemptId::uuid))
        .fetch_all(tx.conn())
        .await?;
    rows.iter().map(from_row).collect()
}

/// Parks the timers: they wait for a pause to end.
pub(crate) async fn park(tx: &mut Tx, kind: TimerKind, ids: &[Uuid]) -> Result<()> {
    flush(tx).await?;
    query(
        "update timer set parked = 1
         where kind = ? and id in (select unhex(value) from json_each(?))",
    )
    .bind(kind.stored())
    .bind(hex_json(ids.iter().copied()))
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Deletes the timers.
pub(crate) async fn delete(
    tx: &mut Tx,
    kind: TimerKind,
    ids: impl IntoIterator<Item = Uuid>,
) -> Result<()> {
    flush(tx).await?;
    query("delete from timer where kind = ? and id in (select unhex(value) from json_each(?))")
        .bind(kind.stored())
        .bind(hex_json(ids))
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// The timer of a message, if the message still counts.
pub(crate) async fn current(
    readers: &Readers,
    kind: TimerKind,
    message: TimerMessage,
) -> Result<Option<TimerRow>> {
    let row = query(concat!(
        "select ",
        columns!(),
        " from timer where kind = ? and id = ? and version = ? and hop = ?"
    ))
    .bind(kind.stored())
    .bind(message.id)
    .bind(message.version)
    .bind(message.hop)
    .fetch_optional(readers)
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// The timers whose messages still count; the others are stale. Each is named once.
pub(crate) async fn current_of(
    tx: &mut Tx,
    kind: TimerKind,
    messages: &[TimerMessage],
) -> Result<Vec<TimerRow>> {
    flush(tx).await?;
    let list: Vec<_> = messages
        .iter()
        .map(|message| (hex_key(message.id), message.version, message.hop))
        .collect();
    let rows = query(CURRENT_OF)
        .bind(list_json(&list))
        .bind(kind.stored())
        .fetch_all(tx.conn())
        .await?;
    rows.iter().map(from_row).collect()
}

/// Up to `limit` timers after the place whose messages should have come before `before_ms`, longest overdue first.
pub(crate) async fn overdue(
    readers: &Readers,
    before_ms: i64,
    place: &TimerPlace,
    limit: i64,
) -> Result<Vec<TimerRow>> {
    let rows = query(OVERDUE)
        .bind(before_ms)
        .bind(place.next_fire_ms)
        .bind(place.id)
        .bind(place.kind)
        .bind(limit)
        .fetch_all(readers)
        .await?;
    rows.iter().map(from_row).collect()
}

/// Up to `limit` parked timers after the one with this place, in the order in which they would have fired.
pub(crate) async fn parked_after(
    tx: &mut Tx,
    place: &TimerPlace,
    limit: u32,
) -> Result<Vec<TimerRow>> {
    flush(tx).await?;
    let rows = query(concat!(
        "select ",
        columns!(),
        " from timer where parked = 1 and (next_fire_ms, id, kind) > (?, ?, ?)
         order by next_fire_ms, id, kind limit ?"
    ))
    .bind(place.next_fire_ms)
    .bind(place.id)
    .bind(place.kind)
    .bind(limit)
    .fetch_all(tx.conn())
    .await?;
    rows.iter().map(from_row).collect()
}

/// Whether a timer is parked.
pub(crate) async fn is_parked(readers: &Readers) -> Result<bool> {
    let parked = query("select 1 from timer where parked = 1 limit 1")
        .fetch_optional(readers)
        .await?;
    Ok(parked.is_some())
}

/// The place of a timer in the order in which they fire; the default comes before the first.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TimerPlace {
    next_fire_ms: i64,
    id: Uuid,
    kind: i64,
}

impl TimerPlace {
    /// The place of this timer.
    pub(crate) fn of(timer: &TimerRow) -> Self {
        Self {
            next_fire_ms: timer.next_fire_ms,
            id: timer.id,
            kind: timer.kind.stored(),
        }
    }
}

/// Up to `limit` timers after the one of this id and kind, parked or not; from the first if there is none.
pub(crate) async fn page(
    tx: &mut Tx,
    of: Option<TimerKind>,
    after: Option<(Uuid, TimerKind)>,
    limit: i64,
) -> Result<Vec<TimerRow>> {
    let (id, kind) = after.map_or((Uuid::nil(), 0), |(id, kind)| (id, kind.stored()));
    let rows = query(concat!(
        "select ",
        columns!(),
        " from timer where (id, kind) > (?1, ?2) and (?3 is null or kind = ?3) order by id, kind limit ?4"
    ))
    .bind(id)
    .bind(kind)
    .bind(of.map(TimerKind::stored))
    .bind(limit)
    .fetch_all(tx.conn())
    .await?;
    rows.iter().map(from_row).collect()
}

/// Reads a row of `columns!()`.
fn from_row(row: &Row) -> Result<TimerRow> {
    Ok(TimerRow {
        kind: stored_column(row, "kind")?,
        id: column(row, "id")?,
        merchant_id: merchant_column(row)?,
        due_ms: column(row, "due_ms")?,
        next_fire_ms: column(row, "next_fire_ms")?,
        version: column(row, "version")?,
        hop: column(row, "hop")?,
        tries: column(row, "tries")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::shop::Shop;

    #[tokio::test]
    async fn a_batch_searches_each_timer_by_its_id() {
        let shop = Shop::open().await;
        for statement in [REARM, CURRENT_OF, HURRY_ATTEMPTS] {
            let plan = shop.plan_of(statement).await;
            let searches = plan.iter().any(|step| step.contains("(id=? AND kind=?)"));
            assert!(searches, "{statement}\n{plan:?}");
        }
    }

    #[tokio::test]
    async fn overdue_timers_are_read_in_the_order_of_their_index() {
        let shop = Shop::open().await;
        let rows = query(format!("explain query plan {OVERDUE}"))
            .fetch_all(shop.platform().readers())
            .await
            .unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.get("detail").unwrap()).collect();
        assert_eq!(plan.len(), 1, "{plan:?}");
        let place =
            "timer_by_fire (parked=? AND (next_fire_ms,id,kind)>(?,?,?) AND next_fire_ms<?)";
        assert!(plan[0].contains(place), "{plan:?}");
    }
}
