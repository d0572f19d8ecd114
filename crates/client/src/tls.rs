//! Provides TLS: which certificates are trusted, and the connector made from that.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::Error;

/// Whether connections are encrypted, and which certificates are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tls {
    /// Clear text.
    Off,
    /// Encrypted; the server's certificate must be signed by an authority that the operating system trusts. This is what
    /// `https://` in an endpoint means. The authorities are read when a client starts, on Linux from
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR` if those are set.
    System,
    /// Encrypted; any certificate is accepted, as by the official clients by default. This prevents eavesdropping, but
    /// not an attacker who impersonates the server.
    TrustAny,
    /// Encrypted; the server's certificate must be in this PEM file or signed by one that is: the server's own if it is
    /// self-signed, such as Duetime's `tls/certificate.pem`, or those of private authorities.
    Roots(PathBuf),
}

/// Encrypts connections.
#[derive(Clone)]
pub(crate) struct Connector(pub(crate) TlsConnector);

impl fmt::Debug for Connector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Connector").finish_non_exhaustive()
    }
}

/// The connector for a choice of TLS; `None` for clear text.
pub(crate) fn connector(tls: &Tls) -> Result<Option<Connector>, Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Invalid(format!("set up TLS: {error}")))?;
    let mut config = match tls {
        Tls::Off => return Ok(None),
        Tls::TrustAny => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TrustAny(provider)))
            .with_no_client_auth(),
        Tls::System => builder
            .with_root_certificates(system_roots()?)
            .with_no_client_auth(),
        Tls::Roots(path) => builder
            .with_root_certificates(roots(path)?)
            .with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Some(Connector(Arc::new(config).into())))
}

/// The authorities the operating system trusts. Unreadable ones are left out: the others may suffice.
fn system_roots() -> Result<RootCertStore, Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let mut message = "the operating system trusts no authority".to_owned();
        for error in found.errors {
            message = format!("{message}; {error}");
        }
        return Err(Error::Invalid(message));
    }
    Ok(roots)
}

fn roots(path: &std::path::Path) -> Result<RootCertStore, Error> {
    let invalid = |message: String| Error::Invalid(format!("read {}: {message}", path.display()));
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| invalid(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| invalid(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(invalid("there is no certificate in it".to_owned()));
    }
    Ok(roots)
}

/// Accepts every certificate; the server still proves that it holds the key.
#[derive(Debug)]
struct TrustAny(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, tokio_rustls::rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, tokio_rustls::rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, tokio_rustls::rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusable_roots_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roots.pem");
        assert!(connector(&Tls::Roots(path.clone())).is_err());
        std::fs::write(&path, "nothing").unwrap();
        let error = connector(&Tls::Roots(path)).err().unwrap();
        assert!(error.to_string().contains("no certificate"), "{error}");
        assert!(connector(&Tls::Off).unwrap().is_none());
        assert!(connector(&Tls::TrustAny).unwrap().is_some());
    }
}
