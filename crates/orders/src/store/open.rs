//! Finds what is open and overdue and has no timer, and writes the timer.
//!
//! The look is taken on a reader, some rows of an index of what is open at a time; only finds reach the writer.

use uuid::Uuid;

use crate::error::Result;
use crate::model::stored::Stored as _;
use crate::model::timer::TimerKind;
use crate::store::rows::{column, hex_json};
use crate::store::sql::{Readers, query};
use crate::store::timers;
use crate::store::tx::Tx;

/// A kind of thing that needs a timer as long as it is open.
#[derive(Debug)]
pub(crate) struct Open {
    /// Its timer.
    pub(crate) kind: TimerKind,
    /// The name under which finds are counted.
    pub(crate) name: &'static str,
    /// Bound are the kind, the instant before which a thing must be due, the place to begin after, and how many.
    find: &'static str,
    /// Bound are the kind, when the timers fire at the latest, and the ids.
    insert: &'static str,
}

/// An [`Open`]: its states and the instant it is found by, then when its timer is due and when it fires.
///
/// The states are written out since only so does SQLite use the indexes of what is open; a test holds them.
macro_rules! open {
    ($kind:ident, $name:literal, $table:literal, $states:literal, $at:literal, $due:literal, $fire:literal) => {
        Open {
            kind: TimerKind::$kind,
            name: $name,
            find: concat!(
                "select o.id, o.", $at, " as at_ms,
                        exists (select 1 from timer t where t.id = o.id and t.kind = ?1) as armed
                 from ", $table, " o where ", $states, " and ", $at, " < ?2 and (", $at, ", id) > (?3, ?4)
                 order by ", $at, ", id limit ?5"
            ),
            insert: concat!(
                "insert into timer (kind, id, merchant_id, due_ms, next_fire_ms, version, hop, tries, parked)
                 select ?1, id, merchant_id, ", $due, ", ", $fire, ", version, 0, 0, 0 from ", $table, " o
                 where ", $states, " and id in (select unhex(value) from json_each(?3))
                   and not exists (select 1 from timer t where t.id = o.id and t.kind = ?1)"
            ),
        }
    };
}

/// Everything that needs a timer.
#[rustfmt::skip]
pub(crate) static ALL: [Open; TimerKind::ALL.len()] = [
    open!(OrderDeadline, "pending_order", "orders", "state = 1", "deadline_ms", "deadline_ms", "min(deadline_ms, ?2)"),
    open!(OrderClosing, "closing_order", "orders", "state = 2", "deadline_ms", "?2", "?2"),
    open!(Attempt, "attempt", "attempt", "state in (1, 5)", "expires_ms", "expires_ms", "?2"),
    open!(Refund, "refund", "refund", "state in (1, 2, 3, 5)", "created_ms", "?2", "?2"),
    open!(CouponExpiry, "coupon", "coupon", "state = 1", "expires_ms", "expires_ms", "min(expires_ms, ?2)"),
    open!(Webhook, "webhook", "webhook_delivery", "state = 1", "next_ms", "next_ms", "?2"),
];

/// The place of a thing in the index that it is found by; the default comes before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OpenPlace {
    at_ms: i64,
    id: Uuid,
}

/// Some of what is open and due.
#[derive(Debug)]
pub(crate) struct Found {
    /// Those without a timer.
    pub(crate) missing: Vec<Uuid>,
    /// Where to go on; `None` at the end.
    pub(crate) next: Option<OpenPlace>,
}

/// Looks at the next `limit` things after the place that were due before `before_ms`.
pub(crate) async fn find(
    readers: &Readers,
    open: &Open,
    before_ms: i64,
    place: OpenPlace,
    limit: usize,
) -> Result<Found> {
    let rows = query(open.find)
        .bind(open.kind.stored())
        .bind(before_ms)
        .bind(place.at_ms)
        .bind(place.id)
        .bind(crate::store::rows::limit_of(limit))
        .fetch_all(readers)
        .await?;
    let mut missing = Vec::new();
    let mut last = None;
    for row in &rows {
        let id = column(row, "id")?;
        let armed: bool = column(row, "armed")?;
        if !armed {
            missing.push(id);
        }
        let at_ms = column(row, "at_ms")?;
        last = Some(OpenPlace { at_ms, id });
    }
    let next = last.filter(|_| rows.len() == limit);
    Ok(Found { missing, next })
}

/// Writes the timers of these things, if they still are open and have none; answers how many.
pub(crate) async fn insert_missing(
    tx: &mut Tx,
    open: &Open,
    fire_ms: i64,
    ids: &[Uuid],
) -> Result<usize> {
    timers::flush(tx).await?;
    let done = query(open.insert)
        .bind(open.kind.stored())
        .bind(fire_ms)
        .bind(hex_json(ids.iter().copied()))
        .execute(tx.conn())
        .await?;
    Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::shop::Shop;
    use crate::{AttemptState, CouponState, DeliveryState, OrderState, RefundState};

    async fn plan(shop: &Shop, statement: &str) -> Vec<String> {
        let explain = format!("explain query plan {statement}");
        let rows = query(explain).fetch_all(shop.platform().readers());
        let rows = rows.await.unwrap();
        rows.iter().map(|row| row.get("detail").unwrap()).collect()
    }

    #[tokio::test]
    async fn open_things_are_found_by_an_index_of_what_is_open() {
        let shop = Shop::open().await;
        let indexes = [
            "orders_pending",
            "orders_closing",
            "attempt_open",
            "refund_open",
            "coupon_free",
            "webhook_delivery_due",
        ];
        for (open, index) in ALL.iter().zip(indexes) {
            let plan = plan(&shop, open.find).await;
            assert!(
                plan.iter().any(|step| step.contains(index))
                    && plan.iter().any(|step| step.contains("(id=? AND kind=?)"))
                    && plan.iter().all(|step| !step.contains("TEMP B-TREE")),
                "{}: {plan:?}",
                open.name
            );
        }
    }

    #[tokio::test]
    async fn a_find_is_written_by_its_id() {
        let shop = Shop::open().await;
        for open in &ALL {
            let plan = plan(&shop, open.insert).await;
            let searches = plan
                .iter()
                .any(|step| step.contains("SEARCH o USING PRIMARY KEY (id=?)"));
            assert!(searches, "{}: {plan:?}", open.name);
        }
    }

    #[test]
    fn the_states_written_out_are_those_of_the_enums() {
        assert_eq!(OrderState::Pending.stored(), 1);
        assert_eq!(OrderState::Closing.stored(), 2);
        assert_eq!(AttemptState::Submitted.stored(), 1);
        assert_eq!(AttemptState::Unknown.stored(), 5);
        assert_eq!(CouponState::Available.stored(), 1);
        assert_eq!(DeliveryState::Due.stored(), 1);
        assert_eq!(DeliveryState::Queued.stored(), 2);
        assert_eq!(RefundState::Succeeded.stored(), 4);
        assert_eq!(RefundState::NeedsOperator.stored(), 6);
    }
}
