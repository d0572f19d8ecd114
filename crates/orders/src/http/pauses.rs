//! Serves pause and resume: they hold back the closing of orders while a gateway is down.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ApiState;
use super::auth::{AdminCaller, Caller};
use super::extract::{Page, StrictJson};
use super::problem::{Problem, ProblemKind, Problems};
use crate::ids::GatewayAccountId;
use crate::model::pause::{self, PauseScope, PauseState};
use edge::instant::{Clocks, Instant};

/// The scope of a pause.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Scope {
    /// Everything; for the operator.
    All,
    /// The calling merchant's orders.
    Merchant,
    /// Orders with a live payment attempt at one gateway account of the merchant.
    Gateway,
}

/// A pause to start.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PauseRequest)]
pub(super) struct PauseBody {
    /// `all`, `merchant` or `gateway`.
    scope: Scope,
    /// The gateway account, if the scope is `gateway`.
    #[schema(value_type = Option<String>)]
    account_id: Option<GatewayAccountId>,
    /// The reason, for the operator.
    #[schema(example = "the gateway is down", max_length = 200)]
    reason: String,
}

/// A pause to end.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ResumeRequest)]
pub(super) struct ResumeBody {
    /// `all`, `merchant` or `gateway`.
    scope: Scope,
    /// The gateway account, if the scope is `gateway`.
    #[schema(value_type = Option<String>)]
    account_id: Option<GatewayAccountId>,
}

/// A pause.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Pause)]
pub(super) struct PauseView {
    /// `all`, `merchant` or `gateway`.
    #[schema(example = "gateway")]
    scope: &'static str,
    /// The merchant or gateway account; none if the scope is `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// `paused`, `resuming` while what waited is released at a limited rate, or `ended`.
    #[schema(example = "paused")]
    state: &'static str,
    /// `request`, or `clock` for one that began because the clock was too far ahead of the last recorded instant.
    #[schema(example = "request")]
    cause: &'static str,
    /// The reason.
    reason: String,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    since: Instant,
}

impl PauseView {
    /// Creates the answer, with the instants of the wall clock.
    fn new(pause: pause::Pause, clocks: Clocks) -> Self {
        let (scope, subject) = match pause.scope {
            PauseScope::Everything => ("all", None),
            PauseScope::Merchant(id) => ("merchant", Some(id.to_string())),
            PauseScope::Account(id) => ("gateway", Some(id.to_string())),
        };
        Self {
            scope,
            subject,
            state: match pause.state {
                PauseState::Paused => "paused",
                PauseState::Resuming => "resuming",
                PauseState::Ended => "ended",
            },
            cause: pause.cause.as_str(),
            reason: pause.reason,
            since: clocks.shown(pause.since_ms),
        }
    }
}

/// Returns the scope of the request, if the caller may pause it.
async fn scope_of(
    state: &ApiState,
    caller: &Caller,
    scope: Scope,
    account_id: Option<GatewayAccountId>,
) -> Result<PauseScope, Problem> {
    match (scope, account_id) {
        (Scope::All, None) if caller.operator => Ok(PauseScope::Everything),
        (Scope::All, None) => {
            let detail = "only the operator can pause and resume everything";
            Err(Problem::new(ProblemKind::Forbidden, detail))
        }
        (Scope::Merchant, None) => Ok(PauseScope::Merchant(caller.merchant.id.clone())),
        (Scope::Gateway, Some(id)) => {
            let account = state.platform().gateway_account(id).await?;
            if account.merchant_id == caller.merchant.id {
                return Ok(PauseScope::Account(id));
            }
            let detail = format!("there is no gateway account {id}");
            Err(Problem::new(ProblemKind::NotFound, detail))
        }
        (Scope::Gateway, None) => {
            let detail = "account_id is missing; the scope `gateway` needs it";
            Err(Problem::invalid("/account_id", detail))
        }
        (Scope::All | Scope::Merchant, Some(_)) => {
            let detail = "account_id is only allowed with the scope `gateway`";
            Err(Problem::invalid("/account_id", detail))
        }
    }
}

/// Stops the closing of orders at their deadlines. They can still be paid before their deadlines, cancelled and extended.
#[utoipa::path(
    post,
    path = "/v1/pause",
    tag = "operation",
    request_body = PauseBody,
    responses((status = 200, description = "The pause", body = PauseView), Problems)
)]
pub(super) async fn pause(
    State(state): State<ApiState>,
    AdminCaller(caller): AdminCaller,
    StrictJson(body): StrictJson<PauseBody>,
) -> Result<Json<PauseView>, Problem> {
    let scope = scope_of(&state, &caller, body.scope, body.account_id).await?;
    let pause = caller.merchant.platform.pause(scope, &body.reason).await?;
    Ok(Json(PauseView::new(pause, state.clocks())))
}

/// Ends a pause; the orders that waited close at a limited rate. Repeated, it changes nothing.
#[utoipa::path(
    post,
    path = "/v1/resume",
    tag = "operation",
    request_body = ResumeBody,
    responses((status = 200, description = "The pause, resuming or ended", body = PauseView), Problems)
)]
pub(super) async fn resume(
    State(state): State<ApiState>,
    AdminCaller(caller): AdminCaller,
    StrictJson(body): StrictJson<ResumeBody>,
) -> Result<Json<PauseView>, Problem> {
    let scope = scope_of(&state, &caller, body.scope, body.account_id).await?;
    let pause = caller.merchant.platform.resume(scope).await?;
    Ok(Json(PauseView::new(pause, state.clocks())))
}

/// Lists the pauses that concern the caller.
#[utoipa::path(
    get,
    path = "/v1/pauses",
    tag = "operation",
    responses((status = 200, description = "All pauses", body = Page<PauseView>), Problems)
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
) -> Result<Json<Page<PauseView>>, Problem> {
    let mut pauses = caller.merchant.platform.pauses().await?;
    if !caller.operator {
        let mine = &caller.merchant.id;
        let accounts = caller
            .merchant
            .platform
            .gateway_accounts(Some(mine))
            .await?;
        pauses.retain(|pause| match &pause.scope {
            PauseScope::Everything => true,
            PauseScope::Merchant(id) => id == mine,
            PauseScope::Account(id) => accounts.iter().any(|account| account.id == *id),
        });
    }
    let clocks = state.clocks();
    let pauses = pauses.into_iter();
    let shown = pauses.map(|item| PauseView::new(item, clocks));
    Ok(Json(Page::whole(shown)))
}
