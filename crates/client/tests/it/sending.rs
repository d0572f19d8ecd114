//! Tests of sending, receiving, filtering and recalling.

use std::time::Duration;

use client::{Code, Error, Filter, Message};

use crate::rig::{INVISIBLE, Server, body, drain, message, now};

#[tokio::test]
async fn a_message_comes_as_it_was_sent() {
    let server = Server::start().await;
    server.topic("t", "normal").await;
    let producer = server.producer().await;
    let before = now();
    let sent = producer
        .send(
            message("t", "hello")
                .tag("a")
                .key("k1")
                .key("k2")
                .property("p", "v"),
        )
        .await
        .unwrap();
    assert_eq!(sent.recall, None);
    let consumer = server.reader("t", "g").await;
    let received = consumer.receive(8, INVISIBLE).await.unwrap();
    let [received] = &received[..] else {
        panic!("{received:?}")
    };
    assert_eq!(received.message_id, sent.message_id);
    assert_eq!((received.topic.as_str(), body(received)), ("t", "hello"));
    assert_eq!(received.tag.as_deref(), Some("a"));
    assert_eq!(received.keys, ["k1", "k2"]);
    assert_eq!(received.properties["p"], "v");
    assert_eq!((received.attempt, received.due), (1, None));
    assert!(received.born.unwrap() >= before - Duration::from_millis(1));
    consumer.ack(received).await.unwrap();
    let again = consumer.ack(received).await.unwrap_err();
    assert_eq!(again.code(), Some(Code::InvalidReceiptHandle), "{again}");
    producer.shutdown().await;
    consumer.shutdown().await;
}

#[tokio::test]
async fn delayed_messages_are_never_early_and_can_be_recalled() {
    let server = Server::start().await;
    server.topic("t", "delay").await;
    let producer = server.producer().await;
    let at = now() + Duration::from_millis(700);
    let kept = producer.send(message("t", "kept").deliver_at(at)).await;
    assert!(kept.unwrap().recall.is_some());
    let recalled = producer
        .send(message("t", "recalled").deliver_after(Duration::from_millis(600)))
        .await
        .unwrap();
    let handle = recalled.recall.unwrap();
    producer.recall(&handle).await.unwrap();
    let consumer = server.reader("t", "g").await;
    let received = consumer.receive(8, INVISIBLE).await.unwrap();
    // The handle of the protocol counts ms, which the server rounds up.
    assert!(now() >= at - Duration::from_millis(1));
    assert_eq!(received.len(), 1, "{received:?}");
    assert_eq!(body(&received[0]), "kept");
    let due = received[0].due.unwrap();
    assert!(due + Duration::from_millis(1) > at && due < at + Duration::from_millis(2));

    // A recall after delivery is refused; a repeated recall has the same outcome.
    let far = Duration::from_hours(5 * 365 * 24);
    let late = producer
        .send(message("t", "soon").deliver_after(Duration::ZERO))
        .await
        .unwrap();
    drain(&consumer, 1).await;
    let error = producer.recall(&late.recall.unwrap()).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::InternalServerError), "{error}");
    let years = producer
        .send(message("t", "years").deliver_after(far))
        .await;
    let years = years.unwrap().recall.unwrap();
    producer.recall(&years).await.unwrap();
    producer.recall(&years).await.unwrap();
}

