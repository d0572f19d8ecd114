//! Tests of bodies that are damaged in transit: they are not passed on, and are delivered again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use client::{Config, Filter, PushConsumer, SimpleConsumer, Verdict};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::rig::{INVISIBLE, Server, body, drain, message};

/// What the proxy looks for; nothing else it forwards contains this text.
const MARK: &[u8] = b"~~~~";

/// A body that the proxy damages.
fn fragile() -> String {
    "~".repeat(64)
}

/// A proxy that damages the first `times` fragile bodies the server sends.
async fn damaging_proxy(server: &Server, times: usize) -> Config {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = Config::new(&listener.local_addr().unwrap().to_string()).unwrap();
    let address: SocketAddr = server.address.parse().unwrap();
    let left = Arc::new(AtomicUsize::new(times));
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(address).await.unwrap();
            tokio::spawn(forward(client, server, Arc::clone(&left)));
        }
    });
    config
}

async fn forward(client: TcpStream, server: TcpStream, left: Arc<AtomicUsize>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move { copy(&mut from_client, &mut to_server).await });
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
        let read = &mut bytes[..count];
        let found = read.windows(MARK.len()).position(|window| window == MARK);
        let damage = |left: usize| left.checked_sub(1);
        if let Some(place) = found
            && left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, damage)
                .is_ok()
        {
            read[place] = b'!';
        }
        if to_client.write_all(read).await.is_err() {
            return;
        }
    }
}

/// A consumer of the topic `t` that makes `hopeless` messages dead letters, acknowledges others, and reports each.
async fn listen(config: Config) -> (PushConsumer, mpsc::UnboundedReceiver<(String, u32)>) {
    let (sender, deliveries) = mpsc::unbounded_channel();
    let consumer = PushConsumer::builder(config, "g")
        .subscribe("t", Filter::all())
        .start(move |received| {
            let sender = sender.clone();
            async move {
                let name = body(&received).to_owned();
                let verdict = match name.as_str() {
                    "hopeless" => Verdict::DeadLetter,
                    _ => Verdict::Done,
                };
                sender.send((name, received.attempt)).unwrap();
                verdict
            }
        })
        .await
        .unwrap();
    (consumer, deliveries)
}

#[tokio::test]
async fn a_simple_consumer_gets_it_once_it_is_intact() {
    let server = Server::start().await;
    server.topic("t", "normal").await;
    server
        .producer()
        .await
        .send(message("t", &fragile()))
        .await
        .unwrap();
    let consumer = SimpleConsumer::builder(damaging_proxy(&server, 1).await, "g")
        .subscribe("t", Filter::all())
        .start()
        .await
        .unwrap();
    let second = Duration::from_secs(1);
    assert!(consumer.receive(8, second).await.unwrap().is_empty());
    let received = consumer.receive(8, INVISIBLE).await.unwrap();
    assert_eq!(body(&received[0]), fragile());
    assert_eq!(received[0].attempt, 2);
    consumer.ack(&received[0]).await.unwrap();
}

#[tokio::test]
async fn a_push_consumer_returns_it() {
    let server = Server::start().await;
    server.topic("t", "normal").await;
    server
        .run(&["group", "create", "g", "--attempts", "3", "--backoff", "1s"])
        .await;
    let producer = server.producer().await;
    producer.send(message("t", &fragile())).await.unwrap();
    let (consumer, mut deliveries) = listen(damaging_proxy(&server, 1).await).await;
    assert_eq!(deliveries.recv().await.unwrap(), (fragile(), 2));
    consumer.shutdown().await;
    assert!(
        deliveries.recv().await.is_none(),
        "nothing is delivered again"
    );
}

#[tokio::test]
async fn a_message_that_is_always_damaged_becomes_a_dead_letter() {
    let server = Server::start().await;
    server.topic("t", "normal").await;
    server
        .run(&["group", "create", "g", "--attempts", "2", "--backoff", "1s"])
        .await;
    let producer = server.producer().await;
    // The dead-letter topic exists once it has a message.
    producer.send(message("t", "hopeless")).await.unwrap();
    let (consumer, mut deliveries) = listen(server.config()).await;
    assert_eq!(deliveries.recv().await.unwrap(), ("hopeless".to_owned(), 1));
    consumer.shutdown().await;
    producer.send(message("t", &fragile())).await.unwrap();
    let (consumer, mut deliveries) = listen(damaging_proxy(&server, usize::MAX).await).await;
    // The copy on the server is intact.
    let found = dead_letters(&server, 2).await;
    assert_eq!(found, ["hopeless".to_owned(), fragile()]);
    consumer.shutdown().await;
    assert!(
        deliveries.recv().await.is_none(),
        "the listener gets nothing"
    );
}

#[tokio::test]
async fn in_a_fifo_group_the_next_is_delivered() {
    let server = Server::start().await;
    server.topic("t", "fifo").await;
    server.run(&["group", "create", "g", "--fifo"]).await;
    let producer = server.producer().await;
    for name in [&fragile(), "next"] {
        let of_group = message("t", name).message_group("x");
        producer.send(of_group).await.unwrap();
    }
    let (consumer, mut deliveries) = listen(damaging_proxy(&server, usize::MAX).await).await;
    assert_eq!(deliveries.recv().await.unwrap(), ("next".to_owned(), 1));
    // The shutdown waits until the damaged delivery is returned.
    consumer.shutdown().await;
    assert_eq!(dead_letters(&server, 1).await, [fragile()]);
}

/// The bodies of the first `count` dead letters of the group.
async fn dead_letters(server: &Server, count: usize) -> Vec<String> {
    drain(&server.reader("%DLQ%g", "dead-letter-reader").await, count).await
}
