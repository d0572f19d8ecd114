//! Tests of TLS beside clear text, and of accounts.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use broker::TopicKind;
use broker::clock::ManualClock;
use grpc_api::v2::messaging_service_client::MessagingServiceClient;
use grpc_api::v2::settings::PubSub;
use grpc_api::v2::{
    ClientType, HeartbeatRequest, NotifyClientTerminationRequest, QueryRouteRequest,
    SendMessageRequest, Settings,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper_util::rt::TokioIo;
use server::grpc::{Access, GrpcConfig};
use server::{Accounts, Certificate, Connections as _, Tls};
use sha1::Sha1;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::Request;
use tonic::transport::Endpoint;

use crate::rig::{
    Client, Plan, Rig, START_MS, TelemetryStream, code, consumer_settings, from, ids, message,
    producer_settings, push, resource, simple,
};

fn connector(trusted: &Path) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(trusted).unwrap())
        .unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsConnector::from(Arc::new(config))
}

fn secure_client(rig: &Rig, trusted: &Path) -> Client {
    let connector = connector(trusted);
    let address = rig.address;
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let channel = endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
        let connector = connector.clone();
        async move {
            let name = ServerName::try_from("localhost").unwrap();
            let stream = TcpStream::connect(address).await?;
            let stream = connector.connect(name, stream).await?;
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            std::io::Result::Ok(TokioIo::new(stream))
        }
    }));
    MessagingServiceClient::new(channel)
}

async fn beats(mut client: Client) -> bool {
    let request = from("c", HeartbeatRequest::default());
    client.heartbeat(request).await.is_ok()
}

#[tokio::test]
async fn clear_text_and_tls_share_the_port() {
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
    let trusted = folder.path().join("certificate.pem");
    assert!(beats(rig.client.clone()).await, "clear text");
    assert!(beats(secure_client(&rig, &trusted)).await, "TLS");
    rig.stop().await;
}

#[tokio::test]
async fn clear_text_is_refused_where_tls_is_required() {
    let folder = tempfile::tempdir().unwrap();
    let tls = Tls::open(&Certificate::SelfSigned {
        folder: folder.path().to_owned(),
        names: Vec::new(),
    })
    .unwrap();
    let rig = Rig::with(Plan {
        tls: Some(tls.required(true)),
        ..Plan::default()
    })
    .await;
    let request = from("c", HeartbeatRequest::default());
    let refused = rig.client.clone().heartbeat(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(refused.message().contains("tls.required"), "{refused}");
    let trusted = folder.path().join("certificate.pem");
    assert!(beats(secure_client(&rig, &trusted)).await, "TLS");
    rig.stop().await;
}

#[tokio::test]
async fn a_new_certificate_is_used_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let folder = folder.path().join(name);
        let source = Certificate::SelfSigned {
            folder: folder.clone(),
            names: Vec::new(),
        };
        Tls::open(&source).unwrap();
        (folder.join("certificate.pem"), folder.join("key.pem"))
    };
    let (old, new) = (make("old"), make("new"));
    let used = (folder.path().join("c.pem"), folder.path().join("k.pem"));
    let install = |from: &(std::path::PathBuf, std::path::PathBuf)| {
        std::fs::copy(&from.0, &used.0).unwrap();
        std::fs::copy(&from.1, &used.1).unwrap();
    };
    install(&old);
    let tls = Tls::open(&Certificate::Files {
        certificate: used.0.clone(),
        key: used.1.clone(),
    })
    .unwrap();
    let rig = Rig::with(Plan {
        tls: Some(tls),
        ..Plan::default()
    })
    .await;
    assert!(beats(secure_client(&rig, &old.0)).await);
    assert!(!beats(secure_client(&rig, &new.0)).await);
    install(&new);
    rig.advance(5_000).await;
    assert!(beats(secure_client(&rig, &new.0)).await);
    rig.stop().await;
}

