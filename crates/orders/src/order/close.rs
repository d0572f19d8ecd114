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
use crate::order::create::emit;
use crate::order::{CloseReason, HoldState, Order, OrderState, from_row, order_columns};
use crate::product;
use crate::store::audit::{Actor, NewAudit};
use crate::store::{Tx, column, hex_json};
use crate::timer::{self, NewTimer, TimerKind};

/// Why and on whose behalf orders are closed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cause {
    pub(crate) reason: CloseReason,
    pub(crate) actor: Actor,
    /// Only orders with a deadline at or before this instant, in ms since the Unix epoch.
    pub(crate) due_before_ms: i64,
}

/// What became of a batch; orders that another transition was faster with are in neither list.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    pub(crate) closed: Vec<Order>,
    pub(crate) closing: Vec<Order>,
}

/// Takes pending orders to CLOSED or CLOSING.
pub(crate) async fn close_pending(tx: &mut Tx, ids: &[OrderId], cause: Cause) -> Result<Ended> {
    let json = hex_json(ids.iter().map(|id| id.uuid()));
    let now_ms = tx.now_ms();
    let rows = sqlx::query(concat!(
        "update orders set state = ?, version = version + 1, closed_ms = ?, close_reason = ?
         where id in (select unhex(value) from json_each(?)) and state = ? and deadline_ms <= ?
           and live_attempts = 0 returning ",
        order_columns!()
    ))
    .bind(OrderState::Closed.stored())
    .bind(now_ms)
    .bind(cause.reason.stored())
    .bind(&json)
    .bind(OrderState::Pending.stored())
    .bind(cause.due_before_ms)
    .fetch_all(tx.conn())
    .await?;
    let closed: Vec<Order> = rows.iter().map(from_row).collect::<Result<_>>()?;
    let closing = if closed.len() == ids.len() {
        Vec::new()
    } else {
        fence(tx, &json, cause).await?
    };
    let gone = closed.iter().chain(&closing).map(|order| order.id.uuid());
    let gone: Vec<Uuid> = gone.collect();
    if !gone.is_empty() {
        timer::disarm(tx, TimerKind::OrderDeadline, gone).await?;
    }
    release(tx, &closed, OrderState::Pending, cause.actor).await?;
    arm_closing(tx, &closing, cause);
    Ok(Ended { closed, closing })
}

/// Takes orders with live attempts to CLOSING: no attempt starts any more, money that comes still wins.
async fn fence(tx: &mut Tx, ids_json: &str, cause: Cause) -> Result<Vec<Order>> {
    let rows = sqlx::query(concat!(
        "update orders set state = ?, version = version + 1, close_reason = ?
         where id in (select unhex(value) from json_each(?)) and state = ? and deadline_ms <= ?
           and live_attempts > 0 returning ",
        order_columns!()
    ))
    .bind(OrderState::Closing.stored())
    .bind(cause.reason.stored())
    .bind(ids_json)
    .bind(OrderState::Pending.stored())
    .bind(cause.due_before_ms)
    .fetch_all(tx.conn())
    .await?;
    rows.iter().map(from_row).collect()
}

fn arm_closing(tx: &mut Tx, closing: &[Order], cause: Cause) {
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
}

/// Takes a closing order without live attempts to CLOSED; answers it if this call did.
pub(crate) async fn finish_closing(
    tx: &mut Tx,
    id: OrderId,
    actor: Actor,
) -> Result<Option<Order>> {
    let now_ms = tx.now_ms();
    let row = sqlx::query(concat!(
        "update orders set state = ?, version = version + 1, closed_ms = ?
         where id = ? and state = ? and live_attempts = 0 returning ",
        order_columns!()
    ))
    .bind(OrderState::Closed.stored())
    .bind(now_ms)
    .bind(id)
    .bind(OrderState::Closing.stored())
    .fetch_optional(tx.conn())
    .await?;
    let Some(row) = row else { return Ok(None) };
    let order = from_row(&row)?;
    timer::disarm(tx, TimerKind::OrderClosing, [id.uuid()]).await?;
    release(tx, std::slice::from_ref(&order), OrderState::Closing, actor).await?;
    Ok(Some(order))
}

/// Gives back what the orders, just closed, held, and tells about it.
async fn release(tx: &mut Tx, closed: &[Order], from: OrderState, actor: Actor) -> Result<()> {
    if closed.is_empty() {
        return Ok(());
    }
    let ids: Vec<OrderId> = closed.iter().map(|order| order.id).collect();
    return_units(tx, &ids, [HoldState::Held, HoldState::Released]).await?;
    let coupons = closed.iter().filter_map(|order| order.coupon_id);
    coupon::return_held(tx, coupons.collect()).await?;
    for order in closed {
        if let (Some(reason), Some(closed_ms)) = (order.close_reason, order.closed_ms) {
            let lag_ms = closed_ms - order.deadline_ms;
            tx.record(Metric::Closed { reason, lag_ms });
        }
        audit_close(tx, order, from, actor);
        emit(tx, "order.closed", order);
    }
    Ok(())
}

/// Moves the orders' holds from one state to another and puts their units back into stock.
pub(crate) async fn return_units(
    tx: &mut Tx,
    ids: &[OrderId],
    [from, to]: [HoldState; 2],
) -> Result<()> {
    let rows = sqlx::query(
        "update hold set state = ? where order_id in (select unhex(value) from json_each(?))
           and state = ? returning product_id, quantity",
    )
    .bind(to.stored())
    .bind(hex_json(ids.iter().map(|id| id.uuid())))
    .bind(from.stored())
    .fetch_all(tx.conn())
    .await?;
    // Summed first: an update joined with many holds of one product would count only one of them.
    let mut units: BTreeMap<ProductId, i64> = BTreeMap::new();
    for row in &rows {
        let quantity: i64 = column(row, "quantity")?;
        *units.entry(column(row, "product_id")?).or_insert(0) += quantity;
    }
    let units: Vec<_> = units.into_iter().collect();
    product::give_back(tx, &units).await
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
