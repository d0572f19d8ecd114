//! Checks administration: topics, groups, lists, dead letters, metrics, and the dashboard that shows them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Api, Call};
use crate::{Connection, Connections, LoopbackOnly};

const DASHBOARD: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../docs/grafana-broker.json"
);

#[tokio::test]
async fn a_topic_is_created_described_listed_and_deleted() {
    let api = Api::start();
    let reply = api
        .post(
            "/v1/topics",
            json!({ "name": "a", "kind": "fifo", "queues": 3 }),
        )
        .await;
    assert_eq!(reply.status, StatusCode::CREATED);
    assert_eq!(reply.headers["location"], "/v1/topics/a");
    let expected = json!({
        "name": "a", "kind": "fifo", "queues": 3, "indexed": true, "waiting": 0, "messages": 0, "bytes": 0,
    });
    assert_eq!(reply.json(), expected);
    assert_eq!(api.get("/v1/topics/a").await.ok(), expected);
    // The same request again is not an error, another one is.
    api.post(
        "/v1/topics",
        json!({ "name": "a", "kind": "fifo", "queues": 3 }),
    )
    .await
    .ok();
    api.post("/v1/topics", json!({ "name": "a" }))
        .await
        .problem("exists");
    for name in ["b", "c", "%DLQ%d"] {
        api.post("/v1/topics", json!({ "name": name })).await.ok();
    }
    assert_eq!(api.get("/v1/topics/%25DLQ%25d").await.ok()["kind"], "delay");
    let page = api.get("/v1/topics?limit=3").await.ok();
    let names = |page: &Value| {
        let items = page["items"].as_array().unwrap().iter();
        items
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&page), ["%DLQ%d", "a", "b"]);
    let rest = api
        .get(&format!(
            "/v1/topics?limit=3&cursor={}",
            page["next_cursor"].as_str().unwrap()
        ))
        .await
        .ok();
    assert_eq!(names(&rest), ["c"]);
    assert!(rest.get("next_cursor").is_none());
    assert_eq!(
        api.delete("/v1/topics/a").await.status,
        StatusCode::NO_CONTENT
    );
    api.delete("/v1/topics/a").await.problem("topic_not_found");
    api.get("/v1/topics/a").await.problem("topic_not_found");
    let problem = api
        .post("/v1/topics", json!({ "name": "a b" }))
        .await
        .problem("invalid");
    assert_eq!(problem["pointer"], "/name");
    let problem = api
        .post("/v1/topics", json!({ "name": "q", "queues": 1_025 }))
        .await
        .problem("over_limit");
    assert_eq!(problem["pointer"], "/queues");
}

#[tokio::test]
async fn the_future_of_a_topic_is_shown_by_due_time() {
    let api = Api::with_topic().await;
    for after in ["90m", "91m", "5h", "30h"] {
        api.post(
            "/v1/topics/orders/messages",
            json!({ "body": after, "after": after }),
        )
        .await
        .ok();
    }
    let histogram = api.get("/v1/topics/orders/histogram?steps=3").await.ok();
    let buckets = histogram["buckets"].as_array().unwrap();
    let counts: Vec<_> = buckets
        .iter()
        .map(|bucket| bucket["messages"].as_u64().unwrap())
        .collect();
    assert_eq!(counts, [0, 2, 2]);
    assert_eq!(buckets[1]["from"], Api::instant(3_600));
    assert_eq!(buckets[1]["to"], Api::instant(7_200));
    assert!(buckets[2].get("to").is_none());
    let narrow = api
        .get("/v1/topics/orders/histogram?step=10m&steps=12")
        .await
        .ok();
    assert_eq!(narrow["buckets"][9]["messages"], 2);
    assert!(narrow["buckets"][9].get("resolution").is_none());
    let many = json!({ "messages": vec![json!({ "body": "x", "after": "3h" }); 300] });
    api.post("/v1/topics", json!({ "name": "many" })).await.ok();
    api.post("/v1/topics/many/batches", many).await.ok();
    let reply = api.get("/v1/topics/many/histogram?step=1s&steps=512").await;
    assert_eq!(reply.ok()["buckets"][511]["messages"], 300);
    let reply = api
        .get("/v1/topics/many/histogram?step=30s&steps=500")
        .await;
    assert_eq!(reply.problem("invalid")["resolution"], "1m");
    for (query, parameter) in [
        ("step=0s", "step"),
        ("steps=0", "steps"),
        ("steps=513", "steps"),
    ] {
        let reply = api
            .get(&format!("/v1/topics/orders/histogram?{query}"))
            .await;
        assert_eq!(reply.problem("invalid")["parameter"], parameter);
    }
    api.get("/v1/topics/nowhere/histogram")
        .await
        .problem("topic_not_found");
    assert_eq!(api.get("/v1/topics/orders").await.ok()["waiting"], 4);
}

