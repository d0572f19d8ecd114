//! Provides the figures as Prometheus text, and counts what happens in this front end.

use std::collections::HashMap;
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use metrics::{Counter, Histogram, Label};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::ApiState;
use super::auth::Known;
use super::gauges;
use super::problem::{Problem, Problems};

/// Bucket bounds of durations, in s: a millisecond to an hour.
const DURATION_BUCKETS_S: [f64; 16] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0, 600.0, 3600.0,
];

/// How often samples are folded into buckets.
const FOLD_EVERY: Duration = Duration::from_secs(5);

const REQUESTS: &str = "duetime_broker_http_requests_total";
const DURATION: &str = "duetime_broker_http_request_duration_seconds";

/// Another library of the process collects its figures already.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the process collects its figures in another way already")]
pub struct MetricsTaken;

/// Starts to collect the figures of this process; a repeated call gives the same collection.
///
/// A process that collects figures already passes its own handle to the API instead.
pub fn install_metrics() -> Result<PrometheusHandle, MetricsTaken> {
    static COLLECTION: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let collection = COLLECTION.get_or_init(|| {
        let seconds = Matcher::Suffix("_seconds".to_owned());
        // Fails for an empty list of bounds only.
        let builder = PrometheusBuilder::new().set_buckets_for_metric(seconds, &DURATION_BUCKETS_S);
        let recorder = builder.ok()?.build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).ok()?;
        fold(handle.clone())?;
        Some(handle)
    });
    collection.clone().ok_or(MetricsTaken)
}

/// Folds the samples of histograms into their buckets from now on. They pile up otherwise where nobody reads the page:
/// eight bytes for each message delivered.
fn fold(handle: PrometheusHandle) -> Option<()> {
    let work = move || {
        loop {
            // Nobody unparks it: an early end of the wait would do no harm either.
            std::thread::park_timeout(FOLD_EVERY);
            handle.run_upkeep();
        }
    };
    let thread = std::thread::Builder::new().name("figures".to_owned());
    thread.spawn(work).ok().map(drop)
}

/// Says what the figures of this front end mean.
pub(super) fn describe() {
    let unit = metrics::Unit::Seconds;
    metrics::describe_counter!(REQUESTS, "Requests answered, by method, route and status");
    metrics::describe_histogram!(
        DURATION,
        unit,
        "How long requests took, long polls with their wait, by method, route and status"
    );
    crate::metrics::describe();
}

/// The figures of the requests: each is looked up in the process's collection when it is first needed and kept, so
/// that a request costs no allocation.
///
/// A std lock: held for a look-up, never across an await. There are as few entries as there are routes and statuses.
#[derive(Debug, Default)]
pub(super) struct Requests {
    known: RwLock<HashMap<(&'static str, StatusCode), ByRoute>>,
}

type ByRoute = HashMap<Box<str>, Outcome>;

/// Requests of one method and route that ended with one status.
#[derive(Debug)]
struct Outcome {
    requests: Counter,
    duration: Histogram,
}

impl Outcome {
    fn of(method: &'static str, route: &str, status: StatusCode) -> Self {
        let labels = [
            Label::new("method", method),
            Label::new("route", route.to_owned()),
            Label::new("status", status.as_str().to_owned()),
        ];
        Self {
            requests: metrics::counter!(REQUESTS, labels.iter()),
            duration: metrics::histogram!(DURATION, labels.iter()),
        }
    }

    fn note(&self, took: Duration) {
        self.requests.increment(1);
        self.duration.record(took);
    }
}

impl Requests {
    /// Notes an answered request.
    pub(super) fn note(&self, method: &Method, route: &str, status: StatusCode, took: Duration) {
        let method = match *method {
            Method::GET => "GET",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::DELETE => "DELETE",
            _ => "other",
        };
        let key = (method, status);
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = known.get(&key).and_then(|routes| routes.get(route)) {
            return outcome.note(took);
        }
        drop(known);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let routes = known.entry(key).or_default();
        let outcome = routes.entry(route.into());
        outcome
            .or_insert_with(|| Outcome::of(method, route, status))
            .note(took);
    }
}

/// The figures of this process, in Prometheus' text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operation",
    responses((status = 200, description = "The figures", body = String, content_type = "text/plain"), Problems)
)]
pub(super) async fn show_metrics(
    State(state): State<ApiState>,
    _: Known,
) -> Result<Response, Problem> {
    let mut text = state.settings().metrics.render();
    text.push_str(&gauges::of_broker(&state).await?);
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(CONTENT_TYPE, content_type)], text).into_response())
}
