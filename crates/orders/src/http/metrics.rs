//! Serves the metrics of the platform as Prometheus text.

use axum::extract::State;
use axum::response::Response;
use edge::metrics::{MetricsTaken, PrometheusHandle, RequestMetricNames, page};

use super::ApiState;
use crate::metrics::NEEDS_OPERATOR;

/// The metrics of this API's requests.
pub(super) const HTTP: RequestMetricNames = RequestMetricNames {
    requests: "duetime_http_requests_total",
    duration: "duetime_http_request_duration_seconds",
    duration_by_status: false,
};

/// Starts to collect the metrics of this process; a repeated call returns the same collection.
pub fn install_metrics() -> Result<PrometheusHandle, MetricsTaken> {
    let handle = edge::metrics::install()?;
    describe();
    Ok(handle)
}

/// Counters, and what they count.
const COUNTERS: [(&str, &str); 11] = [
    (
        HTTP.requests,
        "Requests answered, by method, route and status",
    ),
    ("duetime_orders_closed_total", "Orders closed, by reason"),
    ("duetime_orders_paid_total", "Orders paid"),
    (
        "duetime_webhook_deliveries_total",
        "Deliveries to webhooks that ended, by outcome: delivered or given_up",
    ),
    (
        "duetime_payments_not_accepted_total",
        "Late, duplicate or wrong payments, which are refunded, by kind",
    ),
    (
        "duetime_lost_races_total",
        "Transitions that lost a race, by transition and cause",
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
        "Expired items found by the sweeper and not by their timer, by kind; the target is 0",
    ),
    (
        "duetime_needs_operator_total",
        "Attempts and refunds that wait for the operator, by kind",
    ),
    (
        "duetime_outbox_parked_total",
        "Messages that the broker refuses permanently",
    ),
];

/// Histograms of durations, and what they measure.
const DURATIONS: [(&str, &str); 2] = [
    (HTTP.duration, "How long requests took, by method and route"),
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
        NEEDS_OPERATOR,
        "What needs an operator now: refunds, payment attempts, orders, payments without an order, and refunds beyond what was paid"
    );
    metrics::describe_gauge!(
        "duetime_closing_paused",
        "Pauses of closing in force, by cause: `request`, or `clock` for a clock too far ahead to be believed"
    );
    metrics::describe_gauge!(
        "duetime_outbox_age_seconds",
        metrics::Unit::Seconds,
        "How long the oldest message has waited to be published"
    );
    metrics::describe_gauge!(
        "duetime_outbox_waiting",
        "Messages that wait to be published, by topic"
    );
    metrics::describe_gauge!(
        "duetime_outbox_parked",
        "Messages that the broker refuses permanently and that wait for the operator"
    );
    metrics::describe_histogram!(
        "duetime_sql_commit_requests",
        "Requests that shared a commit of the database"
    );
    for (name, text) in DURATIONS {
        metrics::describe_histogram!(name, metrics::Unit::Seconds, text);
    }
}

/// The metrics of this process, in Prometheus' text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operation",
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain"))
)]
pub(super) async fn show_metrics(State(state): State<ApiState>) -> Response {
    state.platform().measure_needs_operator().await;
    state.platform().measure_pauses().await;
    state.platform().measure_outbox().await;
    page(state.metrics().render())
}
