//! Sends HTTP/1.1 requests to one server, in clear text or over TLS; connections are kept for the next request.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use broker::clock::monotonic::timeout;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

/// Where operating systems keep the certificates of the public authorities.
const PUBLIC_AUTHORITIES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];
/// How long to wait for a connection, and again for the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call may take; a long poll takes a minute at most.
const CALL_TIMEOUT: Duration = Duration::from_secs(100);

/// Why a request was not answered.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The server does not listen or cannot be reached.
    Unreachable,
    /// The certificate of the server is not trusted.
    Untrusted(rustls::Error),
    /// The server does not speak TLS, or no version that this program speaks.
    NoTls,
    /// The answer took too long.
    Late,
    /// The connection broke, or the answer was not HTTP.
    Broken,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => formatter.write_str("the server cannot be reached"),
            Self::Untrusted(error) => write!(formatter, "the certificate is not trusted: {error}"),
            Self::NoTls => formatter.write_str("the server does not speak TLS"),
            Self::Late => formatter.write_str("the server did not answer in time"),
            Self::Broken => formatter.write_str("the connection broke"),
        }
    }
}

impl Error for Fault {}

/// A connection that is ready for a request.
type Connection = SendRequest<Full<Bytes>>;

/// The connections to one server.
pub(crate) struct Transport {
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
    /// Connections without a request, the longest unused first. The lock is never held while waiting.
    idle: Mutex<VecDeque<Connection>>,
}

impl Transport {
    /// To this host, which may be an IPv6 address in brackets; over TLS if there are trusted certificates.
    pub(crate) fn new(
        host: &str,
        port: u16,
        trusted: Option<RootCertStore>,
    ) -> Result<Self, rustls::Error> {
        let connector = |roots| {
            let provider = Arc::new(ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots)
                .with_no_client_auth();
            Ok::<_, rustls::Error>(TlsConnector::from(Arc::new(config)))
        };
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            tls: trusted.map(connector).transpose()?,
            idle: Mutex::default(),
        })
    }

    /// Sends a request and waits for the whole answer.
    pub(crate) async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), Fault> {
        let answered = async {
            let mut connection = match self.take_idle() {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let answer = connection.send_request(request).await;
            let answer = answer.map_err(|_| Fault::Broken)?;
            let status = answer.status();
            let body = answer.into_body().collect().await;
            let body = body.map_err(|_| Fault::Broken)?.to_bytes();
            // A server that closes the connection after its answer is no fault.
            if connection.ready().await.is_ok() {
                self.idle().push_back(connection);
            }
            Ok((status, body))
        };
        timeout(CALL_TIMEOUT, answered)
            .await
            .map_err(|_| Fault::Late)?
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, VecDeque<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that the server has not closed.
    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle();
        idle.retain(Connection::is_ready);
        idle.pop_front()
    }

    async fn connect(&self) -> Result<Connection, Fault> {
        let connect = TcpStream::connect((self.host.as_str(), self.port));
        let stream = timeout(CONNECT_TIMEOUT, connect)
            .await
            .map_err(|_| Fault::Unreachable)?
            .map_err(|_| Fault::Unreachable)?;
        // Requests are written whole: waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        match &self.tls {
            None => open(TokioIo::new(stream)).await,
            Some(connector) => {
                let name = ServerName::try_from(self.host.clone()).map_err(|_| Fault::NoTls)?;
                let handshake = timeout(CONNECT_TIMEOUT, connector.connect(name, stream));
                let stream = handshake
                    .await
                    .map_err(|_| Fault::NoTls)?
                    .map_err(|error| handshake_fault(&error))?;
                open(TokioIo::new(stream)).await
            }
        }
    }
}

fn handshake_fault(error: &io::Error) -> Fault {
    let inner = error.get_ref();
    match inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error @ rustls::Error::InvalidCertificate(_)) => Fault::Untrusted(error.clone()),
        _ => Fault::NoTls,
    }
}

/// Starts HTTP/1.1 on a stream. The task that drives it ends with the connection.
async fn open<I>(io: TokioIo<I>) -> Result<Connection, Fault>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(io).await.map_err(|_| Fault::Broken)?;
    // Its errors are those of the requests too.
    tokio::spawn(connection);
    Ok(sender)
}

/// The certificates in these PEM files together; an error names the file that could not be read.
pub(crate) fn trusted(files: &[PathBuf]) -> Result<RootCertStore, (PathBuf, String)> {
    let mut roots = RootCertStore::empty();
    for file in files {
        let before = roots.len();
        let wrong = |reason: String| (file.clone(), reason);
        let found =
            CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))?;
        for certificate in found {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            // Some bundles contain certificates that are not authorities.
            let _ = roots.add(certificate);
        }
        if roots.len() == before {
            return Err(wrong("there is no certificate in it".to_owned()));
        }
    }
    Ok(roots)
}

/// The file with the certificates of the public authorities on this machine, if there is one.
pub(crate) fn public_authorities() -> Option<PathBuf> {
    let known = PUBLIC_AUTHORITIES.iter().map(Path::new);
    known
        .filter(|file| file.exists())
        .map(Path::to_owned)
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_without_a_certificate_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let (named, reason) = trusted(std::slice::from_ref(&file)).unwrap_err();
        assert_eq!(named, file);
        assert!(!reason.is_empty());
        std::fs::write(&file, "nothing").unwrap();
        let (_, reason) = trusted(&[file]).unwrap_err();
        assert_eq!(reason, "there is no certificate in it");
        assert!(trusted(&[]).unwrap().is_empty());
    }
}
