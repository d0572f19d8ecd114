//! Tests of clients that take more than their share of connections, calls and answers.

use broker::TopicKind;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use grpc_api::v2::{Encoding, HeartbeatRequest};
use server::grpc::{GrpcConfig, GrpcLimits};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::rig::{Client, Plan, Rig, code, from, message, message_with, read, simple, span};

async fn with(change: impl FnOnce(&mut GrpcLimits)) -> Rig {
    let mut limits = GrpcLimits::default();
    change(&mut limits);
    Rig::with(Plan {
        config: GrpcConfig {
            limits,
            ..GrpcConfig::default()
        },
        ..Plan::default()
    })
    .await
}

async fn still_serves(rig: &Rig) {
    let request = from("c", HeartbeatRequest::default());
    let answer = rig.client.clone().heartbeat(request).await;
    assert_eq!(code(answer.unwrap().into_inner().status.as_ref()), 20000);
}

fn heartbeat(rig: &Rig) -> http::Request<()> {
    http::Request::post(format!(
        "http://{}/apache.rocketmq.v2.MessagingService/Heartbeat",
        rig.address
    ))
    .header("content-type", "application/grpc")
    .body(())
    .unwrap()
}

#[tokio::test]
async fn a_connection_has_no_more_calls_than_it_may() {
    let rig = with(|limits| limits.streams_max = 4).await;
    let stream = TcpStream::connect(rig.address).await.unwrap();
    // As many as it likes: this client ignores the limit of the server.
    let (client, connection) = h2::client::Builder::new()
        .initial_max_send_streams(100)
        .handshake::<_, bytes::Bytes>(stream)
        .await
        .unwrap();
    let mut client = client.ready().await.unwrap();
    let mut calls = Vec::new();
    for _ in 0..20 {
        calls.push(client.send_request(heartbeat(&rig), false).unwrap());
    }
    tokio::spawn(async move { drop(connection.await) });
    let mut refused = 0;
    // The first four stay open until they time out.
    for (answer, _) in calls.split_off(4) {
        let error = answer.await.unwrap_err();
        refused += u32::from(error.reason() == Some(h2::Reason::REFUSED_STREAM));
    }
    assert_eq!(refused, 16);
    still_serves(&rig).await;
    drop((client, calls));
    rig.stop().await;
}

