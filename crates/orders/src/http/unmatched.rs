//! Provides money that no payment can hold, and the closing of orders over missing answers, to the operator.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ApiState;
use super::auth::Operator;
use super::extract::{Page, PathId, StrictJson, StrictQuery, page_limit};
use super::orders::Order;
use super::problem::{Problem, Problems};
use crate::ids::{AttemptId, GatewayAccountId, MerchantId, OrderId, UnmatchedPaymentId};
use crate::model::unmatched::UnmatchedPayment;
use crate::money::Currency;
use crate::payment::by_hand::MoneyRecord;
use edge::instant::{Clocks, Instant};

/// Money that a gateway reported and that no payment can hold.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UnmatchedPayment)]
pub(super) struct UnmatchedBody {
    /// Its id.
    #[schema(value_type = String, example = "ump_01h455vb4pex5vsknk084sn02q")]
    id: UnmatchedPaymentId,
    /// The merchant of the gateway account.
    #[schema(value_type = String, example = "default")]
    merchant_id: MerchantId,
    /// The gateway account.
    #[schema(value_type = String, example = "gwa_01h455vb4pex5vsknk084sn02q")]
    account_id: GatewayAccountId,
    /// `unreadable`, `unknown_attempt` or `unknown_refund`.
    #[schema(example = "unreadable")]
    kind: &'static str,
    /// `open`, `settled`, or `superseded` by a payment, from a report that could be recorded or by hand.
    #[schema(example = "open")]
    state: &'static str,
    /// The gateway's number of the transaction, or a digest of the report where that cannot be used.
    key: String,
    /// The attempt or refund as the gateway named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// The attempt, where it is known here.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt_id: Option<AttemptId>,
    /// The amount as the gateway reported it.
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<String>,
    /// The currency as the gateway reported it.
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<String>,
    /// The report as it came, at most 16 KiB of it.
    report: String,
    /// How often it was reported.
    reports: i64,
    /// When the gateway took the money.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    paid_at: Option<Instant>,
    /// When it was first reported.
    #[schema(value_type = String, format = DateTime)]
    created_at: Instant,
    /// When it was settled or superseded.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    settled_at: Option<Instant>,
    /// By what it was settled, or the payment that was recorded by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    /// More about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl UnmatchedBody {
    /// Creates the answer, with the instants of the wall clock.
    fn new(unmatched: UnmatchedPayment, clocks: Clocks) -> Self {
        Self {
            id: unmatched.id,
            merchant_id: unmatched.merchant_id,
            account_id: unmatched.account_id,
            kind: unmatched.kind.as_str(),
            state: unmatched.state.as_str(),
            key: unmatched.key,
            subject: unmatched.subject,
            attempt_id: unmatched.attempt_id,
            amount: unmatched.amount,
            currency: unmatched.currency,
            report: unmatched.raw,
            reports: unmatched.reports,
            paid_at: unmatched.paid_at_ms.map(Instant),
            created_at: clocks.shown(unmatched.created_ms),
            settled_at: unmatched.settled_ms.map(|ms| clocks.shown(ms)),
            reference: unmatched.reference,
            note: unmatched.note,
        }
    }
}

/// Which unmatched payments to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only those that wait for a person; all if left out.
    #[param(inline)]
    state: Option<StateFilter>,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<UnmatchedPaymentId>,
    /// How many at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<usize>,
}

/// The states that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum StateFilter {
    /// Those that wait for a person.
    Open,
}

/// How unmatched money was dealt with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Settle)]
pub(super) struct SettleBody {
    /// By what, such as the number of a transfer.
    #[schema(example = "transfer 2026-117", min_length = 1, max_length = 128)]
    reference: String,
    /// More, for a person.
    #[schema(max_length = 200)]
    note: Option<String>,
}

/// Lists money that no payment can hold, oldest first. For the operator.
#[utoipa::path(
    get,
    path = "/v1/unmatched-payments",
    tag = "operation",
    params(ListQuery),
    responses((status = 200, description = "A page of it", body = Page<UnmatchedBody>), Problems)
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    operator: Operator,
    StrictQuery(query): StrictQuery<ListQuery>,
) -> Result<Json<Page<UnmatchedBody>>, Problem> {
    let limit = page_limit(query.limit)?;
    let open = query.state == Some(StateFilter::Open);
    let found = operator
        .platform
        .unmatched_payments(open, query.cursor, limit)
        .await?;
    let clocks = state.clocks();
    Ok(Json(Page::of(
        found,
        limit,
        |unmatched| unmatched.id.to_string(),
        |item| UnmatchedBody::new(item, clocks),
    )))
}

