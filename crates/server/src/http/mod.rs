//! Serves the JSON API of the broker: messages, timers, and administration.
//!
//! [`app`] builds the router, which a test calls without a port; [`run`] serves it. One module per resource has
//! its handlers and its request and answer types. Wire types are defined here, apart from stored types, so that
//! the two can change independently.

mod admission;
mod auth;
mod content;
mod dead_letters;
mod deliveries;
mod extract;
mod gauges;
mod groups;
mod health;
mod limits;
mod messages;
mod metrics;
mod openapi;
mod owned;
pub mod problem;
mod refusal;
#[cfg(test)]
mod tests;
mod timers;
mod topics;
mod transactions;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use broker::Broker;
use edge::admission::RequestLimit;
use edge::api::Api;
use edge::instant::Clocks;
use edge::metrics::RequestMetrics;
use edge::serve::HttpServer;
use edge::tls::Tls;
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::admission::Admission;
use self::limits::REQUEST_BYTES_MAX;
use self::problem::ProblemKind;
use crate::access::Authenticate;
use crate::connections::Connections;

pub use self::openapi::openapi_document;
pub use self::owned::OwnedNames;
pub use edge::budget::Budget;
pub use edge::metrics::{MetricsTaken, PrometheusHandle, install as install_metrics};
pub use edge::serve::HttpLimits;

/// The settings of the API.
#[derive(Clone)]
pub struct ApiSettings {
    /// Finds the accounts of callers.
    pub authenticate: Arc<dyn Authenticate>,
    /// Lists the clients of the other front ends.
    pub connections: Arc<dyn Connections>,
    /// The metrics of this process; [`install_metrics`] creates them if nothing else does.
    pub metrics: PrometheusHandle,
    /// The limits.
    pub limits: HttpLimits,
    /// The budget of the messages that are being sent to consumers, of all front ends.
    pub answers: Arc<Budget>,
    /// What the order platform in this process uses.
    pub owned: OwnedNames,
}

/// The state shared by the handlers; clones share everything.
#[derive(Clone)]
pub struct ApiState {
    shared: Arc<Shared>,
}

struct Shared {
    broker: Broker,
    settings: ApiSettings,
    admission: Admission,
    requests: RequestMetrics,
    /// Whether the server is stopping: long polls end then.
    stopping: watch::Sender<bool>,
}

impl ApiState {
    /// Creates the state of an API for `broker`.
    pub fn new(broker: Broker, settings: ApiSettings) -> Self {
        metrics::describe();
        let shared = Shared {
            broker,
            settings,
            admission: Admission::default(),
            requests: RequestMetrics::new(metrics::REQUESTS),
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

    /// Completes when the server stops.
    async fn stopping(&self) {
        let mut stopping = self.shared.stopping.subscribe();
        // The sender lives as long as `self`.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
}

impl Api for ApiState {
    type Kind = ProblemKind;
    const BODY_BYTES_MAX: usize = REQUEST_BYTES_MAX;

    fn requests(&self) -> &RequestLimit {
        &self.admission().requests
    }

    fn request_metrics(&self) -> &RequestMetrics {
        &self.shared.requests
    }

    fn request_timeout(&self) -> Duration {
        self.settings().limits.request
    }
}

/// Returns the API as one service.
pub fn app(state: ApiState) -> Router {
    let (routes, document) = openapi::routes();
    edge::envelope::app(routes, &document, state)
}

/// Serves the API on `listener` until `shutdown` ends. Long polls end then with what they have; other requests
/// under way get the drain limit to end. With `tls` both clear text and TLS are spoken; the first byte of a connection
/// decides.
pub async fn run(
    listener: TcpListener,
    state: ApiState,
    tls: Option<Tls>,
    shutdown: impl Future<Output = ()>,
) {
    let server = HttpServer {
        router: app(state.clone()),
        limits: state.settings().limits.clone(),
        tls,
        clock: Arc::clone(state.broker().clock()),
        stopping: state.shared.stopping.clone(),
    };
    server.run(listener, shutdown).await;
}
