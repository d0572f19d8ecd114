//! Checks the API over a real port: a request under way is answered before the server stops, and a long poll ends.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::Api;
use crate::http::run;

/// How long requests under way get when the server is told to stop.
const DRAIN: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_stop_ends_long_polls_and_lets_other_requests_finish() {
    let api = Api::with_topic().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async { stopped.await.unwrap() };
    let serving = tokio::spawn(run(listener, api.state.clone(), shutdown, DRAIN));

    let mut poll = TcpStream::connect(address).await.unwrap();
    let body = json!({ "wait_for": "60s" }).to_string();
    let path = "/v1/topics/orders/groups/closer/receive";
    poll.write_all(request(path, &body, "").as_bytes())
        .await
        .unwrap();
    poll.write_all(body.as_bytes()).await.unwrap();
    // The group comes into being with the poll, so the poll is under way once the group is there.
    while api.broker.groups().await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }

    let mut stream = TcpStream::connect(address).await.unwrap();
    let body = json!({ "name": "made" }).to_string();
    let head = request("/v1/topics", &body, "expect: 100-continue\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    // The interim answer proves that the handler has begun and waits for the body.
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert!(interim.starts_with(b"HTTP/1.1 100 Continue"));

    stop.send(()).unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 Created"), "{answer}");
    let mut answer = String::new();
    poll.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("{\"items\":[]}"), "{answer}");
    serving.await.unwrap();
}

fn request(path: &str, body: &str, more: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{more}content-length: {length}\r\n\r\n"
    )
}
