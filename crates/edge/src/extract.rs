//! Reads requests strictly: bodies, query strings and names in paths; and defines the pages of lists.

use axum::body::{Bytes, HttpBody as _};
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Path, Query, Request};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, LOCATION};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use utoipa::ToSchema;

use crate::api::Api;
use crate::object::JsonObject;
use crate::problem::{Kind, Problem, Shared};

/// A JSON body, read strictly: fields that the type does not know are refused.
#[derive(Debug)]
pub struct StrictJson<T>(pub T);

impl<S: Api, T: DeserializeOwned> FromRequest<S> for StrictJson<T> {
    type Rejection = Problem<S::Kind>;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        require_json(request.headers())?;
        let bytes = read_body(request, state, S::BODY_BYTES_MAX).await?;
        parse_json(&bytes).map(Self)
    }
}

/// A JSON body that is optional: an empty body is the default.
#[derive(Debug)]
pub struct OptionalJson<T>(pub T);

impl<S: Api, T: DeserializeOwned + Default> FromRequest<S> for OptionalJson<T> {
    type Rejection = Problem<S::Kind>;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let typed = request.headers().contains_key(CONTENT_TYPE);
        let json = require_json(request.headers());
        let bytes = read_body(request, state, S::BODY_BYTES_MAX).await?;
        if bytes.is_empty() && !typed {
            return Ok(Self(T::default()));
        }
        json?;
        parse_json(&bytes).map(Self)
    }
}

/// Refuses a request whose body is not sent as JSON.
pub fn require_json<K: Kind>(headers: &HeaderMap) -> Result<(), Problem<K>> {
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
    Err(Problem::shared(Shared::UnsupportedMediaType, detail))
}

/// Reads a body of at most `bytes_max` bytes.
pub async fn read_body<S: Api>(
    mut request: Request,
    state: &S,
    bytes_max: usize,
) -> Result<Bytes, Problem<S::Kind>> {
    let too_large = || {
        let detail = format!("the body is larger than {bytes_max} bytes");
        Problem::shared(Shared::PayloadTooLarge, detail)
    };
    if request.body().size_hint().lower() > bytes_max as u64 {
        return Err(too_large());
    }
    DefaultBodyLimit::max(bytes_max).apply(&mut request);
    Bytes::from_request(request, state)
        .await
        .map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                return too_large();
            }
            let detail = "the connection failed while the body was read";
            Problem::shared(Shared::MalformedRequest, detail)
        })
}

/// Reads one JSON object; the problem names the field that is not allowed.
pub fn parse_json<K: Kind, T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem<K>> {
    // The plain reader is twice as fast; the one that tracks the path runs only to find the field of an error.
    if let Ok(JsonObject(value)) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read: Result<JsonObject<T>, _> = serde_path_to_error::deserialize(&mut reader);
    let JsonObject(value) = read.map_err(|error| refused(&error))?;
    reader.end().map_err(|error| {
        let detail = format!("the body is more than one JSON value: {error}");
        Problem::shared(Shared::MalformedRequest, detail)
    })?;
    Ok(value)
}

fn refused<K: Kind>(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem<K> {
    let inner = error.inner();
    if inner.is_data() {
        return Problem::invalid(
            json_pointer(error.path()),
            without_types(&inner.to_string()),
        );
    }
    let detail = format!("the body is not JSON: {inner}");
    Problem::shared(Shared::MalformedRequest, detail)
}

/// Returns an error of serde with the names of Rust's integer types replaced by what they hold.
fn without_types(text: &str) -> String {
    let types = [
        ("u8", "a whole number from 0 to 255"),
        ("u16", "a whole number from 0 to 65,535"),
        ("u32", "a whole number from 0 to 4,294,967,295"),
        ("u64", "a whole number, not negative"),
        ("usize", "a whole number, not negative"),
        ("i32", "a whole number"),
        ("i64", "a whole number"),
    ];
    for (name, shown) in types {
        let wanted = format!("expected {name}");
        if let Some((before, after)) = text.split_once(&wanted)
            && !after.starts_with(|letter: char| letter.is_ascii_alphanumeric())
        {
            return format!("{before}expected {shown}{after}");
        }
    }
    text.to_owned()
}

/// Returns the JSON pointer (RFC 6901) of a path; the empty text is the whole document.
fn json_pointer(path: &serde_path_to_error::Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.extend(["/", &index.to_string()]),
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
#[derive(Debug)]
pub struct StrictQuery<T>(pub T);

impl<S: Api, T: DeserializeOwned> FromRequestParts<S> for StrictQuery<T> {
    type Rejection = Problem<S::Kind>;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(invalid_query(&rejection.body_text())),
        }
    }
}

