//! Serves orders.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ApiState;
use super::auth::Merchant;
use super::extract::{
    Created, IdempotencyKey, KeyedJson, OptionalJson, Page, PathId, StrictJson, StrictQuery,
    page_limit,
};
use super::problem::{Problem, Problems};
use crate::error::Error;
use crate::ids::{CouponId, OrderId, PaymentId, ProductId};
use crate::model::audit::AuditEntry;
use crate::model::order::{self, CloseReason, OrderState};
use crate::money::Currency;
use crate::order::create::{Deadline, NewLine, NewOrder};
use edge::instant::{Clocks, Instant};
use edge::object::JsonObject;

/// One line of an order to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewOrderLine)]
struct NewLineBody {
    /// The product.
    #[schema(value_type = String, example = "prd_01h455vb4pex5vsknk084sn02q")]
    product_id: ProductId,
    /// The number of units.
    #[schema(minimum = 1, example = 2)]
    quantity: i64,
}

/// An order to create. Its deadline is in 30 minutes unless one of the two deadline fields is given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewOrder)]
pub(super) struct NewOrderBody {
    /// The merchant's own order number, unique for the merchant.
    #[schema(example = "A-1001", max_length = 128)]
    merchant_order_no: String,
    /// The merchant's own id of the buyer.
    #[schema(example = "buyer-7", max_length = 128)]
    buyer_id: String,
    /// The lines; prices come from the products.
    #[schema(value_type = Vec<NewLineBody>, inline = false, min_items = 1, max_items = 100)]
    lines: Vec<JsonObject<NewLineBody>>,
    /// The coupon of the buyer to use.
    #[schema(value_type = Option<String>)]
    coupon_id: Option<CouponId>,
    /// The deadline of payment.
    #[schema(value_type = Option<String>, format = DateTime)]
    deadline: Option<Instant>,
    /// The deadline of payment, in ms from now.
    #[schema(example = 10_000)]
    deadline_after_ms: Option<i64>,
}

/// One line of an order.
#[derive(Debug, Serialize, ToSchema)]
struct OrderLine {
    /// The product.
    #[schema(value_type = String)]
    product_id: ProductId,
    /// The name of the product when the order was created.
    name: String,
    /// The number of units.
    quantity: i64,
    /// Price of one unit when the order was created, in minor units.
    unit_price_minor: i64,
}

/// One entry of an audit trail.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub(super) struct AuditBody {
    /// When it happened.
    #[schema(value_type = String, format = DateTime)]
    at: Instant,
    /// The id of what changed.
    entity: String,
    /// Who changed it: `buyer`, `merchant`, `gateway`, `operator` or `system`.
    actor: String,
    /// The API key or operator whose request it was, if it was one.
    #[schema(example = "key_01h455vb4pex5vsknk084sn02q")]
    #[serde(skip_serializing_if = "Option::is_none")]
    who: Option<String>,
    /// The action.
    #[schema(example = "close")]
    action: String,
    /// The state before, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    from_state: Option<String>,
    /// The state after, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    to_state: Option<String>,
    /// Details, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// An order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Order {
    /// Its id.
    #[schema(value_type = String, example = "ord_01h455vb4pex5vsknk084sn02q")]
    id: OrderId,
    /// The merchant's own order number.
    merchant_order_no: String,
    /// The merchant's own id of the buyer.
    buyer_id: String,
    /// `pending`, `closing`, `paid` or `closed`.
    #[schema(example = "pending")]
    state: &'static str,
    /// Grows with every change.
    version: i64,
    /// ISO 4217 code of its amounts.
    #[schema(value_type = String, example = "EUR")]
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
    /// Seconds until the deadline by the platform's clock, rounded up; 0 once the order is not pending.
    seconds_left: i64,
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
    /// The product.
    lines: Vec<OrderLine>,
    /// The audit trail, oldest first; only where one order is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    audit: Option<Vec<AuditBody>>,
}

/// Who cancels; the merchant by default.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum CancelReason {
    /// The buyer changed their mind.
    Buyer,
    /// The merchant does not want the order.
    #[default]
    Merchant,
}

/// Why an order is cancelled.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Cancel {
    /// `buyer` or `merchant`.
    reason: CancelReason,
}

/// A later deadline.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewDeadline)]
pub(super) struct DeadlineBody {
    /// The new deadline of payment.
    #[schema(value_type = String, format = DateTime)]
    deadline: Instant,
}

/// The state of the orders to list.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum StateFilter {
    Pending,
    Closing,
    Paid,
    Closed,
}

