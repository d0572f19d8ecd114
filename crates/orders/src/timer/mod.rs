//! Provides timers: one narrow row per thing that must happen in time, and the message that fires it.
//!
//! The row is the truth, the message a hint. A message counts only if it carries the row's `hop`; re-arming is a
//! conditional `hop + 1`, and only its winner publishes the next message, so chains neither fork nor spin.

pub(crate) mod fire;
pub(crate) mod pause;
mod rebuild;
pub(crate) mod sweep;

use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteConnection, SqliteExecutor};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::ids::{AttemptId, CouponId, MerchantId, OrderId, RefundId};
use crate::metrics::Metric;
use crate::store::outbox::{OutboxRow, Topic};
use crate::store::{Tx, column, hex_json, hex_key};

/// Arms the timers of a list again, whose hops have not moved on.
const REARM: &str = "update timer set hop = timer.hop + 1, next_fire_ms = again.fire_ms,
        tries = timer.tries + again.tries, parked = 0
     from (select unhex(value ->> 0) as id, value ->> 1 as hop, value ->> 2 as fire_ms,
                  value ->> 3 as tries from json_each(?)) as again
     where timer.kind = ? and timer.id = again.id and timer.hop = again.hop
     returning kind, id, merchant_id, due_ms, next_fire_ms, version, hop, tries";

/// The timers of a list of messages. A cross join keeps SQLite to this order: once through the list, a search each.
const CURRENT_OF: &str = "select distinct t.kind, t.id, t.merchant_id, t.due_ms, t.next_fire_ms, t.version, t.hop, t.tries
     from json_each(?) m cross join timer t on t.kind = ? and t.id = unhex(m.value ->> 0)
          and t.version = m.value ->> 1 and t.hop = m.value ->> 2";

/// A timer that is armed again fires no sooner than this, in ms.
pub(crate) const REARM_MIN_MS: i64 = 1_000;

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimerKind {
    /// An order's payment deadline.
    OrderDeadline,
    /// The next look at an order that is closing.
    OrderClosing,
    /// The next question about a submitted payment attempt.
    Attempt,
    /// The next step of a refund.
    Refund,
    /// The end of a coupon's validity.
    CouponExpiry,
}

impl TimerKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::OrderDeadline,
        Self::OrderClosing,
        Self::Attempt,
        Self::Refund,
        Self::CouponExpiry,
    ];

    /// Its name, also in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OrderDeadline => "order_deadline",
            Self::OrderClosing => "order_closing",
            Self::Attempt => "attempt",
            Self::Refund => "refund",
            Self::CouponExpiry => "coupon_expiry",
        }
    }

    pub(crate) fn stored(self) -> i64 {
        match self {
            Self::OrderDeadline => 1,
            Self::OrderClosing => 2,
            Self::Attempt => 3,
            Self::Refund => 4,
            Self::CouponExpiry => 5,
        }
    }

    pub(crate) fn from_stored(stored: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.stored() == stored)
    }

    /// The text form of the id of the thing that the timer is for.
    fn subject(self, id: Uuid) -> String {
        match self {
            Self::OrderDeadline | Self::OrderClosing => OrderId::from_uuid(id).to_string(),
            Self::Attempt => AttemptId::from_uuid(id).to_string(),
            Self::Refund => RefundId::from_uuid(id).to_string(),
            Self::CouponExpiry => CouponId::from_uuid(id).to_string(),
        }
    }

    fn id_of_subject(self, subject: &str) -> Option<Uuid> {
        match self {
            Self::OrderDeadline | Self::OrderClosing => {
                subject.parse::<OrderId>().ok().map(OrderId::uuid)
            }
            Self::Attempt => subject.parse::<AttemptId>().ok().map(AttemptId::uuid),
            Self::Refund => subject.parse::<RefundId>().ok().map(RefundId::uuid),
            Self::CouponExpiry => subject.parse::<CouponId>().ok().map(CouponId::uuid),
        }
    }
}

