//! Tests of acknowledgements, changed invisible times and dead letters.

use broker::TopicKind;
use grpc_api::v2::{
    AckMessageEntry, AckMessageRequest, ChangeInvisibleDurationRequest,
    ChangeInvisibleDurationResponse, ClientType, ForwardMessageToDeadLetterQueueRequest, Language,
    Message,
};

use crate::rig::{
    Rig, code, consumer_settings, from, handle, ids, message, push, resource, span, system,
};

async fn change(
    rig: &Rig,
    client_id: &str,
    message: &Message,
    ms: u64,
) -> ChangeInvisibleDurationResponse {
    let request = ChangeInvisibleDurationRequest {
        group: resource("g"),
        topic: resource("t"),
        receipt_handle: handle(message),
        invisible_duration: Some(span(ms)),
        message_id: system(message).message_id.clone(),
        ..ChangeInvisibleDurationRequest::default()
    };
    let answer = rig
        .client
        .clone()
        .change_invisible_duration(from(client_id, request))
        .await;
    answer.unwrap().into_inner()
}

async fn one(rig: &Rig) -> Message {
    rig.topic("t", TopicKind::Normal).await;
    rig.send(message("t", "1")).await;
    rig.receive("t", "g").await.into_iter().next().unwrap()
}

#[tokio::test]
async fn each_acknowledgement_has_its_own_outcome() {
    let rig = Rig::start().await;
    let taken = one(&rig).await;
    rig.topic("u", TopicKind::Normal).await;
    rig.receive("u", "g").await;
    rig.receive("t", "other").await;
    assert_eq!(rig.ack("u", "g", &taken).await, 40013, "of another topic");
    assert_eq!(
        rig.ack("t", "other", &taken).await,
        40013,
        "of another group"
    );
    assert_eq!(rig.ack("missing", "g", &taken).await, 40013);
    let entry = |handle: String| AckMessageEntry {
        message_id: "1".into(),
        receipt_handle: handle,
        lite_topic: None,
    };
    let request = AckMessageRequest {
        group: resource("g"),
        topic: resource("t"),
        entries: vec![
            entry("nonsense".into()),
            entry(handle(&taken)),
            entry(String::new()),
        ],
    };
    let answer = rig
        .client
        .clone()
        .ack_message(from("consumer", request))
        .await;
    let answer = answer.unwrap().into_inner();
    let codes: Vec<i32> = answer
        .entries
        .iter()
        .map(|entry| code(entry.status.as_ref()))
        .collect();
    assert_eq!(
        (code(answer.status.as_ref()), codes),
        (30000, vec![40013, 20000, 40013])
    );
    let empty = AckMessageRequest {
        group: resource("g"),
        topic: resource("t"),
        entries: Vec::new(),
    };
    let answer = rig
        .client
        .clone()
        .ack_message(from("consumer", empty))
        .await;
    assert_eq!(code(answer.unwrap().into_inner().status.as_ref()), 40000);
    rig.advance(60_000).await;
    assert!(rig.receive("t", "g").await.is_empty());
    rig.stop().await;
}

#[tokio::test]
async fn a_simple_consumer_keeps_a_message_longer() {
    let rig = Rig::start().await;
    let taken = one(&rig).await;
    let answer = change(&rig, "consumer", &taken, 100_000).await;
    assert_eq!(code(answer.status.as_ref()), 20000);
    assert_eq!(answer.receipt_handle, handle(&taken));
    rig.advance(99_000).await;
    assert!(rig.receive("t", "g").await.is_empty());
    assert_eq!(rig.ack("t", "g", &taken).await, 20000);
    let late = change(&rig, "consumer", &taken, 100_000).await;
    assert_eq!(code(late.status.as_ref()), 40013);
    assert!(
        !late.receipt_handle.is_empty(),
        "clients overwrite their handle"
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_push_consumer_hands_a_message_back_and_gets_it_after_the_back_off() {
    let rig = Rig::start().await;
    rig.topic("t", TopicKind::Normal).await;
    let settings = consumer_settings(ClientType::PushConsumer, "t", "g");
    rig.introduce("pusher", settings).await.settings().await;
    // After its stream has ended the session remains for a while.
    rig.send(message("t", "1")).await;
    for attempt in 1..=3 {
        let (_, taken) = rig.poll_from("pusher", push("t", "g")).await;
        assert_eq!(system(&taken[0]).delivery_attempt, Some(attempt));
        let answer = change(&rig, "pusher", &taken[0], 1_500).await;
        assert_eq!(code(answer.status.as_ref()), 20000);
        rig.advance(1_499).await;
        assert!(rig.poll_from("pusher", push("t", "g")).await.1.is_empty());
        rig.advance(1).await;
    }
    rig.stop().await;
}

#[tokio::test]
async fn the_client_that_confuses_units_gets_the_back_off_of_the_group() {
    let rig = Rig::start().await;
    rig.topic("t", TopicKind::Normal).await;
    let mut settings = consumer_settings(ClientType::PushConsumer, "t", "g");
    settings.user_agent.as_mut().unwrap().language = Language::NodeJs.into();
    let mut line = rig.introduce("node", settings).await;
    line.settings().await;
    rig.send(message("t", "1")).await;
    let (_, taken) = rig.poll_from("node", push("t", "g")).await;
    // Ten seconds, as this client writes them.
    change(&rig, "node", &taken[0], 10).await;
    rig.advance(9_999).await;
    assert!(rig.poll_from("node", push("t", "g")).await.1.is_empty());
    rig.advance(1).await;
    assert_eq!(rig.poll_from("node", push("t", "g")).await.1.len(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn dead_letters_say_where_they_come_from() {
    let rig = Rig::start().await;
    let taken = one(&rig).await;
    let request = ForwardMessageToDeadLetterQueueRequest {
        group: resource("g"),
        topic: resource("t"),
        receipt_handle: handle(&taken),
        message_id: "1".into(),
        delivery_attempt: 1,
        max_delivery_attempts: 1,
        lite_topic: None,
    };
    for _ in 0..2 {
        let request = from("consumer", request.clone());
        let answer = rig
            .client
            .clone()
            .forward_message_to_dead_letter_queue(request)
            .await;
        assert_eq!(code(answer.unwrap().into_inner().status.as_ref()), 20000);
    }
    rig.advance(60_000).await;
    assert!(rig.receive("t", "g").await.is_empty());
    let letters = rig.receive("%DLQ%g", "reader").await;
    assert_eq!(ids(&letters), ["1"], "once");
    let origin = system(&letters[0]).dead_letter_queue.as_ref().unwrap();
    assert_eq!(
        (origin.topic.as_str(), origin.message_id.as_str()),
        ("t", "1")
    );
    assert!(!letters[0].user_properties.contains_key("DLQ_ORIGIN_TOPIC"));
    rig.stop().await;
}

#[tokio::test]
async fn a_message_is_delivered_again_when_its_lease_ends() {
    let rig = Rig::start().await;
    let taken = one(&rig).await;
    rig.advance(29_999).await;
    assert!(rig.receive("t", "g").await.is_empty());
    rig.advance(1).await;
    // The broker records that the lease has ended, and a moment later the message can be delivered again.
    rig.advance(1).await;
    let again = rig.receive("t", "g").await;
    assert_eq!(
        (ids(&again), system(&again[0]).delivery_attempt),
        (vec!["1"], Some(2))
    );
    assert_eq!(
        rig.ack("t", "g", &taken).await,
        40013,
        "the first handle is void"
    );
    assert_eq!(rig.ack("t", "g", &again[0]).await, 20000);
    rig.stop().await;
}
