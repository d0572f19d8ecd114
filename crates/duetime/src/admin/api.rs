//! Provides calls of the broker's JSON API.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;
use tokio_rustls::rustls::{self, RootCertStore};

use super::transport::{self, Fault, Line};
use super::{Access, List, failed, usage};
use crate::config::ConfigArguments;
use crate::run::certificate_file;
use crate::{Failure, config};

/// How long to wait for a connection, and again for the TLS handshake.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call may take; a long poll takes a minute at the most.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(100);
/// Rows asked for at a time.
const PAGE_ROWS: usize = 200;

/// A client of one broker.
pub(super) struct Client {
    line: Line,
    base: Url,
    authorization: Option<HeaderValue>,
}

/// A path of the API with its query, put together safely.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    segments: Vec<String>,
    query: Vec<(&'static str, String)>,
}

/// A path of these segments; names in it are encoded.
pub(super) fn at<const N: usize>(segments: [&str; N]) -> Place {
    Place {
        segments: segments.into_iter().map(str::to_owned).collect(),
        query: Vec::new(),
    }
}

impl Place {
    /// The same with a query parameter, if there is a value for it.
    pub(super) fn with(mut self, name: &'static str, value: Option<&str>) -> Self {
        self.query
            .extend(value.map(|value| (name, value.to_owned())));
        self
    }
}

/// What came back.
pub(super) enum Answer {
    /// It was done; nothing at all is `null`.
    Done(Value),
    /// It was not; the problem document says why.
    Refused(StatusCode, Value),
}

impl Client {
    pub(super) fn new(access: &Access) -> Result<Self, Failure> {
        let server = &access.server;
        let base = Url::parse(server)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| {
                usage(format!(
                    "--server {server:?} is no address as http://127.0.0.1:8082 is one"
                ))
            })?;
        let trusted = (base.scheme() == "https").then(|| trusted(access, &base));
        let host = base.host_str().unwrap_or_default();
        let port = base.port_or_known_default().unwrap_or_default();
        let line = Line::new(host, port, trusted.transpose()?)
            .map_err(|error| failed(format!("set up TLS: {error}")))?;
        Ok(Self {
            line,
            authorization: authorization(access)?,
            base,
        })
    }

    /// Calls, and tells a refusal apart.
    pub(super) async fn try_call(
        &self,
        method: Method,
        place: &Place,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let request = self.request(method, &self.url(place)?, body)?;
        let answered = self.line.exchange(request).await;
        let (status, text) = answered.map_err(|fault| self.fault(&fault))?;
        let value = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&text).map_err(|_| {
                failed(format!(
                    "{} is no broker's HTTP API: it answered {status}",
                    self.base
                ))
            })?
        };
        if status.is_success() {
            Ok(Answer::Done(value))
        } else {
            Ok(Answer::Refused(status, value))
        }
    }

    fn request(
        &self,
        method: Method,
        url: &Url,
        body: Option<&Value>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let host = url.host_str().unwrap_or_default();
        let host = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, host);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let bytes = match body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        let request = request.body(Full::new(bytes));
        request.map_err(|error| usage(format!("--server {}: {error}", self.base)))
    }

    /// Calls; a refusal is a failure.
    pub(super) async fn call(
        &self,
        method: Method,
        place: &Place,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        match self.try_call(method, place, body).await? {
            Answer::Done(value) => Ok(value),
            Answer::Refused(status, problem) => Err(refusal(&self.base, status, &problem)),
        }
    }

    pub(super) async fn get(&self, place: &Place) -> Result<Value, Failure> {
        self.call(Method::GET, place, None).await
    }

    pub(super) async fn post(&self, place: &Place, body: &Value) -> Result<Value, Failure> {
        self.call(Method::POST, place, Some(body)).await
    }

    /// Reads a list page by page, until there are `limit` items.
    pub(super) async fn list(&self, place: &Place, limit: usize) -> Result<List, Failure> {
        let mut items: Vec<Value> = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let rows = std::cmp::min(limit.saturating_sub(items.len()), PAGE_ROWS);
            let place = place
                .clone()
                .with("limit", Some(&rows.to_string()))
                .with("cursor", cursor.as_deref());
            let mut page = self.get(&place).await?;
            if let Some(Value::Array(found)) = page.get_mut("items").map(Value::take) {
                items.extend(found);
            }
            cursor = page
                .get("next_cursor")
                .and_then(Value::as_str)
                .map(str::to_owned);
            let more = cursor.is_some();
            if !more || items.len() >= limit {
                return Ok(List { items, more });
            }
        }
    }

    fn url(&self, place: &Place) -> Result<Url, Failure> {
        let mut url = self.base.clone();
        let base = &self.base;
        url.path_segments_mut()
            .map_err(|()| usage(format!("--server {base} takes no path")))?
            .pop_if_empty()
            .extend(&place.segments);
        if !place.query.is_empty() {
            let query = place
                .query
                .iter()
                .map(|(name, value)| (*name, value.as_str()));
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    fn fault(&self, fault: &Fault) -> Failure {
        let base = &self.base;
        failed(match fault {
            Fault::Unreachable => format!(
                "no broker's HTTP API answers at {base}; is `duetime serve` running? --server or DUETIME_URL names another"
            ),
            Fault::Untrusted(error) if is_of_name(error) => format!(
                "the certificate of {base} is not trusted: {error}; reach the server by a name in it, or give it one with this name (tls.certificate, grpc.advertise)"
            ),
            Fault::Untrusted(error) => format!(
                "the certificate of {base} is not trusted: {error}; --ca or DUETIME_CA names a file with one to trust, tls/certificate.pem in the server's data folder for instance"
            ),
            Fault::NoTls => {
                format!("{base} does not speak TLS; `duetime serve` does unless tls.on is false")
            }
            Fault::Late => format!("the broker at {base} did not answer in time"),
            Fault::Broken => format!(
                "the connection to {base} broke; if that is not the broker's HTTP API, `duetime serve` prints where it is (http.listen)"
            ),
        })
    }
}

/// Whether a certificate is good, but not for the name by which its server was reached.
fn is_of_name(error: &rustls::Error) -> bool {
    use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
    matches!(
        error,
        rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })
    )
}