fn bodies(page: &Value) -> String {
    let items = page["items"].as_array().unwrap().iter();
    items
        .map(|item| item["body"].as_str().unwrap())
        .collect::<Vec<_>>()
        .join(" ")
}

#[tokio::test]
async fn messages_are_listed_in_pages_and_found_by_id_or_key() {
    let api = Api::with_topic().await;
    for (body, after) in [("c", "3h"), ("a", "1h"), ("b", "2h"), ("d", "4h")] {
        let message = json!({ "body": body, "after": after, "keys": ["k"], "message_id": format!("id-{body}") });
        api.post("/v1/topics/orders/messages", message).await.ok();
    }
    let list = async |query: &str| {
        api.get(&format!("/v1/topics/orders/messages{query}"))
            .await
            .ok()
    };
    let page = list("?limit=3").await;
    assert_eq!(bodies(&page), "a b c");
    let rest = list(&format!(
        "?limit=3&cursor={}",
        page["next_cursor"].as_str().unwrap()
    ))
    .await;
    assert_eq!(bodies(&rest), "d");
    assert!(rest.get("next_cursor").is_none());
    assert_eq!(bodies(&list("?find=k").await), "a b c d");
    assert_eq!(bodies(&list("?find=id-b").await), "b");
    assert_eq!(bodies(&list("?find=nothing").await), "");
    api.clock.advance(2 * 3_600_000);
    assert_eq!(bodies(&list("").await), "c d");
    assert_eq!(
        bodies(&list(&format!("?from={}", Api::instant(7_200))).await),
        "b c d"
    );
    assert_eq!(bodies(&list("?from=1969-01-01T00:00:00Z").await), "a b c d");
    assert_eq!(list("?find=id-a").await["items"][0]["state"], "due");
    api.get("/v1/topics/nowhere/messages")
        .await
        .problem("topic_not_found");
    api.get("/v1/topics/nowhere/messages?find=a")
        .await
        .problem("topic_not_found");
}

#[tokio::test]
async fn a_group_is_created_described_listed_and_deleted() {
    let api = Api::with_topic().await;
    let body = json!({ "name": "g", "fifo": true, "attempts_max": 3, "backoff": ["1s", "500ms"], "start_from": "latest" });
    let reply = api.post("/v1/groups", body.clone()).await;
    assert_eq!(reply.status, StatusCode::CREATED);
    assert_eq!(reply.headers["location"], "/v1/groups/g");
    let mut expected = body;
    expected["topics"] = json!([]);
    expected["last_seen_at"] = json!(Api::instant(0));
    assert_eq!(reply.json(), expected);
    api.post("/v1/groups", json!({ "name": "g" }))
        .await
        .problem("exists");
    let usual = api
        .post("/v1/groups", json!({ "name": "usual" }))
        .await
        .ok();
    assert_eq!(
        (&usual["attempts_max"], &usual["backoff"][0]),
        (&json!(17), &json!("10s"))
    );
    let page = api.get("/v1/groups?limit=1").await.ok();
    assert_eq!(
        (&page["items"][0]["name"], &page["next_cursor"]),
        (&json!("g"), &json!("g"))
    );
    let problem = api
        .post("/v1/groups", json!({ "name": "z", "attempts_max": 0 }))
        .await
        .problem("invalid");
    assert_eq!(problem["pointer"], "/attempts_max");
    api.post("/v1/topics/orders/groups/usual/receive", json!({}))
        .await
        .ok();
    assert_eq!(
        api.get("/v1/groups/usual").await.ok()["topics"],
        json!(["orders"])
    );
    let pairs = api.get("/v1/topics/orders/groups").await.ok();
    assert_eq!(pairs["items"][0]["group"], "usual");
    assert_eq!(
        api.delete("/v1/groups/usual").await.status,
        StatusCode::NO_CONTENT
    );
    api.get("/v1/groups/usual").await.problem("group_not_found");
    api.delete("/v1/groups/usual")
        .await
        .problem("group_not_found");
    api.get("/v1/topics/orders/groups/usual")
        .await
        .problem("group_not_found");
    api.get("/v1/topics/nowhere/groups")
        .await
        .problem("topic_not_found");
}

