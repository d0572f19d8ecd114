//! Reads orders: one, or a page of them by state.

use std::collections::HashMap;

use sqlx::SqliteExecutor;

use crate::error::{Error, Result};
use crate::ids::{MerchantId, OrderId};
use crate::limits::PAGE_ROWS_MAX;
use crate::order::{Order, OrderLine, OrderState, from_row, order_columns};
use crate::platform::Platform;
use crate::store::{Tx, column, hex_json};

/// A page of orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderPage {
    /// The orders, oldest first.
    pub orders: Vec<Order>,
    /// What to pass as `after` for the next page; `None` at the end.
    pub next: Option<OrderId>,
}

impl Platform {
    /// The order with its lines.
    pub async fn order(&self, merchant_id: &MerchantId, id: OrderId) -> Result<Order> {
        let mut order = find(self.readers(), merchant_id, id).await?;
        order.lines = lines(self.readers(), &[id])
            .await?
            .remove(&id)
            .unwrap_or_default();
        Ok(order)
    }

    /// The order under the merchant's own number, with its lines.
    pub async fn order_by_number(
        &self,
        merchant_id: &MerchantId,
        merchant_order_no: &str,
    ) -> Result<Order> {
        let id: Option<OrderId> = sqlx::query_scalar(
            "select id from orders where merchant_id = ? and merchant_order_no = ?",
        )
        .bind(merchant_id.as_str())
        .bind(merchant_order_no)
        .fetch_optional(self.readers())
        .await?;
        let id = id.ok_or_else(|| Error::not_found("order", &merchant_order_no))?;
        self.order(merchant_id, id).await
    }

    /// Up to `limit` orders in the order of their age, those after `after`; of one state if it is given.
    pub async fn orders(
        &self,
        merchant_id: &MerchantId,
        state: Option<OrderState>,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<OrderPage> {
        let limit = limit.clamp(1, PAGE_ROWS_MAX);
        let after = after.unwrap_or_else(|| OrderId::from_uuid(uuid::Uuid::nil()));
        let mut orders = Vec::new();
        // The index leads with the state, so all states are so many short walks along it.
        for state in OrderState::ALL
            .into_iter()
            .filter(|each| state.is_none_or(|state| state == *each))
        {
            let rows = sqlx::query(concat!(
                "select ",
                order_columns!(),
                " from orders where merchant_id = ? and state = ? and id > ? order by id limit ?"
            ))
            .bind(merchant_id.as_str())
            .bind(state.stored())
            .bind(after)
            .bind(i64::try_from(limit + 1).unwrap_or(i64::MAX))
            .fetch_all(self.readers())
            .await?;
            for row in &rows {
                orders.push(from_row(row)?);
            }
        }
        orders.sort_by_key(|order| order.id);
        let more = orders.len() > limit;
        orders.truncate(limit);
        let next = orders.last().filter(|_| more).map(|order| order.id);
        let ids: Vec<OrderId> = orders.iter().map(|order| order.id).collect();
        let mut lines = lines(self.readers(), &ids).await?;
        for order in &mut orders {
            order.lines = lines.remove(&order.id).unwrap_or_default();
        }
        Ok(OrderPage { orders, next })
    }
}

/// The order without its lines.
pub(crate) async fn find<'e>(
    executor: impl SqliteExecutor<'e>,
    merchant_id: &MerchantId,
    id: OrderId,
) -> Result<Order> {
    let row = sqlx::query(concat!(
        "select ",
        order_columns!(),
        " from orders where id = ? and merchant_id = ?"
    ))
    .bind(id)
    .bind(merchant_id.as_str())
    .fetch_optional(executor)
    .await?;
    from_row(&row.ok_or_else(|| Error::not_found("order", &id))?)
}

/// The order with its lines, as the open transaction sees it.
pub(super) async fn find_whole(
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

async fn lines<'e>(
    executor: impl SqliteExecutor<'e>,
    ids: &[OrderId],
) -> Result<HashMap<OrderId, Vec<OrderLine>>> {
    let rows = sqlx::query(
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
