//! Ends payment attempts, and lets an order that waited only for them close.

use crate::error::Result;
use crate::ids::{AttemptId, OrderId};
use crate::metrics::Metric;
use crate::order::close;
use crate::payment::{Attempt, AttemptState, attempt_columns, attempt_from_row};
use crate::store::Tx;
use crate::store::audit::{Actor, NewAudit};
use crate::timer::{self, TimerKind};

/// How an attempt ends.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) to: AttemptState,
    pub(crate) actor: Actor,
    /// Why, for a person.
    pub(crate) detail: Option<String>,
}

pub(crate) async fn find(tx: &mut Tx, id: AttemptId) -> Result<Option<Attempt>> {
    let row = sqlx::query(concat!(
        "select ",
        attempt_columns!(),
        " from attempt where id = ?"
    ))
    .bind(id)
    .fetch_optional(tx.conn())
    .await?;
    row.as_ref().map(attempt_from_row).transpose()
}

/// Ends the attempt if it is open, and closes its order if that was all it waited for.
pub(crate) async fn end_open(tx: &mut Tx, id: AttemptId, end: &End) -> Result<bool> {
    let Some(attempt) = find(tx, id).await? else {
        return Ok(false);
    };
    if !attempt.state.is_open() {
        return Ok(false);
    }
    change(tx, &attempt, end).await
}

/// Moves the attempt from the state it was seen in; answers whether it still was in it.
///
/// An attempt that was live no longer is, and an order that is closing and has no live attempt left closes here
/// and now.
pub(crate) async fn change(tx: &mut Tx, attempt: &Attempt, end: &End) -> Result<bool> {
    let now_ms = tx.now_ms();
    let changed = sqlx::query(
        "update attempt set state = ?, version = version + 1, final_ms = ?,
                detail = coalesce(?, detail)
         where id = ? and state = ?",
    )
    .bind(end.to.stored())
    .bind((!end.to.is_open()).then_some(now_ms))
    .bind(&end.detail)
    .bind(attempt.id)
    .bind(attempt.state.stored())
    .execute(tx.conn())
    .await?;
    if changed.rows_affected() == 0 {
        return Ok(false);
    }
    if !end.to.is_open() && attempt.state.is_open() {
        timer::disarm(tx, TimerKind::Attempt, [attempt.id.uuid()]).await?;
    }
    if end.to == AttemptState::NeedsOperator {
        tx.record(Metric::NeedsOperator("attempt"));
    }
    tx.audit(NewAudit {
        subject: attempt.order_id.to_string(),
        merchant_id: attempt.merchant_id.clone(),
        entity: attempt.id.to_string(),
        actor: end.actor,
        action: "attempt",
        from: Some(attempt.state.as_str()),
        to: Some(end.to.as_str()),
        detail: end.detail.clone(),
    });
    if attempt.state == AttemptState::Submitted {
        retire(tx, attempt.order_id).await?;
    }
    Ok(true)
}

/// Takes one live attempt off the order.
async fn retire(tx: &mut Tx, order_id: OrderId) -> Result<()> {
    let live: i64 = sqlx::query_scalar(
        "update orders set live_attempts = live_attempts - 1, version = version + 1 where id = ?
         returning live_attempts",
    )
    .bind(order_id)
    .fetch_one(tx.conn())
    .await?;
    if live == 0 {
        close::finish_closing(tx, order_id, Actor::System).await?;
    }
    Ok(())
}
