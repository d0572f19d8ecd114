//! Checks what producers and consumers do: send, receive, settle, recall, move, and keyed timers.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Api, Call};

const MESSAGES: &str = "/v1/topics/orders/messages";

async fn send(api: &Api, body: Value) -> Value {
    let reply = api.post(MESSAGES, body).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text);
    reply.json()
}

async fn settle(api: &Api, what: &str, body: Value) -> super::rig::Reply {
    api.post(&format!("/v1/topics/orders/groups/closer/{what}"), body)
        .await
}

#[tokio::test]
async fn a_message_goes_out_at_its_time_and_is_acknowledged() {
    let api = Api::with_topic().await;
    let body = json!({
        "body": "close order 42", "tag": "close", "keys": ["order-42"],
        "properties": { "shop": "7" }, "after": "30s",
    });
    let sent = send(&api, body).await;
    assert_eq!(sent["due_at"], Api::instant(30));
    assert_eq!(sent["repeated"], false);
    let delivered = api.receive(10).await;
    assert!(api.passed_ms() >= 30_000);
    let [delivery] = &delivered[..] else {
        panic!("one delivery: {delivered:?}")
    };
    assert_eq!(delivery["attempt"], 1);
    let message = &delivery["message"];
    assert_eq!(message["body"], "close order 42");
    assert_eq!(message["state"], "due");
    assert_eq!(message["message_id"], sent["message_id"]);
    assert_eq!(message["handle"], sent["handle"]);
    assert_eq!(message["properties"], json!({ "shop": "7" }));
    let receipt = &delivery["receipt"];
    let done = settle(&api, "ack", json!({ "receipts": [receipt] }))
        .await
        .ok();
    assert_eq!(
        done["items"],
        json!([{ "receipt": receipt, "outcome": "acknowledged" }])
    );
    let nothing = settle(&api, "receive", json!({})).await.ok();
    assert_eq!(nothing["items"], json!([]));
}

#[tokio::test]
async fn a_due_time_is_given_in_one_of_four_ways() {
    let api = Api::with_topic().await;
    let due = |sent: Value| sent["due_at"].clone();
    assert_eq!(
        due(send(&api, json!({ "after": "2h" })).await),
        Api::instant(7_200)
    );
    assert_eq!(
        due(send(&api, json!({ "at": Api::instant(90) })).await),
        Api::instant(90)
    );
    assert_eq!(
        due(send(&api, json!({ "at": "2026-11-24T11:00:00+01:00" })).await),
        Api::instant(3_600)
    );
    assert_eq!(
        due(send(&api, json!({ "level": 3 })).await),
        Api::instant(10)
    );
    let past = due(send(&api, json!({ "at": Api::instant(-90) })).await);
    assert!(past.as_str().unwrap() >= Api::instant(0).as_str());
    for (body, pointer) in [
        (json!({ "after": "1s", "at": Api::instant(1) }), "/after"),
        (json!({ "level": 1, "at": Api::instant(1) }), "/level"),
        (json!({ "after": "soon" }), "/after"),
        (json!({ "at": "2026-11-24" }), "/at"),
        (json!({ "after": 5 }), "/after"),
        (
            json!({ "body": "a", "body_base64": "YQ==" }),
            "/body_base64",
        ),
        (json!({ "body_base64": "???" }), "/body_base64"),
        (json!({ "properties": { "a": 1 } }), "/properties/a"),
        (json!({ "message_id": "" }), "/message_id"),
    ] {
        let problem = api.post(MESSAGES, body.clone()).await.problem("invalid");
        let actual = problem["pointer"].as_str().unwrap_or_default();
        assert_eq!(actual, pointer, "{body}: {problem}");
    }
    let problem = api
        .post(MESSAGES, json!({ "after": "40000d" }))
        .await
        .problem("over_limit");
    assert!(problem["limit"].as_u64().unwrap() < problem["found"].as_u64().unwrap());
}

