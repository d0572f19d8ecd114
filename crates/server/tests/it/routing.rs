//! Tests of routes and assignments.

use broker::{GroupSpec, TopicKind};
use grpc_api::v2::{
    Address, AddressScheme, Code, Endpoints, GetOffsetRequest, MessageType, Permission,
    PullMessageRequest, QueryAssignmentRequest, QueryOffsetRequest, QueryRouteRequest,
    QueryRouteResponse, SyncLiteSubscriptionRequest, UpdateOffsetRequest,
};
use server::grpc::GrpcConfig;
use tonic::Code as Transport;

use crate::rig::{Plan, Rig, code, from, message, resource};

async fn route(rig: &Rig, topic: &str, endpoints: Option<Endpoints>) -> QueryRouteResponse {
    let request = QueryRouteRequest {
        topic: resource(topic),
        endpoints,
    };
    let answer = rig.client.clone().query_route(from("c", request)).await;
    answer.unwrap().into_inner()
}

fn domain(host: &str) -> Endpoints {
    Endpoints {
        scheme: AddressScheme::DomainName.into(),
        addresses: vec![Address {
            host: host.to_owned(),
            port: 9_000,
        }],
    }
}

#[tokio::test]
async fn a_route_has_what_clients_need() {
    let rig = Rig::start().await;
    rig.topic("mixed", TopicKind::Mixed).await;
    let own = domain("a-name-of-the-broker");
    let answer = route(&rig, "mixed", Some(own.clone())).await;
    assert_eq!(code(answer.status.as_ref()), 20000);
    let ids: Vec<i32> = answer.message_queues.iter().map(|queue| queue.id).collect();
    assert_eq!(ids, [0, 1, 2, 3]);
    for queue in &answer.message_queues {
        let broker = queue.broker.as_ref().unwrap();
        assert_eq!((broker.id, broker.name.as_str()), (0, "duetime"));
        assert_eq!(broker.endpoints.as_ref(), Some(&own), "the client's own");
        assert_eq!(queue.topic, resource("mixed"));
        assert_eq!(queue.permission(), Permission::ReadWrite);
        assert_eq!(queue.accept_message_types, [1, 2, 3, 4]);
    }
    rig.stop().await;
}

#[tokio::test]
async fn topics_list_the_types_they_accept() {
    let rig = Rig::start().await;
    for (name, kind, types) in [
        ("normal", TopicKind::Normal, vec![MessageType::Normal]),
        ("fifo", TopicKind::Fifo, vec![MessageType::Fifo]),
        (
            "delay",
            TopicKind::Delay,
            vec![MessageType::Normal, MessageType::Delay],
        ),
        (
            "half",
            TopicKind::Transaction,
            vec![MessageType::Transaction],
        ),
    ] {
        rig.topic(name, kind).await;
        let answer = route(&rig, name, None).await;
        let queue = &answer.message_queues[0];
        assert_eq!(
            queue.accept_message_types().collect::<Vec<_>>(),
            types,
            "{name}"
        );
        let endpoints = queue.broker.as_ref().unwrap().endpoints.as_ref().unwrap();
        assert_eq!(endpoints.scheme(), AddressScheme::IPv4);
        assert_eq!(endpoints.addresses[0].port, i32::from(rig.address.port()));
    }
    rig.stop().await;
}

#[tokio::test]
async fn unknown_and_invalid_topics_have_different_codes() {
    let rig = Rig::start().await;
    let unknown = route(&rig, "missing", None).await;
    assert_eq!(code(unknown.status.as_ref()), 40402);
    assert!(unknown.message_queues.is_empty());
    for name in ["", " ", "a b", &"x".repeat(128)] {
        let answer = route(&rig, name, None).await;
        assert_eq!(code(answer.status.as_ref()), 40002, "{name:?}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn an_operator_may_set_the_endpoints_and_let_topics_be_created() {
    let config = GrpcConfig {
        advertise: Some("broker.example:8081".parse().unwrap()),
        auto_topic: Some((TopicKind::Mixed, 2)),
        ..GrpcConfig::default()
    };
    let rig = Rig::with(Plan {
        config,
        ..Plan::default()
    })
    .await;
    let answer = route(&rig, "made", Some(domain("other"))).await;
    assert_eq!(answer.message_queues.len(), 2);
    let endpoints = answer.message_queues[0]
        .broker
        .as_ref()
        .unwrap()
        .endpoints
        .clone();
    assert_eq!(endpoints.unwrap().addresses[0].host, "broker.example");
    assert_eq!(
        code(rig.send(message("made", "1")).await.status.as_ref()),
        20000
    );
    let answer = route(&rig, "%DLQ%none", None).await;
    assert_eq!(
        code(answer.status.as_ref()),
        40402,
        "no dead-letter topic is made"
    );
    rig.stop().await;
}

#[tokio::test]
async fn consumers_are_assigned_the_whole_topic() {
    let rig = Rig::start().await;
    rig.topic("fifo", TopicKind::Fifo).await;
    let spec = GroupSpec {
        fifo: true,
        ..GroupSpec::new("ordered")
    };
    rig.broker.create_group(spec).await.unwrap();
    for (group, expected) in [("plain", vec![-1]), ("ordered", vec![0, 1, 2, 3])] {
        let request = QueryAssignmentRequest {
            topic: resource("fifo"),
            group: resource(group),
            endpoints: Some(domain("here")),
        };
        let answer = rig
            .client
            .clone()
            .query_assignment(from("c", request))
            .await;
        let answer = answer.unwrap().into_inner();
        let queues = answer
            .assignments
            .iter()
            .map(|each| each.message_queue.as_ref().unwrap());
        let ids: Vec<i32> = queues.map(|queue| queue.id).collect();
        assert_eq!(
            (code(answer.status.as_ref()), ids),
            (20000, expected),
            "{group}"
        );
    }
    rig.stop().await;
}

#[tokio::test]
async fn calls_that_no_client_makes_are_unsupported() {
    let rig = Rig::start().await;
    let mut client = rig.client.clone();
    let statuses = [
        client
            .pull_message(from("c", PullMessageRequest::default()))
            .await
            .unwrap_err(),
        client
            .update_offset(from("c", UpdateOffsetRequest::default()))
            .await
            .unwrap_err(),
        client
            .get_offset(from("c", GetOffsetRequest::default()))
            .await
            .unwrap_err(),
        client
            .query_offset(from("c", QueryOffsetRequest::default()))
            .await
            .unwrap_err(),
    ];
    for status in statuses {
        assert_eq!(status.code(), Transport::Unimplemented);
    }
    let lite = client
        .sync_lite_subscription(from("c", SyncLiteSubscriptionRequest::default()))
        .await;
    let status = lite.unwrap().into_inner().status.unwrap();
    assert_eq!(status.code(), Code::NotImplemented);
    rig.stop().await;
}
