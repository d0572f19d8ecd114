//! Checks what all routes have in common: ids, credentials, strict bodies, limits, unknown paths.

use axum::Router;
use axum::routing::get;
use http::{Method, StatusCode};
use serde_json::json;

use super::rig::{OPERATOR_KEY, call_router};
use super::{Api, Call};
use crate::http::problem::{Kind as _, ProblemKind};
use crate::ids::MerchantId;
use crate::limits::{BODY_BYTES_MAX, MERCHANT_REQUESTS_MAX, REQUESTS_MAX};
use edge::envelope::enveloped;

fn product() -> serde_json::Value {
    json!({ "name": "Ticket", "price_minor": 100, "currency": "EUR", "stock": 5 })
}

fn create() -> Call {
    Call::new(Method::POST, "/v1/products")
        .json(&product())
        .header("idempotency-key", "k")
}

#[tokio::test]
async fn a_given_request_id_is_echoed_and_a_bad_one_is_replaced() {
    let api = Api::start().await;
    let call = Call::new(Method::GET, "/healthz").header("x-request-id", "abc-1");
    assert_eq!(api.call(call).await.headers["x-request-id"], "abc-1");
    let long = "x".repeat(129);
    for bad in ["with blank", long.as_str()] {
        let call = Call::new(Method::GET, "/healthz").header("x-request-id", bad);
        let reply = api.call(call).await;
        let id = reply.headers["x-request-id"].to_str().unwrap();
        assert!(id.starts_with("req_"), "{id}");
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let api = Api::start().await;
    api.get("/v2/orders").await.problem("not_found");
    api.get("/").await.problem("not_found");
    let reply = api.call(Call::new(Method::PATCH, "/v1/orders")).await;
    reply.problem("method_not_allowed");
    let allowed = reply.headers["allow"].to_str().unwrap();
    assert!(
        allowed.contains("GET") && allowed.contains("POST"),
        "{allowed}"
    );
}

#[tokio::test]
async fn a_body_is_read_strictly() {
    let api = Api::start().await;
    let reply = api.call(create().json(&json!({ "name": "x" }))).await;
    assert_eq!(reply.problem("invalid")["pointer"], "");
    let mut unknown = product();
    unknown["colour"] = json!("red");
    let reply = api.call(create().json(&unknown)).await;
    let problem = reply.problem("invalid");
    assert_eq!(problem["pointer"], "/colour");
    assert!(problem["detail"].as_str().unwrap().contains("colour"));
    let reply = api.call(create().body("{")).await;
    reply.problem("malformed_request");
    let list = json!(["Tea", 500, "EUR", 9]);
    let problem = api.call(create().json(&list)).await.problem("invalid");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("a JSON object")
    );
    let order = Call::new(Method::POST, "/v1/orders").header("idempotency-key", "list");
    let mut body = super::shop::order_body("prd_01h455vb4pex5vsknk084sn02q", "A-1");
    body["lines"] = json!([["prd_01h455vb4pex5vsknk084sn02q", 2]]);
    let problem = api.call(order.json(&body)).await.problem("invalid");
    assert_eq!(problem["pointer"], "/lines/0");
    let reply = api
        .call(create().header("content-type", "text/plain"))
        .await;
    reply.problem("unsupported_media_type");
    let reply = api
        .call(create().body(vec![b' '; BODY_BYTES_MAX + 1]))
        .await;
    reply.problem("payload_too_large");
}

#[tokio::test]
async fn a_query_and_a_path_are_read_strictly() {
    let api = Api::start().await;
    for query in ["colour=red", "limit=many", "cursor=xyz", "state=lost"] {
        let reply = api.get(&format!("/v1/orders?{query}")).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{query}");
        reply.problem("invalid");
    }
    let reply = api.get("/v1/orders?limit=201").await;
    assert_eq!(reply.problem("invalid")["parameter"], "limit");
    let reply = api.get("/v1/orders/prd_01h455vb4pex5vsknk084sn02q").await;
    reply.problem("not_found");
}

#[tokio::test]
async fn a_create_needs_a_proper_idempotency_key() {
    let api = Api::start().await;
    let reply = api.post("/v1/products", product()).await;
    reply.problem("idempotency_key_missing");
    let long = "k".repeat(129);
    for bad in ["", "with blank", long.as_str()] {
        let reply = api.call(create().header("idempotency-key", bad)).await;
        reply.problem("malformed_request");
    }
}

#[tokio::test]
async fn credentials_are_required_unless_the_caller_is_local() {
    let api = Api::start().await;
    let list = || Call::new(Method::GET, "/v1/orders");
    let reply = api.call(list().elsewhere()).await;
    reply.problem("unauthenticated");
    assert_eq!(reply.headers["www-authenticate"], "Bearer");
    for call in [
        list().bearer("dtk_unknown"),
        list().header("authorization", "Basic YTpi"),
        list().header("authorization", "Bearer "),
        list().header("host", "shop.example"),
        list().header("origin", "https://shop.example"),
        list().header("x-forwarded-for", "192.0.2.1"),
    ] {
        api.call(call).await.problem("unauthenticated");
    }
    let reply = api.call(list().header("host", "127.0.0.1:8080")).await;
    reply.ok();
    let operator = list().elsewhere().bearer(OPERATOR_KEY);
    api.call(operator).await.ok();
}

