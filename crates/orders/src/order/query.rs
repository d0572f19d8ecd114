//! Reads orders: one, a page of them by state, and the audit trail of one.

use crate::error::{Error, Result};
use crate::ids::{MerchantId, OrderId};
use crate::limits::PAGE_ROWS_MAX;
use crate::model::audit::AuditEntry;
use crate::model::order::{Order, OrderState};
use crate::platform::Platform;
use crate::store::sql::Connection;
use crate::store::{audit, orders};

/// A page of orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderPage {
    /// The orders, oldest first.
    pub orders: Vec<Order>,
    /// What to pass as `after` for the next page; `None` at the end.
    pub next: Option<OrderId>,
}

/// An order and its audit trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderTrail {
    /// The order with its lines.
    pub order: Order,
    /// What was done to it, oldest entry first.
    pub audit: Vec<AuditEntry>,
}

impl Platform {
    /// The order with its lines.
    pub async fn order(&self, merchant_id: &MerchantId, id: OrderId) -> Result<Order> {
        let input = (merchant_id.clone(), id);
        let read = self
            .readers()
            .snapshot(input, |connection, (merchant_id, id)| {
                Box::pin(with_lines(connection, merchant_id, *id))
            });
        read.await
    }

    /// The order under the merchant's own number, with its lines.
    pub async fn order_by_number(
        &self,
        merchant_id: &MerchantId,
        merchant_order_no: &str,
    ) -> Result<Order> {
        let input = (merchant_id.clone(), merchant_order_no.to_owned());
        let read = self
            .readers()
            .snapshot(input, |connection, (merchant_id, number)| {
                Box::pin(of_number(connection, merchant_id, number))
            });
        read.await
    }

    /// Up to `limit` orders in the order of their age, those after `after`; of one state if it is given.
    pub async fn orders(
        &self,
        merchant_id: &MerchantId,
        state: Option<OrderState>,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<OrderPage> {
        let input = PageInput {
            merchant_id: merchant_id.clone(),
            state,
            after,
            limit: limit.clamp(1, PAGE_ROWS_MAX),
        };
        // An order that changes its state meanwhile would be missed, or listed twice.
        let read = self
            .readers()
            .snapshot(input, |connection, input| Box::pin(page(connection, input)));
        read.await
    }

    /// The order with its lines and its audit trail, all of one instant.
    pub async fn order_with_trail(
        &self,
        merchant_id: &MerchantId,
        id: OrderId,
    ) -> Result<OrderTrail> {
        let input = (merchant_id.clone(), id);
        let read = self
            .readers()
            .snapshot(input, |connection, (merchant_id, id)| {
                Box::pin(async move {
                    let order = with_lines(connection, merchant_id, *id).await?;
                    let subject = id.to_string();
                    let audit = audit::of_subject(connection, merchant_id, &subject).await?;
                    Ok(OrderTrail { order, audit })
                })
            });
        read.await
    }

    /// The audit trail of an order, oldest entry first.
    pub async fn order_audit(
        &self,
        merchant_id: &MerchantId,
        order_id: OrderId,
    ) -> Result<Vec<AuditEntry>> {
        audit::of_subject(self.readers(), merchant_id, &order_id.to_string()).await
    }
}

struct PageInput {
    merchant_id: MerchantId,
    state: Option<OrderState>,
    after: Option<OrderId>,
    limit: usize,
}

async fn with_lines(
    connection: &mut Connection,
    merchant_id: &MerchantId,
    id: OrderId,
) -> Result<Order> {
    let mut order = orders::find(&mut *connection, merchant_id, id).await?;
    let mut lines = orders::lines(connection, &[id]).await?;
    order.lines = lines.remove(&id).unwrap_or_default();
    Ok(order)
}

async fn of_number(
    connection: &mut Connection,
    merchant_id: &MerchantId,
    merchant_order_no: &str,
) -> Result<Order> {
    let id = orders::id_of_number(&mut *connection, merchant_id, merchant_order_no).await?;
    let id = id.ok_or_else(|| Error::not_found("order", &merchant_order_no))?;
    with_lines(connection, merchant_id, id).await
}

async fn page(connection: &mut Connection, input: &PageInput) -> Result<OrderPage> {
    let mut orders = Vec::new();
    // The index leads with the state, so all states are so many short scans of it.
    for state in OrderState::ALL
        .into_iter()
        .filter(|each| input.state.is_none_or(|state| state == *each))
    {
        let (merchant_id, limit) = (&input.merchant_id, input.limit + 1);
        let some = orders::page(&mut *connection, merchant_id, state, input.after, limit).await?;
        orders.extend(some);
    }
    orders.sort_by_key(|order| order.id);
    let more = orders.len() > input.limit;
    orders.truncate(input.limit);
    let next = orders.last().filter(|_| more).map(|order| order.id);
    let ids: Vec<OrderId> = orders.iter().map(|order| order.id).collect();
    let mut lines = orders::lines(connection, &ids).await?;
    for order in &mut orders {
        order.lines = lines.remove(&order.id).unwrap_or_default();
    }
    Ok(OrderPage { orders, next })
}
