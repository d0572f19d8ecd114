//! Serves refunds.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ApiState;
use super::auth::{Merchant, Refunder};
use super::extract::{
    Created, IdempotencyKey, KeyedJson, Page, PathId, StrictJson, StrictQuery, page_limit,
};
use super::problem::{Problem, Problems};
use crate::ids::{OrderId, PaymentId, RefundId};
use crate::model::refund::{self, RefundLine, RefundState};
use crate::money::Currency;
use crate::refund::request::NewRefund;
use edge::instant::{Clocks, Instant};
use edge::object::JsonObject;

/// A refund to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewRefund)]
pub(super) struct NewRefundBody {
    /// The merchant's own refund number, unique for the merchant.
    #[schema(example = "R-1", max_length = 128)]
    refund_no: String,
    /// The amount to refund, in minor units; all that is left by default.
    #[schema(minimum = 1)]
    amount_minor: Option<i64>,
    /// Whether all units of the order that have not come back go into stock when the refund has succeeded. Only for a
    /// refund of all that is left.
    #[serde(default)]
    restock: bool,
    /// The units that go back into stock when the refund has succeeded, with any amount.
    #[serde(default)]
    #[schema(value_type = Vec<RestockLine>, max_items = 100)]
    restock_lines: Vec<JsonObject<RestockLine>>,
}

/// Units of a line of the order that go back into stock.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RestockLine {
    /// The line, counted from 1 as the order lists them.
    #[schema(minimum = 1)]
    line_no: i64,
    /// How many units.
    #[schema(minimum = 1)]
    quantity: i64,
}

/// What a refund was settled with by hand.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SettleRefund)]
pub(super) struct SettleBody {
    /// How the money went back, such as the number of a bank transfer.
    #[schema(example = "transfer 2026-1130-7", max_length = 128)]
    reference: String,
}

/// Which refunds to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only refunds of this state, such as `needs_operator`.
    #[param(value_type = Option<String>)]
    state: Option<RefundState>,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<RefundId>,
    /// Most refunds of the page, up to 200; 50 if left out.
    limit: Option<usize>,
}

/// A refund.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Refund)]
pub(super) struct RefundBody {
    /// Its id, which the gateway uses too.
    #[schema(value_type = String, example = "ref_01h455vb4pex5vsknk084sn02q")]
    id: RefundId,
    /// The merchant's own refund number, or one that the platform generated.
    refund_no: String,
    /// The order.
    #[schema(value_type = String)]
    order_id: OrderId,
    /// The payment.
    #[schema(value_type = String)]
    payment_id: PaymentId,
    /// `requested`, `submitted`, `processing`, `succeeded`, `failed_retryable`, `needs_operator` or `withdrawn`.
    #[schema(example = "processing")]
    state: &'static str,
    /// `merchant`, or why the platform refunds by itself: `late`, `duplicate`, `wrong_amount` or `wrong_currency`.
    #[schema(example = "merchant")]
    cause: &'static str,
    /// The amount, in minor units.
    amount_minor: i64,
    /// ISO 4217 code.
    #[schema(value_type = String, example = "EUR")]
    currency: Currency,
    /// Whether units go back into stock when it has succeeded.
    restock: bool,
    /// What it was settled with by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    /// Details, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// When it was requested.
    #[schema(value_type = String, format = DateTime)]
    created_at: Instant,
    /// When it succeeded or was given up.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Instant>,
}

impl RefundBody {
    /// Creates the answer, with the instants of the wall clock.
    fn new(refund: refund::Refund, clocks: Clocks) -> Self {
        Self {
            id: refund.id,
            refund_no: refund.refund_no,
            order_id: refund.order_id,
            payment_id: refund.payment_id,
            state: refund.state.as_str(),
            cause: refund.cause.as_str(),
            amount_minor: refund.amount_minor,
            currency: refund.currency,
            restock: refund.restock,
            reference: refund.reference,
            detail: refund.detail,
            created_at: clocks.shown(refund.created_ms),
            ended_at: refund.final_ms.map(|ms| clocks.shown(ms)),
        }
    }
}

/// Gives money of a paid order back. The gateway is asked at once, and again until it has done it.
#[utoipa::path(
    post,
    path = "/v1/orders/{id}/refunds",
    tag = "refunds",
    params(
        ("id" = String, Path, description = "The order"),
        ("Idempotency-Key" = String, Header, description = "Names this request")
    ),
    request_body = NewRefundBody,
    responses((status = 201, description = "The refund", body = RefundBody), Problems)
)]
pub(super) async fn create(
    State(state): State<ApiState>,
    Refunder(merchant): Refunder,
    PathId(order_id): PathId<OrderId>,
    key: IdempotencyKey,
    KeyedJson { value, bytes }: KeyedJson<NewRefundBody>,
) -> Result<Created<RefundBody>, Problem> {
    let operation = format!("POST /v1/orders/{order_id}/refunds");
    let keyed = state.keyed(&merchant.id, &key, &operation, &bytes)?;
    let restock_lines = value
        .restock_lines
        .into_iter()
        .map(|JsonObject(line)| RefundLine {
            line_no: line.line_no,
            quantity: line.quantity,
        });
    let new = NewRefund {
        order_id,
        refund_no: value.refund_no,
        amount_minor: value.amount_minor,
        restock: value.restock,
        restock_lines: restock_lines.collect(),
    };
    let answered = merchant
        .platform
        .create_refund_and_ask(&merchant.id, new, Some(keyed.idempotency.clone()))
        .await?;
    Ok(Created {
        location: format!("/v1/refunds/{}", answered.value.id),
        value: RefundBody::new(answered.value, state.clocks()),
        replayed: answered.replayed,
    })
}