#[tokio::test]
async fn the_process_reports_its_state() {
    let api = Api::start().await;
    assert_eq!(api.get("/healthz").await.ok()["status"], "ok");
    assert_eq!(api.get("/readyz").await.ok()["status"], "ok");
    let figures = api.get("/metrics").await;
    assert!(figures.text.contains("duetime_http_requests_total{"));
    assert!(figures.text.contains("route=\"/healthz\""));
    assert!(
        figures.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain")
    );
}

#[tokio::test]
async fn every_type_of_problem_has_its_page() {
    let api = Api::start().await;
    for kind in ProblemKind::ALL {
        let reply = api.get(&format!("/problems/{}", kind.code())).await;
        assert_eq!(reply.status, StatusCode::OK);
        assert!(reply.text.contains(kind.title()));
    }
    api.get("/problems/nothing").await.problem("not_found");
}

#[tokio::test]
async fn the_openapi_document_is_the_one_on_record() {
    let api = Api::start().await;
    let reply = api.get("/openapi.json").await;
    assert_eq!(reply.headers["content-type"], "application/json");
    let document = reply.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    insta::assert_json_snapshot!("openapi", document);
}

#[tokio::test]
async fn a_panic_and_a_timeout_are_answered() {
    async fn panics() -> &'static str {
        panic!("the test's own panic")
    }
    let mut api = Api::start().await;
    let routes = Router::new()
        .route("/panics", get(panics))
        .route("/hangs", get(std::future::pending::<&'static str>));
    api.router = enveloped(routes, api.state.clone());
    let reply = api.get("/panics").await;
    let problem = reply.problem("internal");
    assert!(!problem.to_string().contains("own panic"));
    // With every task idle the paused time jumps to the time limit.
    tokio::time::pause();
    let reply = api.get("/hangs").await;
    reply.problem("timed_out");
    assert_eq!(reply.headers["retry-after"], "1");
    tokio::time::resume();
    api.stop().await;
}

#[tokio::test]
async fn too_many_requests_are_refused_with_a_retry_after() {
    let api = Api::start().await;
    let merchant = MerchantId::fallback();
    let admission = api.state.admission();
    let places: Vec<_> = (0..MERCHANT_REQUESTS_MAX)
        .map(|_| admission.merchant(&merchant).unwrap())
        .collect();
    let reply = api.get("/v1/orders").await;
    reply.problem("too_many_requests");
    assert_eq!(reply.headers["retry-after"], "1");
    assert_eq!(api.get("/healthz").await.status, StatusCode::OK);
    drop(places);
    api.get("/v1/orders").await.ok();
    let places: Vec<_> = (0..REQUESTS_MAX)
        .map(|_| admission.requests.admit::<ProblemKind>().unwrap())
        .collect();
    let reply = api.get("/v1/orders").await;
    reply.problem("overloaded");
    assert_eq!(reply.headers["retry-after"], "1");
    for probe in ["/healthz", "/readyz"] {
        assert_eq!(api.get(probe).await.status, StatusCode::OK);
    }
    drop(places);
    api.get("/v1/orders").await.ok();
    api.stop().await;
}

#[tokio::test]
async fn a_stopped_platform_is_not_ready() {
    let api = Api::start().await;
    let router = api.router.clone();
    api.stop().await;
    let reply = call_router(&router, Call::new(Method::GET, "/readyz")).await;
    reply.problem("unavailable");
    assert_eq!(reply.headers["retry-after"], "1");
    let reply = call_router(&router, create()).await;
    reply.problem("unavailable");
    let reply = call_router(&router, Call::new(Method::GET, "/healthz")).await;
    assert_eq!(reply.status, StatusCode::OK);
}

#[tokio::test]
async fn a_web_page_or_a_proxy_is_not_a_local_caller() {
    let api = Api::start().await;
    let call = |method: Method, headers: &[(&'static str, &str)]| {
        let mut call = Call::new(method, "/v1/products").header("host", "127.0.0.1:8080");
        for (name, value) in headers {
            call = call.header(name, value);
        }
        call.json(&json!({}))
    };
    for headers in [
        [("origin", "http://127.0.0.1:8080")],
        [("sec-fetch-site", "same-origin")],
        [("sec-fetch-site", "none")],
    ] {
        api.call(call(Method::GET, &headers)).await.ok();
        let reply = api.call(call(Method::POST, &headers)).await;
        assert_ne!(reply.status, StatusCode::UNAUTHORIZED, "{headers:?}");
    }
    let cross_site = [("sec-fetch-site", "cross-site")];
    api.call(call(Method::GET, &cross_site)).await.ok();
    let reply = api.call(call(Method::POST, &cross_site)).await;
    reply.problem("unauthenticated");
    for headers in [
        // Another server on this machine, another scheme, another name of this machine.
        [("origin", "http://127.0.0.1:3000")],
        [("origin", "https://127.0.0.1:8080")],
        [("origin", "http://localhost:8080")],
        [("x-forwarded-host", "localhost")],
        [("via", "1.1 proxy")],
    ] {
        for method in [Method::GET, Method::POST] {
            let reply = api.call(call(method, &headers)).await;
            reply.problem("unauthenticated");
        }
    }
    api.stop().await;
}
