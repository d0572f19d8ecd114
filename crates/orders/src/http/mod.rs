//! Provides the HTTP API of the order platform.
//!
//! [`app`] builds the router, which a test calls without a port; [`run`] serves it. One module per resource has
//! its routes and its request and answer types; [`problem`] has the errors. Wire types are this module's own:
//! what the platform stores and what it says over HTTP change apart from each other.

mod admission;
mod auth;
mod coupons;
mod envelope;
mod extract;
mod health;
mod merchants;
mod metrics;
mod openapi;
mod orders;
mod pauses;
mod payments;
pub mod problem;
mod products;
mod refunds;
mod refusal;
mod server;
mod simulator;
#[cfg(test)]
mod tests;
mod time;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::get;
use broker::clock::Clock;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;

use self::admission::{Admission, KeyPlace};
use self::extract::IdempotencyKey;
use self::problem::Problem;
use crate::ids::MerchantId;
use crate::limits::BODY_BYTES_MAX;
use crate::platform::Platform;
use crate::store::idempotency::Idempotency;
use gateway::simulator::Simulator;

pub use self::auth::OperatorKey;
pub use self::metrics::{MetricsTaken, install_metrics};
pub use self::openapi::openapi_document;
pub use self::server::serve;

/// How the API behaves.
#[derive(Clone, Default)]
pub struct ApiSettings {
    /// The key with which the operator calls from another machine; without it that is not possible.
    pub operator_key: Option<OperatorKey>,
    /// Whether callers on this machine may leave the key out, being the operator and merchant `default` then.
    pub trust_loopback: bool,
    /// The simulator whose buyers can pay over HTTP, if it is on.
    pub simulator: Option<Simulator>,
}

/// What the handlers work with; clones are the same.
#[derive(Clone)]
pub struct ApiState {
    shared: Arc<Shared>,
}

struct Shared {
    platform: Platform,
    clock: Arc<dyn Clock>,
    figures: PrometheusHandle,
    settings: ApiSettings,
    admission: Admission,
}

impl ApiState {
    /// The state of an API in front of `platform`.
    pub fn new(
        platform: Platform,
        clock: Arc<dyn Clock>,
        figures: PrometheusHandle,
        settings: ApiSettings,
    ) -> Self {
        let shared = Shared {
            platform,
            clock,
            figures,
            settings,
            admission: Admission::default(),
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

    /// The time now, in ms since the Unix epoch.
    fn now_ms(&self) -> i64 {
        i64::try_from(self.clock().now_ms()).unwrap_or(i64::MAX)
    }

    fn figures(&self) -> &PrometheusHandle {
        &self.shared.figures
    }

    fn settings(&self) -> &ApiSettings {
        &self.shared.settings
    }

    fn admission(&self) -> &Admission {
        &self.shared.admission
    }
}

/// A request with an idempotency key, in the state of being answered.
struct Keyed {
    /// The key with what tells requests apart.
    idempotency: Idempotency,
    /// Keeps others with the same key out until the answer is made.
    _place: KeyPlace,
}

impl ApiState {
    /// Takes the key for a request of the merchant; `operation` is its method and path.
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

/// The whole API as one service.
pub fn app(state: ApiState) -> Router {
    let (router, document) = openapi::routes(state.settings().simulator.is_some());
    let router = router
        .route("/openapi.json", get(openapi::serve(&document)))
        .route("/problems/{code}", get(health::explain));
    enveloped(router, state)
}

/// Puts around the routes what all of them have in common.
fn enveloped(router: Router<ApiState>, state: ApiState) -> Router {
    router
        .fallback(envelope::no_such_path)
        .method_not_allowed_fallback(envelope::no_such_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(CatchPanicLayer::custom(envelope::panicked))
        .layer(middleware::from_fn_with_state(
            state.clone(),
            envelope::envelope,
        ))
        .with_state(state)
}

/// Serves the API on `listener` until `shutdown` ends; requests under way get up to `drain` to end.
pub async fn run(
    listener: TcpListener,
    state: ApiState,
    shutdown: impl Future<Output = ()>,
    drain: Duration,
) {
    let figures = state.figures().clone();
    // Durations collect in memory until somebody reads the figures, or this does.
    let upkeep = tokio::spawn(async move {
        let mut every = broker::clock::monotonic::interval(UPKEEP_EVERY);
        loop {
            every.tick().await;
            figures.run_upkeep();
        }
    });
    serve(listener, app(state), shutdown, drain).await;
    upkeep.abort();
}

/// How often collected durations are folded into their histograms.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
