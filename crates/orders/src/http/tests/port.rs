//! Checks the API end to end over a real port: create, pay, call back over HTTP, close in time, stop.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::Api;
use crate::http::run;

/// How long requests under way get when the server is told to stop.
const DRAIN: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_server_stops() {
    let api = Api::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(run(
        listener,
        api.state.clone(),
        async { stopped.await.unwrap() },
        DRAIN,
    ));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let body = br#"{"id": "shop-1", "name": "Shop"}"#;
    let head = format!(
        "POST /v1/merchants HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The interim answer proves that the handler has begun and waits for the body.
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert!(interim.starts_with(b"HTTP/1.1 100 Continue"));
    stop.send(()).unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 Created"), "{answer}");
    serving.await.unwrap();
    api.stop().await;
}
