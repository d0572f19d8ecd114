//! Tests of transactions: commit, rollback, and the check of an unfinished one.

use broker::TopicKind;
use grpc_api::v2::telemetry_command::Command;
use grpc_api::v2::{
    EndTransactionRequest, Message, MessageType, TransactionResolution, TransactionSource,
};

use crate::rig::{
    Rig, START_MS, at, code, from, ids, message_with, producer_settings, resource, system,
};

fn half(id: &str) -> Message {
    message_with("t", id, |system| {
        system.message_type = MessageType::Transaction.into();
    })
}

async fn end(rig: &Rig, transaction_id: &str, resolution: TransactionResolution) -> i32 {
    let request = EndTransactionRequest {
        topic: resource("t"),
        message_id: String::new(),
        transaction_id: transaction_id.to_owned(),
        resolution: resolution.into(),
        source: TransactionSource::SourceUnspecified.into(),
        trace_context: String::new(),
    };
    let answer = rig.client.clone().end_transaction(from("p", request)).await;
    code(answer.unwrap().into_inner().status.as_ref())
}

#[tokio::test]
async fn half_messages_are_seen_after_the_commit_only() {
    use TransactionResolution::{Commit, Rollback, Unspecified};

    let rig = Rig::start().await;
    rig.topic("t", TopicKind::Transaction).await;
    rig.topic("u", TopicKind::Transaction).await;
    let kept = rig.send(half("kept")).await;
    let dropped = rig.send(half("dropped")).await;
    assert!(!kept.transaction_id.is_empty() && kept.message_id == "kept");
    assert!(rig.receive("t", "g").await.is_empty());
    assert_eq!(end(&rig, &kept.transaction_id, Unspecified).await, 20000);
    assert!(rig.receive("t", "g").await.is_empty());
    for _ in 0..2 {
        assert_eq!(end(&rig, &kept.transaction_id, Commit).await, 20000);
        assert_eq!(end(&rig, &dropped.transaction_id, Rollback).await, 20000);
    }
    assert_eq!(end(&rig, &dropped.transaction_id, Commit).await, 40008);
    assert_eq!(end(&rig, "nonsense", Commit).await, 40008);
    rig.advance(1).await;
    let received = rig.receive("t", "g").await;
    assert_eq!(ids(&received), ["kept"]);
    assert_eq!(
        system(&received[0]).message_type(),
        MessageType::Transaction
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_delayed_transaction_is_seen_at_its_time() {
    let rig = Rig::start().await;
    rig.topic("t", TopicKind::Transaction).await;
    let mut message = half("1");
    message
        .system_properties
        .as_mut()
        .unwrap()
        .delivery_timestamp = Some(at(START_MS + 3_000));
    let entry = rig.send(message).await;
    assert_eq!(
        end(&rig, &entry.transaction_id, TransactionResolution::Commit).await,
        20000
    );
    rig.advance_to(START_MS + 2_999).await;
    assert!(rig.receive("t", "g").await.is_empty());
    rig.advance(1).await;
    assert_eq!(ids(&rig.receive("t", "g").await), ["1"]);
    rig.stop().await;
}

#[tokio::test]
async fn the_sender_is_asked_whatever_topics_it_named() {
    let rig = Rig::start().await;
    rig.topic("plain", TopicKind::Normal).await;
    rig.topic("t", TopicKind::Transaction).await;
    // Half messages of these tests are sent by the client `producer`.
    let mut stream = rig.introduce("producer", producer_settings("plain")).await;
    stream.settings().await;
    let mut other = rig.introduce("other", producer_settings("t")).await;
    other.settings().await;
    let sent = [
        rig.send(half("1")).await.transaction_id,
        rig.send(half("2")).await.transaction_id,
    ];
    rig.advance(30_000).await;
    let mut asked = Vec::new();
    for _ in 0..sent.len() {
        let command = stream.receive().await;
        let Some(Command::RecoverOrphanedTransactionCommand(question)) = command.command else {
            panic!("a check was expected, not {command:?}");
        };
        asked.push(question.transaction_id);
    }
    assert_eq!(asked, sent);
    rig.stop().await;
}

#[tokio::test]
async fn an_unfinished_transaction_is_checked_with_its_producer() {
    let rig = Rig::start().await;
    rig.topic("t", TopicKind::Transaction).await;
    let mut stream = rig.introduce("p", producer_settings("t")).await;
    stream.settings().await;
    let entry = rig.send(half("orphan")).await;
    // After the wait before the first check, long before the last one.
    rig.advance(30_000).await;
    let command = stream.receive().await;
    let Some(Command::RecoverOrphanedTransactionCommand(asked)) = command.command else {
        panic!("a check was expected, not {command:?}");
    };
    assert_eq!(asked.transaction_id, entry.transaction_id);
    let message = asked.message.unwrap();
    assert_eq!(
        (ids(std::slice::from_ref(&message)), message.topic.clone()),
        (vec!["orphan"], resource("t"))
    );
    assert!(system(&message).body_digest.is_some());
    assert_eq!(
        end(&rig, &asked.transaction_id, TransactionResolution::Commit).await,
        20000
    );
    rig.advance(1).await;
    assert_eq!(ids(&rig.receive("t", "g").await), ["orphan"]);
    rig.stop().await;
}
