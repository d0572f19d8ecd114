//! Provides TLS for every port: with the user's certificate, or one that is generated at first start.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

use crate::reload::Reloaded;

const HTTP_1: &[u8] = b"http/1.1";
const HTTP_2: &[u8] = b"h2";
/// File name of the generated certificate, in its folder.
pub const CERTIFICATE_FILE: &str = "certificate.pem";
const KEY_FILE: &str = "key.pem";
/// Permissions of a private file, and of one that every client may read.
const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;

/// Where the certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// One that is generated at first start, in `folder`. Clients that verify certificates have to trust it.
    SelfSigned {
        /// Folder of certificate and key; created if it is missing.
        folder: PathBuf,
        /// Names and addresses of the server, in addition to those of the loopback interface.
        names: Vec<String>,
    },
    /// The user's own, reloaded when the files change.
    Files {
        /// The certificate chain, PEM.
        certificate: PathBuf,
        /// The key, PEM.
        key: PathBuf,
    },
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file could not be read as PEM.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: pem::Error,
    },
    /// A file holds no certificate or no key.
    #[error("there is no {what} in {}", file.display())]
    Empty {
        /// The file.
        file: PathBuf,
        /// `certificate` or `key`.
        what: &'static str,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// No certificate could be generated.
    #[error("cannot generate a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// Certificate and key do not fit each other, or are of an unknown kind.
    #[error("cannot use the certificate: {0}")]
    Use(#[from] rustls::Error),
}

/// The protocols spoken inside TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP/2 only.
    Http2,
    /// HTTP/2, or HTTP/1.1 with clients that do not support it.
    Http,
}

/// TLS with the current certificate. Clones share it, so that several ports read the files once.
#[derive(Clone, Debug)]
pub struct Tls {
    configs: Arc<Reloaded<Configs, TlsError>>,
    is_required: bool,
}

/// One certificate, for each of the protocols.
#[derive(Debug)]
struct Configs {
    http_2: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
}

impl Tls {
    /// Reads the certificate, or generates one.
    pub fn open(certificate: &Certificate) -> Result<Self, TlsError> {
        let files = match certificate {
            Certificate::Files { certificate, key } => vec![certificate.clone(), key.clone()],
            Certificate::SelfSigned { folder, names } => make_once(folder, names)?,
        };
        Ok(Self {
            configs: Arc::new(Reloaded::open(files, read_configs)?),
            is_required: false,
        })
    }

    /// Sets whether calls in clear text are refused.
    #[must_use]
    pub fn required(mut self, is_required: bool) -> Self {
        self.is_required = is_required;
        self
    }

    /// Returns whether calls in clear text are refused.
    pub fn is_required(&self) -> bool {
        self.is_required
    }

    /// Returns the acceptor of a connection, with the current certificate.
    pub fn acceptor(&self, spoken: Spoken, now_ms: u64) -> TlsAcceptor {
        let configs = self.configs.current(now_ms);
        TlsAcceptor::from(Arc::clone(match spoken {
            Spoken::Http2 => &configs.http_2,
            Spoken::Http => &configs.http,
        }))
    }
}

fn read_configs(files: &[PathBuf]) -> Result<Configs, TlsError> {
    let [certificate, key] = files else {
        return Err(TlsError::Use(rustls::Error::NoCertificatesPresented));
    };
    let fail = |file: &PathBuf, what: &'static str| {
        let file = file.clone();
        move |source| match source {
            pem::Error::NoItemsFound => TlsError::Empty { file, what },
            source => TlsError::Read { file, source },
        }
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(fail(certificate, "certificate"))?;
    if chain.is_empty() {
        return Err(fail(certificate, "certificate")(pem::Error::NoItemsFound));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(fail(key, "key"))?;
    let mut http_2 = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, secret)?;
    let mut http = http_2.clone();
    http_2.alpn_protocols = vec![HTTP_2.to_vec()];
    http.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1.to_vec()];
    Ok(Configs {
        http_2: Arc::new(http_2),
        http: Arc::new(http),
    })
}

/// Generates certificate and key if one of them is missing.
fn make_once(folder: &Path, names: &[String]) -> Result<Vec<PathBuf>, TlsError> {
    let files = vec![folder.join(CERTIFICATE_FILE), folder.join(KEY_FILE)];
    if files.iter().all(|file| file.exists()) {
        return Ok(files);
    }
    let mut all: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    all.extend(names.iter().cloned());
    all.sort_unstable();
    all.dedup();
    let mut parameters = rcgen::CertificateParams::new(all)?;
    parameters
        .distinguished_name
        .push(rcgen::DnType::CommonName, "Duetime");
    let key = rcgen::KeyPair::generate()?;
    let certificate = parameters.self_signed(&key)?;
    let written = fs::create_dir_all(folder)
        .and_then(|()| write(&folder.join(KEY_FILE), &key.serialize_pem(), PRIVATE))
        .and_then(|()| write(&folder.join(CERTIFICATE_FILE), &certificate.pem(), PUBLIC));
    match written {
        Ok(()) => Ok(files),
        Err(source) => Err(TlsError::Write {
            file: folder.to_owned(),
            source,
        }),
    }
}

/// Writes a file with these permissions, completely or not at all.
fn write(file: &Path, text: &str, mode: u32) -> io::Result<()> {
    let unfinished = file.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let mut opened = options.open(&unfinished)?;
    opened.write_all(text.as_bytes())?;
    opened.sync_all()?;
    fs::rename(&unfinished, file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_certificate_is_made_once_and_its_key_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let source = Certificate::SelfSigned {
            folder: folder.path().join("tls"),
            names: vec!["broker.example".into(), "localhost".into()],
        };
        Tls::open(&source).unwrap();
        let key = folder.path().join("tls").join(KEY_FILE);
        let mode = fs::metadata(&key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let before = fs::read(&key).unwrap();
        Tls::open(&source).unwrap();
        assert_eq!(fs::read(&key).unwrap(), before);
    }

    #[test]
    fn files_that_do_not_fit_are_refused_with_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
        let source = Certificate::Files {
            certificate: certificate.clone(),
            key,
        };
        let error = Tls::open(&source).unwrap_err();
        assert!(error.to_string().contains("c.pem"), "{error}");
        fs::write(&certificate, "nonsense").unwrap();
        let error = Tls::open(&source).unwrap_err().to_string();
        assert!(error.starts_with("there is no certificate in "), "{error}");
    }
}
