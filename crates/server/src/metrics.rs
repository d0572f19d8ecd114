//! Measures how late messages are delivered, for all front ends.

use std::time::Duration;

use broker::Delivered;

const LATENESS: &str = "duetime_broker_delivery_lateness_seconds";

/// The front end that delivers a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrontEnd {
    Grpc,
    Http,
}

/// Describes the metrics.
pub(crate) fn describe() {
    metrics::describe_histogram!(
        LATENESS,
        metrics::Unit::Seconds,
        "How long after their due time messages were first delivered, by protocol"
    );
}

/// Records how late messages are delivered at `now_ms` of the engine clock; only first deliveries count.
pub(crate) fn lateness(front_end: FrontEnd, now_ms: u64, delivered: &[Delivered]) {
    let mut first = delivered.iter().filter(|one| one.attempt == 1).peekable();
    if first.peek().is_none() {
        return;
    }
    let histogram = match front_end {
        FrontEnd::Grpc => metrics::histogram!(LATENESS, "protocol" => "grpc"),
        FrontEnd::Http => metrics::histogram!(LATENESS, "protocol" => "http"),
    };
    for one in first {
        let late_ms = now_ms.saturating_sub(one.message.place.due_ms);
        histogram.record(Duration::from_millis(late_ms));
    }
}
