//! Serves the liveness check that both APIs share.

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

/// The state of the process.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`.
    #[schema(example = "ok")]
    status: &'static str,
}

impl Health {
    /// Returns the answer of a process that is alive or ready.
    pub fn ok() -> Json<Self> {
        Json(Self { status: "ok" })
    }
}

/// Reports that the process is alive.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "operation",
    responses((status = 200, description = "The process is alive", body = Health))
)]
pub fn healthz() -> std::future::Ready<Json<Health>> {
    std::future::ready(Health::ok())
}
