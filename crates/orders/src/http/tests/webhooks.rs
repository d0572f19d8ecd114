//! Checks webhooks through the API, with a receiver on a port of this machine.

use axum::Router;
use axum::body::Bytes;
use axum::response::Redirect;
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::rig::OPERATOR_KEY;
use super::shop::{id, order, product};
use super::{Api, Call};
use crate::webhook::signature::{Secret, signatures};

/// A receiver; `/moved` answers with a redirect to `/hook`.
async fn receiver() -> (String, mpsc::UnboundedReceiver<(HeaderMap, Bytes)>) {
    let (came, coming) = mpsc::unbounded_channel();
    let hook = move |headers: HeaderMap, body: Bytes| {
        let came = came.clone();
        async move {
            came.send((headers, body)).unwrap();
            StatusCode::NO_CONTENT
        }
    };
    let moved = || async { Redirect::temporary("/hook") };
    let router = Router::new()
        .route("/hook", post(hook))
        .route("/moved", post(moved));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (format!("http://{address}"), coming)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers[name].to_str().unwrap()
}

#[tokio::test]
async fn an_event_arrives_at_a_real_receiver_with_a_valid_signature() {
    let api = Api::start().await;
    let (base, mut coming) = receiver().await;
    let body = json!({ "url": format!("{base}/hook"), "types": ["order.created"] });
    let made = api.post("/v1/webhooks", body).await.ok();
    let secret = made["secret"].as_str().unwrap();
    let product_id = product(&api).await;
    let ordered = order(&api, &product_id, "A-1").await;
    let path = format!("/v1/webhooks/{}/deliveries", id(&made));
    api.until(&path, "delivered").await;
    let (headers, body) = coming.recv().await.unwrap();
    let event: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(event["subject"], ordered["id"]);
    assert_eq!(text(&headers, "webhook-id"), event["id"]);
    assert_eq!(text(&headers, "content-type"), "application/json");
    let timestamp_s: i64 = text(&headers, "webhook-timestamp").parse().unwrap();
    let bytes = STANDARD.decode(secret.strip_prefix("whsec_").unwrap());
    let secret = Secret::from_bytes(bytes.unwrap());
    let id = event["id"].as_str().unwrap();
    let signed = signatures(
        [&secret],
        id,
        timestamp_s,
        std::str::from_utf8(&body).unwrap(),
    );
    assert_eq!(text(&headers, "webhook-signature"), signed);
    let listed = api.get(&path).await.ok();
    assert_eq!(listed["items"][0]["tries"][0]["status"], 204);
    assert_eq!(listed["items"][0]["type"], "order.created");
    api.stop().await;
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let api = Api::start().await;
    let (base, mut coming) = receiver().await;
    let body = json!({ "url": format!("{base}/moved"), "types": ["order.created"] });
    let made = api.post("/v1/webhooks", body).await.ok();
    let product_id = product(&api).await;
    order(&api, &product_id, "A-1").await;
    let path = format!("/v1/webhooks/{}/deliveries", id(&made));
    api.until(&path, "due").await;
    let tried = loop {
        let listed = api.get(&path).await.ok();
        let tried = listed["items"][0]["tries"][0].clone();
        if tried.is_object() {
            break tried;
        }
        api.clock.advance(1);
        tokio::task::yield_now().await;
    };
    assert_eq!(tried["status"], 307);
    assert!(coming.try_recv().is_err());
    api.stop().await;
}

#[tokio::test]
async fn an_endpoint_is_shown_changed_and_deleted() {
    let api = Api::start().await;
    let body = json!({ "url": "https://shop.example/hook" });
    let reply = api.post("/v1/webhooks", body).await;
    assert_eq!(reply.status, StatusCode::CREATED);
    let made = reply.json();
    let path = format!("/v1/webhooks/{}", id(&made));
    assert_eq!(reply.headers["location"], path.as_str());
    let secret = made["secret"].as_str().unwrap().to_owned();
    let shown = api.get(&path).await.ok();
    assert!(shown.get("secret").is_none(), "it is shown once");
    assert_eq!(shown["state"], "active");
    let list = api.get("/v1/webhooks").await.ok();
    assert_eq!(list["items"], json!([shown]));
    let change = |body: Value| api.call(Call::new(Method::PATCH, &path).json(&body));
    let off = change(json!({ "active": false, "types": ["order.paid", "order.paid"] }));
    let off = off.await.ok();
    assert_eq!(
        (&off["state"], &off["types"]),
        (&json!("off"), &json!(["order.paid"]))
    );
    assert_eq!(
        change(json!({ "active": true })).await.ok()["state"],
        "active"
    );
    let rotated = api
        .post(&format!("{path}/secret"), json!({ "overlap": "1h" }))
        .await;
    let rotated = rotated.ok();
    assert_ne!(rotated["secret"], secret.as_str());
    assert_eq!(rotated["old_secret_until"], "2026-11-24T10:00:00.000Z");
    for (body, pointer) in [
        (json!({ "url": "ftp://x/" }), "/url"),
        (json!({ "url": "https://u:p@shop.example/" }), "/url"),
        (json!({ "types": ["order.gone"] }), "/types/0"),
        (json!({ "secret": "whsec_" }), "/secret"),
    ] {
        let reply = change(body).await;
        assert_eq!(reply.problem("invalid")["pointer"], pointer);
    }
    let none = "whd_01h455vb4pex5vsknk084sn02q";
    let resend = format!("{path}/deliveries/{none}/resend");
    api.call(Call::new(Method::POST, &resend))
        .await
        .problem("not_found");
    let deleted = api.call(Call::new(Method::DELETE, &path)).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    api.get(&path).await.problem("not_found");
    api.stop().await;
}

#[tokio::test]
async fn an_endpoint_belongs_to_its_merchant_and_their_number_is_limited() {
    let api = Api::start().await;
    let body = json!({ "url": "https://shop.example/hook" });
    let made = api.post("/v1/webhooks", body.clone()).await.ok();
    let operator = |call: Call| call.bearer(OPERATOR_KEY);
    let shop =
        Call::new(Method::POST, "/v1/merchants").json(&json!({ "id": "shop-1", "name": "S" }));
    api.call(operator(shop)).await.ok();
    let as_shop = |method: Method, path: &str| {
        operator(Call::new(method, path)).header("duetime-merchant", "shop-1")
    };
    let path = format!("/v1/webhooks/{}", id(&made));
    for call in [
        as_shop(Method::GET, &path),
        as_shop(Method::DELETE, &path),
        as_shop(Method::GET, &format!("{path}/deliveries")),
        as_shop(Method::PATCH, &path).json(&json!({ "active": false })),
    ] {
        api.call(call).await.problem("not_found");
    }
    for _ in 1..crate::limits::WEBHOOKS_MAX {
        api.post("/v1/webhooks", body.clone()).await.ok();
    }
    api.post("/v1/webhooks", body).await.problem("invalid");
    api.stop().await;
}
