//! Tests of connecting: TLS, accounts, several endpoints, a server that crashes.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use client::{Code, Config, Error, Producer, Tls};
use tokio::net::TcpListener;

use crate::rig::{Server, drain, message};

async fn sends(config: Config) -> Result<(), Error> {
    let producer = Producer::builder(config).start().await?;
    producer.send(message("t", "m")).await.map(drop)
}

#[tokio::test]
async fn tls_trusts_any_certificate_or_the_configured_ones() {
    let server = Server::start().await;
    server.topic("t", "normal").await;
    let https = Config::new(&format!("https://{}", server.address)).unwrap();
    sends(https.with_tls(Tls::TrustAny)).await.unwrap();
    let own = server.folder().join("tls/certificate.pem");
    let port = server.address.rsplit_once(':').unwrap().1;
    let config = Config::new(&format!("localhost:{port}")).unwrap();
    sends(config.clone().with_tls(Tls::Roots(own)))
        .await
        .unwrap();
    let other = Server::start().await;
    let foreign = Tls::Roots(other.folder().join("tls/certificate.pem"));
    let short = Duration::from_millis(200);
    let config = config.with_tls(foreign).with_request_timeout(short);
    let error = sends(config).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn accounts_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let accounts = folder.path().join("accounts.toml");
    let text = "[[account]]\nname = \"shop\"\nsecret = \"long enough\"\npublish = [\"t\"]\n";
    std::fs::write(&accounts, text).unwrap();
    std::fs::set_permissions(&accounts, std::fs::Permissions::from_mode(0o600)).unwrap();
    let setting = format!("access.accounts={}", accounts.display());
    let server = Server::with(&[&setting, "broker.auto_topic=normal", "limits.batch=64"]).await;
    let config = server.config();
    let shop = |secret| config.clone().with_credentials("shop", secret);
    sends(shop("long enough")).await.unwrap();
    for wrong in [shop("another one"), config.clone()] {
        let error = sends(wrong).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::Unauthorized), "{error}");
    }
    let producer = Producer::builder(shop("long enough"));
    let producer = producer.start().await.unwrap();
    let error = producer.send(message("other", "m")).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Unauthorized), "{error}");
}

#[tokio::test]
async fn the_next_endpoint_is_tried() {
    let server = Server::start().await;
    server.topic("t", "normal").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let both = format!("{closed};{}", server.address);
    sends(Config::new(&both).unwrap()).await.unwrap();
    let closed = Config::new(&closed.to_string()).unwrap();
    let error = sends(closed.with_request_timeout(Duration::from_millis(200))).await;
    assert!(matches!(error, Err(Error::Unreachable { .. })), "{error:?}");
}

/// Sends messages one after the other; returns those that are certainly stored.
async fn send_many(producer: Producer) -> Vec<String> {
    let mut stored = Vec::new();
    for number in 0..400 {
        let name = number.to_string();
        // A message whose send failed while the server was down need not be stored.
        let sent = producer.send(message("t", &name)).await;
        stored.extend(sent.is_ok().then_some(name));
    }
    stored
}

#[tokio::test]
async fn nothing_is_lost_when_the_server_crashes_under_load() {
    let mut server = Server::start().await;
    server.topic("t", "normal").await;
    let producer = server.producer().await;
    let consumer = server.reader("t", "g").await;
    let load = tokio::spawn(send_many(producer.clone()));
    // It crashes once some have arrived.
    let mut seen = drain(&consumer, 20).await;
    server.crash().await;
    let stored = load.await.unwrap();
    assert!(stored.len() > 20, "the producer goes on after the crash");
    producer.send(message("t", "last")).await.unwrap();
    while !seen.iter().any(|name| name == "last") || stored.iter().any(|name| !seen.contains(name))
    {
        match consumer.receive(32, crate::rig::INVISIBLE).await {
            Ok(received) => {
                consumer.ack_all(&received).await;
                seen.extend(received.iter().map(|one| crate::rig::body(one).to_owned()));
            }
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    }
}
