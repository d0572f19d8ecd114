//! Tests of the telemetry stream, and of heartbeats.

use broker::{GroupSpec, TopicKind};
use grpc_api::v2::retry_policy::Strategy;
use grpc_api::v2::settings::PubSub;
use grpc_api::v2::{ClientType, HeartbeatRequest, Language, Settings, TelemetryCommand};
use server::Connections as _;
use tonic::Request;

use crate::rig::{Rig, START_MS, code, consumer_settings, from, producer_settings, resource, span};

#[tokio::test]
async fn producers_get_what_they_need_each_time_they_ask() {
    let rig = Rig::start().await;
    rig.topic("t", TopicKind::Mixed).await;
    let mut stream = rig.introduce("p", producer_settings("t")).await;
    for _ in 0..3 {
        let settings = stream.settings().await;
        let Some(PubSub::Publishing(publishing)) = settings.pub_sub else {
            panic!("the kind of the settings stays");
        };
        assert_eq!(publishing.topics, [resource("t").unwrap()]);
        assert_eq!(publishing.max_body_size, 4 * 1024 * 1024);
        assert!(publishing.validate_message_type);
        let policy = settings.backoff_policy.unwrap();
        assert!(policy.max_attempts > 0);
        assert!(matches!(
            policy.strategy,
            Some(Strategy::ExponentialBackoff(_))
        ));
        assert!(!settings.metric.unwrap().on);
        stream.send(producer_settings("t")).await;
    }
    rig.stop().await;
}

#[tokio::test]
async fn consumers_get_their_groups_rules_in_the_form_they_read() {
    let rig = Rig::start().await;
    rig.topic("t", TopicKind::Mixed).await;
    let spec = GroupSpec {
        attempts_max: 3,
        backoff_ms: vec![2_000, 5_000],
        ..GroupSpec::new("g")
    };
    rig.broker.create_group(spec).await.unwrap();
    for (language, customized) in [(Language::Java, true), (Language::NodeJs, false)] {
        let mut settings = consumer_settings(ClientType::PushConsumer, "t", "g");
        settings.user_agent.as_mut().unwrap().language = language.into();
        let answer = rig.introduce("c", settings).await.settings().await;
        let policy = answer.backoff_policy.unwrap();
        assert_eq!(policy.max_attempts, 3);
        match policy.strategy.unwrap() {
            Strategy::CustomizedBackoff(waits) => {
                assert!(customized);
                assert_eq!(waits.next, [span(2_000), span(5_000)]);
            }
            Strategy::ExponentialBackoff(_) => assert!(!customized),
        }
        let Some(PubSub::Subscription(subscription)) = answer.pub_sub else {
            panic!("the kind of the settings stays");
        };
        assert_eq!(subscription.receive_batch_size, Some(32));
        assert_eq!(subscription.long_polling_timeout, Some(span(20_000)));
        assert_eq!(subscription.fifo, Some(false));
        assert_eq!(subscription.subscriptions.len(), 1);
    }
    rig.stop().await;
}

#[tokio::test]
async fn invalid_settings_are_refused() {
    let rig = Rig::start().await;
    let shapeless = Settings {
        pub_sub: None,
        ..producer_settings("t")
    };
    let mut stream = rig.introduce("c", shapeless).await;
    let status = stream.commands.message().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);

    let small = consumer_settings(ClientType::LitePushConsumer, "t", "g");
    let mut stream = rig.introduce("c", small).await;
    assert_eq!(code(stream.receive().await.status.as_ref()), 50500);
    assert!(
        stream.commands.message().await.unwrap().is_none(),
        "the stream ends"
    );

    let nameless = consumer_settings(ClientType::PushConsumer, "t", "");
    let mut stream = rig.introduce("c", nameless).await;
    assert_eq!(code(stream.receive().await.status.as_ref()), 40003);

    let mut stream = rig.introduce(" ", producer_settings("t")).await;
    assert_eq!(code(stream.receive().await.status.as_ref()), 40017);
    rig.stop().await;
}

