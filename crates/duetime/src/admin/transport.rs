//! Carries requests to a broker, each over a connection of its own, in clear text or inside TLS.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker::clock::monotonic::timeout;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use super::api::{CALL_TIMEOUT, CONNECT_TIMEOUT};

/// Where systems keep the certificates of the public authorities.
const PUBLIC: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// Why a request was not answered.
#[derive(Debug)]
pub(super) enum Fault {
    /// Nobody listens there, or cannot be reached.
    Unreachable,
    /// The server showed a certificate that is not trusted.
    Untrusted(rustls::Error),
    /// The server does not speak TLS, or not as this program does.
    NoTls,
    /// No answer came in time.
    Late,
    /// The connection broke, or what came over it was not HTTP.
    Broken,
}

/// Where a broker is, and how to speak with it.
pub(super) struct Line {
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
}

impl Line {
    /// A line to this host, which may be an IPv6 address in brackets; inside TLS if certificates are trusted.
    pub(super) fn new(
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
        })
    }

    /// Sends a request, and waits for the whole answer.
    pub(super) async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), Fault> {
        let connect = TcpStream::connect((self.host.as_str(), self.port));
        let stream = timeout(CONNECT_TIMEOUT, connect)
            .await
            .map_err(|_| Fault::Unreachable)?
            .map_err(|_| Fault::Unreachable)?;
        // Requests are written whole: waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        let answered = async {
            match &self.tls {
                None => speak(TokioIo::new(stream), request).await,
                Some(connector) => {
                    let name = ServerName::try_from(self.host.clone()).map_err(|_| Fault::NoTls)?;
                    let handshake = timeout(CONNECT_TIMEOUT, connector.connect(name, stream));
                    let stream = handshake
                        .await
                        .map_err(|_| Fault::NoTls)?
                        .map_err(|error| of_handshake(&error))?;
                    speak(TokioIo::new(stream), request).await
                }
            }
        };
        timeout(CALL_TIMEOUT, answered)
            .await
            .map_err(|_| Fault::Late)?
    }
}

fn of_handshake(error: &io::Error) -> Fault {
    let inner = error.get_ref();
    match inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error @ rustls::Error::InvalidCertificate(_)) => Fault::Untrusted(error.clone()),
        _ => Fault::NoTls,
    }
}

async fn speak<I>(
    io: TokioIo<I>,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), Fault>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(io).await.map_err(|_| Fault::Broken)?;
    // Its errors are those of the exchange too.
    let driven = tokio::spawn(connection);
    let answer = sender.send_request(request).await;
    let answer = answer.map_err(|_| Fault::Broken)?;
    let status = answer.status();
    let body = answer.into_body().collect().await;
    let body = body.map_err(|_| Fault::Broken)?.to_bytes();
    driven.abort();
    Ok((status, body))
}

/// The certificates in these PEM files together; the file that could not be read, and why, if one could not.
pub(super) fn trusted(files: &[PathBuf]) -> Result<RootCertStore, (PathBuf, String)> {
    let mut roots = RootCertStore::empty();
    for file in files {
        let before = roots.len();
        let wrong = |words: String| (file.clone(), words);
        let found =
            CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))?;
        for certificate in found {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            // Bundles hold certificates here and there that cannot vouch for anybody.
            let _ = roots.add(certificate);
        }
        if roots.len() == before {
            return Err(wrong("there is no certificate in it".to_owned()));
        }
    }
    Ok(roots)
}

/// The certificates of the public authorities on this machine, if there are any.
pub(super) fn public() -> Option<PathBuf> {
    let known = PUBLIC.iter().map(Path::new);
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
        let (named, words) = trusted(std::slice::from_ref(&file)).unwrap_err();
        assert_eq!(named, file);
        assert!(!words.is_empty());
        std::fs::write(&file, "nothing").unwrap();
        let (_, words) = trusted(&[file]).unwrap_err();
        assert_eq!(words, "there is no certificate in it");
        assert!(trusted(&[]).unwrap().is_empty());
    }
}
