//! Checks the API over a real port: how it stops, TLS beside clear text, and hostile peers.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::Api;
use crate::http::{HttpLimits, run};
use crate::{Certificate, LoopbackOnly, NoConnections, Tls};
use edge::tls::CERTIFICATE_FILE;

/// Short enough for a test to wait for its end.
const MOMENT: Duration = Duration::from_millis(50);
const GET: &str = "GET /v1/topics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

/// Sets a limit.
type Change = fn(&mut HttpLimits);

/// An API on a port of its own.
struct Port {
    api: Api,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Port {
    async fn open(change: impl FnOnce(&mut HttpLimits), tls: Option<Tls>) -> Self {
        let mut limits = HttpLimits::default();
        change(&mut limits);
        let api = Api::start_within(limits, Arc::new(LoopbackOnly), Arc::new(NoConnections));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async { stopped.await.unwrap() };
        let serving = tokio::spawn(run(listener, api.state.clone(), tls, shutdown));
        Self {
            api,
            address,
            stop,
            serving,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Connects with TLS, trusting one certificate, and offers these protocols.
    async fn secure(
        &self,
        trusted: &Path,
        protocols: &[&[u8]],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(trusted).unwrap())
            .unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, self.connect().await).await
    }

    /// Writes bytes, and returns everything read until the server closes the connection.
    async fn until_closed(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        // The server may close the connection before all is written.
        drop(stream.write_all(bytes).await);
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer).await);
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn still_serves(&self) {
        let answer = self.until_closed(GET.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    }

    async fn close(self) {
        self.stop.send(()).unwrap();
        self.serving.await.unwrap();
    }
}

/// A certificate of its own in `folder`, and TLS with it.
fn self_signed(folder: &Path) -> Tls {
    Tls::open(&Certificate::SelfSigned {
        folder: folder.to_owned(),
        names: Vec::new(),
    })
    .unwrap()
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> String {
    stream.write_all(GET.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The server may close the connection without the close_notify of TLS.
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_stop_ends_long_polls_and_lets_other_requests_finish() {
    let port = Port::open(|_| (), None).await;
    let topic = json!({ "name": "orders", "kind": "mixed" });
    port.api.post("/v1/topics", topic).await.ok();
    let mut poll = port.connect().await;
    let body = json!({ "wait_for": "60s" }).to_string();
    let path = "/v1/topics/orders/groups/closer/receive";
    poll.write_all(request(path, &body, "").as_bytes())
        .await
        .unwrap();
    poll.write_all(body.as_bytes()).await.unwrap();
    // The poll creates the group, so the poll is under way once the group exists.
    while port.api.broker.groups().await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }

    let mut stream = port.connect().await;
    let body = json!({ "name": "made" }).to_string();
    let head = request("/v1/topics", &body, "expect: 100-continue\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    // The interim answer proves that the handler has begun and waits for the body.
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert!(interim.starts_with(b"HTTP/1.1 100 Continue"));

    port.stop.send(()).unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 Created"), "{answer}");
    let mut answer = String::new();
    poll.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("{\"items\":[]}"), "{answer}");
    port.serving.await.unwrap();
}

fn request(path: &str, body: &str, more: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{more}content-length: {length}\r\n\r\n"
    )
}

#[tokio::test]
async fn clear_text_and_tls_share_the_port() {
    let folder = tempfile::tempdir().unwrap();
    let port = Port::open(|_| (), Some(self_signed(folder.path()))).await;
    let trusted = folder.path().join(CERTIFICATE_FILE);
    port.still_serves().await;
    for protocols in [&[][..], &[b"http/1.1".as_slice()]] {
        let stream = port.secure(&trusted, protocols).await.unwrap();
        let answer = ask(stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    }
    let stream = port.secure(&trusted, &[b"h2", b"http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let driven = tokio::spawn(connection);
    let request = http::Request::get("https://localhost/v1/topics");
    let (answer, _) = client
        .send_request(request.body(()).unwrap(), true)
        .unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    driven.abort();
    // A client that offers none of the protocols is refused.
    assert!(port.secure(&trusted, &[b"smtp"]).await.is_err());
    port.close().await;
}

#[tokio::test]
async fn clear_text_is_refused_where_tls_is_required() {
    let folder = tempfile::tempdir().unwrap();
    let tls = self_signed(folder.path()).required(true);
    let port = Port::open(|_| (), Some(tls)).await;
    for (path, begins) in [
        ("/v1/topics", "HTTP/1.1 400 Bad Request"),
        ("/healthz", "HTTP/1.1 200 OK"),
        ("/readyz", "HTTP/1.1 200 OK"),
    ] {
        let mut stream = port.connect().await;
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(begins), "{answer}");
        assert_eq!(
            answer.contains("tls.required"),
            path == "/v1/topics",
            "{answer}"
        );
    }
    let trusted = folder.path().join(CERTIFICATE_FILE);
    let stream = port.secure(&trusted, &[]).await.unwrap();
    assert!(ask(stream).await.starts_with("HTTP/1.1 200 OK"));
    port.stop.send(()).unwrap();
    port.serving.await.unwrap();
}

#[tokio::test]
async fn a_new_certificate_is_used_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let used = folder.path().join("used");
    let port = Port::open(|_| (), Some(self_signed(&used))).await;
    let fresh = folder.path().join("fresh");
    self_signed(&fresh);
    let trusted = fresh.join(CERTIFICATE_FILE);
    assert!(port.secure(&trusted, &[]).await.is_err());
    for file in std::fs::read_dir(&fresh).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), used.join(file.file_name())).unwrap();
    }
    port.api.clock.advance_to(super::rig::START_MS + 5_000);
    assert!(port.secure(&trusted, &[]).await.is_ok());
    port.close().await;
}

