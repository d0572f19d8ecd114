//! Checks the API end to end over a real port: create, pay, call back over HTTP, close in time, stop.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::Api;
use crate::http::run;
use gateway::simulator::HttpSink;

/// How long requests under way may take when the server stops.
const DRAIN: Duration = Duration::from_secs(10);

struct Server {
    client: reqwest::Client,
    base_url: String,
}

impl Server {
    async fn create(&self, path: &str, key: &str, body: Value) -> Value {
        let request = self.client.post(format!("{}{path}", self.base_url));
        let response = request
            .header("idempotency-key", key)
            .json(&body)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 201);
        response.json().await.unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        let response = self
            .client
            .get(format!("{}{path}", self.base_url))
            .send()
            .await
            .unwrap();
        response.error_for_status().unwrap().json().await.unwrap()
    }
}

#[tokio::test]
async fn orders_are_paid_and_closed_over_a_real_port() {
    let api = Api::start_without_callbacks().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(run(
        listener,
        api.state.clone(),
        None,
        async { stopped.await.unwrap() },
        DRAIN,
    ));
    let server = Server {
        client: reqwest::Client::builder().no_proxy().build().unwrap(),
        base_url: format!("http://{address}"),
    };
    let sink = Arc::new(HttpSink::new(&server.base_url).unwrap());
    let (stop_sending, sending_stopped) = oneshot::channel::<()>();
    let sending = tokio::spawn(api.simulator.clone().run(sink, async {
        sending_stopped.await.unwrap();
    }));

    let product = json!({ "name": "Ticket", "price_minor": 100, "currency": "EUR", "stock": 5 });
    let product = server.create("/v1/products", "p", product).await;
    let account = json!({ "gateway": "simulator", "name": "main" });
    let account = server.create("/v1/gateways", "g", account).await;
    let lines = json!([{ "product_id": product["id"], "quantity": 1 }]);
    let order = |number: &str| json!({ "merchant_order_no": number, "buyer_id": "b", "lines": lines, "deadline_after_ms": 10_000 });
    let paid = server.create("/v1/orders", "o-1", order("1")).await;
    let unpaid = server.create("/v1/orders", "o-2", order("2")).await;
    let paid = format!("/v1/orders/{}", paid["id"].as_str().unwrap());
    let unpaid = format!("/v1/orders/{}", unpaid["id"].as_str().unwrap());
    let attempt = json!({ "account_id": account["id"] });
    let attempt = server
        .create(&format!("{paid}/payments"), "a", attempt)
        .await;
    let pay = format!(
        "{}{}",
        server.base_url,
        attempt["pay_url"].as_str().unwrap()
    );
    let response = server.client.post(pay).send().await.unwrap();
    assert_eq!(response.status(), 200);
    api.until(&paid, "paid").await;
    api.clock.advance(10_000);
    api.until(&unpaid, "closed").await;
    assert_eq!(server.get(&paid).await["state"], "paid");
    let product = server
        .get(&format!("/v1/products/{}", product["id"].as_str().unwrap()))
        .await;
    assert_eq!(
        (&product["available"], &product["stocked"]),
        (&json!(4), &json!(5))
    );

    stop_sending.send(()).unwrap();
    sending.await.unwrap();
    stop.send(()).unwrap();
    serving.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
    api.stop().await;
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_server_stops() {
    let api = Api::start_without_callbacks().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(run(
        listener,
        api.state.clone(),
        None,
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