#[tokio::test]
async fn settings_of_a_group_and_a_topic_are_changed() {
    let api = Api::with_topic().await;
    api.post("/v1/topics/orders/groups/auto/receive", json!({}))
        .await
        .ok();
    let change = json!({ "attempts_max": 3, "backoff": ["1s"] });
    let changed = api.patch("/v1/groups/auto", change).await.ok();
    assert_eq!(
        (&changed["attempts_max"], &changed["backoff"]),
        (&json!(3), &json!(["1s"]))
    );
    assert_eq!(changed["topics"], json!(["orders"]));
    assert_eq!(api.get("/v1/groups/auto").await.ok(), changed);
    let problem = api
        .patch("/v1/groups/auto", json!({ "attempts_max": 0 }))
        .await
        .problem("invalid");
    assert_eq!(problem["pointer"], "/attempts_max");
    api.patch("/v1/groups/auto", json!({ "start_from": "latest" }))
        .await
        .problem("invalid");
    api.patch("/v1/groups/none", json!({ "fifo": true }))
        .await
        .problem("group_not_found");
    api.post("/v1/topics/orders/messages", json!({ "body": "a" }))
        .await
        .ok();
    let waiting = json!({ "wait_for": "1s" });
    let receive = api.post("/v1/topics/orders/groups/auto/receive", waiting);
    api.moving(receive).await.ok();
    let problem = api
        .patch("/v1/groups/auto", json!({ "fifo": true }))
        .await
        .problem("in_use");
    assert_eq!(
        (&problem["in_flight"], &problem["retrying"]),
        (&json!(1), &json!(0))
    );
    api.post("/v1/topics", json!({ "name": "t", "quota_bytes": 7 }))
        .await
        .ok();
    let change = json!({ "queues": 4, "indexed": false });
    let changed = api.patch("/v1/topics/t", change).await.ok();
    assert_eq!(
        (
            &changed["queues"],
            &changed["indexed"],
            &changed["quota_bytes"]
        ),
        (&json!(4), &json!(false), &json!(7))
    );
    let change = json!({ "quota_bytes": null });
    let changed = api.patch("/v1/topics/t", change).await.ok();
    assert!(changed.get("quota_bytes").is_none());
    let problem = api
        .patch("/v1/topics/t", json!({ "queues": 3 }))
        .await
        .problem("invalid");
    assert_eq!(problem["pointer"], "/queues");
}

#[tokio::test]
async fn a_group_no_longer_reads_a_topic() {
    let api = Api::with_topic().await;
    let pair = "/v1/topics/orders/groups/g";
    api.post(&format!("{pair}/receive"), json!({})).await.ok();
    assert_eq!(api.delete(pair).await.status, StatusCode::NO_CONTENT);
    assert_eq!(api.get("/v1/groups/g").await.ok()["topics"], json!([]));
    api.delete(pair).await.problem("group_not_found");
    api.delete("/v1/topics/nowhere/groups/g")
        .await
        .problem("topic_not_found");
}