/// A timer as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TimerRow {
    pub(crate) kind: TimerKind,
    pub(crate) id: Uuid,
    pub(crate) merchant_id: MerchantId,
    /// What the timer is for, in ms since the Unix epoch.
    pub(crate) due_ms: i64,
    /// When its message comes, in ms since the Unix epoch.
    pub(crate) next_fire_ms: i64,
    /// Version of the thing when the timer was set.
    pub(crate) version: i64,
    /// Which message counts.
    pub(crate) hop: i64,
    /// How often it has fired to no end.
    pub(crate) tries: i64,
}

/// A timer to set.
#[derive(Clone, Debug)]
pub(crate) struct NewTimer {
    pub(crate) kind: TimerKind,
    pub(crate) id: Uuid,
    pub(crate) merchant_id: MerchantId,
    pub(crate) due_ms: i64,
    pub(crate) fire_ms: i64,
    pub(crate) version: i64,
}

/// What a timer message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerMessage {
    pub(crate) id: Uuid,
    pub(crate) version: i64,
    pub(crate) hop: i64,
}

#[derive(Serialize, Deserialize)]
struct Body {
    kind: TimerKind,
    id: String,
    due_ms: i64,
    version: i64,
    hop: i64,
}

impl TimerMessage {
    /// Reads a message body; `None` if it is not a timer of this kind.
    pub(crate) fn parse(kind: TimerKind, body: &[u8]) -> Option<Self> {
        let body: Body = serde_json::from_slice(body).ok()?;
        let id = kind.id_of_subject(&body.id)?;
        let (version, hop) = (body.version, body.hop);
        (body.kind == kind).then_some(Self { id, version, hop })
    }
}

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
    let body = Body {
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

/// Writes new rows.
pub(crate) async fn insert(connection: &mut SqliteConnection, rows: &[TimerRow]) -> Result<()> {
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
    let rows = serde_json::to_string(&rows).expect("texts and numbers are always JSON");
    sqlx::query(
        "insert into timer (kind, id, merchant_id, due_ms, next_fire_ms, version, hop, tries, parked)
         select value ->> 0, unhex(value ->> 1), value ->> 2, value ->> 3, value ->> 4, value ->> 5,
                value ->> 6, value ->> 7, 0
         from json_each(?)",
    )
    .bind(rows)
    .execute(connection)
    .await?;
    Ok(())
}

/// One timer to arm again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rearm {
    pub(crate) id: Uuid,
    /// The hop that was seen; if the row has moved on, nothing happens.
    pub(crate) hop: i64,
    pub(crate) fire_ms: i64,
    /// Added to the row's count of tries.
    pub(crate) tries: i64,
}

/// Arms timers again and publishes their messages; answers how many had not moved on.
pub(crate) async fn rearm(tx: &mut Tx, kind: TimerKind, timers: &[Rearm]) -> Result<usize> {
    if timers.is_empty() {
        return Ok(0);
    }
    tx.settle_timers().await?;
    let list: Vec<_> = timers
        .iter()
        .map(|timer| (hex_key(timer.id), timer.hop, timer.fire_ms, timer.tries))
        .collect();
    let list = serde_json::to_string(&list).expect("texts and numbers are always JSON");
    let rows = sqlx::query(REARM)
        .bind(list)
        .bind(kind.stored())
        .fetch_all(tx.conn())
        .await?;
    for row in &rows {
        let row = from_row(row)?;
        publish(tx, &row);
    }
    let count = rows.len();
    tx.record(Metric::Rearmed { kind, count });
    Ok(rows.len())
}

/// The timers whose messages still count; the others are stale. Each is named once.
pub(crate) async fn current_of(
    tx: &mut Tx,
    kind: TimerKind,
    messages: &[TimerMessage],
) -> Result<Vec<TimerRow>> {
    tx.settle_timers().await?;
    let list: Vec<_> = messages
        .iter()
        .map(|message| (hex_key(message.id), message.version, message.hop))
        .collect();
    let list = serde_json::to_string(&list).expect("texts and numbers are always JSON");
    let rows = sqlx::query(CURRENT_OF)
        .bind(list)
        .bind(kind.stored())
        .fetch_all(tx.conn())
        .await?;
    rows.iter().map(from_row).collect()
}

