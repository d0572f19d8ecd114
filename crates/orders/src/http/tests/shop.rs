//! Creates products, orders and payments through the API, for the tests.

use http::Method;
use serde_json::{Value, json};

use super::{Api, Call};

/// A product with 5 units at 1,000 minor units each; the answer is its id.
pub(super) async fn product(api: &Api) -> String {
    let body = json!({ "name": "Ticket", "price_minor": 1_000, "currency": "EUR", "stock": 5 });
    id(&api.create("/v1/products", body).await.ok())
}

pub(super) async fn order(api: &Api, product_id: &str, number: &str) -> Value {
    api.create("/v1/orders", order_body(product_id, number))
        .await
        .ok()
}

pub(super) fn order_body(product_id: &str, number: &str) -> Value {
    json!({
        "merchant_order_no": number,
        "buyer_id": "buyer-1",
        "deadline_after_ms": 60_000,
        "lines": [{ "product_id": product_id, "quantity": 2 }],
    })
}

pub(super) async fn account(api: &Api) -> String {
    let body = json!({ "gateway": "simulator", "name": "main" });
    id(&api.create("/v1/gateways", body).await.ok())
}

/// An order with a submitted attempt; the answer is both ids.
pub(super) async fn attempted(api: &Api) -> (String, String) {
    let product_id = product(api).await;
    let account_id = account(api).await;
    let order_id = id(&order(api, &product_id, "A-1").await);
    let path = format!("/v1/orders/{order_id}/payments");
    let attempt = api.create(&path, json!({ "account_id": account_id })).await;
    (order_id, id(&attempt.ok()))
}

/// A paid order; the answer is its id and its payment's.
pub(super) async fn paid(api: &Api) -> (String, String) {
    let (order_id, attempt_id) = attempted(api).await;
    let path = format!("/v1/simulator/attempts/{attempt_id}/pay");
    api.call(Call::new(Method::POST, &path)).await.ok();
    api.until(&format!("/v1/orders/{order_id}"), "paid").await;
    let payments = api
        .get(&format!("/v1/orders/{order_id}/payments"))
        .await
        .ok();
    (order_id, id(&payments["payments"][0]))
}

pub(super) fn id(body: &Value) -> String {
    body["id"].as_str().unwrap().to_owned()
}

pub(super) fn actions(order: &Value) -> Vec<&str> {
    let audit = order["audit"].as_array().unwrap();
    audit
        .iter()
        .map(|entry| entry["action"].as_str().unwrap())
        .collect()
}
