//! Provides calls of the broker's JSON API.

use std::time::Duration;

use reqwest::{Method, StatusCode, Url};
use serde_json::Value;

use super::{Access, List, failed, usage};
use crate::Failure;

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call may take; a long poll takes a minute at the most.
const CALL_TIMEOUT: Duration = Duration::from_secs(100);
/// Rows asked for at a time.
const PAGE_ROWS: usize = 200;

/// A client of one broker.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    credentials: Option<Credentials>,
}

enum Credentials {
    Password { name: String, secret: String },
    Token(String),
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
            .filter(|url| url.scheme() == "http" && url.has_host())
            .ok_or_else(|| {
                usage(format!(
                    "--server {server:?} is no address as http://127.0.0.1:8082 is one"
                ))
            })?;
        let credentials = match (&access.account, &access.token) {
            (Some(account), _) => {
                let (name, secret) = account.split_once(':').ok_or_else(|| {
                    usage("--account is a name and a secret: NAME:SECRET".to_owned())
                })?;
                Some(Credentials::Password {
                    name: name.to_owned(),
                    secret: secret.to_owned(),
                })
            }
            (None, Some(token)) => Some(Credentials::Token(token.clone())),
            (None, None) => None,
        };
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .no_proxy()
            .build()
            .map_err(|error| Failure::Work(error.into()))?;
        Ok(Self {
            http,
            base,
            credentials,
        })
    }

    /// Calls, and tells a refusal apart.
    pub(super) async fn try_call(
        &self,
        method: Method,
        place: &Place,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let mut request = self.http.request(method, self.url(place)?);
        request = match &self.credentials {
            Some(Credentials::Password { name, secret }) => request.basic_auth(name, Some(secret)),
            Some(Credentials::Token(token)) => request.bearer_auth(token),
            None => request,
        };
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let text = response
            .text()
            .await
            .map_err(|error| self.unreachable(&error))?;
        let value = match text.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).map_err(|_| {
                failed(format!(
                    "{} is no broker's HTTP API: it answered {status}",
                    self.base
                ))
            })?,
        };
        if status.is_success() {
            Ok(Answer::Done(value))
        } else {
            Ok(Answer::Refused(status, value))
        }
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

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let base = &self.base;
        if error.is_connect() {
            return failed(format!(
                "no broker's HTTP API answers at {base}; is `duetime serve` running? --server or DUETIME_URL names another"
            ));
        }
        if error.is_timeout() {
            return failed(format!("the broker at {base} did not answer in time"));
        }
        failed(format!(
            "the connection to {base} broke; if that is not the broker's HTTP API, `duetime serve` prints where it is (http.listen)"
        ))
    }
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