#[tokio::test]
async fn a_message_of_the_wrong_kind_or_to_nowhere_is_refused() {
    let api = Api::start();
    let problem = api
        .post("/v1/topics/nowhere/messages", json!({}))
        .await
        .problem("topic_not_found");
    assert_eq!(problem["topic"], "nowhere");
    api.post("/v1/topics", json!({ "name": "lines", "kind": "fifo" }))
        .await
        .ok();
    let reply = api
        .post("/v1/topics/lines/messages", json!({ "after": "1s" }))
        .await;
    reply.problem("wrong_topic_kind");
    let grouped = json!({ "after": "1s", "message_group": "g" });
    api.post("/v1/topics/lines/messages", grouped).await.ok();
    let small = json!({ "name": "small", "kind": "delay", "quota_bytes": 10 });
    api.post("/v1/topics", small).await.ok();
    api.post("/v1/topics/small/messages", json!({ "body": "0123456789" }))
        .await
        .ok();
    let reply = api.post("/v1/topics/small/messages", json!({})).await;
    reply.problem("quota_reached");
    assert_eq!(reply.status, StatusCode::INSUFFICIENT_STORAGE);
    let long = json!({ "tag": "x".repeat(16_385) });
    let problem = api
        .post("/v1/topics/small/messages", long)
        .await
        .problem("over_limit");
    assert_eq!(
        (&problem["pointer"], &problem["limit"]),
        (&json!("/tag"), &json!(16_384))
    );
}

#[tokio::test]
async fn bytes_that_are_not_text_are_returned_as_base64_and_a_repeated_send_is_one() {
    let api = Api::with_topic().await;
    let body = json!({ "body_base64": "/wA=", "message_id": "m-1" });
    let first = send(&api, body.clone()).await;
    let again = send(&api, body).await;
    assert_eq!(
        (&first["message_id"], &again["repeated"]),
        (&json!("m-1"), &json!(true))
    );
    assert_eq!(first["handle"], again["handle"]);
    let delivered = api.receive(10).await;
    assert_eq!(delivered.len(), 1);
    assert_eq!(delivered[0]["message"]["body_base64"], "/wA=");
    assert!(delivered[0]["message"].get("body").is_none());
}

#[tokio::test]
async fn a_batch_reports_the_outcome_of_each_message() {
    let api = Api::with_topic().await;
    let messages = json!([{ "body": "a" }, { "body": "b", "after": "1s", "at": Api::instant(1) }, { "tag": "x".repeat(16_385) }, { "message_id": "d" }]);
    let reply = api
        .post("/v1/topics/orders/batches", json!({ "messages": messages }))
        .await
        .ok();
    let items = reply["items"].as_array().unwrap();
    assert!(items[0]["sent"]["handle"].is_string() && items[0].get("problem").is_none());
    assert_eq!(items[1]["problem"]["pointer"], "/messages/1/after");
    assert_eq!(items[2]["problem"]["type"], "/problems/over_limit");
    assert_eq!(items[2]["problem"]["pointer"], "/messages/2/tag");
    assert_eq!(items[3]["sent"]["message_id"], "d");
    assert_eq!(api.receive(10).await.len(), 2);
    let none = api
        .post("/v1/topics/orders/batches", json!({ "messages": [] }))
        .await;
    assert_eq!(none.problem("invalid")["pointer"], "/messages");
    let bad = json!({ "messages": [{}, { "after": 1 }] });
    let problem = api
        .post("/v1/topics/orders/batches", bad)
        .await
        .problem("invalid");
    assert_eq!(problem["pointer"], "/messages/1/after");
}

