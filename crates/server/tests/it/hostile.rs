//! Tests of hostile input: the front end answers or disconnects, and goes on serving others.

use std::time::Duration;

use broker::TopicKind;
use grpc_api::v2::{HeartbeatRequest, SendMessageRequest};
use server::grpc::{GrpcConfig, GrpcLimits};
use server::{Certificate, Tls};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;

use crate::rig::{Plan, Rig, code, from, message, producer_settings};

fn limits(change: impl FnOnce(&mut GrpcLimits)) -> Plan {
    let mut limits = GrpcLimits::default();
    change(&mut limits);
    Plan {
        config: GrpcConfig {
            limits,
            ..GrpcConfig::default()
        },
        ..Plan::default()
    }
}

async fn still_serves(rig: &Rig) {
    let answer = rig
        .client
        .clone()
        .heartbeat(from("c", HeartbeatRequest::default()))
        .await;
    assert_eq!(code(answer.unwrap().into_inner().status.as_ref()), 20000);
}

/// Writes bytes and waits until the server closes the connection.
async fn until_closed(rig: &Rig, bytes: &[u8]) {
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    // The server may close the connection before all is written.
    drop(stream.write_all(bytes).await);
    let mut rest = Vec::new();
    drop(stream.read_to_end(&mut rest).await);
}

#[tokio::test]
async fn garbage_ends_its_own_connection_only() {
    let folder = tempfile::tempdir().unwrap();
    let tls = Tls::open(&Certificate::SelfSigned {
        folder: folder.path().to_owned(),
        names: Vec::new(),
    })
    .unwrap();
    let rig = Rig::with(Plan {
        tls: Some(tls),
        ..Plan::default()
    })
    .await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let huge_frame = [preface.as_slice(), &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat();
    let bad_settings = [
        preface.as_slice(),
        &[0, 0, 5, 4, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5],
    ]
    .concat();
    for bytes in [
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".as_slice(),
        &[0x16, 0x03, 0x01, 0x00, 0x05, 1, 2, 3, 4, 5],
        &[0x16; 64],
        &[0; 64],
        &huge_frame,
        &bad_settings,
    ] {
        until_closed(&rig, bytes).await;
    }
    still_serves(&rig).await;
    rig.stop().await;
}

#[tokio::test]
async fn silent_connections_are_closed() {
    let rig = Rig::with(limits(|limits| {
        limits.bounds.handshake = Duration::from_millis(50);
        limits.bounds.idle = Duration::from_millis(50);
    }))
    .await;
    until_closed(&rig, b"").await;
    until_closed(&rig, b"PRI * HTTP/2.0\r\n").await;
    // A connection with an open stream is not idle.
    rig.topic("t", TopicKind::Normal).await;
    let mut stream = rig.introduce("p", producer_settings("t")).await;
    stream.settings().await;
    until_closed(&rig, b"").await;
    until_closed(&rig, b"").await;
    stream.send(producer_settings("t")).await;
    stream.settings().await;
    rig.stop().await;
}

#[tokio::test]
async fn requests_beyond_the_limits_get_a_clear_status() {
    let rig = Rig::with(limits(|limits| {
        limits.request_bytes_max = 10_000;
        limits.header_bytes_max = 2_000;
    }))
    .await;
    rig.topic("t", TopicKind::Normal).await;
    let mut large = message("t", "1");
    large.body = vec![7; 20_000].into();
    let request = SendMessageRequest {
        messages: vec![large],
    };
    let status = rig
        .client
        .clone()
        .send_message(from("p", request))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");

    let mut request = from("p", HeartbeatRequest::default());
    request
        .metadata_mut()
        .insert("x-mq-junk", "j".repeat(4_000).parse().unwrap());
    assert!(rig.client.clone().heartbeat(request).await.is_err());

    let long_id = "i".repeat(300);
    let answer = rig
        .client
        .clone()
        .heartbeat(from(&long_id, HeartbeatRequest::default()))
        .await;
    assert_eq!(code(answer.unwrap().into_inner().status.as_ref()), 43100);
    still_serves(&rig).await;
    rig.stop().await;
}

#[tokio::test]
async fn all_requests_together_are_bounded() {
    let rig = Rig::with(limits(|limits| limits.requests_bytes_max = 50_000)).await;
    rig.topic("t", TopicKind::Normal).await;
    let mut large = message("t", "1");
    large.body = vec![7; 60_000].into();
    let request = SendMessageRequest {
        messages: vec![large],
    };
    let status = rig
        .client
        .clone()
        .send_message(from("p", request))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    // Its share of the budget was returned.
    let mut small = message("t", "2");
    small.body = vec![7; 40_000].into();
    for _ in 0..3 {
        assert_eq!(code(rig.send(small.clone()).await.status.as_ref()), 20000);
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_call_whose_body_never_comes_ends() {
    let rig = Rig::with(limits(|limits| limits.call = Duration::from_millis(50))).await;
    let mut client = h2_client(&rig).await;
    let request = http::Request::post(format!(
        "http://{}/apache.rocketmq.v2.MessagingService/Heartbeat",
        rig.address
    ))
    .header("content-type", "application/grpc")
    .body(())
    .unwrap();
    let (answer, _body) = client.send_request(request, false).unwrap();
    let answer = answer.await.unwrap();
    // DEADLINE_EXCEEDED.
    assert_eq!(answer.headers().get("grpc-status").unwrap(), "4");
    still_serves(&rig).await;
    rig.stop().await;
}

async fn h2_client(rig: &Rig) -> h2::client::SendRequest<bytes::Bytes> {
    let stream = TcpStream::connect(rig.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client.ready().await.unwrap()
}

#[tokio::test]
async fn messages_that_cannot_be_decoded_are_refused() {
    let rig = Rig::start().await;
    for payload in [
        // A wrong length.
        [0, 0, 0, 0, 9, 1, 2].as_slice(),
        // Compressed, which was not negotiated.
        &[1, 0, 0, 0, 1, 0],
        // A tag without an end.
        &[0, 0, 0, 0, 3, 0xff, 0xff, 0xff],
        // An unknown flag.
        &[7, 0, 0, 0, 0],
    ] {
        let mut client = h2_client(&rig).await;
        let request = http::Request::post(format!(
            "http://{}/apache.rocketmq.v2.MessagingService/SendMessage",
            rig.address
        ))
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
        let (answer, mut body) = client.send_request(request, false).unwrap();
        body.send_data(payload.to_vec().into(), true).unwrap();
        let answer = answer.await.unwrap();
        let status = answer.headers().get("grpc-status").unwrap();
        assert_ne!(status, "0", "{payload:?}");
    }
    still_serves(&rig).await;
    rig.stop().await;
}
