//! Stores orders and the holds that are their lines.

use std::collections::HashMap;

use uuid::Uuid;

use crate::error::{Error, Result};
use crate::ids::{MerchantId, OrderId, PaymentId, ProductId};
use crate::limits::LIVE_ATTEMPTS_MAX;
use crate::model::order::{CloseReason, HoldState, Order, OrderLine, OrderState};
use crate::model::pause::PauseState;
use crate::model::refund::RefundLine;
use crate::model::stored::Stored as _;
use crate::store::rows::{
    column, currency_column, duplicate, hex_json, hex_key, limit_of, list_json, merchant_column,
    stored_column, stored_option,
};
use crate::store::sql::{Executor, Readers, Row, query, query_scalar};
use crate::store::tx::Tx;

/// The columns that [`from_row`] reads.
macro_rules! columns {
    () => {
        "id, merchant_id, merchant_order_no, buyer_id, state, version, live_attempts, currency, \
         total_minor, discount_minor, coupon_id, deadline_ms, deadline_at_ms, created_ms, needs_operator_ms, paid_ms, \
         payment_id, closed_ms, close_reason"
    };
}

/// Writes a new order, without its lines.
pub(crate) async fn insert(tx: &mut Tx, order: &Order) -> Result<()> {
    let inserted = query(
        "insert into orders (id, merchant_id, merchant_order_no, buyer_id, state, version, currency,
             total_minor, discount_minor, coupon_id, deadline_ms, deadline_at_ms, created_ms, paid_ms)
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(order.id)
    .bind(order.merchant_id.as_str())
    .bind(&order.merchant_order_no)
    .bind(&order.buyer_id)
    .bind(order.state.stored())
    .bind(order.version)
    .bind(order.currency.as_str())
    .bind(order.total_minor)
    .bind(order.discount_minor)
    .bind(order.coupon_id)
    .bind(order.deadline_ms)
    .bind(order.deadline_at_ms)
    .bind(order.created_ms)
    .bind(order.paid_ms)
    .execute(tx.conn())
    .await;
    inserted.map_err(|error| duplicate(error, "order", &order.merchant_order_no))?;
    Ok(())
}