#[tokio::test]
async fn a_delivery_is_handed_back_hidden_or_dead_lettered() {
    let api = Api::with_topic().await;
    send(&api, json!({ "body": "a" })).await;
    let first = api.receive(1).await.remove(0);
    let hidden = json!({ "receipt": first["receipt"], "invisible_for": "10m" });
    assert_eq!(settle(&api, "hide", hidden).await.ok()["outcome"], "hidden");
    let back = json!({ "receipt": first["receipt"], "after": "5s" });
    assert_eq!(
        settle(&api, "retry", back.clone()).await.ok()["outcome"],
        "handed_back"
    );
    settle(&api, "retry", back).await.problem("receipt_expired");
    let second = api.receive(1).await.remove(0);
    assert_eq!(second["attempt"], 2);
    let late = json!({ "receipts": [first["receipt"], second["receipt"]] });
    let acked = settle(&api, "ack", late).await.ok();
    assert_eq!(acked["items"][0]["outcome"], "expired");
    assert_eq!(acked["items"][1]["outcome"], "acknowledged");
    send(&api, json!({ "body": "b" })).await;
    let third = api.receive(1).await.remove(0);
    let bury = json!({ "receipt": third["receipt"] });
    assert_eq!(
        settle(&api, "bury", bury.clone()).await.ok()["outcome"],
        "buried"
    );
    settle(&api, "bury", bury).await.problem("receipt_expired");
}

#[tokio::test]
async fn a_receipt_is_valid_for_its_own_topic_and_group_only() {
    let api = Api::with_topic().await;
    send(&api, json!({})).await;
    let delivery = api.receive(1).await.remove(0);
    api.post("/v1/groups", json!({ "name": "spy" })).await.ok();
    for what in ["retry", "hide", "bury"] {
        let mut body = json!({ "receipt": delivery["receipt"] });
        if what == "hide" {
            body["invisible_for"] = json!("1s");
        }
        let path = format!("/v1/topics/orders/groups/spy/{what}");
        let problem = api.post(&path, body).await.problem("invalid");
        assert_eq!(problem["pointer"], "/receipt");
    }
    let body = json!({ "receipts": [delivery["receipt"], "rubbish"] });
    let problem = settle(&api, "ack", body).await.problem("invalid");
    assert_eq!(problem["pointer"], "/receipts/1");
    let unknown = api
        .post(
            "/v1/topics/orders/groups/missing/ack",
            json!({ "receipts": ["a"] }),
        )
        .await;
    unknown.problem("group_not_found");
    let none = settle(&api, "ack", json!({ "receipts": [] }))
        .await
        .problem("invalid");
    assert_eq!(none["pointer"], "/receipts");
}

