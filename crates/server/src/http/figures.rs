//! Provides the figures as Prometheus text, and counts what happens in this front end.

use std::sync::OnceLock;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::ApiState;
use super::auth::Known;
use super::gauges;
use super::problem::{Problem, Problems};

/// Bucket bounds of durations, in s: a millisecond to an hour.
const DURATION_BUCKETS_S: [f64; 16] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0, 600.0, 3600.0,
];

const REQUESTS: &str = "duetime_broker_http_requests_total";
const REQUEST_DURATION: &str = "duetime_broker_http_request_duration_seconds";

/// Another library of the process collects its figures already.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the process collects its figures in another way already")]
pub struct FiguresTaken;

/// Starts to collect the figures of this process; a repeated call gives the same collection.
///
/// A process that collects figures already passes its own handle to the API instead.
pub fn install_figures() -> Result<PrometheusHandle, FiguresTaken> {
    static COLLECTION: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let collection = COLLECTION.get_or_init(|| {
        let seconds = Matcher::Suffix("_seconds".to_owned());
        // Fails for an empty list of bounds only.
        let builder = PrometheusBuilder::new().set_buckets_for_metric(seconds, &DURATION_BUCKETS_S);
        let recorder = builder.ok()?.build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).ok()?;
        Some(handle)
    });
    collection.clone().ok_or(FiguresTaken)
}

/// Says what the figures of this front end mean.
pub(super) fn describe() {
    let unit = metrics::Unit::Seconds;
    metrics::describe_counter!(REQUESTS, "Requests answered, by method, route and status");
    metrics::describe_histogram!(
        REQUEST_DURATION,
        unit,
        "How long requests took, long polls with their wait, by method and route"
    );
    crate::figures::describe();
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
    responses((status = 200, description = "The figures", body = String, content_type = "text/plain"), Problems)
)]
pub(super) async fn show_figures(
    State(state): State<ApiState>,
    _: Known,
) -> Result<Response, Problem> {
    let mut text = state.settings().figures.render();
    text.push_str(&gauges::of_broker(&state).await?);
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(CONTENT_TYPE, content_type)], text).into_response())
}
