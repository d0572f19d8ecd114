//! Serves the HTTP API of the order platform.
//!
//! [`app`] builds the router, which a test calls without a port; [`run`] serves it. One module per resource has
//! its routes and its request and answer types; [`problem`] has the errors. Wire types are defined here, apart
//! from stored types, so that the two can change independently.

mod admission;
mod attempts;
mod audit;
mod auth;
mod coupons;
mod events;
mod extract;
mod health;
mod merchants;
mod metrics;
mod openapi;
mod orders;
mod outbox;
mod pauses;
mod payments;
pub mod problem;
mod products;
mod refunds;
mod refusal;
mod simulator;
#[cfg(test)]
mod tests;
mod unmatched;
mod webhooks;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use broker::clock::Clock;
use edge::accept::Bounds;
use edge::admission::RequestLimit;
use edge::api::Api;
use edge::instant::Clocks;
use edge::metrics::{PrometheusHandle, RequestMetrics};
use edge::serve::{HttpLimits, HttpServer};
use edge::tls::Tls;
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::admission::{Admission, KeyPlace};
use self::extract::IdempotencyKey;
use self::problem::{Problem, ProblemKind};
use crate::ids::MerchantId;
use crate::limits::{
    BODY_BYTES_MAX, CONNECTIONS_MAX, HEADER_TIMEOUT, HEADERS_MAX, REQUEST_TIMEOUT,
};
use crate::platform::Platform;
use crate::store::idempotency::Idempotency;
use gateway::simulator::Simulator;

pub use self::auth::OperatorKey;
pub use self::events::{event_data_schema, events_markdown};
pub use self::metrics::install_metrics;
pub use self::openapi::openapi_document;
pub use edge::metrics::MetricsTaken;

/// The settings of the API.
#[derive(Clone, Default)]
pub struct ApiSettings {
    /// The operator's key for calls from other machines; without it such calls are refused.
    pub operator_key: Option<OperatorKey>,
    /// Whether callers on this machine need no key; they are the operator and merchant `default`.
    pub trust_loopback: bool,
    /// Whether that ends when an account at another gateway than the simulator is made.
    pub trust_ends_with_real_gateway: bool,
    /// The simulated gateway, if it is on.
    pub simulator: Option<Simulator>,
}

/// The state shared by the handlers; clones share everything.
#[derive(Clone)]
pub struct ApiState {
    shared: Arc<Shared>,
}

struct Shared {
    platform: Platform,
    clock: Arc<dyn Clock>,
    metrics: PrometheusHandle,
    settings: ApiSettings,
    admission: Admission,
    requests: RequestMetrics,
    /// Whether the server is stopping: requests that wait for events end then.
    stopping: watch::Sender<bool>,
}

impl ApiState {
    /// Creates the state of an API for `platform`.
    pub fn new(
        platform: Platform,
        clock: Arc<dyn Clock>,
        metrics: PrometheusHandle,
        settings: ApiSettings,
    ) -> Self {
        let shared = Shared {
            platform,
            clock,
            metrics,
            settings,
            admission: Admission::default(),
            requests: RequestMetrics::new(metrics::HTTP),
            stopping: watch::Sender::new(false),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    fn platform(&self) -> &Platform {
        &self.shared.platform
    }

    fn clock(&self) -> &dyn Clock {
        self.shared.clock.as_ref()
    }

    /// Reads the engine clock and the wall clock.
    fn clocks(&self) -> Clocks {
        Clocks::read(self.clock())
    }

    fn metrics(&self) -> &PrometheusHandle {
        &self.shared.metrics
    }

    /// Whether callers on this machine need no key now.
    fn trusts_this_machine(&self) -> bool {
        let settings = self.settings();
        let ended = settings.trust_ends_with_real_gateway && self.platform().has_new_real_gateway();
        settings.trust_loopback && !ended
    }

    fn settings(&self) -> &ApiSettings {
        &self.shared.settings
    }

    fn admission(&self) -> &Admission {
        &self.shared.admission
    }

    /// Completes when the server stops.
    async fn stopping(&self) {
        let mut stopping = self.shared.stopping.subscribe();
        // The sender lives as long as `self`.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
}

/// A request with an idempotency key that is under way.
struct Keyed {
    /// The key and the fingerprint of the request.
    idempotency: Idempotency,
    /// Excludes requests with the same key until this one is answered.
    _place: KeyPlace,
}

impl ApiState {
    /// Reserves the key for a request of the merchant; `operation` is its method and path.
    fn keyed(
        &self,
        merchant: &MerchantId,
        IdempotencyKey(key): &IdempotencyKey,
        operation: &str,
        body: &[u8],
    ) -> Result<Keyed, Problem> {
        let place = self.admission().key(merchant, key)?;
        Ok(Keyed {
            idempotency: Idempotency::new(key, operation, body)?,
            _place: place,
        })
    }
}

impl Api for ApiState {
    type Kind = ProblemKind;
    const BODY_BYTES_MAX: usize = BODY_BYTES_MAX;
    // A gateway calls the address that its operator has entered there.
    const ANY_QUERY: &'static [&'static str] = &["/v1/gateways/{account_id}/callbacks"];

    fn requests(&self) -> &RequestLimit {
        &self.admission().requests
    }

    fn request_metrics(&self) -> &RequestMetrics {
        &self.shared.requests
    }

    fn request_timeout(&self) -> Duration {
        REQUEST_TIMEOUT
    }
}

/// Returns the API as one service.
pub fn app(state: ApiState) -> Router {
    let (routes, document) = openapi::routes(state.settings().simulator.is_some());
    edge::envelope::app(routes, &document, state)
}

/// Serves the API on `listener` until `shutdown` ends; requests under way get up to `drain` to end. With `tls` both clear
/// text and TLS are spoken; the first byte of a connection decides.
pub async fn run(
    listener: TcpListener,
    state: ApiState,
    tls: Option<Tls>,
    shutdown: impl Future<Output = ()>,
    drain: Duration,
) {
    let defaults = HttpLimits::default();
    let limits = HttpLimits {
        bounds: Bounds {
            connections_max: CONNECTIONS_MAX,
            drain,
            ..defaults.bounds
        },
        headers_max: HEADERS_MAX,
        headers: HEADER_TIMEOUT,
        request: REQUEST_TIMEOUT,
        ..defaults
    };
    let server = HttpServer {
        router: app(state.clone()),
        limits,
        tls,
        clock: Arc::clone(&state.shared.clock),
        stopping: state.shared.stopping.clone(),
    };
    server.run(listener, shutdown).await;
}
