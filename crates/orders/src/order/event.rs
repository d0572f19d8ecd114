//! Publishes the events of orders.

use edge::instant::Instant;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::Result;
use crate::ids::{CouponId, OrderId, PaymentId, ProductId};
use crate::messaging::event::{self, NewEvent, shown};
use crate::model::event::EventType;
use crate::model::order::{CloseReason, Order, OrderLine};
use crate::money::Currency;
use crate::store::{Tx, orders};

/// An order, as the API shows it at the time of the event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrderData)]
pub(crate) struct OrderData<'a> {
    /// Its id.
    #[schema(value_type = String)]
    id: OrderId,
    /// The merchant's own order number.
    merchant_order_no: &'a str,
    /// The merchant's own id of the buyer.
    buyer_id: &'a str,
    /// `pending`, `closing`, `paid` or `closed`.
    state: &'static str,
    /// Grows with every change.
    version: i64,
    /// ISO 4217 code of its amounts.
    #[schema(value_type = String)]
    currency: Currency,
    /// Sum of the lines, in minor units.
    total_minor: i64,
    /// The discount of the coupon, in minor units.
    discount_minor: i64,
    /// The amount to pay, in minor units.
    payable_minor: i64,
    /// The coupon it uses.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    coupon_id: Option<CouponId>,
    /// From this instant on no payment attempt is accepted.
    #[schema(value_type = String, format = DateTime)]
    deadline: Instant,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Instant,
    /// When it was paid.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    paid_at: Option<Instant>,
    /// The accepted payment; none if the amount to pay was 0.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_id: Option<PaymentId>,
    /// When it closed.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_at: Option<Instant>,
    /// Why it closed or is closing: `timeout`, `buyer` or `merchant`.
    #[serde(skip_serializing_if = "Option::is_none")]
    close_reason: Option<&'static str>,
    /// Its lines.
    #[schema(inline)]
    lines: Vec<LineData<'a>>,
}

/// One line of an order.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LineData<'a> {
    /// The product.
    #[schema(value_type = String)]
    product_id: ProductId,
    /// The name of the product when the order was created.
    name: &'a str,
    /// The number of units.
    quantity: i64,
    /// Price of one unit when the order was created, in minor units.
    unit_price_minor: i64,
}

impl<'a> LineData<'a> {
    fn new(line: &'a OrderLine) -> Self {
        Self {
            product_id: line.product_id,
            name: &line.name,
            quantity: line.quantity,
            unit_price_minor: line.unit_price_minor,
        }
    }
}

impl<'a> OrderData<'a> {
    fn new(tx: &Tx, order: &'a Order, lines: &'a [OrderLine]) -> Self {
        Self {
            id: order.id,
            merchant_order_no: &order.merchant_order_no,
            buyer_id: &order.buyer_id,
            state: order.state.as_str(),
            version: order.version,
            currency: order.currency,
            total_minor: order.total_minor,
            discount_minor: order.discount_minor,
            payable_minor: order.payable_minor,
            coupon_id: order.coupon_id,
            deadline: Instant(order.deadline_at_ms),
            created_at: shown(tx, order.created_ms),
            paid_at: order.paid_ms.map(|ms| shown(tx, ms)),
            payment_id: order.payment_id,
            closed_at: order.closed_ms.map(|ms| shown(tx, ms)),
            close_reason: order.close_reason.map(CloseReason::as_str),
            lines: lines.iter().map(LineData::new).collect(),
        }
    }
}

/// Publishes an event of an order that has its lines.
pub(crate) fn emit(tx: &mut Tx, kind: EventType, order: &Order) {
    emit_with(tx, kind, order, &order.lines);
}

/// Publishes an event of each of the orders; their lines are read.
pub(crate) async fn emit_all(tx: &mut Tx, kind: EventType, orders: &[Order]) -> Result<()> {
    if orders.is_empty() {
        return Ok(());
    }
    let ids: Vec<OrderId> = orders.iter().map(|order| order.id).collect();
    let lines = orders::lines(tx.conn(), &ids).await?;
    for order in orders {
        let lines = lines.get(&order.id).map_or(&[][..], Vec::as_slice);
        emit_with(tx, kind, order, lines);
    }
    Ok(())
}

fn emit_with(tx: &mut Tx, kind: EventType, order: &Order, lines: &[OrderLine]) {
    let data = OrderData::new(tx, order, lines);
    event::emit(
        tx,
        NewEvent {
            kind,
            merchant_id: &order.merchant_id,
            subject: order.id.to_string(),
            data: &data,
        },
    );
}
