//! Checks payments, callbacks, refunds and coupons: what their routes answer, and how they refuse.

use http::{Method, StatusCode};
use serde_json::json;

use super::shop::{account, attempted, id, order, order_body, paid, product};
use super::{Api, Call};
use gateway::simulator::AttemptPlan;

#[tokio::test]
async fn a_payment_pays_the_order_and_issues_its_coupon() {
    let api = Api::start().await;
    let rule = json!({ "name": "Thanks", "amount_off_minor": 300, "currency": "EUR" });
    let rule = api.create("/v1/coupon-rules", rule).await.ok();
    assert_eq!(
        (&rule["valid_days"], &rule["active"]),
        (&json!(30), &json!(true))
    );
    let (order_id, payment_id) = paid(&api).await;
    let shown = api.get(&format!("/v1/orders/{order_id}")).await.ok();
    assert_eq!(shown["payment_id"], payment_id);
    let payments = api
        .get(&format!("/v1/orders/{order_id}/payments"))
        .await
        .ok();
    assert_eq!(payments["attempts"][0]["state"], "succeeded");
    assert_eq!(payments["payments"][0]["kind"], "accepted");
    let coupons = "/v1/coupons?buyer_id=buyer-1";
    api.until(coupons, "free").await;
    let coupon = api.get(coupons).await.ok()["items"][0].clone();
    assert_eq!(coupon["source_order_id"], order_id);
    let path = format!("/v1/coupons/{}", id(&coupon));
    assert_eq!(api.get(&path).await.ok(), coupon);
    let give = format!("{path}/give");
    let given = api.post(&give, json!({ "buyer_id": "buyer-2" })).await.ok();
    assert_eq!(given["buyer_id"], "buyer-2");
    let mut body = order_body(shown["lines"][0]["product_id"].as_str().unwrap(), "A-9");
    body["coupon_id"] = coupon["id"].clone();
    let reply = api.create("/v1/orders", body.clone()).await;
    assert_eq!(reply.problem("coupon_unusable")["coupon_id"], coupon["id"]);
    body["buyer_id"] = json!("buyer-2");
    let discounted = api.create("/v1/orders", body).await.ok();
    assert_eq!(discounted["payable_minor"], 1_700);
    api.post(&give, json!({ "buyer_id": "buyer-3" }))
        .await
        .problem("coupon_unusable");
    let path = format!("/v1/coupon-rules/{}", id(&rule));
    let off = Call::new(Method::PUT, &path).json(&json!({ "active": false }));
    assert_eq!(api.call(off).await.ok()["active"], false);
    let rules = api.get("/v1/coupon-rules").await.ok();
    assert_eq!(rules["items"][0]["active"], false);
    api.stop().await;
}

#[tokio::test]
async fn an_attempt_is_refused_from_the_deadline_on() {
    let api = Api::start().await;
    let product_id = product(&api).await;
    let account_id = account(&api).await;
    let order_id = id(&order(&api, &product_id, "A-1").await);
    let path = format!("/v1/orders/{order_id}/payments");
    let strange = json!({ "account_id": "gwa_01h455vb4pex5vsknk084sn02q" });
    api.create(&path, strange).await.problem("not_found");
    api.clock.advance(60_000);
    let reply = api.create(&path, json!({ "account_id": account_id })).await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    api.until(&format!("/v1/orders/{order_id}"), "closed").await;
    let reply = api.create(&path, json!({ "account_id": account_id })).await;
    assert_eq!(reply.problem("order_state")["state"], "closed");
    api.stop().await;
}

#[tokio::test]
async fn late_money_is_refunded_and_the_order_stays_closed() {
    let api = Api::start().await;
    let (order_id, attempt_id) = attempted(&api).await;
    let path = format!("/v1/orders/{order_id}");
    api.call(Call::new(Method::POST, &format!("{path}/cancel")))
        .await
        .ok();
    api.until(&path, "closed").await;
    let pay = format!("/v1/simulator/attempts/{attempt_id}/pay");
    let reply = api.call(Call::new(Method::POST, &pay)).await;
    reply.problem("attempt_not_payable");
    api.post(&pay, json!({ "forced": true })).await.ok();
    let refunds = format!("{path}/refunds");
    api.until(&refunds, "succeeded").await;
    let refund = api.get(&refunds).await.ok()["items"][0].clone();
    assert_eq!(
        (&refund["cause"], &refund["amount_minor"]),
        (&json!("late"), &json!(2_000))
    );
    assert_eq!(api.get(&path).await.ok()["state"], "closed");
    let seen = api
        .get(&format!("/v1/simulator/attempts/{attempt_id}"))
        .await
        .ok();
    assert_eq!(seen["refunded_minor"], 2_000);
    api.stop().await;
}

