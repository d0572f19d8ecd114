//! Serves the readiness check.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::ApiState;
use super::problem::{Problem, Problems};

/// Whether the platform is ready, and what does not work.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Readiness {
    /// `ok`, or `degraded` if something does not work that orders can do without for a while.
    #[schema(example = "ok")]
    status: &'static str,
    /// What does not work; none if the status is `ok`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<&'static str>,
}

/// Reports whether the platform is ready: its database takes writes, the broker takes messages, and it is not stopping.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operation",
    responses(
        (status = 200, description = "The platform takes requests", body = Readiness),
        Problems
    )
)]
pub(super) async fn readyz(State(state): State<ApiState>) -> Result<Json<Readiness>, Problem> {
    state.platform().check_database().await?;
    let mut reasons = Vec::from_iter(state.platform().check_publishing()?);
    reasons.extend(state.platform().check_clock().await?);
    let status = if reasons.is_empty() { "ok" } else { "degraded" };
    Ok(Json(Readiness { status, reasons }))
}
