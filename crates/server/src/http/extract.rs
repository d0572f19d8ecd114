//! Provides the strict readers of requests: bodies, query strings, paths; and the pages of lists.

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

use super::ApiState;
use super::limits::{
    MESSAGE_REQUEST_BYTES_MAX, PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX, REQUEST_BYTES_MAX,
};
use super::problem::{Problem, ProblemKind};

/// A JSON body, read strictly: fields that the type does not know are refused.
pub(super) struct StrictJson<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<ApiState> for StrictJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Problem> {
        require_json(request.headers())?;
        let bytes = read_body(request, state, REQUEST_BYTES_MAX).await?;
        parse_json(&bytes).map(Self)
    }
}

/// A JSON body that carries messages, which may be large.
pub(super) struct MessageJson<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<ApiState> for MessageJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Problem> {
        require_json(request.headers())?;
        let announced = request.body().size_hint().upper();
        let expected = announced.and_then(|bytes| usize::try_from(bytes).ok());
        let expected = std::cmp::min(
            expected.unwrap_or(MESSAGE_REQUEST_BYTES_MAX),
            MESSAGE_REQUEST_BYTES_MAX,
        );
        // Held while the body and what is read from it are both in memory.
        let _place = state.admission().body(expected)?;
        let bytes = read_body(request, state, MESSAGE_REQUEST_BYTES_MAX).await?;
        parse_json(&bytes).map(Self)
    }
}

/// A JSON body that may be left out: nothing at all stands for the default.
pub(super) struct OptionalJson<T>(pub(super) T);

impl<T: DeserializeOwned + Default> FromRequest<ApiState> for OptionalJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Problem> {
        let typed = request.headers().contains_key(CONTENT_TYPE);
        let json = require_json(request.headers());
        let bytes = read_body(request, state, REQUEST_BYTES_MAX).await?;
        if bytes.is_empty() && !typed {
            return Ok(Self(T::default()));
        }
        json?;
        parse_json(&bytes).map(Self)
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

async fn read_body(
    mut request: Request,
    state: &ApiState,
    bytes_max: usize,
) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("the body is larger than {bytes_max} bytes");
        Problem::new(ProblemKind::PayloadTooLarge, detail)
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
            let detail = "the connection broke while the body was read";
            Problem::new(ProblemKind::MalformedRequest, detail)
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
pub(super) struct StrictQuery<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for StrictQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(wrong_query(&rejection.body_text())),
        }
    }
}

/// Says what is wrong with a query string, and with which of its parameters.
fn wrong_query(words: &str) -> Problem {
    let words = words.trim_start_matches("Failed to deserialize query string: ");
    match words.split_once(": ") {
        Some((name, why)) if !name.contains(' ') => {
            let detail = format!("the parameter `{name}` is not allowed so: {why}");
            Problem::new(ProblemKind::Invalid, detail).with("parameter", name)
        }
        _ => {
            let detail = format!("the query string is not allowed: {words}");
            Problem::new(ProblemKind::Invalid, detail)
        }
    }
}

/// The names in the path, percent-decoded.
pub(super) struct Names<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Names<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(names) = Path::<T>::from_request_parts(parts, state)
            .await
            .map_err(|error| Problem::new(ProblemKind::NotFound, error.body_text()))?;
        Ok(Self(names))
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

/// How many rows a page has.
pub(super) fn page_limit(asked: Option<usize>) -> Result<usize, Problem> {
    let limit = asked.unwrap_or(PAGE_ROWS_DEFAULT);
    if (1..=PAGE_ROWS_MAX).contains(&limit) {
        return Ok(limit);
    }
    let detail = format!("limit is {limit}; 1 to {PAGE_ROWS_MAX} are allowed");
    Err(Problem::parameter("limit", detail))
}

/// The page of sorted names that begins behind the name `cursor`.
pub(super) fn page_of_names(
    names: Vec<String>,
    cursor: Option<&str>,
    limit: usize,
) -> Page<String> {
    let start = cursor.map_or(0, |cursor| {
        names.partition_point(|name| name.as_str() <= cursor)
    });
    let more = names.len() > start.saturating_add(limit);
    let items: Vec<_> = names.into_iter().skip(start).take(limit).collect();
    let next_cursor = items.last().filter(|_| more).cloned();
    Page { items, next_cursor }
}

/// The answer to a request that created something.
pub(super) struct Created<T> {
    /// What was created.
    pub(super) value: T,
    /// Where it can be read.
    pub(super) location: String,
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

/// A name as a segment of a path.
pub(super) fn segment(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.extend(["%", &format!("{byte:02X}")]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_names_go_on_behind_the_cursor() {
        let names = || ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        let page = page_of_names(names(), None, 2);
        assert_eq!(page.items, ["a", "b"]);
        assert_eq!(page.next_cursor.as_deref(), Some("b"));
        // A name that has gone meanwhile is as good a place to go on from.
        let page = page_of_names(names(), Some("bb"), 2);
        assert_eq!(
            (page.items, page.next_cursor),
            (vec!["c".to_owned(), "d".to_owned()], None)
        );
        assert!(page_of_names(names(), Some("z"), 2).items.is_empty());
    }

    #[test]
    fn names_are_written_safely_into_paths() {
        assert_eq!(segment("%DLQ%a|b.c/d"), "%25DLQ%25a%7Cb.c%2Fd");
    }
}
