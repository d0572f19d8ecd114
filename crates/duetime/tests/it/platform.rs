//! Tests of `duetime order`, `refund`, `payment`, `product`, `merchant` and `outbox` on a server.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};

use broker::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};

use crate::rig::{Said, run_at};
use crate::serve::Server;

/// Numbers the requests that create something.
static KEYS: AtomicU64 = AtomicU64::new(0);

/// Runs the program against the order platform.
fn run(server: &Server, words: &str) -> Said {
    let url = server.url("order platform");
    run_at(&url, &format!("{words} --server {url}"), "")
}

fn done(server: &Server, words: &str) -> Said {
    let said = run(server, words);
    assert_eq!(said.code, 0, "{words}: {said:?}");
    said
}

fn fails(server: &Server, words: &str, expected: &str) {
    let said = run(server, words);
    assert_ne!(said.code, 0, "{words}: {said:?}");
    assert!(said.err.contains(expected), "{words}: {said:?}");
}

/// What the program prints with `--json`; one value for each line.
fn json(server: &Server, words: &str) -> Vec<Value> {
    let said = done(server, &format!("{words} --json"));
    let lines = said.out.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap().to_owned()
}

/// Posts to the API as a shop does.
fn post(server: &Server, path: &str, body: &Value) -> Value {
    let url = server.url("order platform");
    let address = url.strip_prefix("http://").unwrap().trim_end_matches('/');
    let body = body.to_string();
    let key = KEYS.fetch_add(1, Ordering::Relaxed);
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         idempotency-key: k-{key}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 20"), "{answer}");
    serde_json::from_str(body).unwrap()
}

/// An order of two units that closes after so many ms.
fn order(server: &Server, number: &str, deadline_after_ms: u64) -> String {
    let [product] = json(server, "product create Tea 500 EUR --stock 10")
        .try_into()
        .unwrap();
    let body = json!({
        "merchant_order_no": number,
        "buyer_id": "buyer-1",
        "deadline_after_ms": deadline_after_ms,
        "lines": [{ "product_id": product["id"], "quantity": 2 }],
    });
    text(&post(server, "/v1/orders", &body), "id")
}

#[test]
fn an_order_is_shown_watched_and_closed() {
    let server = Server::start();
    let id = order(&server, "A-1", 2_000);
    let said = done(&server, "order watch A-1 --every 100ms").out;
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(lines[0].contains("merchant create  pending"), "{said}");
    assert!(
        lines[1].contains("system close  pending -> closed"),
        "{said}"
    );
    let shown = done(&server, "order show A-1").out;
    for expected in [
        id.as_str(),
        "close reason",
        "timeout",
        "1000 EUR",
        "Tea",
        "operator",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    order(&server, "A-2", 60_000);
    let list = done(&server, "order list --state pending").out;
    assert!(list.contains("A-2") && !list.contains("A-1"), "{list}");
    let now_ms = SystemClock::start().now_ms();
    let later = jiff::Timestamp::from_millisecond(i64::try_from(now_ms + 3_600_000).unwrap());
    let said = done(&server, &format!("order extend A-2 {}", later.unwrap()));
    assert!(said.err.contains("(in 60 min)"), "{said:?}");
    fails(&server, "order close A-2", "say --yes");
    let said = done(&server, "order close A-2 --yes");
    assert_eq!(said.err, "order A-2 is closed\n");
    fails(&server, "order show A-3", "no order A-3");
    order(&server, "A-4", 60_000);
    assert_eq!(
        done(&server, "order cancel A-4 --buyer").err,
        "order A-4 is closed\n"
    );
}

#[test]
fn closing_is_paused_and_resumed() {
    let server = Server::start();
    let said = done(&server, "order pause maintenance --all");
    assert_eq!(said.err, "closing is paused\n");
    let pauses = done(&server, "order resume --list").out;
    assert!(
        pauses.contains("maintenance") && pauses.contains("request"),
        "{pauses}"
    );
    done(&server, "order resume --all");
    fails(&server, "order resume --gateway gwa_x", "gwa_x");
}

#[test]
fn an_attempt_and_a_refund_are_settled_by_hand() {
    let server = Server::start();
    let id = order(&server, "A-1", 60_000);
    let attempt = post(&server, &format!("/v1/orders/{id}/payments"), &json!({}));
    let attempt = text(&attempt, "id");
    assert!(done(&server, "payment list A-1").out.contains("submitted"));
    fails(
        &server,
        &format!("payment settle {attempt} paid txn-9"),
        "say --yes",
    );
    let said = done(
        &server,
        &format!("payment settle {attempt} paid txn-9 --yes"),
    );
    assert_eq!(said.err, format!("attempt {attempt} is succeeded\n"));
    fails(
        &server,
        &format!("payment retry {attempt}"),
        "cannot be asked about again",
    );
    let shown = json(&server, "order show A-1");
    assert_eq!(shown[0]["state"], "paid");
    let [refund] = json(&server, "refund create A-1 R-1 --amount 300")
        .try_into()
        .unwrap();
    assert_eq!(refund["amount_minor"], 300);
    let listed = json(&server, "refund list --order A-1");
    assert_eq!(listed[0]["id"], refund["id"]);
    let shown = done(&server, &format!("refund show {}", text(&refund, "id"))).out;
    assert!(shown.contains("300 EUR"), "{shown}");
    for nothing in ["payment attempts", "payment unmatched", "outbox list"] {
        assert_eq!(done(&server, nothing).err, "nothing found\n", "{nothing}");
    }
    let said = done(&server, "outbox unpark");
    assert_eq!(said.err, "0 messages are published again\n");
}

#[test]
fn keys_are_made_used_and_revoked_and_the_trail_names_them() {
    let server = Server::start();
    done(&server, "merchant create shop-1 Shop");
    let [key] = json(
        &server,
        "merchant key shop-1 web --scope read --scope write",
    )
    .try_into()
    .unwrap();
    let (key_id, secret) = (text(&key, "id"), text(&key, "secret"));
    let [product] = json(
        &server,
        &format!("product create Tea 500 EUR --key {secret}"),
    )
    .try_into()
    .unwrap();
    let product = text(&product, "id");
    fails(&server, &format!("product show {product}"), "no product");
    done(&server, &format!("product show {product} --as shop-1"));
    done(
        &server,
        &format!("product stock {product} 7 --as shop-1 --operator alice"),
    );
    let trail = json(&server, &format!("merchant audit {product} --as shop-1"));
    let said: Vec<_> = trail.iter().map(|entry| text(entry, "who")).collect();
    assert_eq!(said, [key_id.as_str(), "operator alice"]);
    fails(
        &server,
        &format!("order pause x --key {secret}"),
        "no scope `admin`",
    );
    let keys = done(&server, "merchant keys shop-1").out;
    assert!(keys.contains("read, write"), "{keys}");
    done(&server, &format!("merchant revoke shop-1 {key_id} --yes"));
    fails(
        &server,
        &format!("order list --key {secret}"),
        "DUETIME_KEY",
    );
}