/// Shows money that no payment can hold. For the operator.
#[utoipa::path(
    get,
    path = "/v1/unmatched-payments/{id}",
    tag = "operation",
    params(("id" = String, Path, description = "The unmatched payment")),
    responses((status = 200, description = "The unmatched payment", body = UnmatchedBody), Problems)
)]
pub(super) async fn show(
    State(state): State<ApiState>,
    operator: Operator,
    PathId(id): PathId<UnmatchedPaymentId>,
) -> Result<Json<UnmatchedBody>, Problem> {
    let found = operator.platform.unmatched_payment(id).await?;
    Ok(Json(UnmatchedBody::new(found, state.clocks())))
}

/// Records that unmatched money was given back, or is kept, by hand. Later reports of it change nothing. For the operator.
#[utoipa::path(
    post,
    path = "/v1/unmatched-payments/{id}/settle",
    tag = "operation",
    params(("id" = String, Path, description = "The unmatched payment")),
    request_body = SettleBody,
    responses((status = 200, description = "The unmatched payment", body = UnmatchedBody), Problems)
)]
pub(super) async fn settle(
    State(state): State<ApiState>,
    operator: Operator,
    PathId(id): PathId<UnmatchedPaymentId>,
    StrictJson(body): StrictJson<SettleBody>,
) -> Result<Json<UnmatchedBody>, Problem> {
    let settled = operator
        .platform
        .settle_unmatched_payment(id, &body.reference, body.note.as_deref())
        .await?;
    Ok(Json(UnmatchedBody::new(settled, state.clocks())))
}

/// What unmatched money was; what is left out is taken from its report.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RecordUnmatched)]
pub(super) struct RecordBody {
    /// The payment attempt that it came for; needed where the unmatched payment names none.
    #[schema(value_type = Option<String>, example = "att_01h455vb4pex5vsknk084sn02q")]
    attempt_id: Option<AttemptId>,
    /// The gateway's number of the transaction.
    #[schema(max_length = 128)]
    transaction_id: Option<String>,
    /// The amount, in minor units; needed where the report has none that can be understood.
    #[schema(example = 1500, minimum = 1)]
    amount_minor: Option<i64>,
    /// ISO 4217 code; needed where the report has none that can be understood.
    #[schema(value_type = Option<String>, example = "EUR")]
    currency: Option<Currency>,
}

/// Records unmatched money as a payment of an attempt at the same gateway account. It pays the order if that is still
/// open, and is refunded otherwise. `reference` is then the id of the payment. For the operator.
#[utoipa::path(
    post,
    path = "/v1/unmatched-payments/{id}/record",
    tag = "operation",
    params(("id" = String, Path, description = "The unmatched payment")),
    request_body = RecordBody,
    responses((status = 200, description = "The unmatched payment", body = UnmatchedBody), Problems)
)]
pub(super) async fn record(
    State(state): State<ApiState>,
    operator: Operator,
    PathId(id): PathId<UnmatchedPaymentId>,
    StrictJson(body): StrictJson<RecordBody>,
) -> Result<Json<UnmatchedBody>, Problem> {
    let money = MoneyRecord {
        attempt_id: body.attempt_id,
        transaction_id: body.transaction_id,
        amount_minor: body.amount_minor,
        currency: body.currency,
    };
    let platform = &operator.platform;
    let recorded = platform.record_unmatched_payment(id, money).await?;
    Ok(Json(UnmatchedBody::new(recorded, state.clocks())))
}

/// Closes an order of any merchant now, whatever its gateway says; money that still comes is refunded. For the operator.
#[utoipa::path(
    post,
    path = "/v1/orders/{id}/close",
    tag = "operation",
    params(("id" = String, Path, description = "The order")),
    responses((status = 200, description = "The order, closed", body = Order), Problems)
)]
pub(super) async fn close_order(
    State(state): State<ApiState>,
    operator: Operator,
    PathId(id): PathId<OrderId>,
) -> Result<Json<Order>, Problem> {
    let order = operator.platform.force_close_order(id).await?;
    Ok(Json(Order::new(order, state.clocks())))
}
