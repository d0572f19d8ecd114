//! Checks the list of events: its pages, its waits and what the data of events look like.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::rig::OPERATOR_KEY;
use super::shop::{account, id, order, product};
use super::{Api, Call};

/// The object without these members.
fn without(value: &Value, members: &[&str]) -> Value {
    let mut object = value.as_object().unwrap().clone();
    for member in members {
        object.remove(*member);
    }
    Value::Object(object)
}

async fn events(api: &Api) -> Vec<Value> {
    let page = api.get("/v1/events?limit=200").await.ok();
    page["items"].as_array().unwrap().clone()
}

fn data_of(events: &[Value], kind: &str) -> Value {
    let mut found = events.iter().rev();
    let found = found.find(|event| event["type"] == kind);
    found.unwrap_or_else(|| panic!("no {kind} in {events:?}"))["data"].clone()
}

#[tokio::test]
async fn the_data_of_an_event_are_what_the_api_shows() {
    let api = Api::start().await;
    api.clock.set_ahead(1_000);
    let rule = json!({ "name": "Thanks", "amount_off_minor": 100, "currency": "EUR" });
    api.create("/v1/coupon-rules", rule).await.ok();
    let product_id = product(&api).await;
    account(&api).await;
    let made = order(&api, &product_id, "A-1").await;
    let path = format!("/v1/orders/{}", id(&made));
    let attempt = api.create(&format!("{path}/payments"), json!({})).await;
    let attempt = attempt.ok();
    let pay = format!("/v1/simulator/attempts/{}/pay", id(&attempt));
    api.call(Call::new(Method::POST, &pay)).await.ok();
    api.until(&path, "paid").await;
    api.until("/v1/coupons?buyer_id=buyer-1", "free").await;
    let refund = json!({ "refund_no": "R-1" });
    let refund = api.create(&format!("{path}/refunds"), refund).await.ok();
    let refund_path = format!("/v1/refunds/{}", id(&refund));
    api.until(&refund_path, "succeeded").await;

    let events = events(&api).await;
    let shown = without(&api.get(&path).await.ok(), &["seconds_left", "audit"]);
    assert_eq!(data_of(&events, "order.paid"), shown);
    let shown = without(&made, &["seconds_left"]);
    assert_eq!(data_of(&events, "order.created"), shown);
    let payments = api.get(&format!("{path}/payments")).await.ok();
    let payment = data_of(&events, "payment.accepted");
    let mut shown = payments["payments"][0].clone();
    shown["refunded_minor"] = json!(0);
    assert_eq!(without(&payment, &["order_id"]), shown);
    let started = data_of(&events, "payment.started");
    let shown = without(&attempt, &["pay_url", "gateway_ref"]);
    assert_eq!(without(&started, &["version"]), shown);
    let refunded = data_of(&events, "refund.succeeded");
    let shown = api.get(&refund_path).await.ok();
    assert_eq!(without(&refunded, &["version"]), shown);
    let coupon = api.get("/v1/coupons?buyer_id=buyer-1").await.ok();
    let revoked = data_of(&events, "coupon.revoked");
    assert_eq!(without(&revoked, &["version"]), coupon["items"][0]);
    api.stop().await;
}

#[tokio::test]
async fn events_are_listed_in_pages_and_from_now_on() {
    let api = Api::start().await;
    let empty = api.get("/v1/events").await.ok();
    assert_eq!(empty, json!({ "items": [], "next_cursor": "0" }));
    let product_id = product(&api).await;
    order(&api, &product_id, "A-1").await;
    let second = order(&api, &product_id, "A-2").await;
    let page = api.get("/v1/events?limit=1").await.ok();
    assert_eq!(page["items"][0]["data"]["merchant_order_no"], "A-1");
    let cursor = page["next_cursor"].as_str().unwrap();
    let page = api.get(&format!("/v1/events?after={cursor}")).await.ok();
    assert_eq!(page["items"][0]["subject"], second["id"]);
    assert_eq!(page["items"][0]["time"], "2026-11-24T09:00:00.000Z");
    let latest = api.get("/v1/events?after=latest").await.ok();
    assert_eq!(latest["next_cursor"], page["next_cursor"]);
    for (query, parameter) in [
        ("after=x", "after"),
        ("after=-1", "after"),
        ("limit=0", "limit"),
        ("wait=31s", "wait"),
        ("wait=5", "wait"),
        ("until=1", "until"),
    ] {
        let reply = api.get(&format!("/v1/events?{query}")).await;
        assert_eq!(reply.problem("invalid")["parameter"], parameter, "{query}");
    }
    let gone = api.get("/v1/events?after=9999").await;
    gone.problem("cursor_expired");
    assert_eq!(gone.status, StatusCode::GONE);
    api.stop().await;
}

#[tokio::test]
async fn a_merchant_sees_its_own_events_alone() {
    let api = Api::start().await;
    let product_id = product(&api).await;
    order(&api, &product_id, "A-1").await;
    let shop = json!({ "id": "shop-1", "name": "Shop" });
    let operator = |call: Call| call.bearer(OPERATOR_KEY);
    let made = Call::new(Method::POST, "/v1/merchants").json(&shop);
    api.call(operator(made)).await.ok();
    let key = Call::new(Method::POST, "/v1/merchants/shop-1/keys").json(&json!({ "label": "k" }));
    let key = api.call(operator(key)).await.ok();
    let list = Call::new(Method::GET, "/v1/events").bearer(key["secret"].as_str().unwrap());
    let page = api.call(list).await.ok();
    assert_eq!(page["items"], json!([]));
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_waits_is_woken_by_the_commit() {
    let api = Arc::new(Api::start().await);
    let product_id = product(&api).await;
    let waiting = wait_for_events(&api);
    // The clock does not move: only the commit can end the wait.
    order(&api, &product_id, "A-1").await;
    let page = waiting.await.unwrap();
    assert_eq!(page["items"][0]["type"], "order.created");
    Arc::into_inner(api).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_without_events_ends_with_an_empty_page() {
    let api = Arc::new(Api::start().await);
    let waiting = wait_for_events(&api);
    while !waiting.is_finished() {
        api.clock.advance(1_000);
        tokio::task::yield_now().await;
    }
    let page = waiting.await.unwrap();
    assert_eq!(page, json!({ "items": [], "next_cursor": "0" }));
    Arc::into_inner(api).unwrap().stop().await;
}

fn wait_for_events(api: &Arc<Api>) -> JoinHandle<Value> {
    let api = Arc::clone(api);
    tokio::spawn(async move { api.get("/v1/events?wait=30s").await.ok() })
}
