//! Tests of receiving: what a delivery holds, filters, waits, FIFO, leases.

use broker::TopicKind;
use grpc_api::v2::{
    ClientType, DigestType, Encoding, FilterType, HeartbeatRequest, Message, MessageType,
    NotifyClientTerminationRequest,
};

use server::Connections as _;
use server::grpc::GrpcConfig;

use crate::rig::{
    Plan, Rig, START_MS, code, consumer_settings, delayed, filter, from, handle, ids, message,
    message_with, push, read, simple, span, system,
};

#[tokio::test]
async fn a_delivery_holds_everything_clients_read() {
    let rig = Rig::start().await;
    rig.topic("t", TopicKind::Mixed).await;
    let mut sent = message_with("t", "01AB", |system| {
        system.tag = Some("paid".into());
        system.keys = vec!["k1".into(), "k2".into()];
        system.trace_context = Some("00-trace".into());
        system.message_group = Some("g1".into());
        system.message_type = MessageType::Fifo.into();
    });
    sent.user_properties.insert("amount".into(), "12".into());
    assert_eq!(code(rig.send(sent.clone()).await.status.as_ref()), 20000);
    let received = rig.receive("t", "group").await;
    let [message] = received.as_slice() else {
        panic!("one message was sent, not {received:?}");
    };
    assert_eq!((&message.topic, &message.body), (&sent.topic, &sent.body));
    assert_eq!(
        message.user_properties, sent.user_properties,
        "and nothing else"
    );
    let (got, sent) = (system(message), system(&sent));
    assert_eq!(
        (&got.tag, &got.keys, &got.message_id),
        (&sent.tag, &sent.keys, &sent.message_id)
    );
    assert_eq!(got.message_group, sent.message_group);
    assert_eq!(got.trace_context, sent.trace_context);
    assert_eq!(
        (&got.born_host, got.born_timestamp),
        (&sent.born_host, sent.born_timestamp)
    );
    assert_eq!(got.body_encoding(), Encoding::Identity);
    assert_eq!(got.message_type(), MessageType::Fifo);
    assert_eq!(got.delivery_attempt, Some(1));
    let digest = got.body_digest.as_ref().unwrap();
    assert_eq!(digest.r#type(), DigestType::Md5);
    assert_eq!(digest.checksum.len(), 32);
    assert!(!got.store_host.is_empty() && got.store_timestamp.is_some());
    assert!(got.queue_offset.is_some() && !handle(message).is_empty());
    rig.stop().await;
}

#[tokio::test]
async fn filters_pass_matching_messages() {
    let rig = Rig::start().await;
    rig.topic("t", TopicKind::Normal).await;
    for (id, tag, amount) in [
        ("1", "a", Some("5")),
        ("2", "b", Some("15")),
        ("3", "c", None),
    ] {
        let mut message = message_with("t", id, |system| system.tag = Some(tag.into()));
        message
            .user_properties
            .extend(amount.map(|amount| ("amount".into(), amount.into())));
        rig.send(message).await;
    }
    for (group, kind, expression, expected) in [
        ("g1", FilterType::Tag, "a || c", vec!["1", "3"]),
        ("g2", FilterType::Tag, "*", vec!["1", "2", "3"]),
        (
            "g3",
            FilterType::Sql,
            "amount > 10 OR TAGS = 'a'",
            vec!["1", "2"],
        ),
        ("g4", FilterType::Sql, "amount IS NULL", vec!["3"]),
    ] {
        let mut request = simple("t", group);
        request.filter_expression = filter(kind, expression);
        let (status, messages) = rig.poll(request).await;
        let mut ids = ids(&messages);
        ids.sort_unstable();
        assert_eq!((status.code, ids), (20000, expected), "{expression}");
    }
    let mut request = simple("t", "g5");
    request.filter_expression = filter(FilterType::Sql, "amount >");
    assert_eq!(rig.poll(request).await.0.code, 40010);
    rig.stop().await;
}

#[tokio::test]
async fn a_poll_waits_for_what_becomes_due_and_not_longer() {
    let rig = Rig::start().await;
    rig.topic("t", TopicKind::Delay).await;
    rig.send(delayed("t", "1", START_MS + 5_000)).await;
    let mut request = simple("t", "g");
    request.long_polling_timeout = Some(span(10_000));
    let poll = rig.poll(request.clone());
    let moves = async {
        // The poll has reached the broker once its end is among the instants that the broker waits for.
        while rig.broker.group("g").await.is_err() {
            tokio::task::yield_now().await;
        }
        rig.advance_to(START_MS + 5_000).await;
    };
    let ((status, messages), ()) = tokio::join!(poll, moves);
    assert_eq!((status.code, ids(&messages)), (20000, vec!["1"]));

    let (other, ()) = tokio::join!(rig.poll(simple("t", "g")), async {});
    assert_eq!(other.0.code, 40401);
    rig.stop().await;
}

#[tokio::test]
async fn impossible_requests_are_refused() {
    let rig = Rig::start().await;
    rig.topic("t", TopicKind::Normal).await;
    let mut short = simple("t", "g");
    short.invisible_duration = Some(span(10));
    let mut long = simple("t", "g");
    long.invisible_duration = Some(span(13 * 3_600_000));
    let mut none = simple("t", "g");
    none.invisible_duration = None;
    for (request, expected) in [
        (short, 40011),
        (long, 40011),
        (none, 40011),
        (simple("missing", "g"), 40402),
        (simple("", "g"), 40002),
        (simple("t", ""), 40003),
    ] {
        assert_eq!(rig.poll(request).await.0.code, expected);
    }
    rig.stop().await;
}

fn grouped(id: &str, group: &str) -> Message {
    message_with("fifo", id, |system| {
        system.message_group = Some(group.into());
    })
}

#[tokio::test]
async fn a_group_of_a_fifo_topic_keeps_the_order() {
    let rig = Rig::start().await;
    rig.topic("fifo", TopicKind::Fifo).await;
    let settings = consumer_settings(ClientType::PushConsumer, "fifo", "ordered");
    let mut stream = rig.introduce("consumer", settings).await;
    let answer = stream.settings().await;
    let Some(grpc_api::v2::settings::PubSub::Subscription(subscription)) = answer.pub_sub else {
        panic!("the kind of the settings stays");
    };
    assert_eq!(subscription.fifo, Some(true));
    for (id, group) in [("a1", "a"), ("a2", "a"), ("b1", "b")] {
        rig.send(grouped(id, group)).await;
    }
    let (_, first) = rig.poll(push("fifo", "ordered")).await;
    let mut first_ids = ids(&first);
    first_ids.sort_unstable();
    assert_eq!(first_ids, ["a1", "b1"], "one of each message group");
    let a1 = first
        .iter()
        .find(|message| system(message).message_id == "a1")
        .unwrap();
    assert_eq!(rig.ack("fifo", "ordered", a1).await, 20000);
    let (_, second) = rig.poll(push("fifo", "ordered")).await;
    assert_eq!(ids(&second), ["a2"]);
    rig.stop().await;
}

#[tokio::test]
async fn a_simple_consumer_gets_a_run_of_a_message_group() {
    let rig = Rig::start().await;
    rig.topic("fifo", TopicKind::Fifo).await;
    for (id, group) in [("a1", "a"), ("a2", "a"), ("a3", "a")] {
        rig.send(grouped(id, group)).await;
    }
    let (_, run) = rig.poll(simple("fifo", "ordered")).await;
    assert_eq!(ids(&run), ["a1", "a2", "a3"]);
    rig.send(grouped("a4", "a")).await;
    for message in &run {
        let (_, other) = rig.poll(simple("fifo", "ordered")).await;
        assert!(other.is_empty(), "the run is not settled");
        assert_eq!(rig.ack("fifo", "ordered", message).await, 20000);
    }
    let (_, next) = rig.poll(simple("fifo", "ordered")).await;
    assert_eq!(ids(&next), ["a4"]);
    rig.stop().await;
}

#[tokio::test]
async fn a_repeated_attempt_gets_its_messages_again() {
    let rig = Rig::start().await;
    rig.topic("fifo", TopicKind::Fifo).await;
    let settings = consumer_settings(ClientType::PushConsumer, "fifo", "ordered");
    let mut stream = rig.introduce("consumer", settings).await;
    stream.settings().await;
    rig.send(grouped("a1", "a")).await;
    let mut request = push("fifo", "ordered");
    request.attempt_id = Some("attempt-1".into());
    let (_, first) = rig.poll(request.clone()).await;
    assert_eq!(ids(&first), ["a1"]);
    let other = rig.poll(push("fifo", "ordered")).await;
    assert!(other.1.is_empty(), "the message group is locked for others");
    let (_, again) = rig.poll(request.clone()).await;
    assert_eq!(ids(&again), ["a1"], "the answer was lost");
    assert_eq!(rig.ack("fifo", "ordered", &again[0]).await, 20000);
    assert!(rig.poll(request).await.1.is_empty());
    rig.stop().await;
}

#[tokio::test]
async fn leases_of_push_consumers_are_renewed_while_they_live() {
    let rig = Rig::start().await;
    rig.topic("t", TopicKind::Normal).await;
    let settings = consumer_settings(ClientType::PushConsumer, "t", "g");
    let mut stream = rig.introduce("pusher", settings).await;
    stream.settings().await;
    rig.send(message("t", "1")).await;
    let (_, taken) = rig.poll_from("pusher", push("t", "g")).await;
    assert_eq!(ids(&taken), ["1"]);
    // Five minutes: far longer than one lease.
    for _ in 0..30 {
        rig.advance(10_000).await;
        renewed(&rig).await;
        assert!(
            rig.receive("t", "g").await.is_empty(),
            "it is being worked on"
        );
    }
    assert_eq!(rig.ack("t", "g", &taken[0]).await, 20000);
    rig.stop().await;
}

#[tokio::test]
async fn a_consumer_that_terminates_releases_its_messages() {
    let rig = Rig::start().await;
    rig.topic("t", TopicKind::Normal).await;
    let settings = consumer_settings(ClientType::PushConsumer, "t", "g");
    let mut stream = rig.introduce("pusher", settings).await;
    stream.settings().await;
    rig.send(message("t", "1")).await;
    let (_, taken) = rig.poll_from("pusher", push("t", "g")).await;
    assert_eq!(taken.len(), 1);
    let request = from("pusher", NotifyClientTerminationRequest { group: None });
    let answer = rig
        .client
        .clone()
        .notify_client_termination(request)
        .await
        .unwrap();
    assert_eq!(code(answer.into_inner().status.as_ref()), 20000);
    assert!(
        stream.commands.message().await.unwrap().is_none(),
        "its stream ends"
    );
    assert!(rig.grpc.connections().is_empty());
    rig.advance(1_000).await;
    let mut request = simple("t", "g");
    request.long_polling_timeout = Some(span(20_000));
    let (status, again) = rig.poll(request).await;
    assert_eq!((status.code, ids(&again)), (20000, vec!["1"]));
    assert_eq!(system(&again[0]).delivery_attempt, Some(1));
    rig.stop().await;
}

/// Waits until the renewals that are due have been done: their task then sleeps until the next one.
async fn renewed(rig: &Rig) {
    let now_ms = broker::clock::Clock::now_ms(&rig.clock);
    while rig
        .clock
        .next_sleeper_ms()
        .is_none_or(|next_ms| next_ms <= now_ms)
    {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_answer_lost_with_its_connection_is_left_to_others() {
    let mut config = GrpcConfig::default();
    config.limits.bounds.connections_max = 2;
    let rig = Rig::with(Plan {
        config,
        ..Plan::default()
    })
    .await;
    rig.topic("t", TopicKind::Normal).await;
    let settings = consumer_settings(ClientType::PushConsumer, "t", "g");
    let mut stream = rig.introduce("pusher", settings).await;
    stream.settings().await;
    for id in ["1", "2"] {
        rig.send(message("t", id)).await;
    }
    let mut taken = Vec::new();
    for (mut client, mut request) in [
        (rig.connect(), push("t", "g")),
        (rig.client.clone(), push("t", "g")),
    ] {
        request.batch_size = 1;
        let answer = client.receive_message(from("pusher", request)).await;
        taken.extend(read(answer.unwrap().into_inner()).await.1);
    }
    assert_eq!(taken.len(), 2);
    // A third connection is served once the first of the two has been closed.
    let heartbeat = from("other", HeartbeatRequest::default());
    rig.connect().heartbeat(heartbeat).await.unwrap();
    for _ in 0..6 {
        rig.advance(10_000).await;
        renewed(&rig).await;
    }
    let lost = rig.receive("t", "g").await;
    assert_eq!(ids(&lost), ids(&taken[..1]), "the other one is renewed");
    assert_eq!(system(&lost[0]).delivery_attempt, Some(1));
    rig.stop().await;
}

#[tokio::test]
async fn deliveries_that_were_not_worked_on_use_up_no_attempt() {
    let rig = Rig::start().await;
    rig.topic("t", TopicKind::Normal).await;
    let mut spec = broker::GroupSpec::new("g");
    spec.attempts_max = 1;
    rig.broker.create_group(spec).await.unwrap();
    rig.send(message("t", "1")).await;
    let mut request = push("t", "g");
    request.attempt_id = Some("attempt-1".into());
    request.long_polling_timeout = Some(span(20_000));
    let mut attempts = Vec::new();
    for _ in 0..3 {
        let poll = rig.poll(request.clone());
        let mut poll = std::pin::pin!(poll);
        let taken = loop {
            tokio::select! {
                biased;
                taken = &mut poll => break taken.1,
                () = rig.advance(1) => {}
            }
        };
        attempts.extend(taken.iter().map(|one| system(one).delivery_attempt));
    }
    assert_eq!(attempts, [Some(1); 3]);
    rig.stop().await;
}

#[tokio::test]
async fn messages_that_did_not_reach_their_consumer_are_redelivered_at_once() {
    let rig = Rig::start().await;
    rig.topic("t", TopicKind::Normal).await;
    for index in 0..20 {
        let mut large = message("t", &index.to_string());
        large.body = vec![7; 1024 * 1024].into();
        rig.send(large).await;
    }
    // More than may be in flight: the consumer disconnects after the first item.
    let answer = rig
        .client
        .clone()
        .receive_message(from("leaver", simple("t", "g")))
        .await;
    let mut stream = answer.unwrap().into_inner();
    stream.message().await.unwrap();
    drop(stream);
    let mut again = 0;
    while again == 0 {
        let answer = rig
            .client
            .clone()
            .receive_message(from("consumer", simple("t", "g")))
            .await;
        again = read(answer.unwrap().into_inner()).await.1.len();
        rig.advance(1).await;
    }
    rig.stop().await;
}