/// Moves a timer to a new due time, whatever its hop, and publishes its message; answers whether it exists.
pub(crate) async fn postpone(tx: &mut Tx, timer: &NewTimer) -> Result<bool> {
    tx.settle_timers().await?;
    let row = sqlx::query(
        "update timer set due_ms = ?, next_fire_ms = ?, version = ?, hop = hop + 1, parked = 0
         where kind = ? and id = ?
         returning kind, id, merchant_id, due_ms, next_fire_ms, version, hop, tries",
    )
    .bind(timer.due_ms)
    .bind(timer.fire_ms)
    .bind(timer.version)
    .bind(timer.kind.stored())
    .bind(timer.id)
    .fetch_optional(tx.conn())
    .await?;
    let Some(row) = row else { return Ok(false) };
    let row = from_row(&row)?;
    publish(tx, &row);
    Ok(true)
}

/// Leaves the timers as they are, without a message, until a pause ends.
pub(crate) async fn park(tx: &mut Tx, kind: TimerKind, ids: &[Uuid]) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    tx.settle_timers().await?;
    sqlx::query(
        "update timer set parked = 1
         where kind = ? and id in (select unhex(value) from json_each(?))",
    )
    .bind(kind.stored())
    .bind(hex_json(ids.iter().copied()))
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Removes the timers: nothing more can happen.
pub(crate) async fn disarm(
    tx: &mut Tx,
    kind: TimerKind,
    ids: impl IntoIterator<Item = Uuid>,
) -> Result<()> {
    tx.settle_timers().await?;
    sqlx::query(
        "delete from timer where kind = ? and id in (select unhex(value) from json_each(?))",
    )
    .bind(kind.stored())
    .bind(hex_json(ids))
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// The timer, if the message still counts.
pub(crate) async fn current<'e>(
    connection: impl SqliteExecutor<'e>,
    kind: TimerKind,
    message: TimerMessage,
) -> Result<Option<TimerRow>> {
    let row = sqlx::query(
        "select kind, id, merchant_id, due_ms, next_fire_ms, version, hop, tries
         from timer where kind = ? and id = ? and version = ? and hop = ?",
    )
    .bind(kind.stored())
    .bind(message.id)
    .bind(message.version)
    .bind(message.hop)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// Reads a row of the columns that [`rearm`] returns.
pub(crate) fn from_row(row: &SqliteRow) -> Result<TimerRow> {
    let stored: i64 = column(row, "kind")?;
    let kind = TimerKind::from_stored(stored).ok_or_else(|| Error::Unreadable {
        what: "timer",
        detail: format!("{stored} is not the number of a kind"),
    })?;
    Ok(TimerRow {
        kind,
        id: column(row, "id")?,
        merchant_id: MerchantId::from_stored(column(row, "merchant_id")?),
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
    use sqlx::Row;

    #[tokio::test]
    async fn a_batch_searches_each_timer_by_its_id() {
        let shop = Shop::open().await;
        for statement in [REARM, CURRENT_OF] {
            let explain = format!("explain query plan {statement}");
            let rows = sqlx::query(sqlx::AssertSqlSafe(explain))
                .bind("[]")
                .bind(1)
                .fetch_all(shop.platform().readers())
                .await
                .unwrap();
            let plan: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
            let searches = plan.iter().any(|step| step.contains("(id=? AND kind=?)"));
            assert!(searches, "{statement}\n{plan:?}");
        }
    }

    #[test]
    fn a_message_is_read_only_as_its_own_kind() {
        let id = Uuid::from_u128(7);
        for kind in TimerKind::ALL {
            let body = Body {
                kind,
                id: kind.subject(id),
                due_ms: 5,
                version: 1,
                hop: 3,
            };
            let bytes = serde_json::to_vec(&body).unwrap();
            assert_eq!(
                TimerMessage::parse(kind, &bytes),
                Some(TimerMessage {
                    id,
                    version: 1,
                    hop: 3
                })
            );
            for other in TimerKind::ALL.into_iter().filter(|other| *other != kind) {
                assert_eq!(TimerMessage::parse(other, &bytes), None);
            }
        }
        assert_eq!(TimerMessage::parse(TimerKind::Refund, b"{}"), None);
    }
}
