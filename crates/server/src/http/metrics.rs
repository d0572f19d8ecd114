//! Serves the metrics of the broker and of this front end as Prometheus text.

use axum::extract::State;
use axum::response::Response;
use edge::metrics::{RequestMetricNames, page};

use super::ApiState;
use super::auth::Known;
use super::gauges;
use super::problem::{Problem, Problems};

/// The metrics of this API's requests.
pub(super) const REQUESTS: RequestMetricNames = RequestMetricNames {
    requests: "duetime_broker_http_requests_total",
    duration: "duetime_broker_http_request_duration_seconds",
    duration_by_status: true,
};

/// Describes the metrics of this front end.
pub(super) fn describe() {
    let unit = metrics::Unit::Seconds;
    metrics::describe_counter!(
        REQUESTS.requests,
        "Requests answered, by method, route and status"
    );
    metrics::describe_histogram!(
        REQUESTS.duration,
        unit,
        "How long requests took, including the wait of long polls, by method, route and status"
    );
    crate::metrics::describe();
}

/// The metrics of this process, in Prometheus' text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operation",
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain"), Problems)
)]
pub(super) async fn show_metrics(
    State(state): State<ApiState>,
    _: Known,
) -> Result<Response, Problem> {
    let mut text = state.settings().metrics.render();
    text.push_str(&gauges::render(&state).await?);
    Ok(page(text))
}