#[tokio::test]
async fn what_bodies_take_unpacked_is_counted() {
    let rig = with(|limits| limits.requests_bytes_max = 1024 * 1024).await;
    rig.topic("t", TopicKind::Normal).await;
    let packed = |bytes: usize| {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&vec![0; bytes]).unwrap();
        bytes::Bytes::from(gzip.finish().unwrap())
    };
    let sent = |id: String, bytes| {
        let mut message = message_with("t", &id, |system| {
            system.body_encoding = Encoding::Gzip.into();
        });
        message.body = packed(bytes);
        message
    };
    for round in 0..2 {
        let messages = (0..8).map(|index| sent(format!("{round} {index}"), 400 * 1024));
        let answer = rig.send_all(messages.collect()).await;
        let codes = answer
            .entries
            .iter()
            .map(|entry| code(entry.status.as_ref()));
        let stored = codes.clone().filter(|code| *code == 20000).count();
        assert_eq!(stored, 2, "{:?}", codes.collect::<Vec<_>>());
        assert!(codes.clone().all(|code| code == 20000 || code == 42900));
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_client_that_resets_call_after_call_is_disconnected() {
    let rig = Rig::start().await;
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    // `:method: POST`, `:scheme: http`, `:path: /`, each one byte, in a call that is reset at once.
    for call in 0..10_000_u32 {
        let id = (2 * call + 1).to_be_bytes();
        bytes.extend([0, 0, 3, 1, 4]);
        bytes.extend(id);
        bytes.extend([0x83, 0x86, 0x84]);
        bytes.extend([0, 0, 4, 3, 0]);
        bytes.extend(id);
        bytes.extend([0, 0, 0, 8]);
    }
    // The server closes the connection before all is written.
    let (mut reading, mut writing) = stream.split();
    let mut requests = Vec::new();
    let (_, _) = tokio::join!(
        writing.write_all(&bytes),
        reading.read_to_end(&mut requests)
    );
    // A GOAWAY frame with the reason ENHANCE_YOUR_CALM.
    assert!(
        requests.windows(4).any(|window| window == [0, 0, 0, 11]),
        "{requests:?}"
    );
    still_serves(&rig).await;
    rig.stop().await;
}

#[tokio::test]
async fn further_connections_wait_until_one_leaves() {
    let rig = with(|limits| limits.bounds.connections_max = 1).await;
    let first = TcpStream::connect(rig.address).await.unwrap();
    // The kernel does the handshake of the second one, but the server does not answer it.
    let mut second = TcpStream::connect(rig.address).await.unwrap();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    second.write_all(preface).await.unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let mut byte = [0];
    let unread = second.try_read(&mut byte).unwrap_err();
    assert_eq!(unread.kind(), std::io::ErrorKind::WouldBlock);
    drop(first);
    // Settings, now that the limit allows it.
    second.read_exact(&mut byte).await.unwrap();
    drop(second);
    still_serves(&rig).await;
    rig.stop().await;
}

#[tokio::test]
async fn consumers_that_do_not_read_hold_a_bounded_amount() {
    let rig = with(|limits| limits.answers_bytes_max = 8 * 1024 * 1024).await;
    rig.topic("t", TopicKind::Normal).await;
    for index in 0..40 {
        let mut large = message("t", &index.to_string());
        large.body = vec![7; 1024 * 1024].into();
        rig.send(large).await;
    }
    rig.advance(1).await;
    // Each answer is larger than the window of the connection.
    let mut held = Vec::new();
    let refused = loop {
        let mut request = simple("t", "g");
        request.batch_size = 16;
        // A connection of its own: unread data on one blocks what follows on it.
        let mut client = rig.connect();
        let call = client.receive_message(from("idler", request));
        let mut answer = call.await.unwrap().into_inner();
        let first = answer.message().await.unwrap().unwrap();
        match first.content {
            Some(grpc_api::v2::receive_message_response::Content::Status(status))
                if status.code != 20000 =>
            {
                break status.code;
            }
            _ => held.push(answer),
        }
    };
    assert_eq!(refused, 42900);
    // One receive reads at most 768 units of 4 KiB, so three messages of 1 MiB: two answers leave room, the third one fills it.
    assert!(held.len() <= 3, "{} answers are held", held.len());
    drop(held);
    // Others are served again as soon as these have disconnected.
    let served = async {
        while rig.poll(simple("t", "h")).await.0.code != 20000 {
            tokio::task::yield_now().await;
        }
    };
    let patience = std::time::Duration::from_secs(30);
    broker::clock::monotonic::timeout(patience, served)
        .await
        .unwrap();
    rig.stop().await;
}

#[tokio::test]
async fn one_connection_has_only_so_many_waits() {
    let mut plan = Plan::default();
    plan.broker.engine.limits.waiting_pollers_max = 8;
    let rig = Rig::with(plan).await;
    rig.topic("t", TopicKind::Normal).await;
    let mut request = simple("t", "g");
    request.batch_size = 1;
    request.long_polling_timeout = Some(span(20_000));
    let mut calls = tokio::task::JoinSet::new();
    let mut wait = |mut client: Client| {
        let request = from("c", request.clone());
        calls.spawn(async move {
            read(client.receive_message(request).await.unwrap().into_inner()).await
        });
    };
    let first = rig.connect();
    for _ in 0..3 {
        wait(first.clone());
    }
    wait(rig.connect());
    let refused = calls.join_next().await.unwrap().unwrap();
    assert_eq!(refused.0.code, 42900, "a quarter of 8 may wait");
    for id in ["1", "2", "3"] {
        rig.send(message("t", id)).await;
    }
    rig.advance(1).await;
    while let Some(served) = calls.join_next().await {
        assert_eq!(served.unwrap().1.len(), 1);
    }
    rig.stop().await;
}

#[tokio::test]
async fn one_connection_has_only_so_many_bytes_of_requests() {
    let rig = with(|limits| {
        limits.requests_bytes_max = 1024 * 1024;
        limits.request_bytes_max = 64 * 1024;
    })
    .await;
    let stream = TcpStream::connect(rig.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let mut client = client.ready().await.unwrap();
    // The beginnings of five requests of 64,000 bytes, more than a quarter of all together.
    let mut bytes = vec![0; 60_000];
    bytes[..5].copy_from_slice(&[0, 0, 0, 250, 0]);
    let bytes = bytes::Bytes::from(bytes);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..5 {
        client = client.ready().await.unwrap();
        let (answer, mut body) = client.send_request(heartbeat(&rig), false).unwrap();
        body.send_data(bytes.clone(), false).unwrap();
        calls.spawn(async move { (answer.await.unwrap(), body) });
    }
    let (refused, _) = calls.join_next().await.unwrap().unwrap();
    assert_eq!(refused.headers()["grpc-status"], "8");
    still_serves(&rig).await;
    drop((client, calls));
    rig.stop().await;
}