#[tokio::test]
async fn filters_choose() {
    let server = Server::start().await;
    server.topic("t", "normal").await;
    let producer = server.producer().await;
    let messages = [("a", 1), ("b", 2), ("a", 3), ("c", 4)].map(|(tag, amount)| {
        message("t", &format!("{tag}{amount}"))
            .tag(tag)
            .property("amount", amount.to_string())
    });
    for outcome in producer.send_all(messages.into()).await.unwrap() {
        outcome.unwrap();
    }
    let sorted = |mut bodies: Vec<String>| {
        bodies.sort();
        bodies
    };
    let tags = server.chooser("t", "tags", Filter::tags("a || c")).await;
    assert_eq!(sorted(drain(&tags, 3).await), ["a1", "a3", "c4"]);
    let condition = Filter::sql("amount > 1 AND TAGS <> 'c'");
    let sql = server.chooser("t", "sql", condition).await;
    assert_eq!(sorted(drain(&sql, 2).await), ["a3", "b2"]);
    let wrong = server.chooser("t", "wrong", Filter::sql("amount >")).await;
    let error = wrong.receive(1, INVISIBLE).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::IllegalFilterExpression), "{error}");
}

#[tokio::test]
async fn message_groups_keep_their_order_delayed_ones_too() {
    let server = Server::start().await;
    server.topic("t", "fifo").await;
    let producer = server.producer().await;
    let soon = now() + Duration::from_millis(500);
    for number in 0..3 {
        for group in ["x", "y"] {
            let at = soon + Duration::from_millis(number);
            let delayed = message("t", &format!("{group}{number}"));
            let delayed = delayed.message_group(group).deliver_at(at);
            producer.send(delayed).await.unwrap();
        }
    }
    let consumer = server.reader("t", "g").await;
    let bodies = drain(&consumer, 6).await;
    assert!(now() >= soon - Duration::from_millis(1));
    for group in ["x", "y"] {
        let of_group: Vec<_> = bodies
            .iter()
            .filter(|body| body.starts_with(group))
            .collect();
        let expected = [0, 1, 2].map(|number| format!("{group}{number}"));
        assert_eq!(of_group, expected.iter().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn refusals_carry_the_server_s_code_and_words() {
    let server = Server::start().await;
    server.topic("delays", "delay").await;
    server.topic("fifo", "fifo").await;
    let producer = server.producer().await;
    let sends = [
        (message("nowhere", "b"), Code::TopicNotFound),
        (
            message("delays", "b").message_group("g"),
            Code::MessagePropertyConflictWithType,
        ),
        (message("fifo", "b"), Code::MessagePropertyConflictWithType),
        (message("delays", ""), Code::MessageBodyEmpty),
        (message("delays", "b").tag("a|b"), Code::IllegalMessageTag),
        (
            message("delays", "b").property("UNIQ_KEY", "x"),
            Code::IllegalMessagePropertyKey,
        ),
    ];
    for (wrong, code) in sends {
        let shown = format!("{wrong:?}");
        let error = producer.send(wrong).await.unwrap_err();
        assert_eq!(error.code(), Some(code), "{shown}: {error}");
        let Error::Refused(refused) = error else {
            panic!("{error}")
        };
        assert!(!refused.message.is_empty());
    }
    let oversized = Message::new("delays", vec![7; 4 * 1024 * 1024 + 1]);
    let error = producer.send(oversized).await.unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    let largest = Message::new("delays", vec![7; 4 * 1024 * 1024]);
    producer.send(largest).await.unwrap();
    let consumer = server.reader("delays", "g").await;
    let received = consumer.receive(1, INVISIBLE).await.unwrap();
    assert_eq!(received[0].body.len(), 4 * 1024 * 1024);
}

#[tokio::test]
async fn what_is_not_acknowledged_comes_again() {
    let server = Server::start().await;
    server.topic("t", "normal").await;
    let producer = server.producer().await;
    producer.send(message("t", "m")).await.unwrap();
    let consumer = server.reader("t", "g").await;
    let mut received = consumer.receive(1, INVISIBLE).await.unwrap();
    consumer
        .change_invisible(&mut received[0], Duration::from_millis(100))
        .await
        .unwrap();
    let again = consumer.receive(1, INVISIBLE).await.unwrap();
    assert_eq!(again[0].message_id, received[0].message_id);
    assert_eq!(again[0].attempt, 2);
    consumer.ack(&again[0]).await.unwrap();
}
