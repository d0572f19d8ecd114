//! Serves the readiness check.

use axum::Json;
use axum::extract::State;
use edge::health::Health;

use super::ApiState;
use super::problem::{Problem, Problems};

/// Reports whether the platform is ready: its database answers and it is not stopping.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operation",
    responses(
        (status = 200, description = "The platform takes requests", body = Health),
        Problems
    )
)]
pub(super) async fn readyz(State(state): State<ApiState>) -> Result<Json<Health>, Problem> {
    state.platform().check_database().await?;
    Ok(Health::ok())
}