/// Returns the problem of a query string, with the parameter that is wrong.
fn invalid_query<K: Kind>(message: &str) -> Problem<K> {
    let message = message.trim_start_matches("Failed to deserialize query string: ");
    match message.split_once(": ") {
        Some((name, why)) if !name.contains(' ') => {
            let why = match why {
                "invalid digit found in string" | "cannot parse integer from empty string" => {
                    "it is not a whole number"
                }
                "number too large to fit in target type" => "it is too large",
                why => why,
            };
            Problem::parameter(name, format!("the parameter `{name}` is not valid: {why}"))
        }
        _ => {
            let detail = format!("the query string is not valid: {message}");
            Problem::shared(Shared::Invalid, detail)
        }
    }
}

/// The names in the path, percent-decoded.
#[derive(Debug)]
pub struct Names<T>(pub T);

impl<S: Api, T: DeserializeOwned + Send> FromRequestParts<S> for Names<T> {
    type Rejection = Problem<S::Kind>;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let Path(names) = Path::<T>::from_request_parts(parts, state)
            .await
            .map_err(|error| Problem::shared(Shared::NotFound, error.body_text()))?;
        Ok(Self(names))
    }
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// What to pass as `cursor` for the next page; missing at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// Returns the only page of a short list.
    pub fn whole(items: impl IntoIterator<Item = T>) -> Self {
        Self {
            items: items.into_iter().collect(),
            next_cursor: None,
        }
    }

    /// Returns a page of rows that were found in order, at most `limit` of them. If there are as many, more may follow:
    /// `cursor` names the last one.
    pub fn of<U>(
        found: Vec<U>,
        limit: usize,
        cursor: impl FnOnce(&U) -> String,
        show: impl FnMut(U) -> T,
    ) -> Self {
        let last = found.last().filter(|_| found.len() == limit);
        Self {
            next_cursor: last.map(cursor),
            items: found.into_iter().map(show).collect(),
        }
    }
}

/// The number of rows of a page: by default, and at most.
#[derive(Clone, Copy, Debug)]
pub struct PageRows {
    /// The default.
    pub default: usize,
    /// The maximum.
    pub max: usize,
}

impl PageRows {
    /// Returns the number of rows of a page, from the query parameter `limit`.
    pub fn limit<K: Kind>(self, asked: Option<usize>) -> Result<usize, Problem<K>> {
        let (limit, max) = (asked.unwrap_or(self.default), self.max);
        if (1..=max).contains(&limit) {
            return Ok(limit);
        }
        let detail = format!("limit is {limit}; 1 to {max} are allowed");
        Err(Problem::parameter("limit", detail))
    }
}

/// The answer to a request that created something.
#[derive(Debug)]
pub struct Created<T> {
    /// What was created.
    pub value: T,
    /// The path at which it can be read.
    pub location: String,
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        let mut response = (StatusCode::CREATED, axum::Json(self.value)).into_response();
        if let Ok(location) = HeaderValue::from_str(&self.location) {
            response.headers_mut().insert(LOCATION, location);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    crate::problem_kinds! {
        enum ProblemKind;
        challenge: "Bearer";
        page: "a page";
        MalformedRequest = "malformed_request", BAD_REQUEST, "title", "help";
        Unauthenticated = "unauthenticated", UNAUTHORIZED, "title", "help";
        NotFound = "not_found", NOT_FOUND, "title", "help";
        MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "title", "help";
        PayloadTooLarge = "payload_too_large", PAYLOAD_TOO_LARGE, "title", "help";
        UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "title", "help";
        Invalid = "invalid", UNPROCESSABLE_ENTITY, "title", "help";
        Internal = "internal", INTERNAL_SERVER_ERROR, "title", "help";
        Overloaded = "overloaded", SERVICE_UNAVAILABLE, "title", "help";
        TimedOut = "timed_out", SERVICE_UNAVAILABLE, "title", "help";
    }

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
        let problem = parse_json::<ProblemKind, Body>(body.as_bytes()).unwrap_err();
        let kind = problem.kind().code();
        let text = format!("{problem:?}");
        serde_json::json!({ "kind": kind, "text": text })
    }

    #[test]
    fn numbers_are_asked_for_in_the_words_of_json() {
        for body in [
            r#"{"lines":[{"quantity":-1}]}"#,
            r#"{"lines":[{"quantity":"x"}]}"#,
        ] {
            let text = problem(body)["text"].to_string();
            assert!(
                text.contains("expected a whole number from 0 to 4,294,967,295"),
                "{text}"
            );
        }
        assert_eq!(without_types("expected u642"), "expected u642");
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
