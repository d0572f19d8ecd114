//! Checks products, orders, merchants and pauses: what their routes answer, and how they refuse.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::rig::{OPERATOR_KEY, START_MS};
use super::shop::{account, actions, id, order, order_body, product};
use super::{Api, Call};

#[tokio::test]
async fn a_product_is_made_shown_listed_and_restocked() {
    let api = Api::start().await;
    let body = json!({ "name": "Ticket", "price_minor": 1_000, "currency": "EUR", "stock": 5 });
    let reply = api.create("/v1/products", body).await;
    assert_eq!(reply.status, StatusCode::CREATED);
    let made = reply.json();
    let path = format!("/v1/products/{}", id(&made));
    assert_eq!(reply.headers["location"], path.as_str());
    assert_eq!(made["created_at"], "2026-11-24T09:00:00.000Z");
    assert_eq!(api.get(&path).await.ok(), made);
    let second = product(&api).await;
    let page = api.get("/v1/products?limit=1").await.ok();
    assert_eq!(page["items"], json!([made]));
    let cursor = page["next_cursor"].as_str().unwrap();
    let page = api.get(&format!("/v1/products?cursor={cursor}")).await.ok();
    assert_eq!(page["items"][0]["id"], second);
    assert!(page.get("next_cursor").is_none());
    let stock = format!("{path}/stock");
    // Repeated, it counts once.
    for replayed in [false, true] {
        let call = Call::new(Method::POST, &stock).json(&json!({ "delta": 3 }));
        let reply = api.call(call.header("idempotency-key", "three-more")).await;
        let changed = reply.ok();
        let units = (&changed["available"], &changed["stocked"]);
        assert_eq!(units, (&json!(8), &json!(8)));
        assert_eq!(reply.headers.contains_key("idempotency-replayed"), replayed);
    }
    let reply = api.create(&stock, json!({ "delta": -9 })).await;
    assert_eq!(reply.problem("insufficient_stock")["available"], 8);
    let bad = json!({ "name": "", "price_minor": 1, "currency": "EUR", "stock": 1 });
    let reply = api.create("/v1/products", bad).await;
    assert_eq!(reply.problem("invalid")["pointer"], "/name");
    let bad = json!({ "name": "x", "price_minor": 1, "currency": "eur", "stock": 1 });
    let reply = api.create("/v1/products", bad).await;
    assert_eq!(reply.problem("invalid")["pointer"], "/currency");
    api.stop().await;
}

#[tokio::test]
async fn an_order_shows_its_deadline_and_the_seconds_left() {
    let api = Api::start().await;
    let product_id = product(&api).await;
    let made = order(&api, &product_id, "A-1").await;
    assert_eq!(made["state"], "pending");
    assert_eq!(made["total_minor"], 2_000);
    assert_eq!(made["deadline"], "2026-11-24T09:01:00.000Z");
    assert_eq!(made["seconds_left"], 60);
    api.clock.advance(59_001);
    let path = format!("/v1/orders/{}", id(&made));
    let shown = api.get(&path).await.ok();
    assert_eq!(shown["seconds_left"], 1);
    assert_eq!(actions(&shown)[0], "create");
    let mut half_hour = order_body(&product_id, "A-2");
    half_hour
        .as_object_mut()
        .unwrap()
        .remove("deadline_after_ms");
    let made = api.create("/v1/orders", half_hour).await.ok();
    assert_eq!(made["seconds_left"], 1_800);
    api.stop().await;
}

