//! Collects the metrics of the process, serves them as Prometheus text, and counts requests.

use std::collections::HashMap;
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use metrics::{Counter, Histogram, Label};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

pub use metrics_exporter_prometheus::PrometheusHandle;

/// Bucket bounds of durations, in s: a millisecond to an hour.
const DURATION_BUCKETS_S: [f64; 16] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0, 600.0, 3600.0,
];
/// Bucket bounds of numbers of requests.
const REQUEST_BUCKETS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];
/// How often samples are folded into buckets.
const FOLD_EVERY: Duration = Duration::from_secs(5);

/// The process already has a metrics recorder.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("another library of the process already collects its metrics")]
pub struct MetricsTaken;

/// Starts to collect the metrics of this process; a repeated call returns the same collection.
///
/// A process that already collects metrics passes its own handle to the APIs instead, and runs the upkeep itself.
pub fn install() -> Result<PrometheusHandle, MetricsTaken> {
    static COLLECTION: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let collection = COLLECTION.get_or_init(|| {
        let seconds = Matcher::Suffix("_seconds".to_owned());
        let requests = Matcher::Suffix("_requests".to_owned());
        // Fails for an empty list of bounds only.
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(seconds, &DURATION_BUCKETS_S)
            .and_then(|builder| builder.set_buckets_for_metric(requests, &REQUEST_BUCKETS));
        let recorder = builder.ok()?.build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).ok()?;
        fold(handle.clone())?;
        Some(handle)
    });
    collection.clone().ok_or(MetricsTaken)
}

/// Starts to fold the samples of histograms into their buckets. Without it they accumulate where the page is not read:
/// eight bytes for each message delivered.
fn fold(handle: PrometheusHandle) -> Option<()> {
    let work = move || {
        loop {
            // It does no harm if the wait ends early.
            std::thread::park_timeout(FOLD_EVERY);
            handle.run_upkeep();
        }
    };
    let thread = std::thread::Builder::new().name("metrics".to_owned());
    thread.spawn(work).ok().map(drop)
}

/// The names under which an API counts its requests.
#[derive(Clone, Copy, Debug)]
pub struct RequestMetricNames {
    /// The counter of requests, by method, route and status.
    pub requests: &'static str,
    /// The histogram of their durations, by method and route.
    pub duration: &'static str,
    /// Whether the durations are labelled by status too.
    pub duration_by_status: bool,
}

/// The metrics of the requests of an API: each is looked up in the recorder of the process when it is first needed and
/// kept, so
/// that a request costs no allocation.
///
/// A std lock: held for a look-up, never across an await. There is one entry for each route and status.
#[derive(Debug)]
pub struct RequestMetrics {
    names: RequestMetricNames,
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
    fn record(&self, took: Duration) {
        self.requests.increment(1);
        self.duration.record(took);
    }
}

impl RequestMetrics {
    /// Creates metrics of these names.
    pub fn new(names: RequestMetricNames) -> Self {
        Self {
            names,
            known: RwLock::default(),
        }
    }

    /// Records an answered request.
    pub(crate) fn record(&self, method: &Method, route: &str, status: StatusCode, took: Duration) {
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
            return outcome.record(took);
        }
        drop(known);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let routes = known.entry(key).or_default();
        routes
            .entry(route.into())
            .or_insert_with(|| self.outcome(method, route, status))
            .record(took);
    }

    fn outcome(&self, method: &'static str, route: &str, status: StatusCode) -> Outcome {
        let RequestMetricNames {
            requests,
            duration,
            duration_by_status,
        } = self.names;
        let labels = [
            Label::new("method", method),
            Label::new("route", route.to_owned()),
            Label::new("status", status.as_str().to_owned()),
        ];
        let (of_duration, _) = labels.split_at(2 + usize::from(duration_by_status));
        Outcome {
            requests: metrics::counter!(requests, labels.iter()),
            duration: metrics::histogram!(duration, of_duration.iter()),
        }
    }
}

/// Answers a page of metrics, in Prometheus' text format.
pub fn page(text: String) -> Response {
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    ([(CONTENT_TYPE, content_type)], text).into_response()
}
