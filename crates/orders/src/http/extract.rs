//! Provides the strict readers of requests: bodies, query strings, path ids and idempotency keys.

use std::fmt::Display;
use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, LOCATION};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use utoipa::ToSchema;

use super::problem::{Problem, ProblemKind};
use crate::limits::{BODY_BYTES_MAX, PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX, REFERENCE_CHARS_MAX};

/// The header that names a request that creates something.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A JSON body, read strictly: fields that the type does not know are refused.
pub(super) struct StrictJson<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for StrictJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        require_json(request.headers())?;
        let bytes = read_body(request, state).await?;
        parse_json(&bytes).map(Self)
    }
}

/// A JSON body that may be left out: nothing at all stands for the default.
pub(super) struct OptionalJson<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for OptionalJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let typed = request.headers().contains_key(CONTENT_TYPE);
        let json = require_json(request.headers());
        let bytes = read_body(request, state).await?;
        if bytes.is_empty() && !typed {
            return Ok(Self(T::default()));
        }
        json?;
        parse_json(&bytes).map(Self)
    }
}

/// A JSON body with the bytes it was read from, for the fingerprint of an idempotent request.
pub(super) struct KeyedJson<T> {
    /// What was read.
    pub(super) value: T,
    /// The body as it came.
    pub(super) bytes: Bytes,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for KeyedJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        require_json(request.headers())?;
        let bytes = read_body(request, state).await?;
        let value = parse_json(&bytes)?;
        Ok(Self { value, bytes })
    }
}

fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media_type = given.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let detail = if given.is_empty() {
        "the request has no Content-Type; send application/json".to_owned()
    } else {
        format!("the Content-Type is `{given}`; send application/json")
    };
    Err(Problem::new(ProblemKind::UnsupportedMediaType, detail))
}

/// Reads the body within the limit that the router sets.
pub(super) async fn read_body<S: Send + Sync>(
    request: Request,
    state: &S,
) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state)
        .await
        .map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                let detail = format!("the body is larger than {BODY_BYTES_MAX} bytes");
                Problem::new(ProblemKind::PayloadTooLarge, detail)
            } else {
                let detail = "the connection broke while the body was read";
                Problem::new(ProblemKind::MalformedRequest, detail)
            }
        })
}

fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // The plain reader is twice as fast; the one that keeps the path is for telling where it went wrong.
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let pointer = json_pointer(error.path());
        let inner = error.into_inner();
        if inner.is_data() {
            Problem::invalid(pointer, inner.to_string())
        } else {
            let detail = format!("the body is not JSON: {inner}");
            Problem::new(ProblemKind::MalformedRequest, detail)
        }
    })?;
    reader.end().map_err(|error| {
        let detail = format!("the body is more than one JSON value: {error}");
        Problem::new(ProblemKind::MalformedRequest, detail)
    })?;
    Ok(value)
}

/// The place in a document as RFC 6901 writes it; the empty text is the whole document.
fn json_pointer(path: &serde_path_to_error::Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => {
                pointer.push('/');
                pointer.push_str(&index.to_string());
            }
            Segment::Map { key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

/// A query string, read strictly: parameters that the type does not know are refused.
pub(super) struct StrictQuery<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for StrictQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => {
                let detail = format!("the query string is not allowed: {}", rejection.body_text());
                Err(Problem::new(ProblemKind::Invalid, detail))
            }
        }
    }
}

/// The last id in the path. A text that is no id of its kind names nothing, so the answer is 404.
pub(super) struct PathId<T>(pub(super) T);

impl<S, T> FromRequestParts<S> for PathId<T>
where
    S: Send + Sync,
    T: FromStr + Send,
    T::Err: Display,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|error| Problem::new(ProblemKind::NotFound, error.body_text()))?;
        match text.parse() {
            Ok(id) => Ok(Self(id)),
            Err(error) => Err(Problem::new(ProblemKind::NotFound, error.to_string())),
        }
    }
}

/// The last text in the path, for ids that another system reads.
pub(super) struct PathText(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for PathText {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|error| Problem::new(ProblemKind::NotFound, error.body_text()))?;
        Ok(Self(text.chars().take(REFERENCE_CHARS_MAX).collect()))
    }
}

