//! Tests of sending and recalling.

use broker::{BrokerConfig, TopicKind};
use grpc_api::v2::{Encoding, MessageType, RecallMessageRequest, RecallMessageResponse};
use server::grpc::GrpcConfig;

use crate::rig::{
    Plan, Rig, START_MS, code, delayed, from, ids, message, message_with, resource, system,
};

async fn recall(rig: &Rig, topic: &str, handle: &str) -> RecallMessageResponse {
    let request = RecallMessageRequest {
        topic: resource(topic),
        recall_handle: handle.to_owned(),
    };
    let answer = rig
        .client
        .clone()
        .recall_message(from("producer", request))
        .await;
    answer.unwrap().into_inner()
}

#[tokio::test]
async fn answers_have_a_status_for_the_whole_and_for_each_message() {
    let rig = Rig::start().await;
    rig.topic("t", TopicKind::Mixed).await;
    let entry = rig.send(message("t", "01")).await;
    assert_eq!(
        (code(entry.status.as_ref()), entry.message_id.as_str()),
        (20000, "01")
    );
    assert!(entry.recall_handle.is_empty() && entry.transaction_id.is_empty());

    let bad = message_with("t", "03", |system| system.tag = Some("a|b".into()));
    let answer = rig
        .send_all(vec![message("t", "02"), bad, message("t", "04")])
        .await;
    let codes: Vec<i32> = answer
        .entries
        .iter()
        .map(|entry| code(entry.status.as_ref()))
        .collect();
    assert_eq!(
        (code(answer.status.as_ref()), codes),
        (30000, vec![20000, 40004, 20000])
    );
    assert_eq!(answer.entries[1].message_id, "03");

    let mut received = ids(&rig.receive("t", "g").await).join(" ");
    received = {
        let mut words: Vec<&str> = received.split(' ').collect();
        words.sort_unstable();
        words.join(" ")
    };
    assert_eq!(received, "01 02 04");
    rig.stop().await;
}

#[tokio::test]
async fn refused_messages_have_the_codes_of_rocketmq() {
    let rig = Rig::with(Plan {
        config: GrpcConfig {
            body_bytes_max: 1_000,
            ..GrpcConfig::default()
        },
        ..Plan::default()
    })
    .await;
    rig.topic("fifo", TopicKind::Fifo).await;
    rig.topic("normal", TopicKind::Normal).await;
    rig.topic("delay", TopicKind::Delay).await;
    let mut large = message("normal", "1");
    large.body = vec![0; 1_001].into();
    let mut empty = message("normal", "1");
    empty.body = Vec::new().into();
    let far = delayed("delay", "1", START_MS + 20 * 366 * 86_400_000);
    let grouped = message_with("normal", "1", |system| {
        system.message_group = Some("g".into());
    });
    for (message, expected) in [
        (message("missing", "1"), 40402),
        (message("normal", " "), 40009),
        (message("fifo", "1"), 40014),
        (grouped, 40014),
        (far, 40012),
        (large, 41301),
        (empty, 41302),
    ] {
        let entry = rig.send(message.clone()).await;
        let status = entry.status.unwrap();
        assert_eq!(status.code, expected, "{} {message:?}", status.message);
    }
    let mixed = rig
        .send_all(vec![message("normal", "1"), message("fifo", "2")])
        .await;
    assert_eq!(
        (code(mixed.status.as_ref()), mixed.entries.len()),
        (40016, 0)
    );
    assert_eq!(code(rig.send_all(Vec::new()).await.status.as_ref()), 40016);
    rig.stop().await;
}

#[tokio::test]
async fn a_body_far_too_large_still_gets_the_code() {
    let rig = Rig::start().await;
    rig.topic("t", TopicKind::Normal).await;
    let mut large = message("t", "1");
    large.body = vec![7; 5 * 1024 * 1024].into();
    assert_eq!(code(rig.send(large).await.status.as_ref()), 41301);
    let mut largest = message("t", "2");
    largest.body = vec![7; 4 * 1024 * 1024].into();
    assert_eq!(code(rig.send(largest).await.status.as_ref()), 20000);
    rig.stop().await;
}

