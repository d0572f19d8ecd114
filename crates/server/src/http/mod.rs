//! Provides the JSON API of the broker: messages, timers, and everything an operator asks for.
//!
//! [`app`] builds the router, which a test calls without a port; [`run`] serves it. One module per resource has
//! its handlers and its request and answer types. Wire types are this module's own: what the broker stores and
//! what it says over HTTP change apart from each other.

mod admission;
mod auth;
mod content;
mod dead_letters;
mod deliveries;
mod envelope;
mod extract;
mod gauges;
mod groups;
mod health;
mod limits;
mod messages;
mod metrics;
mod openapi;
pub mod problem;
mod refusal;
mod serve;
#[cfg(test)]
mod tests;
mod timers;
mod topics;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware;
use axum::routing::get;
use broker::Broker;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower_http::catch_panic::CatchPanicLayer;

use self::admission::Admission;
use self::metrics::Requests;
use crate::access::Authenticate;
use crate::connections::Connections;
use edge::accept::{Bounds, Entrance};
use edge::instant::Clocks;
use edge::tls::Tls;

pub use self::limits::HttpLimits;
pub use self::metrics::{MetricsTaken, install_metrics};
pub use self::openapi::openapi_document;
pub use metrics_exporter_prometheus::PrometheusHandle;

/// How often collected durations are folded into their histograms.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// What the API needs beside the broker.
#[derive(Clone)]
pub struct ApiSettings {
    /// What tells who a caller is.
    pub authenticate: Arc<dyn Authenticate>,
    /// What knows who is connected to the other front ends.
    pub connections: Arc<dyn Connections>,
    /// The figures this process collects; [`install_metrics`] makes them if nothing else does.
    pub metrics: PrometheusHandle,
    /// Bounds.
    pub limits: HttpLimits,
}

/// What the handlers work with; clones are the same.
#[derive(Clone)]
pub struct ApiState {
    shared: Arc<Shared>,
}

struct Shared {
    broker: Broker,
    settings: ApiSettings,
    admission: Admission,
    requests: Requests,
    /// Whether the server is to stop: long polls end then.
    stopping: watch::Sender<bool>,
}

impl ApiState {
    /// The state of an API in front of `broker`.
    pub fn new(broker: Broker, settings: ApiSettings) -> Self {
        metrics::describe();
        let shared = Shared {
            broker,
            settings,
            admission: Admission::default(),
            requests: Requests::default(),
            stopping: watch::Sender::new(false),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    fn broker(&self) -> &Broker {
        &self.shared.broker
    }

    fn settings(&self) -> &ApiSettings {
        &self.shared.settings
    }

    fn admission(&self) -> &Admission {
        &self.shared.admission
    }

    fn clocks(&self) -> Clocks {
        Clocks::read(self.broker().clock().as_ref())
    }

    /// Ends when the server is told to stop.
    async fn stopping(&self) {
        let mut stopping = self.shared.stopping.subscribe();
        // The sender lives as long as this state does.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
}

/// The whole API as one service.
pub fn app(state: ApiState) -> Router {
    let (router, document) = openapi::routes();
    router
        .route("/openapi.json", get(openapi::serve(&document)))
        .route("/problems/{code}", get(health::explain))
        .fallback(envelope::no_such_path)
        .method_not_allowed_fallback(envelope::no_such_method)
        .layer(CatchPanicLayer::custom(envelope::panicked))
        .layer(middleware::from_fn_with_state(
            state.clone(),
            envelope::envelope,
        ))
        .with_state(state)
}

/// Serves the API on `listener` until `shutdown` ends. Long polls end then with what they have; other requests
/// under way get a while to end. With `tls` both clear text and TLS are spoken, told apart by the first byte.
pub async fn run(
    listener: TcpListener,
    state: ApiState,
    tls: Option<Tls>,
    shutdown: impl Future<Output = ()>,
) {
    let figures = state.settings().metrics.clone();
    // Durations collect in memory until somebody reads the figures, or this does.
    let upkeep = tokio::spawn(async move {
        let mut every = broker::clock::monotonic::interval(UPKEEP_EVERY);
        loop {
            every.tick().await;
            figures.run_upkeep();
        }
    });
    let limits = &state.settings().limits;
    let entrance = Entrance {
        front: serve::Front::new(limits, app(state.clone())),
        bounds: Bounds::from(limits),
        tls,
        clock: Arc::clone(state.broker().clock()),
        stopping: state.shared.stopping.subscribe(),
    };
    let connections = entrance.accept(&listener, shutdown).await;
    drop(listener);
    state.shared.stopping.send_replace(true);
    entrance.drain(connections).await;
    upkeep.abort();
}
