//! Checks what the operator is shown of the outbox, and how parked messages are published again.

use broker::{TopicKind, TopicSpec};
use http::Method;
use serde_json::json;

use super::shop::{order, product};
use super::{Api, Call};

const EVENTS: &str = "duetime-order-events";

#[tokio::test]
async fn a_message_that_the_broker_refuses_is_listed_and_unparked_by_the_operator() {
    let api = Api::start().await;
    // An operator has made the topic anew, with a kind that takes no events.
    api.broker.delete_topic(EVENTS).await.unwrap();
    let normal = TopicSpec::new(EVENTS, TopicKind::Normal);
    api.broker.create_topic(normal).await.unwrap();
    let product_id = product(&api).await;
    let made = order(&api, &product_id, "A-1").await;
    api.until("/v1/outbox", "parked").await;
    let list = format!("/v1/outbox?state=parked&topic={EVENTS}&limit=1");
    let page = api.get(&list).await.ok();
    let parked = &page["items"][0];
    assert_eq!(
        (&parked["subject"], &parked["tag"], &parked["topic"]),
        (&made["id"], &json!("order.created"), &json!(EVENTS))
    );
    let refusal = parked["refusal"].as_str().unwrap();
    assert!(refusal.contains("NORMAL"), "{refusal}");
    let next = page["next_cursor"].as_str().unwrap();
    let rest = api.get(&format!("/v1/outbox?cursor={next}")).await.ok();
    assert_eq!(rest["items"], json!([]));

    let unpark = format!("/v1/outbox/{}/unpark", parked["seq"]);
    let waiting = api.post(&unpark, json!({})).await.ok();
    assert_eq!(waiting["state"], "waiting");
    assert!(waiting.get("refusal").is_none());
    api.until("/v1/outbox", "parked").await;
    let all = api.post("/v1/outbox/unpark", json!({})).await.ok();
    assert_eq!(all["unparked"], 1);
    api.until("/v1/outbox", "parked").await;

    api.post("/v1/outbox/999/unpark", json!({}))
        .await
        .problem("not_found");
    for number in ["tea", "99999999999999999999"] {
        let unpark = format!("/v1/outbox/{number}/unpark");
        let problem = api.post(&unpark, json!({})).await.problem("not_found");
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.contains("is not the number of a message"),
            "{detail}"
        );
    }
    let reply = api.get("/v1/outbox?topic=tea").await;
    assert_eq!(reply.problem("invalid")["parameter"], "topic");
    let reply = api.get("/v1/outbox?cursor=tea").await;
    assert_eq!(reply.problem("invalid")["parameter"], "cursor");
    let reply = api
        .post("/v1/outbox/unpark", json!({ "topic": "tea" }))
        .await;
    assert_eq!(reply.problem("invalid")["pointer"], "/topic");
    let key = json!({ "label": "shop" });
    let key = api.post("/v1/merchants/default/keys", key).await.ok();
    let call = Call::new(Method::GET, "/v1/outbox").bearer(key["secret"].as_str().unwrap());
    api.call(call).await.problem("forbidden");
    let metrics = api.get("/metrics").await;
    assert!(
        metrics.text.contains("duetime_outbox_parked "),
        "{}",
        metrics.text
    );
    api.stop().await;
}
