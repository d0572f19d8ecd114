//! Tests of what receives take of memory and of the places to wait.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::ConnectInfo;
use broker::Room as _;
use edge::budget::Connection;
use http::Request;
use serde_json::json;
use tower::ServiceExt as _;

use super::rig::{ANSWERS_BYTES_MAX, Api};
use crate::answers::AnswerShare;

const RECEIVE: &str = "/v1/topics/orders/groups/g/receive";

/// A receive that waits, on a connection.
fn receive(connection: &Arc<Connection>) -> Request<Body> {
    let mut request = Request::post(RECEIVE)
        .header("content-type", "application/json")
        .body(Body::from(r#"{"wait_for":"10s"}"#))
        .unwrap();
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    request.extensions_mut().insert(ConnectInfo(peer));
    request.extensions_mut().insert(Arc::clone(connection));
    request
}

#[tokio::test]
async fn answers_share_a_budget_until_they_are_written() {
    let api = Api::with_topic().await;
    let body = "x".repeat(100_000);
    let message = json!({ "body": body });
    api.post("/v1/topics/orders/messages", message).await.ok();
    let answers = &api.state.settings().answers;
    let others = AnswerShare::new(answers);
    others.take(ANSWERS_BYTES_MAX);
    let refused = api.post(RECEIVE, json!({})).await;
    refused.problem("overloaded");
    drop(others);
    let call = api.router.clone().oneshot(receive(&Arc::default()));
    let answer = api.moving(call).await.unwrap();
    assert_eq!(answer.status(), 200);
    let rest = answers.hold();
    assert!(!rest.grow(ANSWERS_BYTES_MAX - 100_000));
    drop(answer);
    assert!(rest.grow(ANSWERS_BYTES_MAX));
}

#[tokio::test]
async fn one_connection_has_a_quarter_of_the_places_to_wait() {
    let api = Api::with_topic().await;
    let connection = Arc::new(Connection::default());
    let max = api.broker.waiting_pollers_max();
    let waits: Vec<_> = (0..max / 4).map(|_| connection.wait(max)).collect();
    assert!(waits.iter().all(Option::is_some));
    let call = || api.router.clone().oneshot(receive(&connection));
    assert_eq!(call().await.unwrap().status(), 429);
    drop(waits);
    assert_eq!(api.moving(call()).await.unwrap().status(), 200);
}