#[tokio::test]
async fn a_refund_is_made_shown_and_never_exceeds_the_payment() {
    let api = Api::start().await;
    let (order_id, payment_id) = paid(&api).await;
    let path = format!("/v1/orders/{order_id}/refunds");
    let body = |number: &str, amount: i64| json!({ "refund_no": number, "amount_minor": amount });
    let made = api.create(&path, body("R-1", 1_500)).await.ok();
    assert_eq!(
        (&made["cause"], &made["state"]),
        (&json!("merchant"), &json!("succeeded"))
    );
    let shown = format!("/v1/refunds/{}", id(&made));
    api.until(&shown, "succeeded").await;
    assert_eq!(
        api.get(&path).await.ok()["items"][0],
        api.get(&shown).await.ok()
    );
    let problem = api
        .create(&path, body("R-2", 501))
        .await
        .problem("refund_too_large");
    assert_eq!(problem["left_minor"], 500);
    api.create(&path, body("R-1", 1)).await.problem("duplicate");
    let reply = api.create(&path, body("R-3", 0)).await;
    assert_eq!(reply.problem("invalid")["pointer"], "/amount_minor");
    let rest = api.create(&path, json!({ "refund_no": "R-4" })).await.ok();
    assert_eq!(
        (&rest["amount_minor"], &rest["payment_id"]),
        (&json!(500), &json!(payment_id))
    );
    let retry = Call::new(Method::POST, &format!("{shown}/retry"));
    let problem = api.call(retry).await.problem("refund_state");
    assert_eq!(problem["state"], "succeeded");
    api.get("/v1/refunds/ref_01h455vb4pex5vsknk084sn02q")
        .await
        .problem("not_found");
    api.stop().await;
}

#[tokio::test]
async fn units_come_back_with_their_refund_and_refunds_are_listed() {
    let api = Api::start().await;
    let (order_id, _) = paid(&api).await;
    let shown = api.get(&format!("/v1/orders/{order_id}")).await.ok();
    let product = shown["lines"][0]["product_id"].as_str().unwrap().to_owned();
    let product = format!("/v1/products/{product}");
    let before = api.get(&product).await.ok()["available"].as_i64().unwrap();
    let path = format!("/v1/orders/{order_id}/refunds");
    let part = json!({ "refund_no": "R-1", "amount_minor": 500, "restock": true });
    let problem = api.create(&path, part).await.problem("invalid");
    assert_eq!(problem["pointer"], "/restock");
    let unit = |number: &str, quantity: i64| {
        let lines = json!([{ "line_no": 1, "quantity": quantity }]);
        json!({ "refund_no": number, "amount_minor": 500, "restock_lines": lines })
    };
    let made = api.create(&path, unit("R-1", 1)).await.ok();
    assert_eq!(made["restock"], true);
    let after = api.get(&product).await.ok()["available"].as_i64().unwrap();
    assert_eq!(after, before + 1, "the answer comes after the units");
    assert_eq!(api.create(&path, unit("R-1", 1)).await.ok(), made);
    let problem = api.create(&path, unit("R-2", 900)).await.problem("invalid");
    assert_eq!(problem["pointer"], "/restock_lines");
    let done = api.get("/v1/refunds?state=succeeded").await.ok();
    assert_eq!(done["items"], json!([made]));
    let waiting = api
        .get("/v1/refunds?state=needs_operator&limit=2")
        .await
        .ok();
    assert_eq!(waiting["items"], json!([]));
    api.get("/v1/refunds?state=lost").await.problem("invalid");
    let shown = format!("/v1/refunds/{}", id(&made));
    let abandon = Call::new(Method::POST, &format!("{shown}/abandon"));
    let problem = api.call(abandon).await.problem("refund_state");
    assert_eq!(problem["state"], "succeeded");
    let settle = format!("{shown}/settle");
    let by_hand = json!({ "reference": "transfer 7" });
    api.post(&settle, by_hand).await.problem("refund_state");
    api.post(&settle, json!({})).await.problem("invalid");
    api.stop().await;
}

