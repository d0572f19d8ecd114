//! Counts the calls of RocketMQ clients, and measures how long they take.

use std::sync::OnceLock;
use std::time::Duration;

use grpc_api::v2::Code;
use metrics::{Counter, Histogram};

const REQUESTS: &str = "duetime_broker_grpc_requests_total";
const DURATION: &str = "duetime_broker_grpc_request_duration_seconds";
/// The calls that are counted, the frequent ones first.
const METHODS: [&str; 12] = [
    "SendMessage",
    "ReceiveMessage",
    "AckMessage",
    "Heartbeat",
    "QueryRoute",
    "QueryAssignment",
    "EndTransaction",
    "ChangeInvisibleDuration",
    "ForwardMessageToDeadLetterQueue",
    "RecallMessage",
    "NotifyClientTermination",
    "SyncLiteSubscription",
];
/// More than the protocol has codes.
const CODES_MAX: usize = 64;

/// Describes the metrics.
pub(crate) fn describe() {
    crate::metrics::describe();
    metrics::describe_counter!(
        REQUESTS,
        "Calls of RocketMQ clients answered, by method and by the code of the answer"
    );
    metrics::describe_histogram!(
        DURATION,
        metrics::Unit::Seconds,
        "How long calls of RocketMQ clients took, long polls with their wait, by method and by the code of the answer"
    );
}

/// The metrics of one front end: each is looked up in the recorder of the process when it is first needed and kept, so
/// that a call needs no look-up and no allocation.
#[derive(Debug)]
pub(crate) struct CallMetrics {
    methods: Vec<[OnceLock<Outcome>; CODES_MAX]>,
}

/// Calls of one method that ended with one code.
#[derive(Debug)]
struct Outcome {
    code: Code,
    requests: Counter,
    duration: Histogram,
}

impl Outcome {
    fn of(method: &'static str, code: Code) -> Self {
        let name = code.as_str_name();
        Self {
            code,
            requests: metrics::counter!(REQUESTS, "method" => method, "code" => name),
            duration: metrics::histogram!(DURATION, "method" => method, "code" => name),
        }
    }
}

impl CallMetrics {
    pub(crate) fn new() -> Self {
        let row = |_| [const { OnceLock::new() }; CODES_MAX];
        Self {
            methods: METHODS.iter().map(row).collect(),
        }
    }

    /// Records an answered call.
    pub(crate) fn request(&self, method: &'static str, code: Code, took: Duration) {
        let row = METHODS.iter().zip(&self.methods);
        let row = row.filter(|(name, _)| **name == method);
        // Codes are in the order of their first use, so the usual one is found at once. Two threads may
        // both add a new one: the second goes on to the next place.
        let places = row.flat_map(|(_, places)| places);
        let mut outcomes = places.map(|place| place.get_or_init(|| Outcome::of(method, code)));
        if let Some(outcome) = outcomes.find(|outcome| outcome.code == code) {
            outcome.requests.increment(1);
            outcome.duration.record(took);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_one_place() {
        let figures = CallMetrics::new();
        for code in [Code::Ok, Code::NotFound, Code::Ok, Code::BadRequest] {
            figures.request("AckMessage", code, Duration::from_millis(1));
        }
        let row = METHODS
            .iter()
            .position(|name| *name == "AckMessage")
            .unwrap();
        let known = figures.methods[row].iter().map_while(OnceLock::get);
        let known: Vec<_> = known.map(|outcome| outcome.code).collect();
        assert_eq!(known, [Code::Ok, Code::NotFound, Code::BadRequest]);
    }
}
