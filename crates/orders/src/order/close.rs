//! Closes orders in batches: few statements whatever the size of the batch.
//!
//! Orders without a live payment attempt go to CLOSED at once, the others to CLOSING, where a gateway is asked.
//! Each transition is one conditional update; stock, coupons, timers, audit and events follow for its winners.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::coupon;
use crate::error::Result;
use crate::ids::{OrderId, ProductId};
use crate::metrics::Metric;
use crate::model::audit::{Actor, NewAudit};
use crate::model::event::EventType;
use crate::model::order::{CloseReason, HoldState, Order, OrderState};
use crate::model::timer::{NewTimer, TimerKind};
use crate::order::event::emit_all;
use crate::store::{Tx, orders, products};
use crate::timer;

/// Why orders are closed, and by whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cause {
    pub(crate) reason: CloseReason,
    pub(crate) actor: Actor,
    /// Only orders with a deadline at or before this instant, in ms since the Unix epoch.
    pub(crate) due_before_ms: i64,
}

/// The orders of a batch that were moved; orders that another transition won are in neither list.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    pub(crate) closed: Vec<Order>,
    pub(crate) closing: Vec<Order>,
}

/// Takes pending orders to CLOSED or CLOSING.
pub(crate) async fn close_pending(tx: &mut Tx, ids: &[OrderId], cause: Cause) -> Result<Ended> {
    let closed = orders::close_pending(tx, ids, cause.reason, cause.due_before_ms).await?;
    // Orders that go to CLOSING start no attempt any longer; money that comes still wins.
    let closing = if closed.len() == ids.len() {
        Vec::new()
    } else {
        orders::start_closing(tx, ids, cause.reason, cause.due_before_ms).await?
    };
    let ended = closed.iter().chain(&closing).map(|order| order.id.uuid());
    let ended: Vec<Uuid> = ended.collect();
    if !ended.is_empty() {
        timer::disarm(tx, TimerKind::OrderDeadline, ended).await?;
    }
    release(tx, &closed, OrderState::Pending, cause.actor).await?;
    arm_closing(tx, &closing, cause).await?;
    Ok(Ended { closed, closing })
}

async fn arm_closing(tx: &mut Tx, closing: &[Order], cause: Cause) -> Result<()> {
    let now_ms = tx.now_ms();
    for order in closing {
        timer::arm(
            tx,
            NewTimer {
                kind: TimerKind::OrderClosing,
                id: order.id.uuid(),
                merchant_id: order.merchant_id.clone(),
                due_ms: now_ms,
                fire_ms: now_ms,
                version: order.version,
            },
        );
        audit_close(tx, order, OrderState::Pending, cause.actor);
    }
    emit_all(tx, EventType::OrderClosing, closing).await
}

/// Takes a closing order without live attempts to CLOSED; answers the order if this call did.
///
/// An order that a pause holds keeps its timer, which closes it after the resume.
pub(crate) async fn finish_closing(
    tx: &mut Tx,
    id: OrderId,
    actor: Actor,
) -> Result<Option<Order>> {
    finish(tx, id, (actor, false)).await
}

/// Takes a closing order without live attempts to CLOSED for the operator, whatever pause holds it.
pub(crate) async fn finish_by_force(tx: &mut Tx, id: OrderId) -> Result<Option<Order>> {
    finish(tx, id, (Actor::Operator, true)).await
}

async fn finish(tx: &mut Tx, id: OrderId, (actor, forced): (Actor, bool)) -> Result<Option<Order>> {
    let Some(order) = orders::finish_closing(tx, id, forced).await? else {
        return Ok(None);
    };
    timer::disarm(tx, TimerKind::OrderClosing, [id.uuid()]).await?;
    release(tx, std::slice::from_ref(&order), OrderState::Closing, actor).await?;
    Ok(Some(order))
}

/// Returns what the orders, just closed, held, and records that they closed.
async fn release(tx: &mut Tx, closed: &[Order], from: OrderState, actor: Actor) -> Result<()> {
    if closed.is_empty() {
        return Ok(());
    }
    let ids: Vec<OrderId> = closed.iter().map(|order| order.id).collect();
    return_units(tx, &ids, HoldState::Held).await?;
    let coupons = closed.iter().filter_map(|order| order.coupon_id);
    coupon::return_held(tx, coupons.collect()).await?;
    note(tx, closed, from, actor).await
}

/// Closes a paid order that there was nothing to pay for; answers whether this call did.
///
/// No money moved, so nothing has to go back but its units and the coupon it used.
pub(crate) async fn undo_free(tx: &mut Tx, id: OrderId, cause: Cause) -> Result<bool> {
    let Some(order) = orders::cancel_free(tx, id, cause.reason).await? else {
        return Ok(false);
    };
    return_units(tx, &[id], HoldState::Consumed).await?;
    coupon::return_used(tx, id).await?;
    note(tx, &[order], OrderState::Paid, cause.actor).await?;
    Ok(true)
}

/// Records that the orders closed.
async fn note(tx: &mut Tx, closed: &[Order], from: OrderState, actor: Actor) -> Result<()> {
    for order in closed {
        if let (Some(reason), Some(closed_ms)) = (order.close_reason, order.closed_ms) {
            let lag_ms = closed_ms - order.deadline_ms;
            tx.record(Metric::Closed { reason, lag_ms });
        }
        audit_close(tx, order, from, actor);
    }
    emit_all(tx, EventType::OrderClosed, closed).await
}

/// Releases the orders' holds, which are in this state, and puts their units back into stock.
async fn return_units(tx: &mut Tx, ids: &[OrderId], from: HoldState) -> Result<()> {
    // Summed first: an update joined with many holds of one product would count only one of them.
    let mut units: BTreeMap<ProductId, i64> = BTreeMap::new();
    for (product_id, quantity) in orders::release_holds(tx, ids, from).await? {
        *units.entry(product_id).or_insert(0) += quantity;
    }
    let units: Vec<_> = units.into_iter().collect();
    products::put_back(tx, &units).await
}

fn audit_close(tx: &mut Tx, order: &Order, from: OrderState, actor: Actor) {
    tx.audit(NewAudit {
        subject: order.id.to_string(),
        merchant_id: order.merchant_id.clone(),
        entity: order.id.to_string(),
        actor,
        action: "close",
        from: Some(from.as_str()),
        to: Some(order.state.as_str()),
        detail: order.close_reason.map(|reason| reason.as_str().to_owned()),
    });
}