#[tokio::test]
async fn a_send_that_is_repeated_is_stored_once() {
    let rig = Rig::start().await;
    rig.topic("t", TopicKind::Mixed).await;
    let first = rig.send(delayed("t", "01", START_MS + 1_000)).await;
    let again = rig.send(delayed("t", "01", START_MS + 1_000)).await;
    assert_eq!(
        (first.recall_handle, first.offset),
        (again.recall_handle, again.offset)
    );
    rig.advance(2_000).await;
    assert_eq!(ids(&rig.receive("t", "g").await), ["01"]);
    rig.stop().await;
}

#[tokio::test]
async fn packed_bodies_are_delivered_plain() {
    let rig = Rig::start().await;
    rig.topic("t", TopicKind::Normal).await;
    let mut packed = message_with("t", "1", |system| {
        system.body_encoding = Encoding::Gzip.into();
    });
    // The zlib form of "hello".
    packed.body = vec![
        0x78, 0x9c, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x06, 0x2c, 0x02, 0x15,
    ]
    .into();
    assert_eq!(code(rig.send(packed).await.status.as_ref()), 20000);
    let received = rig.receive("t", "g").await;
    assert_eq!(received[0].body, "hello");
    assert_eq!(system(&received[0]).body_encoding(), Encoding::Identity);
    rig.stop().await;
}

#[tokio::test]
async fn delayed_messages_are_never_early_and_recalled_truthfully() {
    let rig = Rig::start().await;
    rig.topic("t", TopicKind::Delay).await;
    rig.topic("other", TopicKind::Delay).await;
    let kept = rig.send(delayed("t", "kept", START_MS + 1_001)).await;
    let gone = rig.send(delayed("t", "gone", START_MS + 1_000)).await;
    assert!(!kept.recall_handle.is_empty());
    assert!(rig.receive("t", "g").await.is_empty());

    let wrong_topic = recall(&rig, "other", &gone.recall_handle).await;
    assert_eq!(code(wrong_topic.status.as_ref()), 40000);
    for _ in 0..2 {
        let answer = recall(&rig, "t", &gone.recall_handle).await;
        assert_eq!(
            (code(answer.status.as_ref()), answer.message_id.as_str()),
            (20000, "gone")
        );
    }
    rig.advance_to(START_MS + 1_000).await;
    assert!(
        rig.receive("t", "g").await.is_empty(),
        "1 ms early, and the other is recalled"
    );
    rig.advance(1).await;
    let received = rig.receive("t", "g").await;
    assert_eq!(ids(&received), ["kept"]);
    let properties = system(&received[0]);
    assert_eq!(properties.message_type(), MessageType::Delay);
    assert!(properties.delivery_timestamp.is_some());

    let late = recall(&rig, "t", &kept.recall_handle).await.status.unwrap();
    assert!(
        late.code == 50001 && late.message.contains("too late"),
        "{late:?}"
    );
    let nonsense = recall(&rig, "t", "nonsense").await;
    assert_eq!(code(nonsense.status.as_ref()), 40000);
    rig.stop().await;
}

#[tokio::test]
async fn a_full_topic_makes_clients_wait() {
    let rig = Rig::with(Plan {
        broker: BrokerConfig::default(),
        ..Plan::default()
    })
    .await;
    let spec = broker::TopicSpec {
        quota_bytes: Some(1),
        ..broker::TopicSpec::new("small", TopicKind::Normal)
    };
    rig.broker.create_topic(spec).await.unwrap();
    assert_eq!(
        code(rig.send(message("small", "1")).await.status.as_ref()),
        20000
    );
    assert_eq!(
        code(rig.send(message("small", "2")).await.status.as_ref()),
        42900
    );
    rig.stop().await;
}
