//! Tests of bodies that are damaged on their way: they are not handed out, and come again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use client::{Config, Filter, PushConsumer, SimpleConsumer, Verdict};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::rig::{INVISIBLE, Server, body, drain, message};

/// What the wire looks for; nothing else that goes over it has such a text.
const MARK: &[u8] = b"~~~~";

/// A body that the wire spoils.
fn fragile() -> String {
    "~".repeat(64)
}

/// A way to the server on which a number of fragile bodies are spoilt, on their way from the server.
async fn wire(server: &Server, times: usize) -> Config {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = Config::new(&listener.local_addr().unwrap().to_string()).unwrap();
    let address: SocketAddr = server.address.parse().unwrap();
    let left = Arc::new(AtomicUsize::new(times));
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(address).await.unwrap();
            tokio::spawn(carry(client, server, Arc::clone(&left)));
        }
    });
    config
}

async fn carry(client: TcpStream, server: TcpStream, left: Arc<AtomicUsize>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move { copy(&mut from_client, &mut to_server).await });
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
        let read = &mut bytes[..count];
        let found = read.windows(MARK.len()).position(|window| window == MARK);
        let spoil = |left: usize| left.checked_sub(1);
        if let Some(place) = found
            && left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spoil)
                .is_ok()
        {
            read[place] = b'!';
        }
        if to_client.write_all(read).await.is_err() {
            return;
        }
    }
}

/// A consumer of the topic `t` that makes `hopeless` messages dead letters, is done with others, and tells of each.
async fn listen(config: Config) -> (PushConsumer, mpsc::UnboundedReceiver<(String, u32)>) {
    let (tell, told) = mpsc::unbounded_channel();
    let consumer = PushConsumer::builder(config, "g")
        .subscribe("t", Filter::all())
        .start(move |received| {
            let tell = tell.clone();
            async move {
                let name = body(&received).to_owned();
                let verdict = match name.as_str() {
                    "hopeless" => Verdict::DeadLetter,
                    _ => Verdict::Done,
                };
                tell.send((name, received.attempt)).unwrap();
                verdict
            }
        })
        .await
        .unwrap();
    (consumer, told)
}

#[tokio::test]
async fn a_simple_consumer_gets_it_when_it_is_sound() {
    let server = Server::start().await;
    server.topic("t", "normal").await;
    server
        .producer()
        .await
        .send(message("t", &fragile()))
        .await
        .unwrap();
    let consumer = SimpleConsumer::builder(wire(&server, 1).await, "g")
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
async fn a_push_consumer_gives_it_back() {
    let server = Server::start().await;
    server.topic("t", "normal").await;
    server
        .run(&["group", "create", "g", "--attempts", "3", "--backoff", "1s"])
        .await;
    let producer = server.producer().await;
    producer.send(message("t", &fragile())).await.unwrap();
    let (consumer, mut told) = listen(wire(&server, 1).await).await;
    assert_eq!(told.recv().await.unwrap(), (fragile(), 2));
    consumer.shutdown().await;
    assert!(told.recv().await.is_none(), "nothing comes again");
}

#[tokio::test]
async fn one_that_is_never_sound_is_a_dead_letter() {
    let server = Server::start().await;
    server.topic("t", "normal").await;
    server
        .run(&["group", "create", "g", "--attempts", "2", "--backoff", "1s"])
        .await;
    let producer = server.producer().await;
    // The topic of dead letters is there once it has one.
    producer.send(message("t", "hopeless")).await.unwrap();
    let (consumer, mut told) = listen(server.config()).await;
    assert_eq!(told.recv().await.unwrap(), ("hopeless".to_owned(), 1));
    consumer.shutdown().await;
    producer.send(message("t", &fragile())).await.unwrap();
    let (consumer, mut told) = listen(wire(&server, usize::MAX).await).await;
    // What the server has is sound.
    let found = letters(&server, 2).await;
    assert_eq!(found, ["hopeless".to_owned(), fragile()]);
    consumer.shutdown().await;
    assert!(told.recv().await.is_none(), "the listener gets nothing");
}

#[tokio::test]
async fn in_a_fifo_group_it_makes_way_for_the_next() {
    let server = Server::start().await;
    server.topic("t", "fifo").await;
    server.run(&["group", "create", "g", "--fifo"]).await;
    let producer = server.producer().await;
    for name in [&fragile(), "next"] {
        let of_group = message("t", name).message_group("x");
        producer.send(of_group).await.unwrap();
    }
    let (consumer, mut told) = listen(wire(&server, usize::MAX).await).await;
    assert_eq!(told.recv().await.unwrap(), ("next".to_owned(), 1));
    // It waits until the server has taken back what was damaged.
    consumer.shutdown().await;
    assert_eq!(letters(&server, 1).await, [fragile()]);
}

/// Bodies of the group's dead letters, once there are so many.
async fn letters(server: &Server, count: usize) -> Vec<String> {
    drain(&server.reader("%DLQ%g", "undertaker").await, count).await
}