/// Which orders to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only orders in this state: `pending`, `closing`, `paid` or `closed`.
    #[param(inline)]
    state: Option<StateFilter>,
    /// Only the order with this number of the merchant's own.
    merchant_order_no: Option<String>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<String>)]
    cursor: Option<OrderId>,
    /// The maximum number of orders on the page, up to 200; 50 by default.
    limit: Option<usize>,
}

impl From<StateFilter> for OrderState {
    fn from(state: StateFilter) -> Self {
        match state {
            StateFilter::Pending => Self::Pending,
            StateFilter::Closing => Self::Closing,
            StateFilter::Paid => Self::Paid,
            StateFilter::Closed => Self::Closed,
        }
    }
}

impl AuditBody {
    /// Creates the answer, with the instants of the wall clock.
    pub(super) fn new(entry: AuditEntry, clocks: Clocks) -> Self {
        Self {
            at: clocks.shown(entry.at_ms),
            entity: entry.entity,
            actor: entry.actor,
            who: entry.who,
            action: entry.action,
            from_state: entry.from_state,
            to_state: entry.to_state,
            detail: entry.detail,
        }
    }
}

impl Order {
    /// Creates the answer for the order at this moment.
    pub(super) fn new(order: order::Order, clocks: Clocks) -> Self {
        let now_ms = i64::try_from(clocks.now_ms).unwrap_or(i64::MAX);
        let left_ms = order.deadline_ms.saturating_sub(now_ms);
        let waits = order.state == OrderState::Pending && left_ms > 0;
        let line = |line: order::OrderLine| OrderLine {
            product_id: line.product_id,
            name: line.name,
            quantity: line.quantity,
            unit_price_minor: line.unit_price_minor,
        };
        Self {
            id: order.id,
            merchant_order_no: order.merchant_order_no,
            buyer_id: order.buyer_id,
            state: order.state.as_str(),
            version: order.version,
            currency: order.currency,
            total_minor: order.total_minor,
            discount_minor: order.discount_minor,
            payable_minor: order.payable_minor,
            coupon_id: order.coupon_id,
            deadline: Instant(order.deadline_at_ms),
            // Rounded up, so that 0 means that the deadline is reached.
            seconds_left: if waits {
                left_ms.saturating_add(999) / 1_000
            } else {
                0
            },
            created_at: clocks.shown(order.created_ms),
            paid_at: order.paid_ms.map(|ms| clocks.shown(ms)),
            payment_id: order.payment_id,
            closed_at: order.closed_ms.map(|ms| clocks.shown(ms)),
            close_reason: order.close_reason.map(CloseReason::as_str),
            lines: order.lines.into_iter().map(line).collect(),
            audit: None,
        }
    }
}

fn deadline_of(body: &NewOrderBody) -> Result<Deadline, Problem> {
    match (body.deadline, body.deadline_after_ms) {
        (None, None) => Ok(Deadline::Standard),
        (Some(Instant(at_ms)), None) => Ok(Deadline::AtWallMs(at_ms)),
        (None, Some(after_ms)) => Ok(Deadline::AfterMs(after_ms)),
        (Some(_), Some(_)) => {
            let detail = "deadline and deadline_after_ms are both given; send one of them";
            Err(Problem::invalid("/deadline_after_ms", detail))
        }
    }
}

/// Creates an order. Its stock is held and its deadline is scheduled before the answer.
#[utoipa::path(
    post,
    path = "/v1/orders",
    tag = "orders",
    params(("Idempotency-Key" = String, Header, description = "Names this request")),
    request_body = NewOrderBody,
    responses((status = 201, description = "The order", body = Order), Problems)
)]
pub(super) async fn create(
    State(state): State<ApiState>,
    merchant: Merchant,
    key: IdempotencyKey,
    KeyedJson { value, bytes }: KeyedJson<NewOrderBody>,
) -> Result<Created<Order>, Problem> {
    let keyed = state.keyed(&merchant.id, &key, "POST /v1/orders", &bytes)?;
    let deadline = deadline_of(&value)?;
    let line = |JsonObject(line): JsonObject<NewLineBody>| NewLine {
        product_id: line.product_id,
        quantity: line.quantity,
    };
    let new = NewOrder {
        merchant_order_no: value.merchant_order_no,
        buyer_id: value.buyer_id,
        lines: value.lines.into_iter().map(line).collect(),
        coupon_id: value.coupon_id,
        deadline,
    };
    let answered = merchant
        .platform
        .create_order(&merchant.id, new, Some(keyed.idempotency.clone()))
        .await?;
    Ok(Created {
        location: format!("/v1/orders/{}", answered.value.id),
        value: Order::new(answered.value, state.clocks()),
        replayed: answered.replayed,
    })
}