#[tokio::test]
async fn an_order_is_refused_with_a_reason() {
    let api = Api::start().await;
    let product_id = product(&api).await;
    let with = |field: &str, value: Value| {
        let mut body = order_body(&product_id, "A-1");
        body[field] = value;
        body
    };
    for (body, pointer) in [
        (with("lines", json!([])), "/lines"),
        (with("merchant_order_no", json!("")), "/merchant_order_no"),
        (with("deadline_after_ms", json!(1)), "/deadline"),
        (
            with("deadline", json!("2026-11-25T00:00:00Z")),
            "/deadline_after_ms",
        ),
        (with("deadline", json!("soon")), "/deadline"),
        (
            with("lines", json!([{ "product_id": "prd_x", "quantity": 1 }])),
            "/lines/0/product_id",
        ),
        (with("merchant_id", json!("shop-1")), "/merchant_id"),
    ] {
        let reply = api.create("/v1/orders", body).await;
        assert_eq!(
            reply.problem("invalid")["pointer"],
            pointer,
            "{}",
            reply.text
        );
    }
    let many = with(
        "lines",
        json!([{ "product_id": product_id, "quantity": 6 }]),
    );
    let problem = api
        .create("/v1/orders", many)
        .await
        .problem("insufficient_stock");
    assert_eq!(
        (&problem["available"], &problem["product_id"]),
        (&json!(5), &json!(product_id))
    );
    let nothing = json!([{ "product_id": "prd_01h455vb4pex5vsknk084sn02q", "quantity": 1 }]);
    api.create("/v1/orders", with("lines", nothing))
        .await
        .problem("not_found");
    order(&api, &product_id, "A-1").await;
    let again = api
        .create("/v1/orders", order_body(&product_id, "A-1"))
        .await;
    again.problem("duplicate");
    let shown = api.get(&format!("/v1/products/{product_id}")).await.ok();
    assert_eq!(shown["available"], 3);
    api.stop().await;
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_answer_and_another_one_is_refused() {
    let api = Api::start().await;
    let product_id = product(&api).await;
    let call = |path: &str, body: &Value| {
        Call::new(Method::POST, path)
            .json(body)
            .header("idempotency-key", "key-1")
    };
    let body = order_body(&product_id, "A-1");
    let first = api.call(call("/v1/orders", &body)).await;
    let again = api.call(call("/v1/orders", &body)).await;
    assert_eq!((first.status, &first.text), (again.status, &again.text));
    assert!(!first.headers.contains_key("idempotency-replayed"));
    assert_eq!(again.headers["idempotency-replayed"], "true");
    let other = order_body(&product_id, "A-2");
    let reply = api.call(call("/v1/orders", &other)).await;
    reply.problem("idempotency_key_reused");
    let path = format!("/v1/orders/{}/payments", id(&first.json()));
    let account_id = account(&api).await;
    let reply = api
        .call(call(&path, &json!({ "account_id": account_id })))
        .await;
    reply.problem("idempotency_key_reused");
    // A failure does not use up the key.
    let bad = json!({ "name": "x", "price_minor": -1, "currency": "EUR", "stock": 1 });
    let retry = |body: &Value| {
        let call = Call::new(Method::POST, "/v1/products").json(body);
        call.header("idempotency-key", "key-2")
    };
    api.call(retry(&bad)).await.problem("invalid");
    let good = json!({ "name": "x", "price_minor": 1, "currency": "EUR", "stock": 1 });
    assert_eq!(api.call(retry(&good)).await.status, StatusCode::CREATED);
    api.stop().await;
}

#[tokio::test]
async fn a_key_under_way_is_refused_until_the_answer_is_made() {
    let api = Api::start().await;
    let merchant = crate::ids::MerchantId::fallback();
    let place = api.state.admission().key(&merchant, "key-1").unwrap();
    let body = json!({ "name": "x", "price_minor": 1, "currency": "EUR", "stock": 1 });
    let call = || {
        let call = Call::new(Method::POST, "/v1/products").json(&body);
        call.header("idempotency-key", "key-1")
    };
    let reply = api.call(call()).await;
    reply.problem("idempotency_in_flight");
    assert_eq!(reply.headers["retry-after"], "1");
    drop(place);
    assert_eq!(api.call(call()).await.status, StatusCode::CREATED);
    api.stop().await;
}

#[tokio::test]
async fn orders_are_listed_by_state_in_pages() {
    let api = Api::start().await;
    let product_id = product(&api).await;
    let first = id(&order(&api, &product_id, "A-1").await);
    let second = id(&order(&api, &product_id, "A-2").await);
    let cancel = format!("/v1/orders/{first}/cancel");
    let cancelled = api.call(Call::new(Method::POST, &cancel)).await.ok();
    assert_eq!(cancelled["close_reason"], "merchant");
    let pending = api.get("/v1/orders?state=pending").await.ok();
    assert_eq!(pending["items"].as_array().unwrap().len(), 1);
    assert_eq!(pending["items"][0]["id"], second);
    let page = api.get("/v1/orders?limit=1").await.ok();
    assert_eq!(page["items"][0]["id"], first);
    let cursor = page["next_cursor"].as_str().unwrap();
    let page = api
        .get(&format!("/v1/orders?limit=1&cursor={cursor}"))
        .await
        .ok();
    assert_eq!(page["items"][0]["id"], second);
    assert!(page.get("next_cursor").is_none());
    let page = api.get("/v1/orders?merchant_order_no=A-2").await.ok();
    assert_eq!(page["items"][0]["id"], second);
    for query in ["merchant_order_no=A-3", "merchant_order_no=A-2&state=paid"] {
        let page = api.get(&format!("/v1/orders?{query}")).await.ok();
        assert_eq!(page["items"], json!([]));
    }
    api.stop().await;
}

#[tokio::test]
async fn a_lost_race_reports_the_current_state() {
    let api = Api::start().await;
    let product_id = product(&api).await;
    let path = format!("/v1/orders/{}", id(&order(&api, &product_id, "A-1").await));
    let cancel = format!("{path}/cancel");
    let cancelled = api.post(&cancel, json!({ "reason": "buyer" })).await.ok();
    assert_eq!(
        (&cancelled["state"], &cancelled["seconds_left"]),
        (&json!("closed"), &json!(0))
    );
    let reply = api.call(Call::new(Method::POST, &cancel)).await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    assert_eq!(reply.problem("order_state")["state"], "closed");
    let extend = Call::new(Method::PUT, &format!("{path}/deadline"));
    let body = json!({ "deadline": "2026-11-24T10:00:00Z" });
    let reply = api.call(extend.json(&body)).await;
    assert_eq!(reply.problem("order_state")["state"], "closed");
    api.stop().await;
}

#[tokio::test]
async fn a_deadline_moves_later_only_and_only_in_time() {
    let api = Api::start().await;
    let product_id = product(&api).await;
    let path = format!("/v1/orders/{}", id(&order(&api, &product_id, "A-1").await));
    let extend = |deadline: &str| {
        let call = Call::new(Method::PUT, &format!("{path}/deadline"));
        call.json(&json!({ "deadline": deadline }))
    };
    let moved = api.call(extend("2026-11-24T09:02:00Z")).await.ok();
    assert_eq!(moved["deadline"], "2026-11-24T09:02:00.000Z");
    let reply = api.call(extend("2026-11-24T09:01:00Z")).await;
    assert_eq!(reply.problem("invalid")["pointer"], "/deadline");
    let reply = api.call(extend("2036-11-24T09:01:00Z")).await;
    assert_eq!(reply.problem("invalid")["pointer"], "/deadline");
    api.clock.advance_to(START_MS + 120_000);
    // The timer may close the order at the same moment: both answers say that it is over.
    let reply = api.call(extend("2026-11-24T09:03:00Z")).await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    api.until(&path, "closed").await;
    let shown = api.get(&path).await.ok();
    assert_eq!(shown["close_reason"], "timeout");
    let figures = api.get("/metrics").await.text;
    for figure in [
        "duetime_close_lag_seconds_bucket{",
        "duetime_orders_closed_total{",
        "duetime_timers_total{",
        "duetime_lost_races_total{",
        "duetime_outbox_age_seconds ",
    ] {
        assert!(figures.contains(figure), "{figure} is not in\n{figures}");
    }
    assert_eq!(actions(&shown).last(), Some(&"close"));
    api.stop().await;
}

#[tokio::test]
async fn merchants_see_their_own_things_with_their_own_keys() {
    let api = Api::start().await;
    let body = json!({ "id": "shop-1", "name": "Shop One" });
    let made = api.post("/v1/merchants", body.clone()).await.ok();
    assert_eq!(made["id"], "shop-1");
    api.post("/v1/merchants", body).await.problem("duplicate");
    assert_eq!(api.get("/v1/merchants/shop-1").await.ok(), made);
    let all = api.get("/v1/merchants").await.ok();
    assert_eq!(all["items"].as_array().unwrap().len(), 2);
    let keys = "/v1/merchants/shop-1/keys";
    let key = api.post(keys, json!({ "label": "web" })).await.ok();
    let secret = key["secret"].as_str().unwrap();
    let listed = api.get(keys).await.ok();
    assert!(listed["items"][0].get("secret").is_none());
    let as_shop = |method: Method, path: &str| Call::new(method, path).bearer(secret).elsewhere();
    let product_id = product(&api).await;
    let foreign = as_shop(Method::GET, &format!("/v1/products/{product_id}"));
    api.call(foreign).await.problem("not_found");
    let list = api.call(as_shop(Method::GET, "/v1/products")).await.ok();
    assert_eq!(list["items"], json!([]));
    for path in ["/v1/merchants", keys] {
        api.call(as_shop(Method::GET, path))
            .await
            .problem("forbidden");
    }
    let all = json!({ "scope": "all", "reason": "x" });
    api.call(as_shop(Method::POST, "/v1/pause").json(&all))
        .await
        .problem("forbidden");
    let revoke = format!("{keys}/{}", id(&key));
    let reply = api
        .call(Call::new(Method::DELETE, &revoke).bearer(OPERATOR_KEY))
        .await;
    assert_eq!(reply.status, StatusCode::NO_CONTENT);
    api.call(Call::new(Method::DELETE, &revoke))
        .await
        .problem("not_found");
    let reply = api.call(as_shop(Method::GET, "/v1/products")).await;
    reply.problem("unauthenticated");
    api.stop().await;
}

#[tokio::test]
async fn a_pause_holds_closing_back_and_a_resume_continues_it() {
    let api = Api::start().await;
    let product_id = product(&api).await;
    let path = format!("/v1/orders/{}", id(&order(&api, &product_id, "A-1").await));
    let pause = json!({ "scope": "merchant", "reason": "gateway outage" });
    let paused = api.post("/v1/pause", pause).await.ok();
    assert_eq!(
        (&paused["state"], &paused["subject"]),
        (&json!("paused"), &json!("default"))
    );
    let reply = api
        .post("/v1/pause", json!({ "scope": "gateway", "reason": "x" }))
        .await;
    assert_eq!(reply.problem("invalid")["pointer"], "/account_id");
    api.clock.advance(60_000);
    assert_eq!(api.get(&path).await.ok()["state"], "pending");
    assert_eq!(
        api.get("/v1/pauses").await.ok()["items"][0]["state"],
        "paused"
    );
    let resume = json!({ "scope": "merchant" });
    api.post("/v1/resume", resume.clone()).await.ok();
    api.until(&path, "closed").await;
    // The walk that released the order may end a moment later.
    while api.get("/v1/pauses").await.ok()["items"] != json!([]) {
        tokio::task::yield_now().await;
    }
    for _ in 0..2 {
        let again = api.post("/v1/resume", resume.clone()).await.ok();
        assert_eq!(again["state"], "ended");
    }
    assert_eq!(api.get("/v1/pauses").await.ok()["items"], json!([]));
    api.post("/v1/resume", json!({ "scope": "all" }))
        .await
        .problem("not_found");
    api.stop().await;
}
