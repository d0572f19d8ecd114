//! Reads ids in paths and idempotency keys; [`edge::extract`] reads the rest of a request.

use std::fmt::Display;
use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::response::{IntoResponse, Response};
use edge::extract::{self, PageRows, parse_json, read_body, require_json};
use http::request::Parts;
use http::{HeaderName, HeaderValue};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ApiState;
use super::problem::{Problem, ProblemKind};
use crate::limits::{BODY_BYTES_MAX, PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX, REFERENCE_CHARS_MAX};

pub(super) use edge::extract::{OptionalJson, Page, StrictJson, StrictQuery};

/// The header that names a request that creates something.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A JSON body with the bytes it was read from, for the fingerprint of an idempotent request.
pub(super) struct KeyedJson<T> {
    /// The parsed body.
    pub(super) value: T,
    /// The bytes of the body.
    pub(super) bytes: Bytes,
}

impl<T: DeserializeOwned> FromRequest<ApiState> for KeyedJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Problem> {
        require_json(request.headers())?;
        let bytes = read_body(request, state, BODY_BYTES_MAX).await?;
        let value = parse_json(&bytes)?;
        Ok(Self { value, bytes })
    }
}

/// The last id in the path. A text that is not an id of its kind is answered with 404.
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

/// The last segment of the path, for ids of another system.
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
            let detail =
                "the Idempotency-Key header is missing; it makes a repeated request count once";
            return Err(Problem::new(ProblemKind::IdempotencyKeyMissing, detail));
        };
        let text = value.to_str().unwrap_or_default();
        // The draft standard quotes the key; common practice does not.
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

/// Returns the number of rows of a page.
pub(super) fn page_limit(asked: Option<usize>) -> Result<usize, Problem> {
    let rows = PageRows {
        default: PAGE_ROWS_DEFAULT,
        max: PAGE_ROWS_MAX,
    };
    rows.limit(asked)
}

/// The answer to a request that created something, now or earlier with the same key.
pub(super) struct Created<T> {
    /// What was created.
    pub(super) value: T,
    /// The path at which it can be read.
    pub(super) location: String,
    /// Whether this is the stored answer of an earlier request with the same key.
    pub(super) replayed: bool,
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        let created = extract::Created {
            value: self.value,
            location: self.location,
        };
        marked(created.into_response(), self.replayed)
    }
}

/// The answer to a request that changed something, now or earlier with the same key.
pub(super) struct Changed<T> {
    /// The changed resource.
    pub(super) value: T,
    /// Whether this is the stored answer of an earlier request with the same key.
    pub(super) replayed: bool,
}

impl<T: Serialize> IntoResponse for Changed<T> {
    fn into_response(self) -> Response {
        marked(axum::Json(self.value).into_response(), self.replayed)
    }
}

/// Marks the stored answer of an earlier request.
fn marked(mut response: Response, replayed: bool) -> Response {
    if replayed {
        let name = HeaderName::from_static("idempotency-replayed");
        let value = HeaderValue::from_static("true");
        response.headers_mut().insert(name, value);
    }
    response
}
