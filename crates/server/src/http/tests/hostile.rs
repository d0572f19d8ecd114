//! Sends hostile bodies, paths and queries to every operation: none may cause an internal error.

use fuzz::Target;
use http::{Method, StatusCode};

use super::{Api, Call};

const MANIFEST: &str = env!("CARGO_MANIFEST_DIR");

/// Operations that take a body, each with one that works.
const OPERATIONS: [(&str, &str, &str); 17] = [
    (
        "POST",
        "/v1/topics",
        r#"{"name":"a","kind":"fifo","queues":3,"indexed":true,"quota_bytes":9000}"#,
    ),
    (
        "POST",
        "/v1/groups",
        r#"{"name":"g","fifo":true,"attempts_max":3,"backoff":["1s","5m"],"start_from":"latest"}"#,
    ),
    (
        "POST",
        "/v1/topics/orders/messages",
        r#"{"body":"b","after":"30m","tag":"t","keys":["k"],"properties":{"a":"b"},"message_id":"m"}"#,
    ),
    (
        "POST",
        "/v1/topics/orders/messages",
        r#"{"body_base64":"aGVsbG8=","at":"2026-11-24T10:00:00+01:00","message_group":"g"}"#,
    ),
    (
        "POST",
        "/v1/topics/orders/messages",
        r#"{"level":3,"body":"\u00e9\ud83d\ude00"}"#,
    ),
    (
        "PUT",
        "/v1/timers/orders/k",
        r#"{"after":"45m","body":"x","tag":"t"}"#,
    ),
    (
        "PUT",
        "/v1/timers/orders/k",
        r#"{"at":"2027-01-01T00:00:00.000Z"}"#,
    ),
    (
        "PUT",
        "/v1/topics/orders/messages/m/due",
        r#"{"after":"2h"}"#,
    ),
    (
        "POST",
        "/v1/topics/orders/groups/closer/receive",
        r#"{"max":2,"invisible_for":"30s","tags":["t"]}"#,
    ),
    (
        "POST",
        "/v1/topics/orders/groups/closer/ack",
        r#"{"receipts":["AgEBAQAAAAABog16SI8AAAAAAAAABQHUxIWc"]}"#,
    ),
    (
        "POST",
        "/v1/topics/orders/batches",
        r#"{"messages":[{"body":"a"},{"body":"b","after":"5s"}]}"#,
    ),
    (
        "POST",
        "/v1/topics/orders/groups/closer/retry",
        r#"{"receipt":"AgEBAQAAAAABog16SI8AAAAAAAAABQHUxIWc","after":"1s"}"#,
    ),
    (
        "POST",
        "/v1/topics/orders/groups/closer/hide",
        r#"{"receipt":"AgEBAQAAAAABog16SI8AAAAAAAAABQHUxIWc","invisible_for":"1m"}"#,
    ),
    (
        "POST",
        "/v1/topics/orders/groups/closer/bury",
        r#"{"receipt":"AgEBAQAAAAABog16SI8AAAAAAAAABQHUxIWc"}"#,
    ),
    (
        "POST",
        "/v1/topics/orders/groups/closer/reset",
        r#"{"to":"2026-11-24T00:00:00Z"}"#,
    ),
    (
        "POST",
        "/v1/groups/closer/dead-letters/replay",
        r#"{"tag":"t","dry_run":true}"#,
    ),
    (
        "POST",
        "/v1/groups/closer/dead-letters/purge",
        r#"{"all":true}"#,
    ),
];