const ACCOUNTS: &str = r#"
    [[account]]
    name = "shop"
    secret = "secret-of-shop"
    publish = ["orders"]
    consume = ["orders"]
    groups = ["closer"]

    [[account]]
    name = "stranger"
    secret = "secret-of-stranger"
    publish = ["own-*"]
"#;

/// A request signed as clients do.
fn signed<T>(name: &str, secret: &str, message: T) -> Request<T> {
    let mut request = from("c", message);
    let time = "20261122T152808Z";
    let hmac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).unwrap();
    let signature = hmac.chain_update(time).finalize().into_bytes();
    let hex = signature
        .iter()
        .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    let header =
        format!("MQv2-HMAC-SHA1 Credential={name}, SignedHeaders=x-mq-date-time, Signature={hex}");
    let metadata = request.metadata_mut();
    metadata.insert("x-mq-date-time", time.parse().unwrap());
    metadata.insert("authorization", header.parse().unwrap());
    request
}

async fn guarded() -> (Rig, tempfile::TempDir) {
    guarded_with(GrpcConfig::default()).await
}

async fn guarded_with(config: GrpcConfig) -> (Rig, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("accounts.toml");
    std::fs::write(&file, ACCOUNTS).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let accounts = Accounts::open(&file, Arc::new(ManualClock::new(START_MS))).unwrap();
    let rig = Rig::with(Plan {
        access: Some(Access::Accounts(Arc::new(accounts))),
        config,
        ..Plan::default()
    })
    .await;
    rig.topic("orders", TopicKind::Normal).await;
    rig.topic("others", TopicKind::Normal).await;
    (rig, folder)
}

#[tokio::test]
async fn only_accounts_get_in() {
    let (rig, _folder) = guarded().await;
    let route = QueryRouteRequest {
        topic: resource("orders"),
        endpoints: None,
    };
    for (request, expected) in [
        (from("c", route.clone()), 40100),
        (signed("shop", "wrong-secret", route.clone()), 40100),
        (signed("unknown", "secret-of-shop", route.clone()), 40100),
        (signed("", "", route.clone()), 40100),
        (signed("shop", "secret-of-shop", route.clone()), 20000),
        // As the Go client writes it.
        (
            signed("shop//Rocketmq", "secret-of-shop", route.clone()),
            20000,
        ),
    ] {
        let answer = rig.client.clone().query_route(request).await.unwrap();
        assert_eq!(code(answer.into_inner().status.as_ref()), expected);
    }
    let answer = rig
        .client
        .clone()
        .receive_message(from("c", simple("orders", "closer")))
        .await;
    let (status, _) = crate::rig::read(answer.unwrap().into_inner()).await;
    assert_eq!(status.code, 40100);
    let mut stream = rig.introduce("c", producer_settings("orders")).await;
    assert_eq!(code(stream.receive().await.status.as_ref()), 40100);
    rig.stop().await;
}

#[tokio::test]
async fn accounts_may_do_what_they_are_allowed() {
    let (rig, _folder) = guarded().await;
    for (topic, expected) in [("orders", 20000), ("others", 40100)] {
        let messages = vec![message(topic, "1")];
        let request = signed("shop", "secret-of-shop", SendMessageRequest { messages });
        let answer = rig.client.clone().send_message(request).await.unwrap();
        assert_eq!(
            code(answer.into_inner().status.as_ref()),
            expected,
            "{topic}"
        );
    }
    rig.advance(1).await;
    for (topic, group, expected) in [
        ("orders", "closer", 20000),
        ("orders", "other", 40100),
        ("others", "closer", 40100),
    ] {
        let request = signed("shop", "secret-of-shop", simple(topic, group));
        let answer = rig.client.clone().receive_message(request).await.unwrap();
        let (status, _) = crate::rig::read(answer.into_inner()).await;
        assert_eq!(status.code, expected, "{topic} {group}");
    }
    let settings = consumer_settings(ClientType::PushConsumer, "others", "closer");
    let mut stream = introduced(&rig, "shop", settings).await;
    assert_eq!(code(stream.receive().await.status.as_ref()), 40100);
    rig.stop().await;
}