#[tokio::test]
async fn a_receive_keeps_to_its_limits_and_its_filter() {
    let api = Api::with_topic().await;
    for (body, pointer) in [
        (json!({ "max": 0 }), "/max"),
        (json!({ "max": 257 }), "/max"),
        (json!({ "wait_for": "61s" }), "/wait_for"),
        (json!({ "invisible_for": "13h" }), "/invisible_for"),
    ] {
        let reply = settle(&api, "receive", body).await;
        assert_eq!(reply.json()["pointer"], pointer, "{}", reply.text);
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let bare = Call::new(Method::POST, "/v1/topics/orders/groups/closer/receive");
    assert_eq!(api.call(bare).await.ok()["items"], json!([]));
    send(&api, json!({ "body": "a", "tag": "red" })).await;
    send(&api, json!({ "body": "b", "tag": "blue" })).await;
    let body = json!({ "max": 5, "wait_for": "10s", "tags": ["blue", "green"] });
    let reply = api.moving(settle(&api, "receive", body)).await.ok();
    assert_eq!(reply["items"].as_array().unwrap().len(), 1);
    assert_eq!(reply["items"][0]["message"]["body"], "b");
}

#[tokio::test]
async fn a_recall_reports_its_outcome_by_handle_and_by_id() {
    let api = Api::with_topic().await;
    let sent = send(&api, json!({ "after": "10s" })).await;
    let by_handle = format!("{MESSAGES}/{}", sent["handle"].as_str().unwrap());
    assert_eq!(api.delete(&by_handle).await.ok()["outcome"], "cancelled");
    // A handle identifies the message even after it is cancelled; an id does not.
    assert_eq!(api.delete(&by_handle).await.ok()["outcome"], "cancelled");
    let by_id = format!("{MESSAGES}/{}", sent["message_id"].as_str().unwrap());
    assert_eq!(
        api.delete(&by_id).await.problem("message_not_found")["outcome"],
        "unknown"
    );
    send(&api, json!({ "after": "10s", "message_id": "m/1" })).await;
    assert_eq!(
        api.delete(&format!("{MESSAGES}/m%2F1")).await.ok()["outcome"],
        "cancelled"
    );
    let due = send(&api, json!({ "message_id": "now" })).await;
    api.clock.advance(100);
    let reply = api.delete(&format!("{MESSAGES}/now")).await;
    let problem = reply.problem("too_late");
    assert_eq!(
        (&problem["outcome"], &problem["due_at"]),
        (&json!("too_late"), &due["due_at"])
    );
    let nowhere = api.delete("/v1/topics/nowhere/messages/m").await;
    nowhere.problem("topic_not_found");
    api.post("/v1/topics", json!({ "name": "other" }))
        .await
        .ok();
    let elsewhere = format!(
        "/v1/topics/other/messages/{}",
        sent["handle"].as_str().unwrap()
    );
    api.delete(&elsewhere).await.problem("message_not_found");
}

#[tokio::test]
async fn a_message_is_moved_and_delivered_now() {
    let api = Api::with_topic().await;
    let sent = send(&api, json!({ "body": "a", "after": "1h" })).await;
    let id = sent["message_id"].as_str().unwrap();
    let path = format!("{MESSAGES}/{id}/due");
    let moved = api.put(&path, json!({ "after": "2h" })).await.ok();
    assert_eq!(moved["due_at"], Api::instant(7_200));
    assert_eq!(moved["message_id"], sent["message_id"]);
    let by_handle = format!("{MESSAGES}/{}/due", sent["handle"].as_str().unwrap());
    let moved = api
        .put(&by_handle, json!({ "at": Api::instant(10_800) }))
        .await
        .ok();
    assert_eq!(moved["due_at"], Api::instant(10_800));
    assert_eq!(moved["message_id"], sent["message_id"]);
    assert_eq!(
        api.put(&path, json!({})).await.problem("invalid")["pointer"],
        ""
    );
    let deliver = format!("{MESSAGES}/{id}/deliver");
    let call = || api.call(Call::new(Method::POST, &deliver));
    let delivered = call().await.ok();
    assert!(delivered["due_at"].as_str().unwrap() < Api::instant(1).as_str());
    api.clock.advance(100);
    call().await.problem("too_late");
    api.put(&path, json!({ "after": "1h" }))
        .await
        .problem("too_late");
    assert_eq!(api.receive(5).await.len(), 1);
    let unknown = format!("{MESSAGES}/nothing/deliver");
    api.call(Call::new(Method::POST, &unknown))
        .await
        .problem("message_not_found");
}

#[tokio::test]
async fn an_id_that_several_messages_have_is_not_guessed_at() {
    let api = Api::with_topic().await;
    send(&api, json!({ "message_id": "twice", "after": "1h" })).await;
    // After the window in which a repeated send is recognised.
    api.clock.advance(121_000);
    send(&api, json!({ "message_id": "twice", "after": "1h" })).await;
    api.delete(&format!("{MESSAGES}/twice"))
        .await
        .problem("ambiguous");
}

#[tokio::test]
async fn a_timer_is_set_moved_shown_and_cancelled() {
    let api = Api::with_topic().await;
    let path = "/v1/timers/orders/order%2F42";
    api.get(path).await.problem("message_not_found");
    let made = api
        .put(path, json!({ "after": "30m", "body": "close", "tag": "t" }))
        .await;
    assert_eq!(made.status, StatusCode::CREATED);
    assert_eq!(made.json()["outcome"], "created");
    assert_eq!(made.json()["due_at"], Api::instant(1_800));
    let moved = api.put(path, json!({ "at": Api::instant(60) })).await;
    assert_eq!(moved.status, StatusCode::OK);
    assert_eq!(moved.json()["outcome"], "moved");
    let shown = api.get(path).await.ok();
    assert_eq!(
        (&shown["state"], &shown["due_at"]),
        (&json!("waiting"), &json!(Api::instant(60)))
    );
    assert_eq!(shown["message"]["body"], "close");
    assert_eq!(shown["message"]["keys"], json!(["order/42"]));
    assert_eq!(
        shown["message"]["properties"],
        json!({ "TIMER_KEY": "order/42" })
    );
    api.put(path, json!({ "after": "20s", "body": "close now" }))
        .await
        .ok();
    assert_eq!(api.delete(path).await.ok()["outcome"], "cancelled");
    assert_eq!(
        api.delete(path).await.problem("message_not_found")["outcome"],
        "unknown"
    );
    api.put(path, json!({ "after": "20s", "body": "again" }))
        .await
        .ok();
    let delivered = api.receive(5).await;
    assert_eq!(delivered[0]["message"]["body"], "again");
    let problem = api.delete(path).await.problem("too_late");
    assert_eq!(problem["outcome"], "too_late");
    assert_eq!(api.get(path).await.ok()["state"], "due");
}

#[tokio::test]
async fn a_timer_that_is_not_allowed_is_refused() {
    let api = Api::with_topic().await;
    let path = "/v1/timers/orders/k";
    assert_eq!(
        api.put(path, json!({})).await.problem("invalid")["pointer"],
        ""
    );
    let problem = api
        .put(path, json!({ "after": "1s", "tag": "t" }))
        .await
        .problem("invalid");
    assert_eq!(problem["pointer"], "/body");
    let long = format!("/v1/timers/orders/{}", "k".repeat(256));
    let problem = api
        .put(&long, json!({ "after": "1s" }))
        .await
        .problem("invalid");
    assert_eq!(problem["parameter"], "key");
    let nowhere = api
        .put("/v1/timers/nowhere/k", json!({ "after": "1s" }))
        .await;
    nowhere.problem("topic_not_found");
    api.post("/v1/topics", json!({ "name": "bare", "indexed": false }))
        .await
        .ok();
    let bare = api.put("/v1/timers/bare/k", json!({ "after": "1s" })).await;
    bare.problem("invalid");
    api.post("/v1/topics", json!({ "name": "lines", "kind": "fifo" }))
        .await
        .ok();
    let set = |body| api.put("/v1/timers/lines/k", body);
    set(json!({ "after": "1s" }))
        .await
        .problem("wrong_topic_kind");
    let grouped = json!({ "after": "1h", "message_group": "g", "body": "a" });
    assert_eq!(set(grouped).await.status, StatusCode::CREATED);
    let moved = json!({ "after": "2h", "message_group": "g" });
    assert_eq!(set(moved).await.ok()["outcome"], "moved");
    assert_eq!(
        api.get("/v1/timers/lines/k").await.ok()["message"]["body"],
        "a"
    );
}

#[tokio::test]
async fn a_batch_points_to_the_field_of_the_message_that_is_refused() {
    let api = Api::with_topic().await;
    let batch = json!({ "messages": [
        { "body": "a" },
        { "message_id": "" },
        { "body": "e", "after": "4000d" },
        { "body": "f" },
    ] });
    let done = api.post("/v1/topics/orders/batches", batch).await.ok();
    let items = done["items"].as_array().unwrap();
    let outcomes: Vec<_> = items
        .iter()
        .map(|item| item["problem"]["pointer"].as_str().unwrap_or("sent"))
        .collect();
    let expected = [
        "sent",
        "/messages/1/message_id",
        "/messages/2/after",
        "sent",
    ];
    assert_eq!(outcomes, expected, "{done}");
    // One that cannot be read refuses all of them.
    for (message, pointer) in [
        (json!({ "at": "2026-11-24T10:00:00,5Z" }), "/messages/1/at"),
        (json!({ "tags": "x" }), "/messages/1/tags"),
        (json!("d"), "/messages/1"),
    ] {
        let batch = json!({ "messages": [{ "body": "a" }, message] });
        let reply = api.post("/v1/topics/orders/batches", batch).await;
        assert_eq!(reply.problem("invalid")["pointer"], pointer);
    }
    assert_eq!(api.get("/v1/topics/orders").await.ok()["messages"], 2);
}

#[tokio::test]
async fn a_text_that_is_given_and_empty_is_pointed_to() {
    let api = Api::with_topic().await;
    for field in ["message_id", "tag", "message_group"] {
        let mut message = json!({ "after": "1m", "body": "a" });
        message[field] = json!("");
        let reply = api.post("/v1/topics/orders/messages", message.clone());
        let problem = reply.await.problem("invalid");
        assert_eq!(problem["pointer"], format!("/{field}"));
        if field != "message_id" {
            let reply = api.put("/v1/timers/orders/k", message).await;
            assert_eq!(reply.problem("invalid")["pointer"], format!("/{field}"));
        }
    }
}

#[tokio::test]
async fn an_instant_that_is_too_far_away_is_refused_with_the_longest_delay() {
    let api = Api::with_topic().await;
    let far = json!({ "at": "9999-12-31T23:59:59Z" });
    let problem = api
        .post("/v1/topics/orders/messages", far.clone())
        .await
        .problem("over_limit");
    assert_eq!(problem["pointer"], "/at");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("at most 3660 days is allowed"), "{detail}");
    let problem = api.put("/v1/timers/orders/k", far.clone()).await;
    assert_eq!(problem.problem("over_limit")["pointer"], "/at");
    let waiting = json!({ "message_id": "m", "after": "1h" });
    api.post("/v1/topics/orders/messages", waiting).await.ok();
    let due = "/v1/topics/orders/messages/m/due";
    assert_eq!(
        api.put(due, far).await.problem("over_limit")["pointer"],
        "/at"
    );
    let far = json!({ "after": "4000d" });
    assert_eq!(
        api.put(due, far).await.problem("over_limit")["pointer"],
        "/after"
    );
    let comma = json!({ "at": "2026-11-24T10:00:00,5Z" });
    assert_eq!(
        api.put(due, comma).await.problem("invalid")["pointer"],
        "/at"
    );
}