/// Lists the refunds of an order, oldest first.
#[utoipa::path(
    get,
    path = "/v1/orders/{id}/refunds",
    tag = "refunds",
    params(("id" = String, Path, description = "The order")),
    responses((status = 200, description = "All refunds", body = Page<RefundBody>), Problems)
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    merchant: Merchant,
    PathId(order_id): PathId<OrderId>,
) -> Result<Json<Page<RefundBody>>, Problem> {
    let platform = &merchant.platform;
    platform.order(&merchant.id, order_id).await?;
    let refunds = platform.refunds(&merchant.id, order_id).await?;
    let clocks = state.clocks();
    let refunds = refunds.into_iter();
    Ok(Json(Page::whole(
        refunds.map(|item| RefundBody::new(item, clocks)),
    )))
}

/// Lists the merchant's refunds, oldest first.
#[utoipa::path(
    get,
    path = "/v1/refunds",
    tag = "refunds",
    params(ListQuery),
    responses((status = 200, description = "A page of refunds", body = Page<RefundBody>), Problems)
)]
pub(super) async fn list_all(
    State(state): State<ApiState>,
    merchant: Merchant,
    StrictQuery(query): StrictQuery<ListQuery>,
) -> Result<Json<Page<RefundBody>>, Problem> {
    let limit = page_limit(query.limit)?;
    let page = merchant
        .platform
        .refund_page(&merchant.id, query.state, query.cursor, limit)
        .await?;
    let clocks = state.clocks();
    let refunds = page.refunds.into_iter();
    Ok(Json(Page {
        items: refunds.map(|item| RefundBody::new(item, clocks)).collect(),
        next_cursor: page.next.map(|id| id.to_string()),
    }))
}

/// Shows a refund.
#[utoipa::path(
    get,
    path = "/v1/refunds/{id}",
    tag = "refunds",
    params(("id" = String, Path, description = "The refund")),
    responses((status = 200, description = "The refund", body = RefundBody), Problems)
)]
pub(super) async fn show(
    State(state): State<ApiState>,
    merchant: Merchant,
    PathId(id): PathId<RefundId>,
) -> Result<Json<RefundBody>, Problem> {
    let refund = merchant.platform.refund(&merchant.id, id).await?;
    Ok(Json(RefundBody::new(refund, state.clocks())))
}

/// Tries a refund again that needs an operator. One that is under way stays as it is.
#[utoipa::path(
    post,
    path = "/v1/refunds/{id}/retry",
    tag = "refunds",
    params(("id" = String, Path, description = "The refund")),
    responses((status = 200, description = "The refund", body = RefundBody), Problems)
)]
pub(super) async fn retry(
    State(state): State<ApiState>,
    Refunder(merchant): Refunder,
    PathId(id): PathId<RefundId>,
) -> Result<Json<RefundBody>, Problem> {
    let refund = merchant.platform.retry_refund(&merchant.id, id).await?;
    Ok(Json(RefundBody::new(refund, state.clocks())))
}

/// Withdraws a refund that needs an operator, so that its money can be refunded otherwise.
#[utoipa::path(
    post,
    path = "/v1/refunds/{id}/abandon",
    tag = "refunds",
    params(("id" = String, Path, description = "The refund")),
    responses((status = 200, description = "The refund", body = RefundBody), Problems)
)]
pub(super) async fn abandon(
    State(state): State<ApiState>,
    Refunder(merchant): Refunder,
    PathId(id): PathId<RefundId>,
) -> Result<Json<RefundBody>, Problem> {
    let refund = merchant.platform.abandon_refund(&merchant.id, id).await?;
    Ok(Json(RefundBody::new(refund, state.clocks())))
}

/// Records that the money of a refund that needs an operator went back by other means.
#[utoipa::path(
    post,
    path = "/v1/refunds/{id}/settle",
    tag = "refunds",
    params(("id" = String, Path, description = "The refund")),
    request_body = SettleBody,
    responses((status = 200, description = "The refund", body = RefundBody), Problems)
)]
pub(super) async fn settle(
    State(state): State<ApiState>,
    Refunder(merchant): Refunder,
    PathId(id): PathId<RefundId>,
    StrictJson(body): StrictJson<SettleBody>,
) -> Result<Json<RefundBody>, Problem> {
    let platform = &merchant.platform;
    let settled = platform.settle_refund(&merchant.id, id, &body.reference);
    Ok(Json(RefundBody::new(settled.await?, state.clocks())))
}