/// The stream of the client `c` of an account.
async fn introduced(rig: &Rig, name: &str, settings: Settings) -> TelemetryStream {
    let (requests, requests_out) = tokio::sync::mpsc::channel(8);
    let requests_out = tokio_stream::wrappers::ReceiverStream::new(requests_out);
    let request = signed(name, &format!("secret-of-{name}"), requests_out);
    let commands = rig.client.clone().telemetry(request).await;
    let mut stream = TelemetryStream {
        requests,
        commands: commands.unwrap().into_inner(),
    };
    stream.send(settings).await;
    stream
}

#[tokio::test]
async fn a_client_is_its_accounts_own() {
    let (rig, _folder) = guarded().await;
    let settings = consumer_settings(ClientType::PushConsumer, "orders", "closer");
    let mut stream = introduced(&rig, "shop", settings).await;
    stream.settings().await;
    let messages = vec![message("orders", "1")];
    let request = signed("shop", "secret-of-shop", SendMessageRequest { messages });
    rig.client.clone().send_message(request).await.unwrap();
    rig.advance(1).await;
    let receive = || async {
        let request = signed("shop", "secret-of-shop", push("orders", "closer"));
        let answer = rig.client.clone().receive_message(request).await;
        crate::rig::read(answer.unwrap().into_inner()).await.1
    };
    assert_eq!(ids(&receive().await), ["1"]);
    // The same id with another account is another client: it ends nothing of the first one.
    let mut strange = introduced(&rig, "stranger", producer_settings("own-t")).await;
    strange.settings().await;
    assert_eq!(rig.grpc.connections().len(), 2);
    let request = NotifyClientTerminationRequest::default();
    let request = signed("stranger", "secret-of-stranger", request);
    let answer = rig.client.clone().notify_client_termination(request).await;
    assert_eq!(code(answer.unwrap().into_inner().status.as_ref()), 20000);
    let [client] = rig.grpc.connections().try_into().unwrap();
    assert_eq!(
        (client.client_id.as_str(), client.group.as_deref()),
        ("c", Some("closer"))
    );
    rig.advance(5_000).await;
    assert!(receive().await.is_empty(), "its delivery stays hidden");
    rig.stop().await;
}

#[tokio::test]
async fn topics_and_groups_are_learnt_and_made_by_permission_only() {
    let (rig, _folder) = guarded_with(GrpcConfig {
        auto_topic: Some((TopicKind::Normal, 1)),
        ..GrpcConfig::default()
    })
    .await;
    for (topic, expected) in [
        ("orders", 40100),
        ("foreign", 40100),
        ("%DLQ%closer", 40100),
        ("own-t", 20000),
    ] {
        let route = QueryRouteRequest {
            topic: resource(topic),
            endpoints: None,
        };
        let request = signed("stranger", "secret-of-stranger", route);
        let answer = rig.client.clone().query_route(request).await.unwrap();
        let status = answer.into_inner().status;
        assert_eq!(code(status.as_ref()), expected, "{topic}");
    }
    assert!(rig.broker.topic_stats("foreign").await.is_err());
    assert!(rig.broker.topic_stats("own-t").await.is_ok());
    let mut settings = consumer_settings(ClientType::PushConsumer, "orders", "closer");
    if let Some(PubSub::Subscription(subscription)) = &mut settings.pub_sub {
        subscription.subscriptions.clear();
    }
    let mut stream = introduced(&rig, "stranger", settings).await;
    assert_eq!(code(stream.receive().await.status.as_ref()), 40100);
    let heartbeat = HeartbeatRequest {
        group: resource("closer"),
        client_type: ClientType::PushConsumer.into(),
    };
    let request = signed("stranger", "secret-of-stranger", heartbeat);
    let answer = rig.client.clone().heartbeat(request).await.unwrap();
    assert_eq!(code(answer.into_inner().status.as_ref()), 40100);
    assert!(rig.grpc.connections().is_empty());
    rig.stop().await;
}
