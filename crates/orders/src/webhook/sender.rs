//! Sends webhooks over HTTP, to addresses that are allowed, and follows no redirect.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use url::{Host, Url};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::limits::{WEBHOOK_ANSWER_BYTES_MAX, WEBHOOK_URL_BYTES_MAX};
use crate::webhook::address;

/// A webhook to send.
#[derive(Clone, Debug)]
pub struct WebhookRequest {
    /// Where to.
    pub url: String,
    /// The value of `webhook-id`: the id of the event.
    pub id: String,
    /// The value of `webhook-timestamp`: the present time, in s since the Unix epoch.
    pub timestamp_s: i64,
    /// The value of `webhook-signature`.
    pub signature: String,
    /// The event, in JSON.
    pub body: String,
}

/// Sends webhooks. The platform has one that speaks HTTP; a simulator puts in its own.
#[async_trait]
pub trait WebhookSender: Send + Sync + 'static {
    /// Sends the webhook once; answers the status of the answer, or why there was none.
    async fn send(&self, request: WebhookRequest) -> Result<u16, String>;
}

/// Which URLs are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// `https` to addresses of the public internet.
    Public,
    /// `http` too, and any address.
    Anywhere,
}

impl Reach {
    /// What the configuration allows.
    pub(crate) fn of(config: &Config) -> Self {
        if config.webhooks_private {
            Self::Anywhere
        } else {
            Self::Public
        }
    }
}

/// Reads the URL of an endpoint.
pub(crate) fn check_url(text: &str, reach: Reach) -> Result<Url> {
    let wrong = |detail: &str| Err(Error::invalid("/url", format!("url {detail}")));
    if text.len() > WEBHOOK_URL_BYTES_MAX {
        return wrong(&format!(
            "has {} bytes; at most {WEBHOOK_URL_BYTES_MAX} are allowed",
            text.len()
        ));
    }
    let Ok(url) = Url::parse(text) else {
        return wrong("is not a URL, such as https://shop.example/webhooks");
    };
    let allowed: &[&str] = match reach {
        Reach::Public => &["https"],
        Reach::Anywhere => &["https", "http"],
    };
    if !allowed.contains(&url.scheme()) {
        return wrong(&format!("must begin with {}://", allowed.join(":// or ")));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return wrong(
            "must not contain a user name or password; the signature authenticates webhooks",
        );
    }
    if url.fragment().is_some() {
        return wrong("must not have a fragment");
    }
    let literal = match url.host() {
        Some(Host::Ipv4(address)) => Some(address.into()),
        Some(Host::Ipv6(address)) => Some(address.into()),
        Some(Host::Domain(_)) => None,
        None => return wrong("has no host"),
    };
    if reach == Reach::Public && literal.is_some_and(|address| !address::is_public(address)) {
        return wrong("names an address that is not of the public internet");
    }
    Ok(url)
}

/// Sends webhooks over HTTP/1.1, on a connection of its own each.
pub(crate) struct HttpSender {
    reach: Reach,
    /// Made at the first `https`, since the certificates are read from the system.
    tls: OnceLock<Result<TlsConnector, String>>,
}

impl HttpSender {
    pub(crate) fn new(reach: Reach) -> Self {
        let tls = OnceLock::new();
        Self { reach, tls }
    }

    fn connector(&self) -> Result<TlsConnector, String> {
        self.tls.get_or_init(connector).clone()
    }

    /// The addresses of the URL that may be connected to.
    async fn addresses(&self, url: &Url) -> Result<Vec<SocketAddr>, String> {
        let port = url.port_or_known_default().ok_or("the URL has no port")?;
        let found: Vec<SocketAddr> = match url.host().ok_or("the URL has no host")? {
            Host::Ipv4(address) => vec![SocketAddr::from((address, port))],
            Host::Ipv6(address) => vec![SocketAddr::from((address, port))],
            Host::Domain(name) => tokio::net::lookup_host((name, port))
                .await
                .map_err(|error| format!("the name of the host is not known: {error}"))?
                .collect(),
        };
        let allowed = |address: &SocketAddr| {
            self.reach == Reach::Anywhere || address::is_public(address.ip())
        };
        let addresses: Vec<_> = found.into_iter().filter(allowed).collect();
        if addresses.is_empty() {
            return Err("the host has no address of the public internet".to_owned());
        }
        Ok(addresses)
    }
}