#[tokio::test]
async fn a_query_or_a_body_that_would_be_ignored_is_refused() {
    let api = Api::with_topic().await;
    let reply = api.post(
        "/v1/topics/orders/messages?after=30m",
        json!({ "body": "a" }),
    );
    assert_eq!(reply.await.problem("invalid")["parameter"], "after");
    let waiting = json!({ "message_id": "m", "after": "1h" });
    api.post("/v1/topics/orders/messages", waiting).await.ok();
    let deliver = "/v1/topics/orders/messages/m/deliver";
    let reply = api.post(deliver, json!({ "after": "30m" })).await;
    assert_eq!(reply.problem("invalid")["pointer"], "/after");
    let call = Call::new(Method::POST, deliver).body("after=30m");
    assert_eq!(api.call(call).await.problem("invalid")["pointer"], "");
    assert_eq!(api.get("/v1/topics/orders").await.ok()["waiting"], 1);
    api.post(deliver, json!({})).await.ok();
    // Probes and readers of metrics may add what they like.
    for path in ["/healthz?x=1", "/metrics?x=1", "/openapi.json?x=1"] {
        assert!(api.get(path).await.status.is_success(), "{path}");
    }
}

#[tokio::test]
async fn a_refused_setting_is_named_as_in_the_request() {
    let api = Api::with_topic().await;
    let steps = vec!["1s"; 65];
    for (body, words) in [
        (
            json!({ "name": "g", "backoff": steps }),
            "steps of backoff is 65",
        ),
        (
            json!({ "name": "g", "backoff": ["4000d"] }),
            "the backoff is 4000 days",
        ),
    ] {
        let problem = api.post("/v1/groups", body).await.problem("over_limit");
        assert_eq!(problem["pointer"], "/backoff");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(words), "{detail}");
    }
    let tags: Vec<_> = (0..257).map(|tag| tag.to_string()).collect();
    let receive = "/v1/topics/orders/groups/g/receive";
    let problem = api.post(receive, json!({ "tags": tags })).await;
    let problem = problem.problem("over_limit");
    assert_eq!(
        problem["detail"],
        "the number of tags is 257; the most allowed is 256"
    );
    let problem = api.get("/v1/topics?limit=many").await.problem("invalid");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.ends_with("it is not a whole number"), "{detail}");
}

