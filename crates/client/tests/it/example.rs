//! Tests of the example in a process of its own, also which authorities such a process trusts by default.

use std::path::Path;
use std::process::Output;

use tokio::process::Command;

use crate::rig::{Server, built};

/// Runs the example. `SSL_CERT_FILE` says which authorities the operating system trusts.
async fn run(endpoint: &str, authorities: &Path) -> Output {
    Command::new(built("examples/order_deadlines"))
        .arg(endpoint)
        .env("SSL_CERT_FILE", authorities)
        .env_remove("SSL_CERT_DIR")
        .output()
        .await
        .unwrap()
}

#[tokio::test]
async fn the_example_works_with_authorities_the_system_trusts() {
    let server = Server::start().await;
    server.topic("order-deadlines", "delay").await;
    let port = server.address.rsplit_once(':').unwrap().1;
    let own = server.folder().join("tls/certificate.pem");
    for endpoint in [
        format!("127.0.0.1:{port}"),
        format!("https://localhost:{port}"),
    ] {
        let output = run(&endpoint, &own).await;
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said, "order 8 is paid\norder 7 is closed\n", "{endpoint}");
    }
}

#[tokio::test]
async fn a_server_the_system_does_not_trust_is_refused() {
    let server = Server::start().await;
    let other = Server::start().await;
    let port = server.address.rsplit_once(':').unwrap().1;
    let endpoint = format!("https://localhost:{port}");
    let foreign = other.folder().join("tls/certificate.pem");
    let empty = server.folder().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for (authorities, why) in [
        (&foreign, "invalid peer certificate"),
        (&empty, "the operating system trusts no authority"),
    ] {
        let output = run(&endpoint, authorities).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(why), "{said}");
    }
}
