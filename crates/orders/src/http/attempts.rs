//! Serves payment attempts that wait for a late answer or a person, and settles them by hand.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::ApiState;
use super::auth::{Admin, Merchant};
use super::extract::{Page, PathId, StrictJson, StrictQuery, page_limit};
use super::payments::AttemptBody;
use super::problem::{Problem, Problems};
use crate::ids::AttemptId;
use crate::model::payment::WaitingAttempt;
use crate::money::Currency;
use crate::payment::by_hand::AttemptSettlement;

/// The states that can be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum WaitingState {
    /// The order has ended without an answer about them; the gateway is still asked.
    Unknown,
    /// A person must look.
    #[default]
    NeedsOperator,
}

/// Which attempts to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// `needs_operator`, the default, or `unknown` for those whose order ended without an answer about them and which are still
    /// asked about.
    #[serde(default)]
    #[param(inline)]
    state: WaitingState,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<AttemptId>,
    /// How many at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<usize>,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum AttemptResult {
    /// Money came for it.
    Paid,
    /// No money came for it, and none will.
    Failed,
}

/// How an attempt ended, by a person's word.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SettleAttempt)]
pub(super) struct SettleBody {
    /// `paid` or `failed`.
    result: AttemptResult,
    /// The gateway's number of the transaction, or how it is known that the attempt failed.
    #[schema(example = "txn-2026-117", min_length = 1, max_length = 128)]
    reference: String,
    /// The amount paid, in minor units; what was to be paid if it is left out.
    #[schema(minimum = 1)]
    amount_minor: Option<i64>,
    /// The currency it was paid in; that of the attempt if it is left out.
    #[schema(value_type = Option<String>, example = "EUR")]
    currency: Option<Currency>,
}

/// Lists payment attempts that wait for a late answer or for a person, oldest first.
#[utoipa::path(
    get,
    path = "/v1/attempts",
    tag = "payments",
    params(ListQuery),
    responses((status = 200, description = "A page of attempts", body = Page<AttemptBody>), Problems)
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    merchant: Merchant,
    StrictQuery(query): StrictQuery<ListQuery>,
) -> Result<Json<Page<AttemptBody>>, Problem> {
    let limit = page_limit(query.limit)?;
    let waiting = match query.state {
        WaitingState::Unknown => WaitingAttempt::Unknown,
        WaitingState::NeedsOperator => WaitingAttempt::NeedsOperator,
    };
    let platform = &merchant.platform;
    let found = platform.waiting_attempts(&merchant.id, waiting, query.cursor, limit);
    let clocks = state.clocks();
    Ok(Json(Page::of(
        found.await?,
        limit,
        |attempt| attempt.id.to_string(),
        |attempt| AttemptBody::new(attempt, clocks),
    )))
}

/// Shows a payment attempt.
#[utoipa::path(
    get,
    path = "/v1/attempts/{id}",
    tag = "payments",
    params(("id" = String, Path, description = "The attempt")),
    responses((status = 200, description = "The attempt", body = AttemptBody), Problems)
)]
pub(super) async fn show(
    State(state): State<ApiState>,
    merchant: Merchant,
    PathId(id): PathId<AttemptId>,
) -> Result<Json<AttemptBody>, Problem> {
    let attempt = merchant.platform.attempt(&merchant.id, id).await?;
    Ok(Json(AttemptBody::new(attempt, state.clocks())))
}

/// Asks the gateway about an attempt without a final answer now, also about one that needs an operator.
#[utoipa::path(
    post,
    path = "/v1/attempts/{id}/retry",
    tag = "payments",
    params(("id" = String, Path, description = "The attempt")),
    responses((status = 200, description = "The attempt", body = AttemptBody), Problems)
)]
pub(super) async fn retry(
    State(state): State<ApiState>,
    merchant: Merchant,
    PathId(id): PathId<AttemptId>,
) -> Result<Json<AttemptBody>, Problem> {
    let attempt = merchant.platform.retry_attempt(&merchant.id, id).await?;
    Ok(Json(AttemptBody::new(attempt, state.clocks())))
}

/// Settles an attempt by hand. Money pays the order if that is still open, and is refunded otherwise; an order that is
/// closing and has no other attempt without an answer closes. Repeated, it changes nothing.
#[utoipa::path(
    post,
    path = "/v1/attempts/{id}/settle",
    tag = "payments",
    params(("id" = String, Path, description = "The attempt")),
    request_body = SettleBody,
    responses((status = 200, description = "The attempt", body = AttemptBody), Problems)
)]
pub(super) async fn settle(
    State(state): State<ApiState>,
    Admin(merchant): Admin,
    PathId(id): PathId<AttemptId>,
    StrictJson(body): StrictJson<SettleBody>,
) -> Result<Json<AttemptBody>, Problem> {
    let settlement = match body.result {
        AttemptResult::Paid => AttemptSettlement::Paid {
            amount_minor: body.amount_minor,
            currency: body.currency,
        },
        AttemptResult::Failed if body.amount_minor.is_some() || body.currency.is_some() => {
            let detail = "an attempt that failed has no amount";
            return Err(Problem::invalid("/amount_minor", detail));
        }
        AttemptResult::Failed => AttemptSettlement::Failed,
    };
    let platform = &merchant.platform;
    let settled = platform.settle_attempt(&merchant.id, id, &body.reference, settlement);
    Ok(Json(AttemptBody::new(settled.await?, state.clocks())))
}
