//! Checks what all routes have in common: ids, credentials, strict bodies, limits, unknown paths.

use std::sync::Arc;

use edge::api::Api as _;
use http::{Method, StatusCode};
use serde_json::json;

use super::{Api, Call};
use crate::http::limits::{MESSAGE_REQUEST_BYTES_MAX, REQUEST_BYTES_MAX, REQUESTS_MAX};
use crate::http::problem::{Kind as _, ProblemKind};
use crate::{Account, Action, Authenticate, Caller, Credentials, NoConnections, Refused};

#[tokio::test]
async fn a_given_request_id_is_echoed_and_a_bad_one_is_replaced() {
    let api = Api::start();
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
    let api = Api::start();
    api.get("/v2/topics").await.problem("not_found");
    api.get("/").await.problem("not_found");
    let reply = api.call(Call::new(Method::PATCH, "/v1/topics")).await;
    reply.problem("method_not_allowed");
    let allowed = reply.headers["allow"].to_str().unwrap();
    assert!(allowed.contains("GET") && allowed.contains("POST"));
}

#[tokio::test]
async fn a_body_is_read_strictly() {
    let api = Api::start();
    let create = || Call::new(Method::POST, "/v1/topics");
    let reply = api.call(create().json(&json!({}))).await;
    assert_eq!(reply.problem("invalid")["pointer"], "");
    let unknown = json!({ "name": "t", "colour": "red" });
    let problem = api.call(create().json(&unknown)).await.problem("invalid");
    assert_eq!(problem["pointer"], "/colour");
    let wrong = json!({ "name": "t", "kind": "DELAYED" });
    let problem = api.call(create().json(&wrong)).await.problem("invalid");
    assert_eq!(problem["pointer"], "/kind");
    let list = api.call(create().json(&json!(["t", "DELAY"]))).await;
    assert_eq!(list.problem("invalid")["pointer"], "");
    let batch = Call::new(Method::POST, "/v1/topics/t/batches");
    let batch = batch.json(&json!({ "messages": [["body"]] }));
    assert_eq!(
        api.call(batch).await.problem("invalid")["pointer"],
        "/messages/0"
    );
    let typed = || create().header("content-type", "application/json");
    api.call(typed().body("{"))
        .await
        .problem("malformed_request");
    api.call(typed().body("{\"name\":\"t\"} {}"))
        .await
        .problem("malformed_request");
    let plain = create().header("content-type", "text/plain").body("{}");
    api.call(plain).await.problem("unsupported_media_type");
    api.call(create().body("{}"))
        .await
        .problem("unsupported_media_type");
    let large = typed().body(vec![b' '; REQUEST_BYTES_MAX + 1]);
    api.call(large).await.problem("payload_too_large");
    let larger = Call::new(Method::POST, "/v1/topics/t/messages")
        .header("content-type", "application/json")
        .body(vec![b' '; MESSAGE_REQUEST_BYTES_MAX + 1]);
    api.call(larger).await.problem("payload_too_large");
}

#[tokio::test]
async fn a_query_is_read_strictly() {
    let api = Api::with_topic().await;
    for query in ["colour=red", "limit=many", "limit=0", "limit=201"] {
        let reply = api.get(&format!("/v1/topics?{query}")).await;
        reply.problem("invalid");
    }
    for (query, parameter) in [
        ("limit=201", "limit"),
        ("limit=many", "limit"),
        ("a=b", "a"),
    ] {
        let reply = api.get(&format!("/v1/topics?{query}")).await;
        assert_eq!(reply.problem("invalid")["parameter"], parameter);
    }
    let reply = api.get("/v1/topics/orders/messages?cursor=abc").await;
    assert_eq!(reply.problem("invalid")["parameter"], "cursor");
    let reply = api
        .get("/v1/topics/orders/messages?find=a&cursor=abc")
        .await;
    assert_eq!(reply.problem("invalid")["parameter"], "find");
    api.get("/v1/topics/orders/messages?from=noon")
        .await
        .problem("invalid");
}

