//! Serves the state of the process: readiness, the broker, the connected clients.

use axum::Json;
use axum::extract::State;
use edge::health::Health;
use serde::Serialize;
use utoipa::ToSchema;

use super::ApiState;
use super::auth::Known;
use super::extract::Page;
use super::problem::{Problem, Problems};
use super::refusal::of_broker;
use crate::connections::Connection;
use edge::instant::Instant;

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
    /// Free bytes on its disk.
    free_bytes: u64,
    /// Free bytes below which new messages are refused.
    reserve_bytes: u64,
    /// Size of its store, in bytes.
    store_bytes: u64,
}

/// A connected client.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Connection)]
pub(super) struct ConnectionBody {
    /// The id that the client chose.
    client_id: String,
    /// Its address and port.
    remote: String,
    /// Its protocol.
    #[schema(example = "grpc")]
    protocol: &'static str,
    /// The type that the client reports.
    #[schema(example = "push consumer")]
    role: String,
    /// Language and version of its library, as reported by the client.
    #[schema(example = "JAVA 5.2.0")]
    library: String,
    /// The consumer group it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    /// The topics it sends to or is subscribed to.
    topics: Vec<String>,
    /// When it connected.
    #[schema(value_type = String, format = DateTime)]
    since: Instant,
}

/// Reports whether the broker is ready.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operation",
    responses((status = 200, description = "The broker is ready", body = Health), Problems)
)]
pub(super) async fn readyz(State(state): State<ApiState>) -> Result<Json<Health>, Problem> {
    match state.broker().health() {
        broker::Health::Running => Ok(Health::ok()),
        broker::Health::Stopped => Err(of_broker(broker::Error::Stopped)),
        broker::Health::Failed(_) => Err(of_broker(broker::Error::Failed)),
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
    let space = broker.space().await.map_err(of_broker)?;
    let clocks = state.clocks();
    Ok(Json(BrokerBody {
        version: env!("CARGO_PKG_VERSION"),
        now: clocks.wall(clocks.now_ms),
        topics: broker.topics().await.map_err(of_broker)?.len(),
        groups: broker.groups().await.map_err(of_broker)?.len(),
        free_bytes: space.free_bytes,
        reserve_bytes: space.reserve_bytes,
        store_bytes: space.store_bytes,
    }))
}

/// Lists the connected clients.
#[utoipa::path(
    get,
    path = "/v1/connections",
    tag = "operation",
    responses((status = 200, description = "The connected clients", body = Page<ConnectionBody>), Problems)
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
