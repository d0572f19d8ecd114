//! Serves payment attempts and payments, and receives the callbacks of gateways.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ApiState;
use super::auth::Merchant;
use super::extract::{Created, IdempotencyKey, KeyedJson, PathId};
use super::problem::{Problem, Problems};
use crate::ids::{AttemptId, GatewayAccountId, OrderId, PaymentId};
use crate::limits::BODY_BYTES_MAX;
use crate::model::payment;
use crate::money::Currency;
use crate::payment::start::NewAttempt;
use edge::instant::{Clocks, Instant};

/// A payment attempt to start.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewAttempt)]
pub(super) struct NewAttemptBody {
    /// The gateway account to pay through; optional for a merchant with one account.
    #[schema(value_type = Option<String>, example = "gwa_01h455vb4pex5vsknk084sn02q")]
    account_id: Option<GatewayAccountId>,
}

/// An attempt to pay an order.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attempt)]
pub(super) struct AttemptBody {
    /// Its id, which the gateway uses too.
    #[schema(value_type = String, example = "att_01h455vb4pex5vsknk084sn02q")]
    id: AttemptId,
    /// The order.
    #[schema(value_type = String)]
    order_id: OrderId,
    /// The gateway account.
    #[schema(value_type = String)]
    account_id: GatewayAccountId,
    /// `submitted`, `succeeded`, `closed`, `failed`, `unknown` or `needs_operator`.
    #[schema(example = "submitted")]
    state: &'static str,
    /// The amount to pay, in minor units.
    amount_minor: i64,
    /// ISO 4217 code.
    #[schema(value_type = String, example = "EUR")]
    currency: Currency,
    /// From this instant on the gateway does not accept a payment for it.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Instant,
    /// The page where the buyer pays, once the gateway has returned it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pay_url: Option<String>,
    /// The gateway's own id of the attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway_ref: Option<String>,
    /// Details, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// When it was started.
    #[schema(value_type = String, format = DateTime)]
    created_at: Instant,
}

/// A payment received by a gateway.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Payment)]
pub(super) struct PaymentBody {
    /// Its id.
    #[schema(value_type = String, example = "pay_01h455vb4pex5vsknk084sn02q")]
    id: PaymentId,
    /// The attempt that was paid.
    #[schema(value_type = String)]
    attempt_id: AttemptId,
    /// The gateway's own id of the transaction.
    transaction_id: String,
    /// `accepted`, or why it is refunded: `late`, `duplicate`, `wrong_amount` or `wrong_currency`.
    #[schema(example = "accepted")]
    kind: &'static str,
    /// The amount paid, in minor units.
    amount_minor: i64,
    /// The currency it was paid in.
    #[schema(value_type = String, example = "EUR")]
    currency: Currency,
    /// How much of it has been refunded or is being refunded, in minor units.
    refunded_minor: i64,
    /// When the gateway received the payment.
    #[schema(value_type = String, format = DateTime)]
    paid_at: Instant,
}

/// The attempts and payments of an order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OrderPayments {
    /// Its attempts, oldest first.
    attempts: Vec<AttemptBody>,
    /// Its payments, oldest first.
    payments: Vec<PaymentBody>,
}

impl AttemptBody {
    /// Creates the answer, with the instants of the wall clock.
    pub(super) fn new(attempt: payment::Attempt, clocks: Clocks) -> Self {
        Self {
            id: attempt.id,
            order_id: attempt.order_id,
            account_id: attempt.account_id,
            state: attempt.state.as_str(),
            amount_minor: attempt.amount_minor,
            currency: attempt.currency,
            expires_at: Instant(attempt.expires_at_ms),
            pay_url: attempt.pay_url,
            gateway_ref: attempt.gateway_ref,
            detail: attempt.detail,
            created_at: clocks.shown(attempt.created_ms),
        }
    }
}

impl From<payment::Payment> for PaymentBody {
    fn from(payment: payment::Payment) -> Self {
        Self {
            id: payment.id,
            attempt_id: payment.attempt_id,
            transaction_id: payment.gateway_txn,
            kind: payment.kind.as_str(),
            amount_minor: payment.amount_minor,
            currency: payment.currency,
            refunded_minor: payment.refunded_minor,
            paid_at: Instant(payment.paid_at_ms),
        }
    }
}

/// Starts an attempt to pay an order that is pending and whose deadline has not been reached.
#[utoipa::path(
    post,
    path = "/v1/orders/{id}/payments",
    tag = "payments",
    params(
        ("id" = String, Path, description = "The order"),
        ("Idempotency-Key" = String, Header, description = "Names this request")
    ),
    request_body = NewAttemptBody,
    responses((status = 201, description = "The attempt", body = AttemptBody), Problems)
)]
pub(super) async fn start(
    State(state): State<ApiState>,
    merchant: Merchant,
    PathId(order_id): PathId<OrderId>,
    key: IdempotencyKey,
    KeyedJson { value, bytes }: KeyedJson<NewAttemptBody>,
) -> Result<Created<AttemptBody>, Problem> {
    let operation = format!("POST /v1/orders/{order_id}/payments");
    let keyed = state.keyed(&merchant.id, &key, &operation, &bytes)?;
    let new = NewAttempt {
        account_id: value.account_id,
    };
    let answered = merchant
        .platform
        .start_payment(&merchant.id, order_id, new, Some(keyed.idempotency.clone()))
        .await?;
    Ok(Created {
        location: format!("/v1/orders/{order_id}/payments"),
        value: AttemptBody::new(answered.value, state.clocks()),
        replayed: answered.replayed,
    })
}

/// Lists the attempts and payments of an order.
#[utoipa::path(
    get,
    path = "/v1/orders/{id}/payments",
    tag = "payments",
    params(("id" = String, Path, description = "The order")),
    responses((status = 200, description = "All of them", body = OrderPayments), Problems)
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    merchant: Merchant,
    PathId(order_id): PathId<OrderId>,
) -> Result<Json<OrderPayments>, Problem> {
    let platform = &merchant.platform;
    let money = platform.order_money(&merchant.id, order_id).await?;
    let clocks = state.clocks();
    let attempts = money.attempts.into_iter();
    let attempts = attempts.map(|attempt| AttemptBody::new(attempt, clocks));
    Ok(Json(OrderPayments {
        attempts: attempts.collect(),
        payments: money.payments.into_iter().map(PaymentBody::from).collect(),
    }))
}

/// Receives a gateway's signed callback. It is acknowledged once its effect is durable.
#[utoipa::path(
    post,
    path = "/v1/gateways/{account_id}/callbacks",
    tag = "payments",
    security(()),
    params(("account_id" = String, Path, description = "The gateway account")),
    request_body(content = String, description = "As the gateway sends it", content_type = "application/json"),
    responses((status = 200, description = "The acknowledgement in the form the gateway expects"), Problems)
)]
pub(super) async fn callback(
    State(state): State<ApiState>,
    PathId(account_id): PathId<GatewayAccountId>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let request = Request::from_parts(parts.clone(), body);
    let body: Bytes = edge::extract::read_body(request, &state, BODY_BYTES_MAX).await?;
    let ack = state
        .platform()
        .handle_callback(account_id, &parts.headers, &body)
        .await?;
    let headers = [(CONTENT_TYPE, ack.content_type)];
    Ok((headers, ack.body).into_response())
}
