//! Tests of transactions: commit, rollback, delay, checks.

use std::time::Duration;

use client::{Producer, Resolution};

use crate::rig::{INVISIBLE, Server, body, drain, message, now};

#[tokio::test]
async fn only_what_is_committed_is_delivered() {
    let server = Server::start().await;
    server.topic("t", "transaction").await;
    let producer = server.producer().await;
    let begin = async |name: &str| producer.begin(message("t", name), None).await.unwrap();
    let dropped = begin("dropped").await;
    let kept = begin("kept").await;
    dropped.rollback().await.unwrap();
    kept.commit().await.unwrap();
    // A commit may be repeated.
    kept.commit().await.unwrap();
    let last = begin("last").await;
    last.commit().await.unwrap();
    let consumer = server.reader("t", "g").await;
    let mut bodies = drain(&consumer, 2).await;
    bodies.sort();
    assert_eq!(bodies, ["kept", "last"]);
}

#[tokio::test]
async fn a_transaction_may_be_of_a_delayed_message() {
    let server = Server::start().await;
    server.topic("t", "transaction").await;
    let producer = server.producer().await;
    let at = now() + Duration::from_millis(600);
    let delayed = message("t", "later").deliver_at(at);
    let transaction = producer.begin(delayed, None).await.unwrap();
    transaction.commit().await.unwrap();
    let consumer = server.reader("t", "g").await;
    let received = consumer.receive(1, INVISIBLE).await.unwrap();
    assert_eq!(body(&received[0]), "later");
    assert!(now() >= at - Duration::from_millis(1));
}

#[tokio::test]
async fn the_server_asks_about_what_was_left_open() {
    let server = Server::start().await;
    server.topic("t", "transaction").await;
    let asked = |received: client::Received| async move {
        match body(&received) {
            "yes" => Resolution::Commit,
            "no" => Resolution::Rollback,
            _ => panic!("as a handler may"),
        }
    };
    let producer = Producer::builder(server.config())
        .topic("t")
        .check_back(asked)
        .start()
        .await
        .unwrap();
    for name in ["no", "panic", "yes"] {
        let left = producer.begin(message("t", name), Some(Duration::from_secs(1)));
        drop(left.await.unwrap());
    }
    let consumer = server.reader("t", "g").await;
    assert_eq!(drain(&consumer, 1).await, ["yes"]);
}
