//! Tests of namespaces: topics, groups, handles and transactions of one are not those of another.

use broker::TopicKind;
use grpc_api::v2::settings::PubSub;
use grpc_api::v2::telemetry_command::Command;
use grpc_api::v2::{
    AckMessageEntry, AckMessageRequest, ClientType, EndTransactionRequest,
    ForwardMessageToDeadLetterQueueRequest, HeartbeatRequest, Message, MessageType,
    QueryRouteRequest, RecallMessageRequest, ReceiveMessageRequest, Resource, SendMessageRequest,
    TransactionResolution,
};
use server::Connections as _;
use server::grpc::GrpcConfig;

use crate::rig::{
    Plan, Rig, START_MS, code, delayed, from, handle, ids, message, message_with,
    producer_settings, read, simple, system,
};

fn within(namespace: &str, name: &str) -> Option<Resource> {
    Some(Resource {
        resource_namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

fn sent_within(namespace: &str, message: Message) -> Message {
    let topic = message.topic.clone().unwrap();
    Message {
        topic: within(namespace, &topic.name),
        ..message
    }
}

fn poll_within(namespace: &str, topic: &str, group: &str) -> ReceiveMessageRequest {
    let mut request = simple(topic, group);
    request.group = within(namespace, group);
    request.message_queue.as_mut().unwrap().topic = within(namespace, topic);
    request
}

/// A broker with topic `t` in the namespaces `dev` and `prod` and in none.
async fn apart() -> Rig {
    let rig = Rig::start().await;
    for topic in ["dev%t", "prod%t", "t"] {
        rig.topic(topic, TopicKind::Mixed).await;
    }
    rig
}

#[tokio::test]
async fn messages_stay_in_their_namespace() {
    let rig = apart().await;
    let sent = rig.send(sent_within("dev", message("t", "1"))).await;
    assert_eq!(code(sent.status.as_ref()), 20000);
    for namespace in ["prod", ""] {
        let (status, _) = rig.poll(poll_within(namespace, "t", "g")).await;
        assert_eq!(status.code, 40401, "{namespace}");
    }
    let (_, messages) = rig.poll(poll_within("dev", "t", "g")).await;
    assert_eq!(ids(&messages), ["1"]);
    assert_eq!(messages[0].topic, within("dev", "t"), "as it was asked for");
    let acked = |namespace| {
        let request = AckMessageRequest {
            group: within(namespace, "g"),
            topic: within(namespace, "t"),
            entries: vec![AckMessageEntry {
                message_id: "1".into(),
                receipt_handle: handle(&messages[0]),
                lite_topic: None,
            }],
        };
        let mut client = rig.client.clone();
        async move {
            let answer = client.ack_message(from("consumer", request)).await;
            code(answer.unwrap().into_inner().status.as_ref())
        }
    };
    assert_eq!(acked("prod").await, 40013, "a handle of another namespace");
    assert_eq!(acked("dev").await, 20000);
    let mut groups = rig.broker.groups().await.unwrap();
    groups.sort_unstable();
    assert_eq!(groups, ["dev%g", "g", "prod%g"]);
    rig.stop().await;
}

#[tokio::test]
async fn a_recall_is_of_its_namespace() {
    let rig = apart().await;
    let far = delayed("t", "later", START_MS + 60_000);
    let sent = rig.send(sent_within("dev", far)).await;
    for (namespace, expected) in [("prod", 40000), ("", 40000), ("dev", 20000)] {
        let request = RecallMessageRequest {
            topic: within(namespace, "t"),
            recall_handle: sent.recall_handle.clone(),
        };
        let answer = rig.client.clone().recall_message(from("p", request)).await;
        let status = answer.unwrap().into_inner().status;
        assert_eq!(code(status.as_ref()), expected, "{namespace}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_namespace_may_come_in_the_header_alone() {
    let rig = apart().await;
    let mut request = from(
        "node",
        SendMessageRequest {
            messages: vec![message("t", "1")],
        },
    );
    let namespace = "dev".parse().unwrap();
    request.metadata_mut().insert("x-mq-namespace", namespace);
    let answer = rig.client.clone().send_message(request).await;
    assert_eq!(code(answer.unwrap().into_inner().status.as_ref()), 20000);
    rig.advance(1).await;
    assert!(rig.receive("t", "g").await.is_empty());
    let mut request = from("node", simple("t", "g"));
    let namespace = "dev".parse().unwrap();
    request.metadata_mut().insert("x-mq-namespace", namespace);
    let answer = rig.client.clone().receive_message(request).await;
    let (_, messages) = read(answer.unwrap().into_inner()).await;
    assert_eq!(ids(&messages), ["1"]);
    rig.stop().await;
}

#[tokio::test]
async fn a_question_names_the_topic_as_its_producer_does() {
    let rig = Rig::start().await;
    rig.topic("dev%t", TopicKind::Transaction).await;
    let mut settings = producer_settings("t");
    let Some(PubSub::Publishing(publishing)) = &mut settings.pub_sub else {
        panic!("a producer publishes");
    };
    publishing.topics = vec![within("dev", "t").unwrap()];
    let mut stream = rig.introduce("p", settings).await;
    stream.settings().await;
    let half = message_with("t", "half", |system| {
        system.message_type = MessageType::Transaction.into();
    });
    rig.send(sent_within("dev", half)).await;
    rig.advance(30_000).await;
    let command = stream.receive().await;
    let Some(Command::RecoverOrphanedTransactionCommand(asked)) = command.command else {
        panic!("a question was expected, not {command:?}");
    };
    let topic = asked.message.unwrap().topic;
    assert_eq!(topic, within("dev", "t"));
    for (namespace, expected) in [("prod", 40402), ("dev", 20000)] {
        let request = EndTransactionRequest {
            topic: within(namespace, "t"),
            transaction_id: asked.transaction_id.clone(),
            resolution: TransactionResolution::Commit.into(),
            ..EndTransactionRequest::default()
        };
        let answer = rig.client.clone().end_transaction(from("p", request)).await;
        let status = answer.unwrap().into_inner().status;
        assert_eq!(code(status.as_ref()), expected, "{namespace}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn dead_letters_are_those_of_their_namespace() {
    let rig = apart().await;
    rig.send(sent_within("dev", message("t", "1"))).await;
    let (_, messages) = rig.poll(poll_within("dev", "t", "g")).await;
    let request = ForwardMessageToDeadLetterQueueRequest {
        group: within("dev", "g"),
        topic: within("dev", "t"),
        receipt_handle: handle(&messages[0]),
        message_id: "1".into(),
        ..ForwardMessageToDeadLetterQueueRequest::default()
    };
    let mut client = rig.client.clone();
    let answer = client
        .forward_message_to_dead_letter_queue(from("consumer", request))
        .await;
    assert_eq!(code(answer.unwrap().into_inner().status.as_ref()), 20000);
    rig.advance(1).await;
    let (_, dead) = rig.poll(poll_within("dev", "%DLQ%g", "g")).await;
    assert_eq!(ids(&dead), ["1"]);
    let origin = system(&dead[0]).dead_letter_queue.clone().unwrap();
    assert_eq!(origin.topic, "t", "as its clients know it");
    let names = rig.broker.topics().await.unwrap();
    assert!(names.contains(&"%DLQ%dev%g".to_owned()), "{names:?}");
    rig.stop().await;
}

#[tokio::test]
async fn routes_make_and_clients_show_names_with_their_namespace() {
    let config = GrpcConfig {
        auto_topic: Some((TopicKind::Mixed, 2)),
        ..GrpcConfig::default()
    };
    let plan = Plan {
        config,
        ..Plan::default()
    };
    let rig = Rig::with(plan).await;
    let route = |namespace| {
        let request = QueryRouteRequest {
            topic: within(namespace, "made"),
            endpoints: None,
        };
        let mut client = rig.client.clone();
        async move {
            let answer = client.query_route(from("c", request)).await;
            answer.unwrap().into_inner()
        }
    };
    let answer = route("dev").await;
    assert_eq!(answer.message_queues[0].topic, within("dev", "made"));
    assert!(rig.broker.topic_stats("dev%made").await.is_ok());
    assert!(rig.broker.topic_stats("made").await.is_err());
    let refused = route("d%v").await.status.unwrap();
    assert_eq!(refused.code, 40002);
    assert!(refused.message.contains("\"d%v\""), "{}", refused.message);
    let request = HeartbeatRequest {
        group: within("dev", "g"),
        client_type: ClientType::PushConsumer.into(),
    };
    let answer = rig.client.clone().heartbeat(from("d", request)).await;
    assert_eq!(code(answer.unwrap().into_inner().status.as_ref()), 20000);
    let [client] = rig.grpc.connections().try_into().unwrap();
    assert_eq!(client.group.as_deref(), Some("dev%g"));
    rig.stop().await;
}
