//! Ends payment attempts, and lets an order that waited only for them close.

use crate::error::Result;
use crate::ids::{AttemptId, OrderId};
use crate::metrics::Metric;
use crate::model::audit::{Actor, NewAudit};
use crate::model::payment::{Attempt, AttemptState};
use crate::model::timer::TimerKind;
use crate::order::close;
use crate::payment::event::emit_attempt;
use crate::store::{Tx, orders, payments};
use crate::timer;

/// How an attempt ends.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) to: AttemptState,
    pub(crate) actor: Actor,
    /// Why, for a person.
    pub(crate) detail: Option<String>,
}

/// Ends the attempt if it is open, and closes its order if that was all it waited for.
pub(crate) async fn end_open(tx: &mut Tx, id: AttemptId, end: &End) -> Result<bool> {
    let Some(attempt) = payments::find_attempt(tx.conn(), id).await? else {
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
    let detail = end.detail.as_deref();
    if !payments::change_attempt(tx, attempt, end.to, detail).await? {
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
    emit_attempt(tx, &changed(attempt, end));
    if attempt.state == AttemptState::Submitted {
        retire(tx, attempt.order_id).await?;
    }
    Ok(true)
}

/// The attempt after its end.
fn changed(attempt: &Attempt, end: &End) -> Attempt {
    Attempt {
        state: end.to,
        version: attempt.version + 1,
        detail: end.detail.clone().or_else(|| attempt.detail.clone()),
        ..attempt.clone()
    }
}

/// Takes one live attempt off the order.
async fn retire(tx: &mut Tx, order_id: OrderId) -> Result<()> {
    let live = orders::remove_live_attempt(tx, order_id).await?;
    if live == 0 {
        close::finish_closing(tx, order_id, Actor::System).await?;
    }
    Ok(())
}
