//! Provides the figures of the platform as Prometheus text.

use std::sync::OnceLock;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::ApiState;

/// Bucket bounds of durations, in s: a millisecond to an hour.
const DURATION_BUCKETS_S: [f64; 16] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0, 600.0, 3600.0,
];

/// Bucket bounds of how many requests shared a commit.
const GROUP_BUCKETS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// How often samples are folded into buckets.
const FOLD_EVERY: Duration = Duration::from_secs(5);

const REQUESTS: &str = "duetime_http_requests_total";
const REQUEST_DURATION: &str = "duetime_http_request_duration_seconds";

/// Another library of the process collects its figures already.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the process collects its figures in another way already")]
pub struct MetricsTaken;

/// Starts to collect the figures of this process; a repeated call gives the same collection.
pub fn install_metrics() -> Result<PrometheusHandle, MetricsTaken> {
    static COLLECTION: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let collection = COLLECTION.get_or_init(|| {
        // Fails for an empty list of bounds only.
        let seconds = Matcher::Suffix("_seconds".to_owned());
        let requests = Matcher::Suffix("_requests".to_owned());
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(seconds, &DURATION_BUCKETS_S)
            .and_then(|builder| builder.set_buckets_for_metric(requests, &GROUP_BUCKETS));
        let recorder = builder.ok()?.build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).ok()?;
        fold(handle.clone())?;
        describe();
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

/// Figures that are counted, and what they count.
const COUNTERS: [(&str, &str); 10] = [
    (REQUESTS, "Requests answered, by method, route and status"),
    ("duetime_orders_closed_total", "Orders closed, by reason"),
    ("duetime_orders_paid_total", "Orders paid"),
    (
        "duetime_payments_not_accepted_total",
        "Payments that came late, twice or wrong and are refunded, by kind",
    ),
    (
        "duetime_lost_races_total",
        "Transitions that came too late, by transition and cause",
    ),
    (
        "duetime_timers_total",
        "Timers armed, fired, stale, early and parked, by outcome and kind",
    ),
    (
        "duetime_timers_rearmed_total",
        "Timers armed again, by kind",
    ),
    (
        "duetime_sweeper_finds_total",
        "What the sweeper found that its timer should have done, by kind; the target is 0",
    ),
    (
        "duetime_needs_operator_total",
        "Attempts and refunds given up until a person looks at them, by kind",
    ),
    (
        "duetime_outbox_parked_total",
        "Messages that the broker refuses for good",
    ),
];

/// Durations that are collected, and what they are.
const DURATIONS: [(&str, &str); 2] = [
    (
        REQUEST_DURATION,
        "How long requests took, by method and route",
    ),
    (
        "duetime_close_lag_seconds",
        "From an order's deadline to its closing",
    ),
];

fn describe() {
    for (name, text) in COUNTERS {
        metrics::describe_counter!(name, text);
    }
    metrics::describe_gauge!(
        "duetime_outbox_age_seconds",
        metrics::Unit::Seconds,
        "How long the oldest message has waited to be published"
    );
    metrics::describe_histogram!(
        "duetime_sql_commit_requests",
        "Requests that shared a commit of the database"
    );
    for (name, text) in DURATIONS {
        metrics::describe_histogram!(name, metrics::Unit::Seconds, text);
    }
}

/// Counts an answered request.
pub(super) fn request(method: &Method, route: String, status: StatusCode, took_ms: u64) {
    let method = match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    };
    let status = status.as_u16().to_string();
    metrics::counter!(REQUESTS, "method" => method, "route" => route.clone(), "status" => status)
        .increment(1);
    let duration = std::time::Duration::from_millis(took_ms);
    metrics::histogram!(REQUEST_DURATION, "method" => method, "route" => route).record(duration);
}

/// The figures of this process, in Prometheus' text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operation",
    responses((status = 200, description = "The figures", body = String, content_type = "text/plain"))
)]
pub(super) async fn show_metrics(State(state): State<ApiState>) -> Response {
    let text = state.figures().render();
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    ([(CONTENT_TYPE, content_type)], text).into_response()
}
