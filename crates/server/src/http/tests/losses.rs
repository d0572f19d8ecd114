//! Checks that no request loses messages by mistake or without saying so.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Api, Call};

#[tokio::test]
async fn what_the_order_platform_uses_is_kept_unless_it_is_meant() {
    let api = Api::start();
    let topic = json!({ "name": "duetime-refunds", "kind": "delay" });
    api.post("/v1/topics", topic).await.ok();
    let group = json!({ "name": "duetime-refund" });
    api.post("/v1/groups", group).await.ok();
    let (topic, group) = ("/v1/topics/duetime-refunds", "/v1/groups/duetime-refund");
    let reset = format!("{topic}/groups/duetime-refund/reset");
    let purge = format!("{group}/dead-letters/purge");
    let subscription = format!("{topic}/groups/duetime-refund");
    for path in [topic, group, &subscription] {
        let refused = api.call(Call::new(Method::DELETE, path)).await;
        refused.problem("platform_owned");
    }
    let to = json!({ "to": Api::instant(30) });
    let refused = api.post(&reset, to.clone()).await;
    let problem = refused.problem("platform_owned");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("force=platform")
    );
    let refused = api.post(&purge, json!({ "all": true })).await;
    refused.problem("platform_owned");
    let counted = json!({ "all": true, "dry_run": true });
    api.post(&purge, counted).await.ok();
    let wrong = format!("{topic}?force=tea");
    let wrong = api.call(Call::new(Method::DELETE, &wrong)).await;
    wrong.problem("invalid");

    api.post(&format!("{reset}?force=platform"), to).await.ok();
    let purge = format!("{purge}?force=platform");
    api.post(&purge, json!({ "all": true })).await.ok();
    for path in [topic, group] {
        let path = format!("{path}?force=platform");
        let deleted = api.call(Call::new(Method::DELETE, &path)).await;
        assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    }
}

#[tokio::test]
async fn settings_and_messages_of_the_order_platform_are_kept_unless_they_are_meant() {
    let api = Api::start();
    for name in ["duetime-refunds", "%DLQ%duetime-refund"] {
        api.post("/v1/topics", json!({ "name": name })).await.ok();
    }
    let group = json!({ "name": "duetime-refund" });
    api.post("/v1/groups", group).await.ok();
    let (topic, group) = ("/v1/topics/duetime-refunds", "/v1/groups/duetime-refund");
    let timer = "/v1/timers/duetime-refunds/k";
    let message = format!("{topic}/messages/m");
    let waiting = json!({ "message_id": "m", "after": "1h" });
    api.post(&format!("{topic}/messages"), waiting).await.ok();
    let after = json!({ "after": "1h" });
    let calls = [
        ("PATCH", topic.to_owned(), json!({ "quota_bytes": 1 })),
        ("PATCH", group.to_owned(), json!({ "attempts_max": 1 })),
        ("PATCH", group.to_owned(), json!({ "backoff": ["300d"] })),
        ("PUT", timer.to_owned(), after.clone()),
        ("DELETE", timer.to_owned(), json!({})),
        ("PUT", format!("{message}/due"), after),
        ("POST", format!("{message}/deliver"), json!({})),
        ("DELETE", message.clone(), json!({})),
        (
            "POST",
            format!("{topic}/groups/duetime-refund/receive"),
            json!({}),
        ),
        (
            "DELETE",
            "/v1/topics/%25DLQ%25duetime-refund".to_owned(),
            json!({}),
        ),
    ];
    for (method, path, body) in &calls {
        let call = Call::new(method.parse().unwrap(), path).json(body);
        api.call(call).await.problem("platform_owned");
    }
    // What would lose nothing needs no force: a look, a replay, one more message.
    api.get(&message.replace("messages/", "messages?find="))
        .await
        .ok();
    let replay = format!("{group}/dead-letters/replay");
    api.post(&replay, json!({ "all": true })).await.ok();
    for (method, path, body) in &calls {
        let path = format!("{path}?force=platform");
        let call = Call::new(method.parse().unwrap(), &path).json(body);
        let done = api.call(call).await;
        assert_ne!(
            done.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{path} {done:?}"
        );
        assert!(!done.text.contains("platform_owned"), "{path} {done:?}");
    }
}

