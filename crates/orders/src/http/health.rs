//! Provides the answers for whoever watches the process: alive, ready, what the API is.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use serde::Serialize;
use utoipa::ToSchema;

use super::ApiState;
use super::problem::{Problem, ProblemKind, Problems};

/// How the process is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`.
    #[schema(example = "ok")]
    status: &'static str,
}

/// Whether the process lives: it answers, so it does.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "operation",
    responses((status = 200, description = "The process lives", body = Health))
)]
pub(super) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

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
    Ok(Json(Health { status: "ok" }))
}

/// Explains a type of problem, in Markdown.
pub(super) async fn explain(
    axum::extract::Path(code): axum::extract::Path<String>,
) -> Result<Response, Problem> {
    let kind = ProblemKind::ALL.iter().find(|kind| kind.code() == code);
    let Some(kind) = kind else {
        let detail = "there is no such type of problem; docs/problems.md lists all";
        return Err(Problem::new(ProblemKind::NotFound, detail));
    };
    let content_type = "text/markdown; charset=utf-8";
    Ok(([(CONTENT_TYPE, content_type)], kind.markdown()).into_response())
}