#[tokio::test]
async fn a_group_is_reset_to_an_instant() {
    let api = Api::with_topic().await;
    for body in ["a", "b"] {
        api.post("/v1/topics/orders/messages", json!({ "body": body }))
            .await
            .ok();
        api.clock.advance(60_000);
    }
    let delivered = api.receive(10).await;
    let receipts: Vec<_> = delivered
        .iter()
        .map(|delivery| &delivery["receipt"])
        .collect();
    let ack = "/v1/topics/orders/groups/closer/ack";
    api.post(ack, json!({ "receipts": receipts })).await.ok();
    let shown = api.get("/v1/topics/orders/groups/closer").await.ok();
    assert_eq!(
        (&shown["ready"], &shown["in_flight"]),
        (&json!(0), &json!(0))
    );
    assert!(shown["done_to"].as_str().unwrap() >= Api::instant(60).as_str());
    let reset = "/v1/topics/orders/groups/closer/reset";
    api.post(reset, json!({ "to": Api::instant(30) }))
        .await
        .ok();
    let again = api.receive(10).await;
    assert_eq!(again.len(), 1);
    assert_eq!(again[0]["message"]["body"], "b");
    let stale = api
        .post(ack, json!({ "receipts": [receipts[1]] }))
        .await
        .ok();
    assert_eq!(stale["items"][0]["outcome"], "expired");
    api.post(reset, json!({ "to": "yesterday" }))
        .await
        .problem("invalid");
    let missing = "/v1/topics/orders/groups/missing/reset";
    api.post(missing, json!({ "to": Api::instant(0) }))
        .await
        .problem("group_not_found");
}

/// Creates dead letters from messages with these bodies; each has its body as key and tag too.
async fn dead_letter(api: &Api, bodies: &[&str]) {
    for body in bodies {
        let message = json!({ "body": body, "tag": body, "keys": [format!("key-{body}")] });
        api.post("/v1/topics/orders/messages", message).await.ok();
        let delivery = api.receive(1).await.remove(0);
        let buried = json!({ "receipt": delivery["receipt"] });
        api.post("/v1/topics/orders/groups/closer/bury", buried)
            .await
            .ok();
        api.clock.advance(10);
    }
}

fn letters(page: &Value) -> String {
    let items = page["items"].as_array().unwrap().iter();
    items
        .map(|item| item["message"]["body"].as_str().unwrap())
        .collect::<Vec<_>>()
        .join(" ")
}

#[tokio::test]
async fn dead_letters_are_listed_by_page_and_filter() {
    let api = Api::with_topic().await;
    let path = "/v1/groups/closer/dead-letters";
    api.get(path).await.problem("group_not_found");
    api.post("/v1/groups", json!({ "name": "closer" }))
        .await
        .ok();
    assert_eq!(api.get(path).await.ok()["items"], json!([]));
    dead_letter(&api, &["a", "b", "c"]).await;
    let page = api.get(&format!("{path}?limit=2")).await.ok();
    assert_eq!(letters(&page), "a b");
    let letter = &page["items"][0];
    assert_eq!(
        (&letter["topic"], &letter["attempts"]),
        (&json!("orders"), &json!(1))
    );
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = api
        .get(&format!("{path}?limit=2&cursor={cursor}"))
        .await
        .ok();
    assert_eq!(letters(&rest), "c");
    assert!(rest.get("next_cursor").is_none());
    for (query, expected) in [
        ("tag=b", "b"),
        ("key=key-c", "c"),
        ("topic=orders", "a b c"),
        ("topic=other", ""),
        ("tag=a&key=key-b", ""),
    ] {
        assert_eq!(
            letters(&api.get(&format!("{path}?{query}")).await.ok()),
            expected,
            "{query}"
        );
    }
    let exact = api.get(&format!("{path}?limit=3")).await.ok();
    assert!(exact.get("next_cursor").is_none());
}

