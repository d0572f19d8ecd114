//! Calls the JSON APIs of the broker and of the order platform.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use serde_json::Value;
use tokio_rustls::rustls::{self, RootCertStore};
use url::Url;

use super::endpoint::{ApiKind, Endpoint};
use crate::config::{self, ConfigArguments};
use crate::failure::{Failure, failed, usage};
use crate::run::certificate_file;
use crate::transport::{self, Fault, Transport};

/// Rows asked for at a time.
const PAGE_ROWS: usize = 200;

/// Which broker, as whom, and whether to print JSON.
#[derive(Clone, Debug, Args)]
pub(super) struct Access {
    /// Where the broker's HTTP API listens
    #[arg(
        long,
        global = true,
        help_heading = "Broker",
        value_name = "URL",
        env = "DUETIME_URL",
        hide_env_values = true
    )]
    #[arg(default_value = "http://127.0.0.1:8082")]
    server: String,
    /// Name and secret of an account
    #[arg(
        long,
        global = true,
        help_heading = "Broker",
        value_name = "NAME:SECRET",
        env = "DUETIME_ACCOUNT"
    )]
    #[arg(hide_env_values = true)]
    account: Option<String>,
    /// Token of an account
    #[arg(
        long,
        global = true,
        help_heading = "Broker",
        value_name = "TOKEN",
        env = "DUETIME_TOKEN"
    )]
    #[arg(hide_env_values = true, conflicts_with = "account")]
    token: Option<String>,
    /// Trust the certificates in this PEM file
    #[arg(
        long,
        global = true,
        help_heading = "Broker",
        value_name = "FILE",
        env = "DUETIME_CA"
    )]
    #[arg(hide_env_values = true)]
    ca: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long, global = true, help_heading = "Broker")]
    pub(super) json: bool,
}

impl Access {
    /// The broker that it names.
    pub(super) fn endpoint(&self) -> Result<Endpoint, Failure> {
        Ok(Endpoint {
            api: ApiKind::Broker,
            server: self.server.clone(),
            ca: self.ca.clone(),
            authorization: authorization(self)?,
            headers: Vec::new(),
        })
    }
}

/// A client of one server.
pub(super) struct Client {
    transport: Transport,
    base: Url,
    endpoint: Endpoint,
}

/// Items of a list, and whether there are more.
pub(super) struct List {
    pub(super) items: Vec<Value>,
    pub(super) more: bool,
}

/// A path of the API with its query, both encoded.
#[derive(Clone, Debug, Default)]
pub(super) struct Target {
    segments: Vec<String>,
    query: Vec<(&'static str, String)>,
}

/// A path of these segments; names in it are encoded.
pub(super) fn path<const N: usize>(segments: [&str; N]) -> Target {
    Target {
        segments: segments.into_iter().map(str::to_owned).collect(),
        query: Vec::new(),
    }
}

impl Target {
    /// What is below it.
    pub(super) fn and(mut self, segment: &str) -> Self {
        self.segments.push(segment.to_owned());
        self
    }

    /// The same with a query parameter, if there is a value for it.
    pub(super) fn with(mut self, name: &'static str, value: Option<&str>) -> Self {
        self.query
            .extend(value.map(|value| (name, value.to_owned())));
        self
    }
}

/// The answer to a call.
pub(super) enum Answer {
    /// The call succeeded; an empty answer is `null`.
    Done(Value),
    /// The call was refused; the problem document says why.
    Refused(StatusCode, Value),
}

impl Client {
    pub(super) fn new(endpoint: Endpoint) -> Result<Self, Failure> {
        let server = &endpoint.server;
        let base = Url::parse(server)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| {
                usage(format!(
                    "--server {server:?} is not an address like {}",
                    endpoint.api.example()
                ))
            })?;
        let trusted = (base.scheme() == "https").then(|| trusted(&endpoint, &base));
        let host = base.host_str().unwrap_or_default();
        let port = base.port_or_known_default().unwrap_or_default();
        let transport = Transport::new(host, port, trusted.transpose()?)
            .map_err(|error| failed(format!("set up TLS: {error}")))?;
        Ok(Self {
            transport,
            base,
            endpoint,
        })
    }

