//! Counts the calls of RocketMQ clients.

use grpc_api::v2::Code;

const REQUESTS: &str = "duetime_broker_grpc_requests_total";

/// Says what the figures mean.
pub(crate) fn describe() {
    crate::figures::describe();
    metrics::describe_counter!(
        REQUESTS,
        "Calls of RocketMQ clients answered, by method and by the code of the answer"
    );
}

/// Counts an answered call.
pub(crate) fn request(method: &'static str, code: Code) {
    metrics::counter!(REQUESTS, "method" => method, "code" => code.as_str_name()).increment(1);
}
