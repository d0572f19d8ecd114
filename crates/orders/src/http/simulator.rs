//! Serves the buyers of the simulated gateway, for trying the platform and for demos.

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

/// A simulated payment; an empty body pays the requested amount.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Pay {
    /// Pays this amount instead of the requested one, in minor units.
    amount_minor: Option<i64>,
    /// Pays in this currency instead of the requested one.
    #[schema(example = "EUR")]
    currency: Option<String>,
    /// Pays although the attempt is closed or paid: a late or duplicate payment.
    forced: bool,
}

/// A transaction at the simulated gateway.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SimulatedPayment {
    /// The gateway's own id of the transaction.
    transaction_id: String,
    /// `processing` while the payment is under way, then `paid`.
    #[schema(example = "paid")]
    state: &'static str,
    /// The amount paid, in minor units.
    amount_minor: i64,
    /// The currency it was paid in.
    #[schema(example = "EUR")]
    currency: String,
    /// When the payment was or will be received.
    #[schema(value_type = String, format = DateTime)]
    paid_at: Instant,
}

/// An attempt at the simulated gateway.
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
    /// How much has been refunded, in minor units.
    refunded_minor: i64,
}

/// Pays an attempt, as the buyer would on the gateway's page.
#[utoipa::path(
    post,
    path = "/v1/simulator/attempts/{id}/pay",
    tag = "simulator",
    params(("id" = String, Path, description = "The attempt")),
    request_body = Option<Pay>,
    responses(
        (status = 200, description = "The gateway receives the payment and calls the platform back", body = SimulatedPayment),
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
            format!("attempt {attempt_id} cannot be paid: {error}"),
        )),
    }
}

/// Shows an attempt as the simulated gateway sees it.
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
    let now_ms = state.clock().wall_now_ms();
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