#[tokio::test]
async fn garbage_ends_its_own_connection_only() {
    let folder = tempfile::tempdir().unwrap();
    let port = Port::open(|_| (), Some(self_signed(folder.path()))).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for bytes in [
        b"\r\n\r\n\r\n\r\nhello\r\n\r\n".as_slice(),
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/topics HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/topics HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        &[0x16, 0x03, 0x01, 0x00, 0x05, 1, 2, 3, 4, 5],
        &[0x16; 64],
        &[0; 64],
        &[preface.as_slice(), &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat(),
        &[
            preface.as_slice(),
            &[0, 0, 5, 4, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5],
        ]
        .concat(),
    ] {
        let answer = port.until_closed(bytes).await;
        assert!(
            !answer.contains(" 200 ") && !answer.contains(" 500 "),
            "{answer}"
        );
    }
    port.still_serves().await;
    port.close().await;
}

#[tokio::test]
async fn slow_peers_are_disconnected() {
    let folder = tempfile::tempdir().unwrap();
    let tls = self_signed(folder.path());
    let settings = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let body_to_come = request("/v1/topics", "0123456789", "");
    let cases: [(Change, &[u8], &str); 6] = [
        (|limits| limits.bounds.handshake = MOMENT, b"", ""),
        (
            |limits| limits.bounds.handshake = MOMENT,
            &[0x16, 0x03, 0x01],
            "",
        ),
        (
            |limits| limits.headers = MOMENT,
            b"GET /v1/topics HTTP/1.1\r\nhos",
            "",
        ),
        (
            |limits| limits.bounds.idle = MOMENT,
            b"PRI * HTTP/2.0\r\n",
            "",
        ),
        (
            |limits| (limits.bounds.idle, limits.bounds.handshake) = (MOMENT, MOMENT),
            settings,
            "",
        ),
        (
            |limits| limits.request = MOMENT,
            body_to_come.as_bytes(),
            "within 50ms",
        ),
    ];
    for (change, bytes, expected) in cases {
        let port = Port::open(change, Some(tls.clone())).await;
        let answer = port.until_closed(bytes).await;
        assert!(
            answer.contains(expected) && !answer.contains(" 200 "),
            "{answer}"
        );
        port.close().await;
    }
}

#[tokio::test]
async fn a_connection_is_kept_while_it_is_used_and_no_longer() {
    let port = Port::open(|limits| limits.bounds.idle = Duration::from_secs(1), None).await;
    let kept = GET.replace("connection: close\r\n", "");
    let answer = port.until_closed(kept.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    port.close().await;
}

#[tokio::test]
async fn headers_beyond_the_limits_are_refused() {
    let port = Port::open(|limits| limits.header_bytes_max = 8 * 1_024, None).await;
    let many = "x: y\r\n".repeat(100);
    let long = format!("x: {}\r\n", "y".repeat(20_000));
    for more in [many.as_str(), long.as_str()] {
        let answer = port
            .until_closed(request("/v1/topics", "{}", more).as_bytes())
            .await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    let stream = port.connect().await;
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let driven = tokio::spawn(connection);
    let request = http::Request::get("http://localhost/v1/topics").header("x", "y".repeat(12_000));
    let (answer, _) = client
        .send_request(request.body(()).unwrap(), true)
        .unwrap();
    assert_eq!(answer.await.unwrap().status(), 431);
    driven.abort();
    port.still_serves().await;
    port.close().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let port = Port::open(|limits| limits.bounds.connections_max = 2, None).await;
    // Served, so that both hold a place.
    let mut places = Vec::new();
    for _ in 0..2 {
        let mut stream = port.connect().await;
        let kept = GET.replace("connection: close\r\n", "");
        stream.write_all(kept.as_bytes()).await.unwrap();
        let mut first = [0; 15];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        places.push(stream);
    }
    let mut waiting = port.connect().await;
    waiting.write_all(GET.as_bytes()).await.unwrap();
    let mut first = [0; 15];
    let answered = broker::clock::monotonic::timeout(MOMENT, waiting.read_exact(&mut first)).await;
    assert!(answered.is_err(), "it was served beyond the limit");
    drop(places.pop());
    waiting.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    port.close().await;
}
