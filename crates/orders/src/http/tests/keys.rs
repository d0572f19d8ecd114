//! Checks what API keys may do, for how long, and that the audit trail names who did what.

use http::Method;
use serde_json::{Value, json};

use super::rig::{OPERATOR_KEY, Reply};
use super::shop::{account, id, order, product};
use super::{Api, Call};
use crate::{MerchantId, NewGatewayAccount};

/// A key of the merchant `default` that may do this much.
async fn key(api: &Api, scopes: &[&str]) -> (String, String) {
    let body = json!({ "label": "shop", "scopes": scopes });
    let made = api.post("/v1/merchants/default/keys", body).await.ok();
    assert_eq!(made["scopes"], json!(scopes));
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (text("id"), text("secret"))
}

async fn call(api: &Api, key: &str, (method, path): (Method, &str), body: &Value) -> Reply {
    let call = Call::new(method.clone(), path).bearer(key).elsewhere();
    let call = call.header(
        "idempotency-key",
        &format!("{:032x}", rand::random::<u128>()),
    );
    let call = if method == Method::GET {
        call
    } else {
        call.json(body)
    };
    api.call(call).await
}

#[tokio::test]
async fn a_key_does_only_what_its_scopes_allow() {
    let api = Api::start().await;
    let product_id = product(&api).await;
    let order = order(&api, &product_id, "A-1").await;
    let refunds = format!("/v1/orders/{}/refunds", id(&order));
    let requests = [
        ("read", Method::GET, "/v1/orders", json!({})),
        ("write", Method::POST, "/v1/products", json!({})),
        ("refund", Method::POST, refunds.as_str(), json!({})),
        ("admin", Method::POST, "/v1/coupon-rules", json!({})),
        ("admin", Method::POST, "/v1/pause", json!({})),
        ("admin", Method::POST, "/v1/gateways", json!({})),
    ];
    for scope in ["read", "write", "refund", "admin"] {
        let (key_id, key) = key(&api, &[scope]).await;
        for (needed, method, path, body) in &requests {
            let reply = call(&api, &key, (method.clone(), path), body).await;
            if *needed == scope {
                // What is refused then is the empty body.
                assert_ne!(reply.status.as_u16(), 403, "{path}: {}", reply.text);
            } else {
                let detail = reply.problem("missing_scope")["detail"].to_string();
                assert!(
                    detail.contains(&key_id) && detail.contains(needed),
                    "{detail}"
                );
            }
        }
    }
    let none = json!({ "label": "shop", "scopes": [] });
    let none = api.post("/v1/merchants/default/keys", none).await;
    assert_eq!(none.problem("invalid")["pointer"], "/scopes");
    api.stop().await;
}

#[tokio::test]
async fn a_key_expires_by_the_wall_clock_and_shows_its_last_use() {
    let api = Api::start().await;
    api.clock.set_ahead(3_600_000);
    let keys = "/v1/merchants/default/keys";
    let past = json!({ "label": "shop", "expires_at": "2026-11-24T08:00:00Z" });
    let past = api.post(keys, past).await;
    assert_eq!(past.problem("invalid")["pointer"], "/expires_at");
    let body = json!({ "label": "register", "expires_at": "2026-11-24T08:00:10Z" });
    let made = api.post(keys, body).await.ok();
    assert_eq!(made["expires_at"], "2026-11-24T08:00:10.000Z");
    assert_eq!(made["last_used_at"], Value::Null);
    let secret = made["secret"].as_str().unwrap();
    let orders = || call(&api, secret, (Method::GET, "/v1/orders"), &Value::Null);
    api.clock.advance(9_000);
    orders().await.ok();
    api.clock.advance(1_000);
    orders().await.problem("unauthenticated");
    let used = |list: Value| {
        let keys = list["items"].as_array().unwrap().clone();
        let register = keys.into_iter().find(|key| key["label"] == "register");
        register.unwrap()["last_used_at"].clone()
    };
    let listed = used(api.get(keys).await.ok());
    assert_eq!(listed, "2026-11-24T08:00:09.000Z");
    // It is stored by the next sweep.
    api.state.platform().sweep().await.unwrap();
    assert_eq!(used(api.get(keys).await.ok()), listed);
    api.stop().await;
}

#[tokio::test]
async fn the_operator_acts_for_a_merchant_that_exists() {
    let api = Api::start().await;
    let shop = json!({ "id": "shop-1", "name": "Shop One" });
    api.post("/v1/merchants", shop).await.ok();
    let tea = json!({ "name": "Tea", "price_minor": 500, "currency": "EUR", "stock": 1 });
    let make = |merchant: &'static str| {
        let call = Call::new(Method::POST, "/v1/products").json(&tea);
        let call = call.header("idempotency-key", "k-1").bearer(OPERATOR_KEY);
        api.call(call.header("duetime-merchant", merchant))
    };
    let created = make("shop-1").await.ok();
    let path = format!("/v1/products/{}", id(&created));
    api.get(&path).await.problem("not_found");
    make("shop-2").await.problem("not_found");
    make("Shop 2").await.problem("malformed_request");
    let (_, secret) = key(&api, &["read"]).await;
    let get = |merchant: &'static str| {
        let call = Call::new(Method::GET, &path).header("duetime-merchant", merchant);
        api.call(call.bearer(&secret))
    };
    get("shop-1").await.problem("forbidden");
    get("default").await.problem("not_found");
    api.stop().await;
}