#[tokio::test]
async fn dead_letters_are_replayed_by_filter() {
    let api = Api::with_topic().await;
    dead_letter(&api, &["a", "b", "c"]).await;
    let replay = async |body: Value| {
        api.post("/v1/groups/closer/dead-letters/replay", body)
            .await
    };
    let dry = replay(json!({ "tag": "b", "dry_run": true })).await.ok();
    assert_eq!(
        dry,
        json!({ "matched": 1, "done": 0, "failed": [], "more": false })
    );
    let done = replay(json!({ "tag": "b" })).await.ok();
    assert_eq!((&done["matched"], &done["done"]), (&json!(1), &json!(1)));
    let delivered = api.receive(10).await;
    assert_eq!(delivered[0]["message"]["body"], "b");
    assert_eq!(delivered[0]["attempt"], 1);
    assert_eq!(
        letters(&api.get("/v1/groups/closer/dead-letters").await.ok()),
        "a c"
    );
    let all = replay(json!({ "all": true })).await.ok();
    assert_eq!(all["done"], 2);
    for body in [json!({}), json!({ "all": true, "tag": "a" })] {
        assert_eq!(replay(body).await.problem("invalid")["pointer"], "/all");
    }
    let missing = api
        .post(
            "/v1/groups/missing/dead-letters/replay",
            json!({ "all": true }),
        )
        .await;
    missing.problem("group_not_found");
}

#[tokio::test]
async fn a_dead_letter_whose_topic_is_gone_is_listed() {
    let api = Api::with_topic().await;
    dead_letter(&api, &["a"]).await;
    api.delete("/v1/topics/orders").await;
    let replay = "/v1/groups/closer/dead-letters/replay";
    let done = api.post(replay, json!({ "all": true })).await.ok();
    assert_eq!((&done["matched"], &done["done"]), (&json!(1), &json!(0)));
    let detail = done["failed"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("\"orders\" does not exist"), "{detail}");
}

#[tokio::test]
async fn dead_letters_are_purged_by_filter() {
    let api = Api::with_topic().await;
    dead_letter(&api, &["a", "b", "c"]).await;
    let purge = async |body: Value| {
        api.post("/v1/groups/closer/dead-letters/purge", body)
            .await
            .ok()
    };
    assert_eq!(
        purge(json!({ "key": "key-a", "dry_run": true })).await["matched"],
        1
    );
    assert_eq!(purge(json!({ "key": "key-a" })).await["done"], 1);
    assert_eq!(
        letters(&api.get("/v1/groups/closer/dead-letters").await.ok()),
        "b c"
    );
    assert_eq!(purge(json!({ "all": true })).await["done"], 2);
    assert_eq!(purge(json!({ "all": true })).await["matched"], 0);
}

#[tokio::test]
async fn many_dead_letters_are_replayed_in_one_request() {
    let api = Api::with_topic().await;
    let messages: Vec<_> = (0..250)
        .map(|number| json!({ "body": number.to_string() }))
        .collect();
    api.post("/v1/topics/orders/batches", json!({ "messages": messages }))
        .await
        .ok();
    let mut buried = 0;
    while buried < 250 {
        for delivery in api.receive(256).await {
            let receipt = json!({ "receipt": delivery["receipt"] });
            api.post("/v1/topics/orders/groups/closer/bury", receipt)
                .await
                .ok();
            buried += 1;
        }
    }
    api.clock.advance(10);
    let path = "/v1/groups/closer/dead-letters";
    let page = api.get(&format!("{path}?limit=200")).await.ok();
    assert_eq!(page["items"].as_array().unwrap().len(), 200);
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = api
        .get(&format!("{path}?limit=200&cursor={cursor}"))
        .await
        .ok();
    assert_eq!(rest["items"].as_array().unwrap().len(), 50);
    let done = api
        .post(&format!("{path}/replay"), json!({ "topic": "orders" }))
        .await
        .ok();
    assert_eq!((&done["done"], &done["more"]), (&json!(250), &json!(false)));
    assert_eq!(api.get(path).await.ok()["items"], json!([]));
}

/// One client is connected.
#[derive(Debug)]
struct OneClient;