#[tokio::test]
async fn a_reset_and_a_deletion_say_what_is_lost_with_them() {
    let api = Api::with_topic().await;
    for after in ["1s", "2s", "3s", "2h"] {
        let message = json!({ "body": after, "after": after });
        api.post("/v1/topics/orders/messages", message).await.ok();
    }
    let pair = "/v1/topics/orders/groups/closer";
    assert_eq!(api.receive(1).await.len(), 1);
    api.clock.advance(10_000);
    let receive = json!({ "max": 1, "wait_for": "1s" });
    let path = format!("{pair}/receive");
    let receive = api.post(&path, receive);
    let second = api.moving(receive).await.ok();
    let retry = json!({ "receipt": second["items"][0]["receipt"], "after": "1h" });
    api.post(&format!("{pair}/retry"), retry).await.ok();
    let reset = format!("{pair}/reset");
    let to = Api::instant(3 * 3_600);
    let dry = api.post(&reset, json!({ "to": to, "dry_run": true })).await;
    let dry = dry.ok();
    // One is with a consumer, one is ready, one waits, and one failed.
    assert_eq!(
        (&dry["skipped"], &dry["retries_dropped"]),
        (&json!(3), &json!(1))
    );
    assert_eq!(dry["in_flight"], 1);
    let lost = api.delete(pair).await.ok();
    assert_eq!(lost, json!({ "messages": 2, "retrying": 1 }));
    api.post(
        "/v1/topics/orders/groups/closer/receive",
        json!({ "max": 2 }),
    )
    .await
    .ok();
    let done = api.post(&reset, json!({ "to": to })).await.ok();
    assert_eq!((&done["skipped"], &done["ready"]), (&json!(4), &json!(0)));
    api.post(&reset, json!({ "to": Api::instant(0) }))
        .await
        .ok();
    let lost = api.delete("/v1/groups/closer").await.ok();
    assert_eq!(lost, json!({ "messages": 3, "retrying": 0 }));
    let lost = api.delete("/v1/topics/orders").await.ok();
    assert_eq!(lost, json!({ "messages": 4, "waiting": 1 }));
}

#[tokio::test]
async fn what_groups_do_not_get_is_on_the_page_of_metrics() {
    let api = Api::with_topic().await;
    for tag in ["a", "b", "a"] {
        let message = json!({ "tag": tag });
        api.post("/v1/topics/orders/messages", message).await.ok();
    }
    let receive = async |body: Value| {
        let receive = api.post("/v1/topics/orders/groups/closer/receive", body);
        api.moving(receive).await.ok()["items"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(
        receive(json!({ "tags": ["a"], "max": 9, "wait_for": "1s" })).await,
        2
    );
    assert_eq!(receive(json!({ "tags": ["b"] })).await, 0);
    let fifo = json!({ "name": "lines", "kind": "fifo" });
    api.post("/v1/topics", fifo).await.ok();
    api.post("/v1/topics/lines/groups/closer/receive", json!({}))
        .await
        .ok();
    let unread = json!({ "name": "unread" });
    api.post("/v1/topics", unread).await.ok();
    api.post("/v1/topics/unread/messages", json!({})).await.ok();
    let text = api.get("/metrics").await.text;
    for line in [
        "duetime_broker_skipped_messages_total{topic=\"orders\",group=\"closer\"} 1",
        "duetime_broker_differing_filters 1",
        "duetime_broker_unordered_subscriptions 1",
        "duetime_broker_never_read_messages_total 0",
        "duetime_broker_dropped_dead_letters_total 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}
