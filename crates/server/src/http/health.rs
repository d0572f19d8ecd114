//! Provides the answers for whoever watches the process: alive, ready, how the broker is, who is connected.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use broker::Health;
use http::header::CONTENT_TYPE;
use serde::Serialize;
use utoipa::ToSchema;

use super::ApiState;
use super::auth::Known;
use super::extract::Page;
use super::problem::{Problem, ProblemKind, Problems};
use crate::connections::Connection;
use edge::instant::Instant;

/// How the process is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Health)]
pub(super) struct HealthBody {
    /// `ok`.
    #[schema(example = "ok")]
    status: &'static str,
}

/// The broker.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Broker)]
pub(super) struct BrokerBody {
    /// Version of the program.
    version: &'static str,
    /// The broker's time.
    #[schema(value_type = String, format = DateTime)]
    now: Instant,
    /// Number of topics.
    topics: usize,
    /// Number of consumer groups.
    groups: usize,
    /// Bytes free on its disk.
    free_bytes: u64,
    /// Bytes below which new messages are refused.
    reserve_bytes: u64,
    /// Bytes its store takes.
    store_bytes: u64,
}

/// Who is connected.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Connection)]
pub(super) struct ConnectionBody {
    /// The id the client gives itself.
    client_id: String,
    /// Address and port it comes from.
    remote: String,
    /// The protocol it speaks.
    #[schema(example = "grpc")]
    protocol: &'static str,
    /// What the client says it is.
    #[schema(example = "push consumer")]
    role: String,
    /// Language and version of its library, as it says.
    #[schema(example = "JAVA 5.2.0")]
    library: String,
    /// The consumer group it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    /// Topics it sends to or is subscribed to.
    topics: Vec<String>,
    /// Since when it has been connected.
    #[schema(value_type = String, format = DateTime)]
    since: Instant,
}

/// Whether the process lives: it answers, so it does.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "operation",
    responses((status = 200, description = "The process lives", body = HealthBody))
)]
pub(super) async fn healthz() -> Json<HealthBody> {
    Json(HealthBody { status: "ok" })
}

/// Whether the broker takes requests at present.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operation",
    responses((status = 200, description = "The broker takes requests", body = HealthBody), Problems)
)]
pub(super) async fn readyz(State(state): State<ApiState>) -> Result<Json<HealthBody>, Problem> {
    match state.broker().health() {
        Health::Running => Ok(Json(HealthBody { status: "ok" })),
        Health::Stopped => Err(broker::Error::Stopped.into()),
        Health::Failed(_) => Err(broker::Error::Failed.into()),
    }
}

/// Shows the broker as a whole.
#[utoipa::path(
    get,
    path = "/v1/broker",
    tag = "operation",
    responses((status = 200, description = "The broker", body = BrokerBody), Problems)
)]
pub(super) async fn show_broker(
    State(state): State<ApiState>,
    known: Known,
) -> Result<Json<BrokerBody>, Problem> {
    known.administer()?;
    let broker = state.broker();
    let space = broker.space().await?;
    let clocks = state.clocks();
    Ok(Json(BrokerBody {
        version: env!("CARGO_PKG_VERSION"),
        now: clocks.wall(clocks.now_ms),
        topics: broker.topics().await?.len(),
        groups: broker.groups().await?.len(),
        free_bytes: space.free_bytes,
        reserve_bytes: space.reserve_bytes,
        store_bytes: space.store_bytes,
    }))
}

/// Lists who is connected to the front ends that keep connections.
#[utoipa::path(
    get,
    path = "/v1/connections",
    tag = "operation",
    responses((status = 200, description = "Everybody who is connected", body = Page<ConnectionBody>), Problems)
)]
pub(super) async fn connections(
    State(state): State<ApiState>,
    known: Known,
) -> Result<Json<Page<ConnectionBody>>, Problem> {
    known.administer()?;
    let clocks = state.clocks();
    let shown = |connection: Connection| ConnectionBody {
        client_id: connection.client_id,
        remote: connection.remote,
        protocol: connection.protocol,
        role: connection.role,
        library: connection.library,
        group: connection.group,
        topics: connection.topics,
        since: clocks.wall(connection.since_ms),
    };
    let connections = state.settings().connections.connections();
    Ok(Json(Page {
        items: connections.into_iter().map(shown).collect(),
        next_cursor: None,
    }))
}

/// Explains a type of problem, in Markdown.
pub(super) async fn explain(Path(code): Path<String>) -> Result<Response, Problem> {
    let kind = ProblemKind::ALL.iter().find(|kind| kind.code() == code);
    let Some(kind) = kind else {
        let detail = "there is no such type of problem; docs/broker-http.md lists all";
        return Err(Problem::new(ProblemKind::NotFound, detail));
    };
    let content_type = "text/markdown; charset=utf-8";
    Ok(([(CONTENT_TYPE, content_type)], kind.markdown()).into_response())
}