#[tokio::test]
async fn a_receive_of_a_fifo_group_may_ask_for_a_run() {
    let api = Api::start();
    api.post("/v1/topics", json!({ "name": "lines", "kind": "fifo" }))
        .await
        .ok();
    for body in ["1", "2", "3"] {
        let message = json!({ "body": body, "message_group": "g" });
        let sent = api.post("/v1/topics/lines/messages", message).await;
        assert_eq!(sent.status, StatusCode::CREATED);
    }
    let receive = async |run: Value| {
        let mut asked = json!({ "max": 10, "wait_for": "1s" });
        asked["run"] = run;
        let path = "/v1/topics/lines/groups/g/receive";
        let came = api.moving(api.post(path, asked)).await.ok();
        let items = came["items"].as_array().unwrap().clone();
        let one = |item: &Value| (item["message"]["body"].clone(), item["receipt"].clone());
        items.iter().map(one).unzip::<_, _, Vec<_>, Vec<_>>()
    };
    let ack = async |receipts: Vec<Value>| {
        let path = "/v1/topics/lines/groups/g/ack";
        api.post(path, json!({ "receipts": receipts })).await.ok();
    };
    let (bodies, receipts) = receive(json!(false)).await;
    assert_eq!(bodies, ["1"]);
    ack(receipts).await;
    let (bodies, receipts) = receive(json!(true)).await;
    assert_eq!(bodies, ["2", "3"]);
    ack(receipts).await;
}