#[tokio::test]
async fn a_callback_is_verified_by_its_signature() {
    let api = Api::start().await;
    let (order_id, attempt_id) = attempted(&api).await;
    let account = api.get("/v1/gateways").await.ok()["items"][0].clone();
    let path = format!("/v1/gateways/{}/callbacks", id(&account));
    let forged = json!({ "type": "attempt.paid", "attempt_id": attempt_id });
    let reply = api
        .call(Call::new(Method::POST, &path).json(&forged).elsewhere())
        .await;
    reply.problem("callback_rejected");
    let nowhere = "/v1/gateways/gwa_01h455vb4pex5vsknk084sn02q/callbacks";
    api.post(nowhere, forged).await.problem("not_found");
    let shown = api.get(&format!("/v1/orders/{order_id}")).await.ok();
    assert_eq!(shown["state"], "pending");
    api.stop().await;
}

#[tokio::test]
async fn a_refusal_and_a_silence_of_the_gateway_differ() {
    let api = Api::start().await;
    let product_id = product(&api).await;
    account(&api).await;
    let silent = id(&order(&api, &product_id, "A-1").await);
    let refusing = id(&order(&api, &product_id, "A-2").await);
    let plan = AttemptPlan {
        unreached_creates: 9,
        ..AttemptPlan::default()
    };
    api.simulator.script_order(&silent, plan);
    let plan = AttemptPlan {
        create_refused: true,
        ..AttemptPlan::default()
    };
    api.simulator.script_order(&refusing, plan);
    // An unknown outcome is not a failure: the attempt is submitted, and its timer queries the gateway again.
    let attempt = api
        .create(&format!("/v1/orders/{silent}/payments"), json!({}))
        .await
        .ok();
    assert_eq!(
        (&attempt["state"], attempt.get("pay_url")),
        (&json!("submitted"), None)
    );
    let attempt = api
        .create(&format!("/v1/orders/{refusing}/payments"), json!({}))
        .await
        .ok();
    assert_eq!(attempt["state"], "failed");
    assert!(attempt["detail"].is_string());
    let body = json!({ "gateway": "bank", "name": "x" });
    let reply = api.create("/v1/gateways", body).await;
    assert_eq!(reply.problem("invalid")["pointer"], "/gateway");
    api.stop().await;
}

#[tokio::test]
async fn money_that_no_payment_can_hold_is_listed_and_settled_by_the_operator() {
    let api = Api::start().await;
    let (order_id, attempt_id) = attempted(&api).await;
    let pay = format!("/v1/simulator/attempts/{attempt_id}/pay");
    api.post(&pay, json!({ "currency": "eur" })).await.ok();
    let list = "/v1/unmatched-payments?state=open";
    api.until(list, "open").await;
    let kept = api.get(list).await.ok()["items"][0].clone();
    assert_eq!(
        (&kept["kind"], &kept["currency"], &kept["attempt_id"]),
        (&json!("unreadable"), &json!("eur"), &json!(attempt_id))
    );
    let shown = format!("/v1/unmatched-payments/{}", id(&kept));
    assert_eq!(api.get(&shown).await.ok()["key"], kept["key"]);
    let settle = format!("{shown}/settle");
    let body = json!({ "reference": "transfer 7", "note": "given back by the bank" });
    let settled = api.post(&settle, body.clone()).await.ok();
    assert_eq!(settled["state"], "settled");
    assert_eq!(
        api.post(&settle, body).await.ok()["reference"],
        "transfer 7"
    );
    let other = json!({ "reference": "transfer 8" });
    api.post(&settle, other).await.problem("settled");
    let open = api.get(list).await.ok();
    assert_eq!(open["items"], json!([]));
    let key = json!({ "label": "shop" });
    let key = api.post("/v1/merchants/default/keys", key).await.ok();
    let call = Call::new(Method::GET, list).bearer(key["secret"].as_str().unwrap());
    api.call(call).await.problem("forbidden");
    // Its order goes on to its deadline.
    let order = api.get(&format!("/v1/orders/{order_id}")).await.ok();
    assert_eq!(order["state"], "pending");
    api.stop().await;
}