#[tokio::test]
async fn credentials_are_required_unless_the_caller_is_local() {
    let api = Api::start();
    let list = || Call::new(Method::GET, "/v1/topics");
    let reply = api.call(list().elsewhere()).await;
    reply.problem("unauthenticated");
    let schemes = reply.headers["www-authenticate"].to_str().unwrap();
    assert!(schemes.contains("Basic") && schemes.contains("Bearer"));
    for call in [
        list().header("authorization", "Bearer abc"),
        list().header("authorization", "Basic YTpi"),
        list().header("authorization", "Digest abc"),
        list().header("host", "shop.example"),
        list().header("origin", "https://shop.example"),
        list().header("x-forwarded-for", "192.0.2.1"),
        Call::new(Method::GET, "/metrics").elsewhere(),
    ] {
        api.call(call).await.problem("unauthenticated");
    }
    api.call(list().header("host", "127.0.0.1:8082")).await.ok();
    api.call(Call::new(Method::GET, "/healthz").elsewhere())
        .await
        .ok();
}

/// One account, `shop`, that may send to `orders` and receive from it as `closer`.
#[derive(Debug)]
struct OneAccount;

impl Account for OneAccount {
    fn name(&self) -> &'static str {
        "shop"
    }

    fn may(&self, action: Action<'_>) -> bool {
        match action {
            Action::Consume { topic, group } => topic == "orders" && group == "closer",
            Action::Publish { topic } | Action::Route { topic } => topic == "orders",
            Action::Join { group } => group == "closer",
            Action::Administer => false,
        }
    }
}

impl Authenticate for OneAccount {
    fn authenticate(&self, caller: &Caller<'_>) -> Result<Arc<dyn Account>, Refused> {
        match caller.credentials {
            None => Err(Refused::Missing),
            Some(
                Credentials::Password {
                    name: "shop",
                    secret: "s",
                }
                | Credentials::Token("t"),
            ) => Ok(Arc::new(OneAccount)),
            Some(_) => Err(Refused::Wrong),
        }
    }
}

#[tokio::test]
async fn an_account_may_do_what_it_is_allowed_and_nothing_else() {
    let api = Api::start_with(Arc::new(OneAccount), Arc::new(NoConnections));
    let spec = broker::TopicSpec::new("orders", broker::TopicKind::Delay);
    api.broker.create_topic(spec).await.unwrap();
    let known = |method, path: &str| Call::new(method, path).header("authorization", "Bearer t");
    let send = known(Method::POST, "/v1/topics/orders/messages").json(&json!({}));
    assert_eq!(api.call(send.elsewhere()).await.status, StatusCode::CREATED);
    let receive = |group: &str| {
        known(
            Method::POST,
            &format!("/v1/topics/orders/groups/{group}/receive"),
        )
    };
    api.call(receive("closer")).await.ok();
    let problem = api.call(receive("spy")).await.problem("forbidden");
    assert_eq!(
        problem["detail"],
        "account \"shop\" may not receive from topic \"orders\" as group \"spy\""
    );
    for (method, path, body) in [
        (Method::POST, "/v1/topics/other/messages", json!({})),
        (
            Method::POST,
            "/v1/topics/other/batches",
            json!({ "messages": [{}] }),
        ),
        (Method::PUT, "/v1/timers/other/k", json!({ "after": "1s" })),
        (
            Method::PUT,
            "/v1/topics/other/messages/m/due",
            json!({ "after": "1s" }),
        ),
        (Method::POST, "/v1/topics", json!({ "name": "made" })),
        (Method::POST, "/v1/groups", json!({ "name": "made" })),
        (
            Method::POST,
            "/v1/topics/orders/groups/spy/ack",
            json!({ "receipts": ["a"] }),
        ),
        (
            Method::POST,
            "/v1/topics/orders/groups/closer/reset",
            json!({ "to": "2026-11-24T09:00:00Z" }),
        ),
        (
            Method::POST,
            "/v1/groups/closer/dead-letters/replay",
            json!({ "all": true }),
        ),
        (
            Method::POST,
            "/v1/groups/closer/dead-letters/purge",
            json!({ "all": true }),
        ),
    ] {
        api.call(known(method, path).json(&body))
            .await
            .problem("forbidden");
    }
    let wrong = Call::new(Method::GET, "/v1/topics").header("authorization", "Bearer x");
    api.call(wrong).await.problem("unauthenticated");
}