/// What each entry of a trail says: the actor, who it was, and what was done.
async fn trail(api: &Api, subject: &str) -> Vec<(String, String, String)> {
    let path = format!("/v1/audit?subject={subject}");
    let page = api.get(&path).await.ok();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or("-").to_owned();
    let entries = page["items"].as_array().unwrap();
    let said = entries.iter().map(|entry| {
        (
            text(entry, "actor"),
            text(entry, "who"),
            text(entry, "action"),
        )
    });
    said.collect()
}

fn said(actor: &str, who: &str, action: &str) -> (String, String, String) {
    (actor.to_owned(), who.to_owned(), action.to_owned())
}

#[tokio::test]
async fn the_audit_trail_names_the_key_or_the_operator_of_every_change() {
    let api = Api::start().await;
    account(&api).await;
    let (key_id, secret) = key(&api, &["read", "write", "admin"]).await;
    let by_key = |method: Method, path: String, body: Value| {
        let (api, secret) = (&api, &secret);
        async move { call(api, secret, (method, &path), &body).await.ok() }
    };
    let tea = json!({ "name": "Tea", "price_minor": 500, "currency": "EUR", "stock": 5 });
    let product_id = id(&by_key(Method::POST, "/v1/products".to_owned(), tea).await);
    let stock = format!("/v1/products/{product_id}/stock");
    by_key(Method::POST, stock.clone(), json!({ "delta": -2 })).await;
    let named = Call::new(Method::POST, &stock).json(&json!({ "delta": 7 }));
    let named = named
        .header("idempotency-key", "k-2")
        .header("duetime-operator", "alice");
    api.call(named).await.ok();
    assert_eq!(
        trail(&api, &product_id).await,
        [
            said("merchant", &key_id, "create"),
            said("merchant", &key_id, "adjust_stock"),
            said("merchant", "operator alice", "adjust_stock"),
        ]
    );
    let rule = json!({ "name": "five", "amount_off_minor": 100, "currency": "EUR",
        "min_total_minor": 0, "valid_days": 3 });
    let rule_id = id(&by_key(Method::POST, "/v1/coupon-rules".to_owned(), rule).await);
    let switch = format!("/v1/coupon-rules/{rule_id}");
    by_key(Method::PUT, switch, json!({ "active": false })).await;
    assert_eq!(
        trail(&api, &rule_id).await,
        [
            said("merchant", &key_id, "create"),
            said("merchant", &key_id, "switch_off"),
        ]
    );
    let revoke = format!("/v1/merchants/default/keys/{key_id}");
    let created = order(&api, &product_id, "A-1").await;
    let cancel = format!("/v1/orders/{}/cancel", id(&created));
    by_key(Method::POST, cancel, json!({ "reason": "merchant" })).await;
    let steps = trail(&api, &id(&created)).await;
    assert_eq!(
        steps,
        [
            said("merchant", "operator", "create"),
            said("merchant", &key_id, "close"),
        ]
    );
    api.call(Call::new(Method::DELETE, &revoke)).await;
    let merchant: Vec<_> = trail(&api, "default").await;
    assert_eq!(
        merchant,
        [
            // The first start made the merchant and its first key.
            said("system", "-", "create"),
            said("system", "-", "create_key"),
            said("merchant", "operator", "create_account"),
            said("operator", "operator", "create_key"),
            said("operator", "operator", "revoke_key"),
        ]
    );
    let unnamed = Call::new(Method::GET, "/v1/orders").header("duetime-operator", "");
    api.call(unnamed).await.problem("malformed_request");
    api.stop().await;
}

#[tokio::test]
async fn a_trail_is_paged_and_a_merchants_own() {
    let api = Api::start().await;
    let product_id = product(&api).await;
    let stock = format!("/v1/products/{product_id}/stock");
    for _ in 0..3 {
        api.create(&stock, json!({ "delta": 1 })).await.ok();
    }
    let mut seen = 0;
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/audit?subject={product_id}&limit=2{cursor}");
        let page = api.get(&path).await.ok();
        seen += page["items"].as_array().unwrap().len();
        let Some(next) = page["next_cursor"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, 4);
    let shop = json!({ "id": "shop-1", "name": "Shop One" });
    api.post("/v1/merchants", shop).await.ok();
    let call = Call::new(Method::GET, &format!("/v1/audit?subject={product_id}"));
    let other = api
        .call(call.header("duetime-merchant", "shop-1"))
        .await
        .ok();
    assert_eq!(other["items"], json!([]));
    api.stop().await;
}

#[tokio::test]
async fn callers_on_this_machine_need_a_key_once_there_is_a_real_gateway() {
    let api = Api::start().await;
    account(&api).await;
    api.get("/v1/orders").await.ok();
    let bank = NewGatewayAccount {
        gateway: "bank".to_owned(),
        name: "bank".to_owned(),
        settings: "{}".to_owned(),
    };
    let merchant = MerchantId::fallback();
    let platform = api.state.platform();
    let made = platform.create_gateway_account(&merchant, bank, None);
    made.await.unwrap();
    api.get("/v1/orders").await.problem("unauthenticated");
    let call = Call::new(Method::GET, "/v1/orders").bearer(OPERATOR_KEY);
    api.call(call).await.ok();
    api.stop().await;
}