#[tokio::test]
async fn money_that_no_payment_can_hold_is_recorded_by_the_operator() {
    let api = Api::start().await;
    let (order_id, attempt_id) = attempted(&api).await;
    let pay = format!("/v1/simulator/attempts/{attempt_id}/pay");
    api.post(&pay, json!({ "currency": "eur" })).await.ok();
    let list = "/v1/unmatched-payments?state=open";
    api.until(list, "open").await;
    let kept = api.get(list).await.ok()["items"][0].clone();
    let record = format!("/v1/unmatched-payments/{}/record", id(&kept));
    let unsaid = api.post(&record, json!({})).await;
    assert_eq!(unsaid.problem("invalid")["pointer"], "/currency");
    let key = api
        .post("/v1/merchants/default/keys", json!({ "label": "shop" }))
        .await
        .ok();
    let call = Call::new(Method::POST, &record).json(&json!({ "currency": "EUR" }));
    let call = call.bearer(key["secret"].as_str().unwrap());
    api.call(call).await.problem("forbidden");
    for _ in 0..2 {
        let recorded = api.post(&record, json!({ "currency": "EUR" })).await.ok();
        assert_eq!(recorded["state"], "superseded");
    }
    let order = api.get(&format!("/v1/orders/{order_id}")).await.ok();
    assert_eq!(order["state"], "paid");
    api.stop().await;
}

#[tokio::test]
async fn an_attempt_is_settled_by_hand_and_then_final() {
    let api = Api::start_without_callbacks().await;
    let (order_id, attempt_id) = attempted(&api).await;
    let path = format!("/v1/attempts/{attempt_id}");
    assert_eq!(api.get(&path).await.ok()["state"], "submitted");
    let retry = format!("{path}/retry");
    assert_eq!(api.post(&retry, json!({})).await.ok()["state"], "submitted");
    let settle = format!("{path}/settle");
    let failed = json!({ "result": "failed", "reference": "call 7", "amount_minor": 5 });
    let failed = api.post(&settle, failed).await;
    assert_eq!(failed.problem("invalid")["pointer"], "/amount_minor");
    let paid = json!({ "result": "paid", "reference": "txn-9" });
    for _ in 0..2 {
        let settled = api.post(&settle, paid.clone()).await.ok();
        assert_eq!(settled["state"], "succeeded");
    }
    let order = api.get(&format!("/v1/orders/{order_id}")).await.ok();
    assert_eq!(order["state"], "paid");
    let again = api.post(&retry, json!({})).await;
    assert_eq!(again.problem("attempt_state")["state"], "succeeded");
    for state in ["needs_operator", "unknown"] {
        let list = api.get(&format!("/v1/attempts?state={state}")).await.ok();
        assert_eq!(list["items"], json!([]));
    }
    api.stop().await;
}

#[tokio::test]
async fn the_operator_closes_an_order_whatever_its_gateway_says() {
    let api = Api::start_without_callbacks().await;
    let (order_id, _) = attempted(&api).await;
    let path = format!("/v1/orders/{order_id}/close");
    let key = json!({ "label": "shop" });
    let key = api.post("/v1/merchants/default/keys", key).await.ok();
    let call = Call::new(Method::POST, &path).bearer(key["secret"].as_str().unwrap());
    api.call(call).await.problem("forbidden");
    // A body or a parameter means something that a close does not do.
    let reply = api.post(&path, json!({ "refund": false })).await;
    assert_eq!(reply.problem("invalid")["pointer"], "/refund");
    let reply = api.post(&format!("{path}?force=true"), json!({})).await;
    assert_eq!(reply.problem("invalid")["parameter"], "force");
    for _ in 0..2 {
        assert_eq!(api.post(&path, json!({})).await.ok()["state"], "closed");
    }
    let nothing = "/v1/orders/ord_01h455vb4pex5vsknk084sn02q/close";
    api.post(nothing, json!({})).await.problem("not_found");
    api.stop().await;
}
