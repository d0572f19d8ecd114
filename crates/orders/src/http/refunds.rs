//! Provides refunds over HTTP.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ApiState;
use super::auth::Merchant;
use super::extract::{Created, IdempotencyKey, KeyedJson, Page, PathId};
use super::problem::{Problem, Problems};
use crate::ids::{OrderId, PaymentId, RefundId};
use crate::model::refund;
use crate::money::Currency;
use crate::refund::request::NewRefund;
use edge::instant::Instant;

/// A refund to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewRefund)]
pub(super) struct NewRefundBody {
    /// The merchant's own number of the refund, unique for the merchant.
    #[schema(example = "R-1", max_length = 128)]
    refund_no: String,
    /// How much to give back, in minor units; all that is left if left out.
    #[schema(minimum = 1)]
    amount_minor: Option<i64>,
    /// Whether the order's units go back into stock.
    #[serde(default)]
    restock: bool,
}

/// Money given back.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Refund)]
pub(super) struct RefundBody {
    /// Its id, by which the gateway knows it too.
    #[schema(value_type = String, example = "ref_01h455vb4pex5vsknk084sn02q")]
    id: RefundId,
    /// The merchant's own number, or one that the platform made.
    refund_no: String,
    /// The order.
    #[schema(value_type = String)]
    order_id: OrderId,
    /// The payment.
    #[schema(value_type = String)]
    payment_id: PaymentId,
    /// `requested`, `submitted`, `processing`, `succeeded`, `failed_retryable` or `needs_operator`.
    #[schema(example = "processing")]
    state: &'static str,
    /// `merchant`, or why the platform refunds by itself: `late`, `duplicate`, `wrong_amount` or `wrong_currency`.
    #[schema(example = "merchant")]
    cause: &'static str,
    /// How much is given back, in minor units.
    amount_minor: i64,
    /// ISO 4217 code.
    #[schema(value_type = String, example = "EUR")]
    currency: Currency,
    /// Whether the order's units go back into stock.
    restock: bool,
    /// More, for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    created_at: Instant,
    /// When it was done or given up.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Instant>,
}

impl From<refund::Refund> for RefundBody {
    fn from(refund: refund::Refund) -> Self {
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
            detail: refund.detail,
            created_at: Instant(refund.created_ms),
            ended_at: refund.final_ms.map(Instant),
        }
    }
}

/// Gives money of a paid order back. The gateway is asked until it has done it.
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
    merchant: Merchant,
    PathId(order_id): PathId<OrderId>,
    key: IdempotencyKey,
    KeyedJson { value, bytes }: KeyedJson<NewRefundBody>,
) -> Result<Created<RefundBody>, Problem> {
    let operation = format!("POST /v1/orders/{order_id}/refunds");
    let keyed = state.keyed(&merchant.id, &key, &operation, &bytes)?;
    let new = NewRefund {
        order_id,
        refund_no: value.refund_no,
        amount_minor: value.amount_minor,
        restock: value.restock,
    };
    let answered = state
        .platform()
        .create_refund(&merchant.id, new, Some(keyed.idempotency.clone()))
        .await?;
    Ok(Created {
        location: format!("/v1/refunds/{}", answered.value.id),
        value: answered.value.into(),
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
    let platform = state.platform();
    platform.order(&merchant.id, order_id).await?;
    let refunds = platform.refunds(&merchant.id, order_id).await?;
    Ok(Json(Page::whole(refunds)))
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
    let refund = state.platform().refund(&merchant.id, id).await?;
    Ok(Json(refund.into()))
}

/// Lets the platform try a refund again that waits for the operator.
#[utoipa::path(
    post,
    path = "/v1/refunds/{id}/retry",
    tag = "refunds",
    params(("id" = String, Path, description = "The refund")),
    responses((status = 200, description = "The refund", body = RefundBody), Problems)
)]
pub(super) async fn retry(
    State(state): State<ApiState>,
    merchant: Merchant,
    PathId(id): PathId<RefundId>,
) -> Result<Json<RefundBody>, Problem> {
    let refund = state.platform().retry_refund(&merchant.id, id).await?;
    Ok(Json(refund.into()))
}
