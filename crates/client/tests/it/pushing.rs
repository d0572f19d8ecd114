//! Tests of the push consumer: verdicts, order, dead letters, shutdown.

use std::sync::Arc;
use std::time::Duration;

use client::{Filter, PushConsumer, PushConsumerBuilder, Received, Verdict};
use tokio::sync::{Semaphore, mpsc};

use crate::rig::{INVISIBLE, Server, body, message};

/// A consumer of the topic `t` that reports every delivery and returns the verdict of a function.
async fn listen(
    server: &Server,
    change: impl FnOnce(PushConsumerBuilder) -> PushConsumerBuilder,
    verdict: impl Fn(&Received) -> Verdict + Send + Sync + 'static,
) -> (PushConsumer, mpsc::UnboundedReceiver<(String, u32)>) {
    let (sender, deliveries) = mpsc::unbounded_channel();
    let builder = PushConsumer::builder(server.config(), "g").subscribe("t", Filter::all());
    let verdict = Arc::new(verdict);
    let consumer = change(builder)
        .start(move |received| {
            let (sender, verdict) = (sender.clone(), Arc::clone(&verdict));
            async move {
                sender
                    .send((body(&received).to_owned(), received.attempt))
                    .unwrap();
                verdict(&received)
            }
        })
        .await
        .unwrap();
    (consumer, deliveries)
}

#[tokio::test]
async fn processed_messages_are_gone_and_failed_ones_are_redelivered() {
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
    let (consumer, mut deliveries) = listen(&server, |builder| builder, verdict).await;
    let mut seen = Vec::new();
    while seen.len() < 5 {
        seen.push(deliveries.recv().await.unwrap());
    }
    seen.sort();
    let expected = [
        ("fine", 1),
        ("later", 1),
        ("later", 2),
        ("panic", 1),
        ("panic", 2),
    ];
    assert_eq!(
        seen,
        expected.map(|(name, attempt)| (name.to_owned(), attempt))
    );
    consumer.shutdown().await;
    assert!(
        deliveries.recv().await.is_none(),
        "nothing is delivered again"
    );
}

#[tokio::test]
async fn a_message_that_keeps_failing_becomes_a_dead_letter() {
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
    let (consumer, mut deliveries) = listen(&server, |builder| builder, verdict).await;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.push(deliveries.recv().await.unwrap());
    }
    seen.sort();
    let expected = [("hopeless", 1), ("hopeless", 2), ("poison", 1)];
    assert_eq!(
        seen,
        expected.map(|(name, attempt)| (name.to_owned(), attempt))
    );
    consumer.shutdown().await;
    let dead_letters = server.reader("%DLQ%g", "dead-letter-reader").await;
    let mut found = Vec::new();
    while found.len() < 2 {
        found.extend(dead_letters.receive(8, INVISIBLE).await.unwrap());
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
    let (consumer, mut deliveries) = listen(&server, |builder| builder, verdict).await;
    let mut seen = Vec::new();
    while seen.len() < 7 {
        seen.push(deliveries.recv().await.unwrap());
    }
    // The third becomes a dead letter after as many attempts as the group allows; only then the fourth is delivered.
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
        seen,
        expected.map(|(name, attempt)| (name.to_owned(), attempt))
    );
    consumer.shutdown().await;
    let dead_letters = server.reader("%DLQ%g", "dead-letter-reader").await;
    let found = dead_letters.receive(8, INVISIBLE).await.unwrap();
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
    let (sender, mut deliveries) = mpsc::unbounded_channel();
    let at_gate = Arc::clone(&gate);
    let consumer = PushConsumer::builder(server.config(), "g")
        .subscribe("t", Filter::all())
        .concurrency(2)
        .cache(8, 1024 * 1024)
        .start(move |received| {
            let (sender, gate) = (sender.clone(), Arc::clone(&at_gate));
            async move {
                sender.send(body(&received).to_owned()).unwrap();
                gate.acquire().await.unwrap().forget();
                Verdict::Done
            }
        })
        .await
        .unwrap();
    deliveries.recv().await.unwrap();
    deliveries.recv().await.unwrap();
    // The listener works on two, the cache holds at most eight: the others are available to another consumer.
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
    // It has finished what it had: nothing is left.
    let mut finished = 2;
    while deliveries.recv().await.is_some() {
        finished += 1;
    }
    assert_eq!(finished + left, 50);
}