fn connector() -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    for certificate in rustls_native_certs::load_native_certs().certs {
        // Some systems have certificates that are no authorities.
        let _ = roots.add(certificate);
    }
    if roots.is_empty() {
        return Err("this system has no certificates of authorities".to_owned());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[async_trait]
impl WebhookSender for HttpSender {
    async fn send(&self, request: WebhookRequest) -> Result<u16, String> {
        // Checked again: the configuration may have changed since the endpoint was made.
        let url = check_url(&request.url, self.reach).map_err(|error| error.to_string())?;
        let addresses = self.addresses(&url).await?;
        let stream = TcpStream::connect(addresses.as_slice())
            .await
            .map_err(|error| format!("cannot connect: {error}"))?;
        let request = http_request(&url, request)?;
        if url.scheme() == "http" {
            return exchange(stream, request).await;
        }
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let stream = self
            .connector()?
            .connect(name, stream)
            .await
            .map_err(|error| format!("cannot speak TLS: {error}"))?;
        exchange(stream, request).await
    }
}

fn http_request(url: &Url, webhook: WebhookRequest) -> Result<Request<Full<Bytes>>, String> {
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let host = match url.port() {
        Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
        None => url.host_str().unwrap_or_default().to_owned(),
    };
    let length = webhook.body.len().to_string();
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(target)
        .body(Full::new(Bytes::from(webhook.body)))
        .map_err(|error| error.to_string())?;
    for (name, value) in [
        (HOST, host),
        (CONTENT_TYPE, "application/json".to_owned()),
        (CONTENT_LENGTH, length),
        (
            USER_AGENT,
            concat!("duetime/", env!("CARGO_PKG_VERSION")).to_owned(),
        ),
        (HeaderName::from_static("webhook-id"), webhook.id),
        (
            HeaderName::from_static("webhook-timestamp"),
            webhook.timestamp_s.to_string(),
        ),
        (
            HeaderName::from_static("webhook-signature"),
            webhook.signature,
        ),
    ] {
        let value = HeaderValue::from_str(&value).map_err(|error| error.to_string())?;
        request.headers_mut().insert(name, value);
    }
    Ok(request)
}

/// Sends the request on the stream; answers the status. Of the body only so much is read that a receiver can end it.
async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<u16, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let failed = |error: hyper::Error| format!("there was no answer: {error}");
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(WEBHOOK_ANSWER_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    // Ends with this call, whatever its end is.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let answer = sender.send_request(request).await.map_err(failed)?;
    let status: StatusCode = answer.status();
    let mut body = answer.into_body();
    let mut left = WEBHOOK_ANSWER_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(bytes) {
            Some(rest) => left = rest,
            None => break,
        }
    }
    Ok(status.as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked() {
        for (url, reach, fits) in [
            ("https://shop.example/webhooks?a=1", Reach::Public, true),
            ("https://1.1.1.1/x", Reach::Public, true),
            ("http://shop.example/", Reach::Public, false),
            ("http://shop.example/", Reach::Anywhere, true),
            ("http://127.0.0.1:9000/", Reach::Anywhere, true),
            ("https://127.0.0.1/", Reach::Public, false),
            // Other forms of 127.0.0.1.
            ("https://2130706433/", Reach::Public, false),
            ("https://0x7f.1/", Reach::Public, false),
            ("https://[::ffff:7f00:1]/", Reach::Public, false),
            ("https://user:pw@shop.example/", Reach::Anywhere, false),
            ("https://shop.example/#part", Reach::Anywhere, false),
            ("ftp://shop.example/", Reach::Anywhere, false),
            ("file:///etc/passwd", Reach::Anywhere, false),
            ("shop.example", Reach::Anywhere, false),
        ] {
            assert_eq!(check_url(url, reach).is_ok(), fits, "{url} {reach:?}");
        }
    }

    #[tokio::test]
    async fn a_name_with_private_addresses_alone_is_not_connected_to() {
        let sender = HttpSender::new(Reach::Public);
        let url = Url::parse("https://localhost:1/").unwrap();
        let refused = sender.addresses(&url).await.unwrap_err();
        assert!(refused.contains("public internet"), "{refused}");
        let anywhere = HttpSender::new(Reach::Anywhere);
        assert!(!anywhere.addresses(&url).await.unwrap().is_empty());
    }
}