/// Lists orders, oldest first.
#[utoipa::path(
    get,
    path = "/v1/orders",
    tag = "orders",
    params(ListQuery),
    responses((status = 200, description = "A page of orders", body = Page<Order>), Problems)
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    merchant: Merchant,
    StrictQuery(query): StrictQuery<ListQuery>,
) -> Result<Json<Page<Order>>, Problem> {
    let limit = page_limit(query.limit)?;
    let wanted = query.state.map(OrderState::from);
    if let Some(number) = &query.merchant_order_no {
        return Ok(Json(numbered(&state, &merchant, number, wanted).await?));
    }
    let page = merchant
        .platform
        .orders(&merchant.id, wanted, query.cursor, limit)
        .await?;
    let clocks = state.clocks();
    let orders = page.orders.into_iter();
    Ok(Json(Page {
        items: orders.map(|order| Order::new(order, clocks)).collect(),
        next_cursor: page.next.map(|id| id.to_string()),
    }))
}

/// Returns the order with the merchant's own number, if it is in the wanted state.
async fn numbered(
    state: &ApiState,
    merchant: &Merchant,
    number: &str,
    wanted: Option<OrderState>,
) -> Result<Page<Order>, Problem> {
    let found = merchant
        .platform
        .order_by_number(&merchant.id, number)
        .await;
    let found = match found {
        Ok(order) => Some(order),
        Err(Error::NotFound { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let found = found.filter(|order| wanted.is_none_or(|wanted| wanted == order.state));
    let clocks = state.clocks();
    Ok(Page {
        items: found
            .into_iter()
            .map(|order| Order::new(order, clocks))
            .collect(),
        next_cursor: None,
    })
}

/// Shows an order with its audit trail.
#[utoipa::path(
    get,
    path = "/v1/orders/{id}",
    tag = "orders",
    params(("id" = String, Path, description = "The order")),
    responses((status = 200, description = "The order", body = Order), Problems)
)]
pub(super) async fn show(
    State(state): State<ApiState>,
    merchant: Merchant,
    PathId(id): PathId<OrderId>,
) -> Result<Json<Order>, Problem> {
    let platform = &merchant.platform;
    let trail = platform.order_with_trail(&merchant.id, id).await?;
    let clocks = state.clocks();
    let mut order = Order::new(trail.order, clocks);
    let entries = trail
        .audit
        .into_iter()
        .map(|entry| AuditBody::new(entry, clocks));
    order.audit = Some(entries.collect());
    Ok(Json(order))
}

/// Cancels a pending order. It is `closed` in the answer, or `closing` if the gateway must first close a payment attempt.
#[utoipa::path(
    post,
    path = "/v1/orders/{id}/cancel",
    tag = "orders",
    params(("id" = String, Path, description = "The order")),
    request_body = Option<Cancel>,
    responses((status = 200, description = "The order", body = Order), Problems)
)]
pub(super) async fn cancel(
    State(state): State<ApiState>,
    merchant: Merchant,
    PathId(id): PathId<OrderId>,
    OptionalJson(body): OptionalJson<Cancel>,
) -> Result<Json<Order>, Problem> {
    let reason = match body.reason {
        CancelReason::Buyer => CloseReason::Buyer,
        CancelReason::Merchant => CloseReason::Merchant,
    };
    let order = merchant
        .platform
        .cancel_order(&merchant.id, id, reason)
        .await?;
    Ok(Json(Order::new(order, state.clocks())))
}

/// Moves the deadline of a pending order to a later instant, if it has not been reached.
#[utoipa::path(
    put,
    path = "/v1/orders/{id}/deadline",
    tag = "orders",
    params(("id" = String, Path, description = "The order")),
    request_body = DeadlineBody,
    responses((status = 200, description = "The order", body = Order), Problems)
)]
pub(super) async fn extend(
    State(state): State<ApiState>,
    merchant: Merchant,
    PathId(id): PathId<OrderId>,
    StrictJson(body): StrictJson<DeadlineBody>,
) -> Result<Json<Order>, Problem> {
    let Instant(deadline_at_ms) = body.deadline;
    let order = merchant
        .platform
        .extend_order(&merchant.id, id, deadline_at_ms)
        .await?;
    Ok(Json(Order::new(order, state.clocks())))
}