#[tokio::test]
async fn an_account_that_may_not_administer_cannot_read_it_either() {
    let api = Api::start_with(Arc::new(OneAccount), Arc::new(NoConnections));
    let known = |method, path: &str| Call::new(method, path).header("authorization", "Bearer t");
    for (method, path) in [
        (Method::DELETE, "/v1/timers/other/k"),
        (Method::GET, "/v1/timers/other/k"),
        (Method::DELETE, "/v1/topics/other/messages/m"),
        (Method::POST, "/v1/topics/other/messages/m/deliver"),
        (Method::GET, "/v1/topics/orders/messages"),
        (Method::GET, "/v1/topics"),
        (Method::GET, "/v1/topics/orders"),
        (Method::DELETE, "/v1/topics/orders"),
        (Method::GET, "/v1/topics/orders/histogram"),
        (Method::GET, "/v1/topics/orders/groups"),
        (Method::GET, "/v1/topics/orders/groups/closer"),
        (Method::GET, "/v1/groups"),
        (Method::GET, "/v1/groups/closer"),
        (Method::DELETE, "/v1/groups/closer"),
        (Method::GET, "/v1/groups/closer/dead-letters"),
        (Method::GET, "/v1/broker"),
        (Method::GET, "/v1/connections"),
    ] {
        let reply = api.call(known(method, path)).await;
        reply.problem("forbidden");
    }
}

#[tokio::test]
async fn the_process_reports_its_state() {
    let api = Api::start();
    assert_eq!(api.get("/healthz").await.ok()["status"], "ok");
    assert_eq!(api.get("/readyz").await.ok()["status"], "ok");
    api.broker.shutdown().await;
    assert_eq!(api.get("/healthz").await.ok()["status"], "ok");
    let reply = api.get("/readyz").await;
    reply.problem("unavailable");
    assert_eq!(reply.headers["retry-after"], "1");
    api.get("/v1/topics").await.problem("unavailable");
    let figures = api.get("/metrics").await;
    assert!(
        figures.text.contains("\nduetime_broker_up 0\n"),
        "{}",
        figures.text
    );
}

#[tokio::test]
async fn probes_are_answered_and_waits_take_no_place_whatever_is_under_way() {
    let api = Api::start();
    let body = json!({ "name": "quiet", "kind": "normal" });
    api.post("/v1/topics", body).await.ok();
    let wait = json!({ "wait_for": "60s" });
    let mut waiting = std::pin::pin!(api.post("/v1/topics/quiet/groups/g/receive", wait));
    while api.broker.group("g").await.is_err() {
        tokio::select! {
            biased;
            reply = &mut waiting => panic!("nothing is there to receive: {reply:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    let admit = || api.state.requests().admit::<ProblemKind>();
    // One that waits is not among them.
    let places: Vec<_> = (0..REQUESTS_MAX).map(|_| admit().unwrap()).collect();
    api.get("/v1/topics").await.problem("overloaded");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(api.get(path).await.status, StatusCode::OK, "{path}");
    }
    drop(places);
    api.get("/v1/topics").await.ok();
}

#[tokio::test]
async fn every_type_of_problem_has_its_page() {
    let api = Api::start();
    for kind in ProblemKind::ALL {
        let reply = api.get(&format!("/problems/{}", kind.code())).await;
        assert_eq!(reply.status, StatusCode::OK);
        assert!(reply.text.contains(kind.title()));
    }
    api.get("/problems/nothing").await.problem("not_found");
}

#[tokio::test]
async fn the_openapi_document_is_the_one_on_record() {
    let api = Api::start();
    let reply = api.get("/openapi.json").await;
    assert_eq!(reply.headers["content-type"], "application/json");
    let document = reply.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    insta::assert_json_snapshot!("openapi", document);
}

#[tokio::test]
async fn a_web_page_or_a_proxy_is_not_a_local_caller() {
    let api = Api::start();
    let call = |method: Method, headers: &[(&'static str, &str)]| {
        let mut call = Call::new(method, "/v1/topics").header("host", "127.0.0.1:8082");
        for (name, value) in headers {
            call = call.header(name, value);
        }
        call.json(&json!({}))
    };
    for headers in [
        [("origin", "http://127.0.0.1:8082")],
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
        [("origin", "https://127.0.0.1:8082")],
        [("origin", "http://localhost:8080")],
        [("x-forwarded-host", "localhost")],
        [("via", "1.1 proxy")],
    ] {
        for method in [Method::GET, Method::POST] {
            let reply = api.call(call(method, &headers)).await;
            reply.problem("unauthenticated");
        }
    }
}