impl Connections for OneClient {
    fn connections(&self) -> Vec<Connection> {
        vec![Connection {
            client_id: "c-1".to_owned(),
            remote: "192.0.2.7:4000".to_owned(),
            protocol: "grpc",
            role: "push consumer".to_owned(),
            library: "JAVA 5.2.0".to_owned(),
            group: Some("closer".to_owned()),
            topics: vec!["orders".to_owned()],
            since_ms: super::START_MS,
        }]
    }
}

#[tokio::test]
async fn the_broker_reports_its_connections_and_its_disk() {
    let api = Api::start_with(Arc::new(LoopbackOnly), Arc::new(OneClient));
    let page = api.get("/v1/connections").await.ok();
    let expected = json!({
        "client_id": "c-1", "remote": "192.0.2.7:4000", "protocol": "grpc", "role": "push consumer",
        "library": "JAVA 5.2.0", "group": "closer", "topics": ["orders"], "since": Api::instant(0),
    });
    assert_eq!(page["items"], json!([expected]));
    let broker = api.get("/v1/broker").await.ok();
    assert_eq!(
        (&broker["now"], &broker["topics"]),
        (&json!(Api::instant(0)), &json!(0))
    );
    assert!(broker["free_bytes"].as_u64().unwrap() > 0);
    let alone = Api::start();
    assert_eq!(alone.get("/v1/connections").await.ok()["items"], json!([]));
}

/// Triggers everything that a metric counts, and reads the metrics.
async fn metrics() -> String {
    let api = Api::with_topic().await;
    dead_letter(&api, &["a"]).await;
    api.post("/v1/topics/orders/messages", json!({ "after": "1h" }))
        .await
        .ok();
    // The metrics of the other front end are on the same page; its own test checks them.
    let counted = crate::grpc::metrics::CallMetrics::new();
    counted.request(
        "SendMessage",
        grpc_api::v2::Code::Ok,
        Duration::from_millis(3),
    );
    let reply = api.call(Call::new(Method::GET, "/metrics")).await;
    assert!(
        reply.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain")
    );
    reply.text
}

#[tokio::test]
async fn metrics_report_the_state_of_the_broker() {
    let text = metrics().await;
    for line in [
        "duetime_broker_up 1",
        "duetime_broker_sent_messages_total 2",
        "duetime_broker_deliveries_total 1",
        "duetime_broker_buried_messages_total 1",
        "duetime_broker_waiting_messages{topic=\"orders\"} 1",
        "duetime_broker_stored_messages{topic=\"orders\"} 2",
        "duetime_broker_ready_messages{topic=\"orders\",group=\"closer\"} 0",
        "duetime_broker_dead_letters{group=\"closer\"} 1",
        "# TYPE duetime_broker_sent_messages_total counter",
        "# TYPE duetime_broker_delivery_lateness_seconds histogram",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    for name in ["requests_total", "request_duration_seconds_count"] {
        let line = format!(
            "duetime_broker_http_{name}{{method=\"POST\",route=\"/v1/topics/{{topic}}/messages\",status=\"201\"}} "
        );
        assert!(text.contains(&line), "{line}\n{text}");
    }
    // Every metric has one TYPE line.
    let mut names = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with("# TYPE ")) {
        assert!(names.insert(line.to_owned()), "{line}");
    }
}

/// Returns the names of metrics in a text, by their prefix.
fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words
        .filter(|word| word.starts_with("duetime_"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn the_dashboard_shows_metrics_that_exist() {
    let text = metrics().await;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let known: BTreeSet<String> = lines
        .map(|line| line.split(['{', ' ']).next().unwrap().to_owned())
        .collect();
    let page = std::fs::read_to_string(DASHBOARD).unwrap();
    let dashboard: Value = serde_json::from_str(&page).unwrap();
    let mut shown = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let names = names_in(target["expr"].as_str().unwrap());
            assert!(!names.is_empty(), "{target}");
            shown.extend(names);
        }
    }
    assert!(shown.len() >= 15, "{shown:?}");
    let unknown: Vec<_> = shown.difference(&known).collect();
    assert!(
        unknown.is_empty(),
        "the API has no {unknown:?}; it has {known:?}"
    );
}