/// What to send along, so that the broker knows who calls.
fn authorization(access: &Access) -> Result<Option<HeaderValue>, Failure> {
    let text = match (&access.account, &access.token) {
        (Some(account), _) if account.contains(':') => {
            format!("Basic {}", STANDARD.encode(account))
        }
        (Some(_), _) => {
            let words = "--account is a name and a secret: NAME:SECRET";
            return Err(usage(words.to_owned()));
        }
        (None, Some(token)) => format!("Bearer {token}"),
        (None, None) => return Ok(None),
    };
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| usage("--token holds characters that no token has".to_owned()))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// The certificates that are trusted: those named; or the public ones, and on this machine the one that the
/// configuration gives its server.
fn trusted(access: &Access, base: &Url) -> Result<RootCertStore, Failure> {
    let files: Vec<PathBuf> = match &access.ca {
        Some(file) => vec![file.clone()],
        None if is_this_machine(base) => own_certificate()?
            .into_iter()
            .chain(transport::public())
            .collect(),
        None => transport::public().into_iter().collect(),
    };
    if files.is_empty() {
        return Err(usage(format!(
            "nothing says which certificate of {base} to trust; --ca or DUETIME_CA names a file with one, tls/certificate.pem in the server's data folder for instance"
        )));
    }
    transport::trusted(&files).map_err(|(file, words)| {
        usage(format!(
            "read the certificates in {}: {words}",
            file.display()
        ))
    })
}

/// The certificate of the server that the configuration found here describes, if it has run.
fn own_certificate() -> Result<Option<PathBuf>, Failure> {
    let sources = ConfigArguments::from_environment()
        .sources()
        .map_err(Failure::Usage)?;
    let config = config::load(&sources).and_then(|settings| settings.resolve());
    let config = config.map_err(|problems| crate::usage(&problems))?;
    Ok(Some(certificate_file(&config)).filter(|file| file.exists()))
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Where credentials come from.
const CREDENTIALS: &str =
    "give an account's with --account NAME:SECRET (DUETIME_ACCOUNT) or --token (DUETIME_TOKEN)";

/// Whether a problem is of the type with this code.
fn is_of(problem: &Value, code: &str) -> bool {
    let kind = problem.get("type").and_then(Value::as_str);
    kind.and_then(|kind| kind.rsplit('/').next()) == Some(code)
}

/// A refusal: in the API's own words, with what to do about it on the command line.
fn refusal(base: &Url, status: StatusCode, problem: &Value) -> Failure {
    let text = |member: &str| problem.get(member).and_then(Value::as_str);
    let Some(detail) = text("detail") else {
        return failed(format!("the broker answered {status}"));
    };
    let missing = text("topic").filter(|_| is_of(problem, "topic_not_found"));
    if let Some(topic) = missing {
        let create = format!("create it: duetime topic create {topic}");
        return failed(format!("topic {topic:?} does not exist; {create}"));
    }
    if is_of(problem, "not_found") && status == StatusCode::NOT_FOUND {
        return failed(format!(
            "{base} is not the broker's HTTP API: `duetime serve` prints where that is (http.listen)"
        ));
    }
    if is_of(problem, "exists") {
        return failed(format!("{detail}; `show` tells them"));
    }
    if is_of(problem, "unauthenticated") {
        return failed(format!("{detail}; {CREDENTIALS}"));
    }
    match text("pointer").filter(|pointer| !pointer.is_empty()) {
        Some(pointer) => failed(format!("{detail} ({})", pointer.trim_start_matches('/'))),
        None => failed(detail.to_owned()),
    }
}