/// Writes the lines of a new order as holds in this state.
pub(crate) async fn insert_holds(tx: &mut Tx, order: &Order, state: HoldState) -> Result<()> {
    let lines: Vec<_> = order
        .lines
        .iter()
        .map(|line| {
            (
                hex_key(line.product_id.uuid()),
                &line.name,
                line.unit_price_minor,
                line.quantity,
            )
        })
        .collect();
    query(
        "insert into hold
             (order_id, line_no, merchant_id, product_id, name, unit_price_minor, quantity, state)
         select ?1, key + 1, ?2, unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, ?3
         from json_each(?4)",
    )
    .bind(order.id)
    .bind(order.merchant_id.as_str())
    .bind(state.stored())
    .bind(list_json(&lines))
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Closes those of the orders that are pending, due by `due_before_ms` and without live attempts; answers them.
pub(crate) async fn close_pending(
    tx: &mut Tx,
    ids: &[OrderId],
    reason: CloseReason,
    due_before_ms: i64,
) -> Result<Vec<Order>> {
    let now_ms = tx.now_ms();
    let rows = query(concat!(
        "update orders set state = ?, version = version + 1, closed_ms = ?, close_reason = ?
         where id in (select unhex(value) from json_each(?)) and state = ? and deadline_ms <= ?
           and live_attempts = 0 returning ",
        columns!()
    ))
    .bind(OrderState::Closed.stored())
    .bind(now_ms)
    .bind(reason.stored())
    .bind(hex_json(ids.iter().map(|id| id.uuid())))
    .bind(OrderState::Pending.stored())
    .bind(due_before_ms)
    .fetch_all(tx.conn())
    .await?;
    rows.iter().map(from_row).collect()
}

/// Takes those of the orders to CLOSING that are pending, due by `due_before_ms` and have live attempts; answers
/// them.
pub(crate) async fn start_closing(
    tx: &mut Tx,
    ids: &[OrderId],
    reason: CloseReason,
    due_before_ms: i64,
) -> Result<Vec<Order>> {
    let rows = query(concat!(
        "update orders set state = ?, version = version + 1, close_reason = ?
         where id in (select unhex(value) from json_each(?)) and state = ? and deadline_ms <= ?
           and live_attempts > 0 returning ",
        columns!()
    ))
    .bind(OrderState::Closing.stored())
    .bind(reason.stored())
    .bind(hex_json(ids.iter().map(|id| id.uuid())))
    .bind(OrderState::Pending.stored())
    .bind(due_before_ms)
    .fetch_all(tx.conn())
    .await?;
    rows.iter().map(from_row).collect()
}

/// Closes the order if it is CLOSING, without live attempts and, unless that is to be `forced`, not held by a pause of its
/// merchant or of everything; answers it if this call did.
pub(crate) async fn finish_closing(
    tx: &mut Tx,
    id: OrderId,
    forced: bool,
) -> Result<Option<Order>> {
    let now_ms = tx.now_ms();
    let row = query(concat!(
        "update orders set state = ?, version = version + 1, closed_ms = ?, needs_operator_ms = null
         where id = ? and state = ? and live_attempts = 0
           and (? or not exists (select 1 from pause p where p.state = ?
                           and (p.scope = 1 or (p.scope = 2 and p.subject = orders.merchant_id))))
         returning ",
        columns!()
    ))
    .bind(OrderState::Closed.stored())
    .bind(now_ms)
    .bind(id)
    .bind(OrderState::Closing.stored())
    .bind(forced)
    .bind(PauseState::Paused.stored())
    .fetch_optional(tx.conn())
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// Closes the order if it is paid and there was nothing to pay; answers it if this call did.
pub(crate) async fn cancel_free(
    tx: &mut Tx,
    id: OrderId,
    reason: CloseReason,
) -> Result<Option<Order>> {
    let now_ms = tx.now_ms();
    let row = query(concat!(
        "update orders set state = ?, version = version + 1, closed_ms = ?, close_reason = ?, paid_ms = null
         where id = ? and state = ? and total_minor = discount_minor and payment_id is null returning ",
        columns!()
    ))
    .bind(OrderState::Closed.stored())
    .bind(now_ms)
    .bind(reason.stored())
    .bind(id)
    .bind(OrderState::Paid.stored())
    .fetch_optional(tx.conn())
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// Takes the order from a state to PAID; answers it if this call did.
pub(crate) async fn pay(
    tx: &mut Tx,
    id: OrderId,
    payment_id: PaymentId,
    from: OrderState,
) -> Result<Option<Order>> {
    let row = query(concat!(
        "update orders set state = ?, version = version + 1, paid_ms = ?, payment_id = ?, close_reason = null,
                needs_operator_ms = null
         where id = ? and state = ? returning ",
        columns!()
    ))
    .bind(OrderState::Paid.stored())
    .bind(tx.now_ms())
    .bind(payment_id)
    .bind(id)
    .bind(from.stored())
    .fetch_optional(tx.conn())
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// Records that the order waits for a person, if it has been closing since `before_ms` and its deadline was reached by
/// then (ms since the Unix epoch); answers it if this call did.
pub(crate) async fn need_operator(
    tx: &mut Tx,
    id: OrderId,
    before_ms: i64,
) -> Result<Option<Order>> {
    let now_ms = tx.now_ms();
    let row = query(concat!(
        "update orders set needs_operator_ms = ?, version = version + 1
         where id = ? and state = ? and needs_operator_ms is null and deadline_ms <= ? returning ",
        columns!()
    ))
    .bind(now_ms)
    .bind(id)
    .bind(OrderState::Closing.stored())
    .bind(before_ms)
    .fetch_optional(tx.conn())
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// A later deadline for an order, and the condition on it.
pub(crate) struct Extension {
    pub(crate) merchant_id: MerchantId,
    pub(crate) id: OrderId,
    /// The deadline on the wall clock, in ms since the Unix epoch.
    pub(crate) deadline_at_ms: i64,
    /// Farthest deadline after the order's creation.
    pub(crate) max_ms: i64,
}

/// Moves the deadline of an order that is pending and whose deadline is not reached; answers whether it did.
pub(crate) async fn extend(tx: &mut Tx, extension: &Extension) -> Result<bool> {
    let now_ms = tx.now_ms();
    let deadline_ms = extension.deadline_at_ms.saturating_add(tx.ahead_ms());
    // A difference between the clocks that has become smaller moves no deadline back.
    let extended = query(
        "update orders set deadline_ms = max(deadline_ms, ?1), deadline_at_ms = ?7, version = version + 1
         where id = ?2 and merchant_id = ?3 and state = ?4 and deadline_ms > ?5 and deadline_at_ms < ?7
           and created_ms + ?6 >= ?1",
    )
    .bind(deadline_ms)
    .bind(extension.id)
    .bind(extension.merchant_id.as_str())
    .bind(OrderState::Pending.stored())
    .bind(now_ms)
    .bind(extension.max_ms)
    .bind(extension.deadline_at_ms)
    .execute(tx.conn())
    .await?;
    Ok(extended.rows_affected() > 0)
}

/// Counts one more live attempt of an order that can still be paid; answers the order if it can.
pub(crate) async fn add_live_attempt(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    id: OrderId,
) -> Result<Option<Order>> {
    let now_ms = tx.now_ms();
    let row = query(concat!(
        "update orders set live_attempts = live_attempts + 1, version = version + 1
         where id = ? and merchant_id = ? and state = ? and deadline_ms > ? and live_attempts < ?
         returning ",
        columns!()
    ))
    .bind(id)
    .bind(merchant_id.as_str())
    .bind(OrderState::Pending.stored())
    .bind(now_ms)
    .bind(LIVE_ATTEMPTS_MAX)
    .fetch_optional(tx.conn())
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// Counts one live attempt less; answers how many are left.
pub(crate) async fn remove_live_attempt(tx: &mut Tx, id: OrderId) -> Result<i64> {
    let live = query_scalar(
        "update orders set live_attempts = live_attempts - 1, version = version + 1 where id = ?
         returning live_attempts",
    )
    .bind(id)
    .fetch_one(tx.conn())
    .await?;
    Ok(live)
}

/// Releases the orders' holds that are in this state; answers the product and the units of each.
pub(crate) async fn release_holds(
    tx: &mut Tx,
    ids: &[OrderId],
    from: HoldState,
) -> Result<Vec<(ProductId, i64)>> {
    let rows = query(
        "update hold set state = ? where order_id in (select unhex(value) from json_each(?))
           and state = ? returning product_id, quantity",
    )
    .bind(HoldState::Released.stored())
    .bind(hex_json(ids.iter().map(|id| id.uuid())))
    .bind(from.stored())
    .fetch_all(tx.conn())
    .await?;
    rows.iter()
        .map(|row| Ok((column(row, "product_id")?, column(row, "quantity")?)))
        .collect()
}

/// Marks what a paid order held as sold.
pub(crate) async fn consume_holds(tx: &mut Tx, id: OrderId) -> Result<()> {
    query("update hold set state = ? where order_id = ? and state = ?")
        .bind(HoldState::Consumed.stored())
        .bind(id)
        .bind(HoldState::Held.stored())
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Counts units of a sold line as returned; answers their product unless fewer are left of the line.
pub(crate) async fn return_line(
    tx: &mut Tx,
    order_id: OrderId,
    line: RefundLine,
) -> Result<Option<ProductId>> {
    let product_id = query_scalar(
        "update hold set returned = returned + ?1,
                state = case when returned + ?1 = quantity then ?2 else state end
         where order_id = ?3 and line_no = ?4 and state = ?5 and returned + ?1 <= quantity
         returning product_id",
    )
    .bind(line.quantity)
    .bind(HoldState::Restocked.stored())
    .bind(order_id)
    .bind(line.line_no)
    .bind(HoldState::Consumed.stored())
    .fetch_optional(tx.conn())
    .await?;
    Ok(product_id)
}

/// The order without its lines.
pub(crate) async fn find(
    executor: impl Executor,
    merchant_id: &MerchantId,
    id: OrderId,
) -> Result<Order> {
    let row = query(concat!(
        "select ",
        columns!(),
        " from orders where id = ? and merchant_id = ?"
    ))
    .bind(id)
    .bind(merchant_id.as_str())
    .fetch_optional(executor)
    .await?;
    from_row(&row.ok_or_else(|| Error::not_found("order", &id))?)
}

/// The order with its lines, as the open transaction sees it.
pub(crate) async fn find_whole(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    id: OrderId,
) -> Result<Order> {
    let mut order = find(tx.conn(), merchant_id, id).await?;
    order.lines = lines(tx.conn(), &[id])
        .await?
        .remove(&id)
        .unwrap_or_default();
    Ok(order)
}

/// The order without its lines, of any merchant, as the open transaction sees it.
pub(crate) async fn find_any(tx: &mut Tx, id: OrderId) -> Result<Order> {
    let row = query(concat!("select ", columns!(), " from orders where id = ?"))
        .bind(id)
        .fetch_optional(tx.conn())
        .await?;
    from_row(&row.ok_or_else(|| Error::not_found("order", &id))?)
}

/// The order without its lines, of any merchant. It must exist.
pub(crate) async fn get(readers: &Readers, id: OrderId) -> Result<Order> {
    let row = query(concat!("select ", columns!(), " from orders where id = ?"))
        .bind(id)
        .fetch_one(readers)
        .await?;
    from_row(&row)
}

/// The id of the order under the merchant's own number.
pub(crate) async fn id_of_number(
    executor: impl Executor,
    merchant_id: &MerchantId,
    merchant_order_no: &str,
) -> Result<Option<OrderId>> {
    let id = query_scalar("select id from orders where merchant_id = ? and merchant_order_no = ?")
        .bind(merchant_id.as_str())
        .bind(merchant_order_no)
        .fetch_optional(executor)
        .await?;
    Ok(id)
}

/// Up to `limit` orders of one state, those after `after` by id; without their lines.
pub(crate) async fn page(
    executor: impl Executor,
    merchant_id: &MerchantId,
    state: OrderState,
    after: Option<OrderId>,
    limit: usize,
) -> Result<Vec<Order>> {
    let rows = query(concat!(
        "select ",
        columns!(),
        " from orders where merchant_id = ? and state = ? and id > ? order by id limit ?"
    ))
    .bind(merchant_id.as_str())
    .bind(state.stored())
    .bind(after.map_or_else(Uuid::nil, OrderId::uuid))
    .bind(limit_of(limit))
    .fetch_all(executor)
    .await?;
    rows.iter().map(from_row).collect()
}

/// The lines of each of the orders.
pub(crate) async fn lines(
    executor: impl Executor,
    ids: &[OrderId],
) -> Result<HashMap<OrderId, Vec<OrderLine>>> {
    let rows = query(
        "select order_id, product_id, name, quantity, unit_price_minor from hold
         where order_id in (select unhex(value) from json_each(?)) order by order_id, line_no",
    )
    .bind(hex_json(ids.iter().map(|id| id.uuid())))
    .fetch_all(executor)
    .await?;
    let mut lines: HashMap<OrderId, Vec<OrderLine>> = HashMap::new();
    for row in &rows {
        lines
            .entry(column(row, "order_id")?)
            .or_default()
            .push(OrderLine {
                product_id: column(row, "product_id")?,
                name: column(row, "name")?,
                quantity: column(row, "quantity")?,
                unit_price_minor: column(row, "unit_price_minor")?,
            });
    }
    Ok(lines)
}

/// Reads a row of `columns!()`; the lines are left out.
fn from_row(row: &Row) -> Result<Order> {
    let total_minor: i64 = column(row, "total_minor")?;
    let discount_minor: i64 = column(row, "discount_minor")?;
    Ok(Order {
        id: column(row, "id")?,
        merchant_id: merchant_column(row)?,
        merchant_order_no: column(row, "merchant_order_no")?,
        buyer_id: column(row, "buyer_id")?,
        state: stored_column(row, "state")?,
        version: column(row, "version")?,
        live_attempts: column(row, "live_attempts")?,
        currency: currency_column(row)?,
        total_minor,
        discount_minor,
        payable_minor: total_minor - discount_minor,
        coupon_id: column(row, "coupon_id")?,
        deadline_ms: column(row, "deadline_ms")?,
        deadline_at_ms: column(row, "deadline_at_ms")?,
        created_ms: column(row, "created_ms")?,
        needs_operator_ms: column(row, "needs_operator_ms")?,
        paid_ms: column(row, "paid_ms")?,
        payment_id: column(row, "payment_id")?,
        closed_ms: column(row, "closed_ms")?,
        close_reason: stored_option(row, "close_reason")?,
        lines: Vec::new(),
    })
}