#[tokio::test]
async fn sessions_list_the_connected_clients() {
    let rig = Rig::start().await;
    rig.topic("t", TopicKind::Mixed).await;
    let settings = consumer_settings(ClientType::SimpleConsumer, "t", "g");
    let mut stream = rig.introduce("c", settings).await;
    stream.settings().await;
    let [client] = rig.grpc.connections().try_into().unwrap();
    assert_eq!((client.client_id.as_str(), client.protocol), ("c", "grpc"));
    assert_eq!(
        (client.role.as_str(), client.library.as_str()),
        ("simple consumer", "JAVA 5.2.0")
    );
    assert_eq!(
        (client.group.as_deref(), client.topics),
        (Some("g"), vec!["t".to_owned()])
    );
    assert!(client.remote.starts_with("127.0.0.1:") && client.since_ms == START_MS);
    let request = HeartbeatRequest {
        group: resource("g2"),
        client_type: ClientType::PushConsumer.into(),
    };
    let answer = rig.client.clone().heartbeat(from("d", request)).await;
    assert_eq!(code(answer.unwrap().into_inner().status.as_ref()), 20000);
    assert_eq!(rig.grpc.connections().len(), 2);
    // A heartbeat without any header does no harm.
    let bare = Request::new(HeartbeatRequest::default());
    let answer = rig.client.clone().heartbeat(bare).await;
    assert_eq!(code(answer.unwrap().into_inner().status.as_ref()), 20000);
    rig.advance(60_000).await;
    let here: Vec<String> = rig
        .grpc
        .connections()
        .into_iter()
        .map(|client| client.client_id)
        .collect();
    assert_eq!(here, ["c"], "its stream is open, the other was silent");
    rig.stop().await;
}

#[tokio::test]
async fn a_client_is_remembered_by_short_texts_only() {
    let rig = Rig::start().await;
    rig.topic("t", TopicKind::Mixed).await;
    let mut settings = producer_settings("t");
    settings.user_agent.as_mut().unwrap().version = "5".repeat(1 << 20);
    rig.introduce("p", settings).await.settings().await;
    let [client] = rig.grpc.connections().try_into().unwrap();
    assert_eq!(client.library, format!("JAVA {}", "5".repeat(64)));
    for group in ["g".repeat(256), "a b".to_owned()] {
        let request = HeartbeatRequest {
            group: resource(&group),
            client_type: ClientType::PushConsumer.into(),
        };
        let answer = rig.client.clone().heartbeat(from("d", request)).await;
        assert_eq!(code(answer.unwrap().into_inner().status.as_ref()), 40003);
    }
    assert_eq!(rig.grpc.connections().len(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn unrequested_commands_are_ignored() {
    let rig = Rig::start().await;
    rig.topic("t", TopicKind::Mixed).await;
    let mut stream = rig.introduce("p", producer_settings("t")).await;
    stream.settings().await;
    stream
        .requests
        .send(TelemetryCommand::default())
        .await
        .unwrap();
    stream.send(producer_settings("t")).await;
    stream.settings().await;
    rig.stop().await;
}

#[tokio::test]
async fn a_stop_ends_streams_and_polls() {
    let rig = Rig::start().await;
    rig.topic("t", TopicKind::Mixed).await;
    let mut stream = rig.introduce("p", producer_settings("t")).await;
    stream.settings().await;
    let mut client = rig.client.clone();
    let mut request = crate::rig::simple("t", "g");
    request.long_polling_timeout = Some(span(20_000));
    let poll = tokio::spawn(async move {
        let answer = client.receive_message(from("c", request)).await;
        crate::rig::read(answer.unwrap().into_inner()).await
    });
    while rig.broker.group("g").await.is_err() {
        tokio::task::yield_now().await;
    }
    rig.stop().await;
    assert_eq!(poll.await.unwrap().0.code, 40401);
    assert!(stream.commands.message().await.unwrap().is_none());
}
