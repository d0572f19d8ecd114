//! Provides the simulated gateway's buyers over HTTP, for people and demos that try the platform.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ApiState;
use super::extract::{OptionalJson, PathText};
use super::problem::{Problem, ProblemKind, Problems};
use edge::instant::Instant;
use gateway::simulator::{PayRefused, PayRequest, Simulator};
use gateway::{Paid, QueryOutcome};

/// What the buyer does; an empty body pays what was asked.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Pay {
    /// Pays this many minor units and not what was asked.
    amount_minor: Option<i64>,
    /// Pays in this currency and not in the one asked for.
    #[schema(example = "EUR")]
    currency: Option<String>,
    /// Pays although the attempt is closed or paid: money that arrives too late, or twice.
    forced: bool,
}

/// A transaction at the simulated gateway.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SimulatedPayment {
    /// The gateway's number of the transaction.
    transaction_id: String,
    /// `processing` while the payment is under way, then `paid`.
    #[schema(example = "paid")]
    state: &'static str,
    /// What was paid, in minor units.
    amount_minor: i64,
    /// The currency it was paid in.
    #[schema(example = "EUR")]
    currency: String,
    /// When the money was or will be taken.
    #[schema(value_type = String, format = DateTime)]
    paid_at: Instant,
}

/// What the simulated gateway knows of an attempt.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SimulatedAttempt {
    /// The attempt.
    #[schema(example = "att_01h455vb4pex5vsknk084sn02q")]
    attempt_id: String,
    /// `pending`, `processing`, `paid` or `closed`.
    #[schema(example = "pending")]
    state: &'static str,
    /// Its transactions.
    transactions: Vec<SimulatedPayment>,
    /// How much has been given back, in minor units.
    refunded_minor: i64,
}

/// Pays an attempt, as its buyer would on the gateway's page.
#[utoipa::path(
    post,
    path = "/v1/simulator/attempts/{id}/pay",
    tag = "simulator",
    params(("id" = String, Path, description = "The attempt")),
    request_body = Pay,
    responses(
        (status = 200, description = "The gateway takes the money and calls the platform back", body = SimulatedPayment),
        Problems
    )
)]
pub(super) async fn pay(
    State(state): State<ApiState>,
    PathText(attempt_id): PathText,
    OptionalJson(pay): OptionalJson<Pay>,
) -> Result<Json<SimulatedPayment>, Problem> {
    let simulator = simulator(&state)?;
    let request = PayRequest {
        amount: pay.amount_minor,
        currency: pay.currency,
        forced: pay.forced,
    };
    if request.amount.is_some_and(|amount| amount <= 0) {
        let detail = "amount_minor must be at least 1";
        return Err(Problem::invalid("/amount_minor", detail));
    }
    match simulator.pay(&attempt_id, &request) {
        Ok(result) => Ok(Json(transaction(result.paid, result.under_way))),
        Err(PayRefused::UnknownAttempt) => Err(unknown_attempt(&attempt_id)),
        Err(error) => Err(Problem::new(
            ProblemKind::AttemptNotPayable,
            format!("attempt {attempt_id} takes no money: {error}"),
        )),
    }
}

/// Shows what the gateway knows of an attempt.
#[utoipa::path(
    get,
    path = "/v1/simulator/attempts/{id}",
    tag = "simulator",
    params(("id" = String, Path, description = "The attempt")),
    responses(
        (status = 200, description = "The attempt", body = SimulatedAttempt),
        Problems
    )
)]
pub(super) async fn show(
    State(state): State<ApiState>,
    PathText(attempt_id): PathText,
) -> Result<Json<SimulatedAttempt>, Problem> {
    let view = simulator(&state)?.attempt(&attempt_id);
    let view = view.ok_or_else(|| unknown_attempt(&attempt_id))?;
    let state_name = match view.state {
        QueryOutcome::Paid(_) => "paid",
        QueryOutcome::Processing => "processing",
        QueryOutcome::Closed => "closed",
        QueryOutcome::Pending | QueryOutcome::NotFound | QueryOutcome::Unknown { .. } => "pending",
    };
    let now_ms = state.clock().now_ms();
    let transactions = view.payments.into_iter().map(|paid| {
        let under_way = paid.paid_at_ms > now_ms;
        transaction(paid, under_way)
    });
    Ok(Json(SimulatedAttempt {
        attempt_id,
        state: state_name,
        transactions: transactions.collect(),
        refunded_minor: view.refunded,
    }))
}

fn simulator(state: &ApiState) -> Result<&Simulator, Problem> {
    let simulator = state.settings().simulator.as_ref();
    simulator.ok_or_else(|| Problem::new(ProblemKind::NotFound, "the simulator is off"))
}

fn unknown_attempt(attempt_id: &str) -> Problem {
    let detail = format!("the simulated gateway has no attempt {attempt_id}");
    Problem::new(ProblemKind::NotFound, detail)
}

fn transaction(paid: Paid, under_way: bool) -> SimulatedPayment {
    SimulatedPayment {
        transaction_id: paid.transaction_id,
        state: if under_way { "processing" } else { "paid" },
        amount_minor: paid.money.amount,
        currency: paid.money.currency,
        paid_at: Instant::from_ms(paid.paid_at_ms),
    }
}
