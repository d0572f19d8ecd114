//! Provides the answers for whoever watches the process: alive, ready, what the API is.

use axum::Json;
use axum::extract::State;
use edge::health::Health;

use super::ApiState;
use super::problem::{Problem, Problems};

/// Whether the platform can take requests at present: its database answers and it is not stopping.
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
