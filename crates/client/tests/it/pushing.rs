//! Tests of the push consumer: verdicts, order, dead letters, shutdown.

use std::sync::Arc;
use std::time::Duration;

use client::{Filter, PushConsumer, PushConsumerBuilder, Received, Verdict};
use tokio::sync::{Semaphore, mpsc};

use crate::rig::{INVISIBLE, Server, body, message};

/// A consumer of the topic `t` that tells every delivery and says what a function of it says.
async fn listen(
    server: &Server,
    change: impl FnOnce(PushConsumerBuilder) -> PushConsumerBuilder,
    verdict: impl Fn(&Received) -> Verdict + Send + Sync + 'static,
) -> (PushConsumer, mpsc::UnboundedReceiver<(String, u32)>) {
    let (tell, told) = mpsc::unbounded_channel();
    let builder = PushConsumer::builder(server.config(), "g").subscribe("t", Filter::all());
    let verdict = Arc::new(verdict);
    let consumer = change(builder)
        .start(move |received| {
            let (tell, verdict) = (tell.clone(), Arc::clone(&verdict));
            async move {
                tell.send((body(&received).to_owned(), received.attempt))
                    .unwrap();
                verdict(&received)
            }
        })
        .await
        .unwrap();
    (consumer, told)
}

#[tokio::test]
async fn what_is_done_is_done_and_what_fails_comes_again() {
    let server = Server::start().await;
    server.topic("t", "normal").await;
    let producer = server.producer().await;
    for name in ["fine", "later", "panic"] {
        producer.send(message("t", name)).await.unwrap();
    }
    server
        .run(&["group", "create", "g", "--attempts", "5", "--backoff", "1s"])
        .await;
    let verdict = |received: &Received| match (body(received), received.attempt) {
        ("later", 1) => Verdict::RetryAfter(Duration::from_millis(50)),
        ("panic", 1) => panic!("as a listener may"),
        _ => Verdict::Done,
    };
    let (consumer, mut told) = listen(&server, |builder| builder, verdict).await;
    let mut heard = Vec::new();
    while heard.len() < 5 {
        heard.push(told.recv().await.unwrap());
    }
    heard.sort();
    let expected = [
        ("fine", 1),
        ("later", 1),
        ("later", 2),
        ("panic", 1),
        ("panic", 2),
    ];
    assert_eq!(
        heard,
        expected.map(|(name, attempt)| (name.to_owned(), attempt))
    );
    consumer.shutdown().await;
    assert!(told.recv().await.is_none(), "nothing comes again");
}

#[tokio::test]
async fn what_fails_for_good_is_a_dead_letter() {
    let server = Server::start().await;
    server.topic("t", "normal").await;
    server
        .run(&["group", "create", "g", "--attempts", "2", "--backoff", "1s"])
        .await;
    let producer = server.producer().await;
    let first = producer.send(message("t", "poison")).await.unwrap();
    producer.send(message("t", "hopeless")).await.unwrap();
    let verdict = |received: &Received| match body(received) {
        "poison" => Verdict::DeadLetter,
        _ => Verdict::Retry,
    };
    let (consumer, mut told) = listen(&server, |builder| builder, verdict).await;
    let mut heard = Vec::new();
    while heard.len() < 3 {
        heard.push(told.recv().await.unwrap());
    }
    heard.sort();
    let expected = [("hopeless", 1), ("hopeless", 2), ("poison", 1)];
    assert_eq!(
        heard,
        expected.map(|(name, attempt)| (name.to_owned(), attempt))
    );
    consumer.shutdown().await;
    let letters = server.reader("%DLQ%g", "undertaker").await;
    let mut found = Vec::new();
    while found.len() < 2 {
        found.extend(letters.receive(8, INVISIBLE).await.unwrap());
    }
    let poison = found
        .iter()
        .find(|letter| body(letter) == "poison")
        .unwrap();
    let origin = poison.dead_letter_of.clone().unwrap();
    assert_eq!(origin, ("t".to_owned(), first.message_id));
}

#[tokio::test]
async fn a_message_that_fails_keeps_its_place_in_its_group() {
    let server = Server::start().await;
    server.topic("t", "fifo").await;
    server
        .run(&[
            "group",
            "create",
            "g",
            "--fifo",
            "--attempts",
            "3",
            "--backoff",
            "1s",
        ])
        .await;
    let producer = server.producer().await;
    for number in 0..4 {
        let of_group = message("t", &number.to_string()).message_group("x");
        producer.send(of_group).await.unwrap();
    }
    let verdict = |received: &Received| match (body(received), received.attempt) {
        ("1", 1) | ("2", _) => Verdict::RetryAfter(Duration::from_millis(20)),
        _ => Verdict::Done,
    };
    let (consumer, mut told) = listen(&server, |builder| builder, verdict).await;
    let mut heard = Vec::new();
    while heard.len() < 7 {
        heard.push(told.recv().await.unwrap());
    }
    // The third is given up after as many attempts as the group allows, and only then comes the fourth.
    let expected = [
        ("0", 1),
        ("1", 1),
        ("1", 2),
        ("2", 1),
        ("2", 2),
        ("2", 3),
        ("3", 1),
    ];
    assert_eq!(
        heard,
        expected.map(|(name, attempt)| (name.to_owned(), attempt))
    );
    consumer.shutdown().await;
    let letters = server.reader("%DLQ%g", "undertaker").await;
    let found = letters.receive(8, INVISIBLE).await.unwrap();
    assert_eq!(body(&found[0]), "2");
}

#[tokio::test]
async fn memory_is_bounded_and_a_shutdown_waits_for_the_listener() {
    let server = Server::start().await;
    server.topic("t", "normal").await;
    let producer = server.producer().await;
    let messages = (0..50).map(|number| message("t", &number.to_string()));
    for outcome in producer.send_all(messages.collect()).await.unwrap() {
        outcome.unwrap();
    }
    let gate = Arc::new(Semaphore::new(0));
    let (tell, mut told) = mpsc::unbounded_channel();
    let at_gate = Arc::clone(&gate);
    let consumer = PushConsumer::builder(server.config(), "g")
        .subscribe("t", Filter::all())
        .concurrency(2)
        .cache(8, 1024 * 1024)
        .start(move |received| {
            let (tell, gate) = (tell.clone(), Arc::clone(&at_gate));
            async move {
                tell.send(body(&received).to_owned()).unwrap();
                gate.acquire().await.unwrap().forget();
                Verdict::Done
            }
        })
        .await
        .unwrap();
    told.recv().await.unwrap();
    told.recv().await.unwrap();
    // The listener works on two and has at most eight: the others are still there for another consumer.
    let other = server.reader("t", "g").await;
    let mut left = 0;
    while left < 42 {
        let received = other.receive(50, INVISIBLE).await.unwrap();
        left += received.len();
        other.ack_all(&received).await;
    }
    let closing = tokio::spawn(consumer.shutdown());
    gate.add_permits(50);
    closing.await.unwrap();
    // What it had, it has finished: nothing is left for anybody.
    let mut finished = 2;
    while told.recv().await.is_some() {
        finished += 1;
    }
    assert_eq!(finished + left, 50);
}
