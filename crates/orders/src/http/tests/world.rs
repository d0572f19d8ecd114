//! Checks that instants are those of the wall clock outside, however far the engine clock is ahead of it.

use http::Method;
use serde_json::json;

use super::shop::{account, id, order, order_body, product};
use super::{Api, Call};

/// How far the engine clock is ahead: it does not follow a wall clock that was set back at once.
const AHEAD_MS: u64 = 3_600_000;

#[tokio::test]
async fn a_deadline_is_an_instant_of_the_wall_clock_and_may_be_put_again() {
    let api = Api::start().await;
    api.clock.set_ahead(AHEAD_MS);
    let product_id = product(&api).await;
    let mut body = order_body(&product_id, "A-1");
    body.as_object_mut().unwrap().remove("deadline_after_ms");
    body["deadline"] = json!("2026-11-24T08:30:00Z");
    let made = api.create("/v1/orders", body).await.ok();
    assert_eq!(made["deadline"], "2026-11-24T08:30:00.000Z");
    assert_eq!(made["seconds_left"], 1_800);
    assert_eq!(made["created_at"], "2026-11-24T08:00:00.000Z");
    let path = format!("/v1/orders/{}", id(&made));
    let put = |deadline: &str| {
        let call = Call::new(Method::PUT, &format!("{path}/deadline"));
        api.call(call.json(&json!({ "deadline": deadline })))
    };
    let moved = put("2026-11-24T08:40:00Z").await.ok();
    assert_eq!(moved["seconds_left"], 2_400);
    // The clocks come together meanwhile: what was asked for is shown, and holds.
    api.clock.set_ahead(AHEAD_MS / 2);
    let again = put("2026-11-24T08:40:00Z").await.ok();
    assert_eq!(again["deadline"], "2026-11-24T08:40:00.000Z");
    assert_eq!(again["version"], moved["version"]);
    put("2026-11-24T08:39:00Z").await.problem("invalid");
    api.stop().await;
}

#[tokio::test]
async fn a_deadline_that_holds_may_be_put_again_after_the_order_has_ended() {
    let api = Api::start().await;
    let product_id = product(&api).await;
    let path = format!("/v1/orders/{}", id(&order(&api, &product_id, "A-1").await));
    let put = || {
        let call = Call::new(Method::PUT, &format!("{path}/deadline"));
        api.call(call.json(&json!({ "deadline": "2026-11-24T09:05:00Z" })))
    };
    put().await.ok();
    api.post(&format!("{path}/cancel"), json!({})).await.ok();
    assert_eq!(put().await.ok()["state"], "closed");
    api.stop().await;
}

#[tokio::test]
async fn a_callback_that_is_signed_by_the_wall_clock_pays() {
    let api = Api::start().await;
    api.clock.set_ahead(AHEAD_MS);
    let product_id = product(&api).await;
    account(&api).await;
    let made = order(&api, &product_id, "A-1").await;
    let path = format!("/v1/orders/{}", id(&made));
    let attempt = api.create(&format!("{path}/payments"), json!({})).await;
    let attempt = attempt.ok();
    assert_eq!(attempt["expires_at"], made["deadline"]);
    let pay = format!("/v1/simulator/attempts/{}/pay", id(&attempt));
    let paid = api.call(Call::new(Method::POST, &pay)).await.ok();
    assert_eq!(paid["paid_at"], "2026-11-24T08:00:00.000Z");
    api.until(&path, "paid").await;
    api.stop().await;
}

#[tokio::test]
async fn a_clock_that_cannot_be_believed_is_reported_until_it_is_confirmed() {
    let api = Api::start().await;
    let product_id = product(&api).await;
    let path = format!("/v1/orders/{}", id(&order(&api, &product_id, "A-1").await));
    api.clock.advance(400 * 86_400_000);
    // The next commit sees it.
    product(&api).await;
    let ready = api.get("/readyz").await.ok();
    assert_eq!(ready["status"], "degraded");
    let reasons = ready["reasons"].to_string();
    assert!(reasons.contains("closing is paused"), "{reasons}");
    let pause = &api.get("/v1/pauses").await.ok()["items"][0];
    assert_eq!(
        (&pause["scope"], &pause["cause"]),
        (&json!("all"), &json!("clock"))
    );
    let metrics = api.get("/metrics").await.text;
    assert!(
        metrics.contains("duetime_closing_paused{cause=\"clock\"} "),
        "{metrics}"
    );
    assert_eq!(api.get(&path).await.ok()["state"], "pending");
    api.post("/v1/resume", json!({ "scope": "all" })).await.ok();
    api.until(&path, "closed").await;
    assert_eq!(api.get("/readyz").await.ok()["status"], "ok");
    api.stop().await;
}