#[tokio::test]
async fn timers_and_messages_are_found_after_their_topic_is_no_longer_indexed() {
    let api = Api::with_topic().await;
    for key in ["moved", "shown"] {
        let timer = format!("/v1/timers/orders/{key}");
        api.put(&timer, json!({ "after": "1h" })).await.ok();
    }
    api.post(
        MESSAGES,
        json!({ "message_id": "m", "keys": ["k"], "after": "1h" }),
    )
    .await
    .ok();
    let change = json!({ "indexed": false });
    api.patch("/v1/topics/orders", change).await.ok();
    let moved = api.put("/v1/timers/orders/moved", json!({ "after": "2h" }));
    assert_eq!(moved.await.ok()["outcome"], "moved");
    let due = format!("{MESSAGES}/m/due");
    api.put(&due, json!({ "after": "2h" })).await.ok();
    let found = api.get(&format!("{MESSAGES}?find=k")).await.ok();
    assert_eq!(found["items"][0]["due_at"], Api::instant(7_200));
    for key in ["moved", "shown"] {
        let shown = api.get(&format!("/v1/timers/orders/{key}")).await.ok();
        assert_eq!(shown["state"], "waiting");
    }
    let cancelled = api.delete("/v1/timers/orders/moved").await.ok();
    assert_eq!(cancelled["outcome"], "cancelled");
    api.clock.advance(3_600_000);
    let shown = api.get("/v1/timers/orders/shown").await.ok();
    assert_eq!(shown["state"], "due");
    api.delete("/v1/timers/orders/shown")
        .await
        .problem("too_late");
    // A key that was never set, and a new timer.
    for reply in [
        api.get("/v1/timers/orders/none").await,
        api.put("/v1/timers/orders/none", json!({ "after": "1h" }))
            .await,
    ] {
        let problem = reply.problem("invalid");
        assert_eq!(problem["parameter"], "topic");
        assert_eq!(problem["detail"], "topic must be indexed for keyed timers");
    }
}