    /// Calls; a refusal is an answer.
    pub(super) async fn try_call(
        &self,
        method: Method,
        target: &Target,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let request = self.request(method, &self.url(target)?, body)?;
        let answered = self.transport.exchange(request).await;
        let (status, text) = answered.map_err(|fault| self.fault(&fault))?;
        let value = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&text).map_err(|_| {
                failed(format!(
                    "{} is not {} {}: it answered {status}",
                    self.base,
                    self.endpoint.api.article(),
                    self.endpoint.api.name()
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
        if let Some(authorization) = &self.endpoint.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        for (name, value) in &self.endpoint.headers {
            request = request.header(*name, value);
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
        target: &Target,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        match self.try_call(method, target, body).await? {
            Answer::Done(value) => Ok(value),
            Answer::Refused(status, problem) => Err(self.refusal(status, &problem)),
        }
    }

    pub(super) async fn get(&self, target: &Target) -> Result<Value, Failure> {
        self.call(Method::GET, target, None).await
    }

    pub(super) async fn post(&self, target: &Target, body: &Value) -> Result<Value, Failure> {
        self.call(Method::POST, target, Some(body)).await
    }

    /// Sends one more header with every request.
    pub(super) fn add_header(&mut self, name: &'static str, value: HeaderValue) {
        self.endpoint.headers.push((name, value));
    }

    /// Reads a list page by page, until there are `limit` items.
    pub(super) async fn list(&self, target: &Target, limit: usize) -> Result<List, Failure> {
        let mut items: Vec<Value> = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let rows = std::cmp::min(limit.saturating_sub(items.len()), PAGE_ROWS);
            let target = target
                .clone()
                .with("limit", Some(&rows.to_string()))
                .with("cursor", cursor.as_deref());
            let mut page = self.get(&target).await?;
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

    /// Reads a list that has one page.
    pub(super) async fn whole_list(&self, target: &Target) -> Result<List, Failure> {
        let mut page = self.get(target).await?;
        let items = match page.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        };
        Ok(List { items, more: false })
    }

    fn url(&self, target: &Target) -> Result<Url, Failure> {
        let mut url = self.base.clone();
        let base = &self.base;
        url.path_segments_mut()
            .map_err(|()| usage(format!("--server {base} takes no path")))?
            .pop_if_empty()
            .extend(&target.segments);
        if !target.query.is_empty() {
            let query = target
                .query
                .iter()
                .map(|(name, value)| (*name, value.as_str()));
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    fn fault(&self, fault: &Fault) -> Failure {
        let base = &self.base;
        let api = self.endpoint.api;
        let (name, server, listen) = (api.name(), api.server(), api.listen());
        failed(match fault {
            Fault::Unreachable => format!(
                "no {name} answers at {base}; is `duetime serve` running? Name another address in --server or {}",
                api.variable()
            ),
            Fault::Untrusted(error) if is_of_name(error) => format!(
                "the certificate of {base} is not trusted: {error}; connect by a name in the certificate, or give the server one with this name (tls.certificate, grpc.advertise)"
            ),
            Fault::Untrusted(error) => format!(
                "the certificate of {base} is not trusted: {error}; name a file with a certificate to trust in --ca or DUETIME_CA, such as tls/certificate.pem in the server's data folder"
            ),
            Fault::NoTls => {
                format!("{base} does not speak TLS; `duetime serve` does unless tls.on is false")
            }
            Fault::Late => format!("the {server} at {base} did not answer in time"),
            Fault::Broken => format!(
                "the connection to {base} broke; if that is not the {name}, `duetime serve` prints where it is ({listen})"
            ),
        })
    }

    /// A refusal in the API's own words, with what to do on the command line.
    fn refusal(&self, status: StatusCode, problem: &Value) -> Failure {
        let (base, api) = (&self.base, self.endpoint.api);
        let text = |member: &str| problem.get(member).and_then(Value::as_str);
        let Some(detail) = text("detail") else {
            return failed(format!("the {} answered {status}", api.server()));
        };
        let missing = text("topic").filter(|_| is_of(problem, "topic_not_found"));
        if let Some(topic) = missing {
            let create = format!("create it: duetime topic create {topic}");
            return failed(format!("topic {topic:?} does not exist; {create}"));
        }
        let no_such_path = api == ApiKind::Broker && is_of(problem, "not_found");
        if no_such_path && status == StatusCode::NOT_FOUND {
            return failed(format!(
                "{base} is not the broker's HTTP API: `duetime serve` prints its address (http.listen)"
            ));
        }
        if is_of(problem, "exists") {
            return failed(format!("{detail}; `show` prints them"));
        }
        if is_of(problem, "unauthenticated") {
            return failed(format!("{detail}; {}", api.credentials()));
        }
        match text("pointer").filter(|pointer| !pointer.is_empty()) {
            Some(pointer) => failed(format!("{detail} ({})", pointer.trim_start_matches('/'))),
            None => failed(detail.to_owned()),
        }
    }
}

/// Whether a certificate is valid, but not for the name in the URL.
fn is_of_name(error: &rustls::Error) -> bool {
    use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
    matches!(
        error,
        rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })
    )
}

/// The header that names the caller.
fn authorization(access: &Access) -> Result<Option<HeaderValue>, Failure> {
    let text = match (&access.account, &access.token) {
        (Some(account), _) if account.contains(':') => {
            format!("Basic {}", STANDARD.encode(account))
        }
        (Some(_), _) => {
            return Err(usage("--account is a name and a secret: NAME:SECRET"));
        }
        (None, Some(token)) => format!("Bearer {token}"),
        (None, None) => return Ok(None),
    };
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| usage("--token has characters that no token has"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// The trusted certificates: those of `--ca`, or the public ones and, for this machine, the one of its own server.
fn trusted(endpoint: &Endpoint, base: &Url) -> Result<RootCertStore, Failure> {
    let files: Vec<PathBuf> = match &endpoint.ca {
        Some(file) => vec![file.clone()],
        None if is_this_machine(base) => own_certificate()?
            .into_iter()
            .chain(transport::public_authorities())
            .collect(),
        None => transport::public_authorities().into_iter().collect(),
    };
    if files.is_empty() {
        return Err(usage(format!(
            "no certificate is trusted for {base}; name a file with one in --ca or DUETIME_CA, such as tls/certificate.pem in the server's data folder"
        )));
    }
    transport::trusted(&files).map_err(|(file, reason)| {
        usage(format!(
            "read the certificates in {}: {reason}",
            file.display()
        ))
    })
}

/// The certificate of the server that the configuration found here describes, if that server has started once.
fn own_certificate() -> Result<Option<PathBuf>, Failure> {
    let sources = ConfigArguments::from_environment()
        .sources()
        .map_err(Failure::Usage)?;
    let config = config::load(&sources).and_then(|settings| settings.resolve());
    let config = config.map_err(usage)?;
    Ok(Some(certificate_file(&config)).filter(|file| file.exists()))
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Whether a problem has the type with this code.
fn is_of(problem: &Value, code: &str) -> bool {
    let kind = problem.get("type").and_then(Value::as_str);
    kind.and_then(|kind| kind.rsplit('/').next()) == Some(code)
}