/// Paths with their queries, each of them known.
const PATHS: [&str; 14] = [
    "/v1/topics?limit=2&cursor=b",
    "/v1/topics/orders",
    "/v1/topics/%25DLQ%25closer/groups",
    "/v1/topics/orders/groups/closer",
    "/v1/topics/orders/histogram?step=1h&steps=24",
    "/v1/topics/orders/messages?from=2026-11-24T00:00:00Z&limit=5",
    "/v1/topics/orders/messages?find=k",
    "/v1/topics/orders/messages?cursor=AQEAAAAAAaINekiPAAAAAAAAAAUDHvORuw",
    "/v1/topics/orders/messages/AQEAAAAAAaINekiPAAAAAAAAAAUDHvORuw",
    "/v1/timers/orders/order%2F42",
    "/v1/groups/closer/dead-letters?key=a&tag=b&message_id=c&topic=d&limit=9",
    "/v1/connections",
    "/problems/topic_not_found",
    "/openapi.json",
];

/// Returns whether a status means a fault of the server.
fn is_own_fault(status: StatusCode) -> bool {
    status == StatusCode::INTERNAL_SERVER_ERROR || status == StatusCode::NOT_IMPLEMENTED
}

const TOKENS: &[&str] = &[
    "null",
    "true",
    "-0.0",
    "1e999",
    "[[[[[[[[",
    "{\"a\":",
    "\\ud800",
    "\\u0000",
    "%00",
    "%ff",
    "%25DLQ%25",
    "9999999999999d",
    "0ms",
    "1h 30m",
    "-1s",
    "+99:99",
    "9999-12-31T23:59:59.999Z",
    "-009999-01-01T00:00:00Z",
    "\"limit\":",
    "limit=",
    "cursor=",
    "steps=4294967295",
];

/// Operation number and body.
fn input(operation: usize, body: &str) -> Vec<u8> {
    [&[u8::try_from(operation).unwrap()], body.as_bytes()].concat()
}

#[test]
fn bodies_of_any_content_are_answered() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let api = runtime.block_on(Api::with_topic());
    let group = serde_json::json!({ "name": "closer" });
    runtime.block_on(api.post("/v1/groups", group)).ok();
    for (method, path, body) in OPERATIONS {
        let reply = runtime.block_on(api.call(call(method, path, body.as_bytes())));
        // The seeds reach the operations, even if what they name does not exist.
        let is_known = !reply.text.contains("/problems/not_found")
            && !reply.text.contains("/problems/invalid")
            && reply.status != StatusCode::METHOD_NOT_ALLOWED;
        assert!(is_known, "{path} {body}: {reply:?}");
    }
    let mut target = Target::new(MANIFEST, "body")
        .tokens(TOKENS)
        .runs(4_000)
        .heap_bytes(2 << 20);
    for (index, (_, _, body)) in OPERATIONS.iter().enumerate() {
        target = target.seed(input(index, body));
    }
    target.check(|input| {
        let (operation, body) = input.split_first().unwrap_or((&0, &[]));
        let (method, path, _) = OPERATIONS[usize::from(*operation) % OPERATIONS.len()];
        let reply = runtime.block_on(api.moving(api.call(call(method, path, body))));
        assert!(
            !is_own_fault(reply.status),
            "{} {}",
            reply.status,
            reply.text
        );
    });
}

fn call(method: &str, path: &str, body: &[u8]) -> Call {
    let call = Call::new(method.parse::<Method>().unwrap(), path);
    call.header("content-type", "application/json").body(body)
}

#[test]
fn paths_of_any_content_are_answered() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let api = runtime.block_on(Api::with_topic());
    let mut target = Target::new(MANIFEST, "path")
        .tokens(TOKENS)
        .runs(4_000)
        .heap_bytes(2 << 20);
    for path in PATHS {
        target = target.seed(path);
    }
    target.check(|input| {
        let Ok(path) = std::str::from_utf8(input) else {
            return;
        };
        if path.parse::<http::Uri>().is_err() {
            return;
        }
        for method in [Method::GET, Method::DELETE] {
            let reply = runtime.block_on(api.call(Call::new(method, path)));
            assert!(
                !is_own_fault(reply.status),
                "{} {}",
                reply.status,
                reply.text
            );
        }
    });
}