/// The `Idempotency-Key` of a request that creates something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IdempotencyKey(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(IDEMPOTENCY_KEY) else {
            let detail = "this request would count twice if it came twice; name it with an Idempotency-Key header";
            return Err(Problem::new(ProblemKind::IdempotencyKeyMissing, detail));
        };
        let text = value.to_str().unwrap_or_default();
        // The draft writes the key as a quoted string; the common practice leaves the quotes out.
        let key = text
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .unwrap_or(text);
        let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
        if key.is_empty() || key.len() > REFERENCE_CHARS_MAX || !visible {
            let detail = format!(
                "the Idempotency-Key must be 1 to {REFERENCE_CHARS_MAX} visible ASCII characters"
            );
            return Err(Problem::new(ProblemKind::MalformedRequest, detail));
        }
        Ok(Self(key.to_owned()))
    }
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page<T> {
    /// What was asked for.
    pub(super) items: Vec<T>,
    /// What to pass as `cursor` for the next page; missing at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A list that is short enough for one page.
    pub(super) fn whole<U: Into<T>>(items: Vec<U>) -> Self {
        Self {
            items: items.into_iter().map(Into::into).collect(),
            next_cursor: None,
        }
    }
}

/// How many rows a page has.
pub(super) fn page_limit(asked: Option<usize>) -> Result<usize, Problem> {
    let limit = asked.unwrap_or(PAGE_ROWS_DEFAULT);
    if (1..=PAGE_ROWS_MAX).contains(&limit) {
        return Ok(limit);
    }
    let detail = format!("limit is {limit}; 1 to {PAGE_ROWS_MAX} are allowed");
    Err(Problem::new(ProblemKind::Invalid, detail).with("parameter", "limit"))
}

/// The answer to a request that created something, or had created it before.
pub(super) struct Created<T> {
    /// What was created.
    pub(super) value: T,
    /// Where it can be read.
    pub(super) location: String,
    /// Whether this is the stored answer of an earlier request with the same key.
    pub(super) replayed: bool,
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        let changed = Changed {
            value: self.value,
            replayed: self.replayed,
        };
        let mut response = changed.into_response();
        *response.status_mut() = StatusCode::CREATED;
        if let Ok(location) = HeaderValue::from_str(&self.location) {
            response.headers_mut().insert(LOCATION, location);
        }
        response
    }
}

/// The answer to a request that changed something once, whether now or when its key came first.
pub(super) struct Changed<T> {
    /// What it has become.
    pub(super) value: T,
    /// Whether this is the stored answer of an earlier request with the same key.
    pub(super) replayed: bool,
}

impl<T: Serialize> IntoResponse for Changed<T> {
    fn into_response(self) -> Response {
        let mut response = axum::Json(self.value).into_response();
        if self.replayed {
            let name = HeaderName::from_static("idempotency-replayed");
            let value = HeaderValue::from_static("true");
            response.headers_mut().insert(name, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Line {
        #[expect(dead_code, reason = "only the reading is tested")]
        quantity: u32,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        #[expect(dead_code, reason = "only the reading is tested")]
        lines: Vec<Line>,
    }

    fn problem(body: &str) -> serde_json::Value {
        let problem = parse_json::<Body>(body.as_bytes()).unwrap_err();
        let kind = problem.kind().code();
        let text = format!("{problem:?}");
        serde_json::json!({ "kind": kind, "text": text })
    }

    #[test]
    fn the_pointer_names_the_field() {
        for (body, kind, pointer) in [
            (
                r#"{"lines":[{"quantity":1},{"quantity":-1}]}"#,
                "invalid",
                "/lines/1/quantity",
            ),
            (
                r#"{"lines":[{"quantity":1,"price":5}]}"#,
                "invalid",
                "/lines/0/price",
            ),
            (r#"{"line":[]}"#, "invalid", "/line"),
            ("{}", "invalid", "\"\""),
            ("{", "malformed_request", ""),
            (r#"{"lines":[]} {}"#, "malformed_request", "more than one"),
        ] {
            let problem = problem(body);
            assert_eq!(problem["kind"], kind, "{body}");
            let text = problem["text"].as_str().unwrap();
            assert!(text.contains(pointer), "{body}: {text}");
        }
    }
}
