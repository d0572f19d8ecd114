//! Defines problem documents (RFC 9457), the error answers of the HTTP APIs.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use axum::body::Body;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value};
use utoipa::openapi::{ContentBuilder, RefOr, ResponseBuilder};

/// Media type of a problem document.
pub const PROBLEM_JSON: &str = "application/problem+json";
/// The detail of a failure whose cause is only logged.
const INTERNAL: &str =
    "the server failed; its log has the cause under the X-Request-Id of the answer";

/// The kinds of problems of one API; [`problem_kinds!`](crate::problem_kinds) defines them.
pub trait Kind: Copy + fmt::Debug + PartialEq + Send + Sync + 'static {
    /// Every kind, in the order of the documentation.
    const ALL: &'static [Self];
    /// The `WWW-Authenticate` header of an answer that asks for credentials.
    const CHALLENGE: &'static str;
    /// The page that documents the kinds.
    const PAGE: &'static str;

    /// Returns the kind for a problem of the shared parts.
    fn of(shared: Shared) -> Self;

    /// Returns the stable code; the problem's `type` is `/problems/` followed by it.
    fn code(self) -> &'static str;

    /// The HTTP status.
    fn status(self) -> StatusCode;

    /// The same short sentence for every occurrence.
    fn title(self) -> &'static str;

    /// Returns what the caller can do about it.
    fn help(self) -> &'static str;

    /// The documentation of this kind, in Markdown.
    fn markdown(self) -> String {
        let (code, title, status) = (self.code(), self.title(), self.status().as_u16());
        format!(
            "## /problems/{code}\n\n**{title}** (status {status}). {}\n",
            self.help()
        )
    }
}

/// The problems that the shared parts detect; every API has a kind for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// The request cannot be read.
    MalformedRequest,
    /// Credentials are missing or wrong.
    Unauthenticated,
    /// The API does not have the path.
    NotFound,
    /// The path does not allow the method.
    MethodNotAllowed,
    /// The body is too large.
    PayloadTooLarge,
    /// The body is not JSON.
    UnsupportedMediaType,
    /// A value is not allowed.
    Invalid,
    /// The server has a defect.
    Internal,
    /// Too many requests are under way.
    Overloaded,
    /// The request took too long.
    TimedOut,
}

/// Defines the enum `ProblemKind` of an API: each kind with its code, status, title and help.
#[macro_export]
macro_rules! problem_kinds {
    (
        $visibility:vis enum ProblemKind;
        challenge: $challenge:literal;
        page: $page:literal;
        $($name:ident = $code:literal, $status:ident, $title:literal, $help:literal;)*
    ) => {
        /// The kind of a problem, for programs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $visibility enum ProblemKind {
            $(#[doc = $title] $name,)*
        }

        impl $crate::problem::Kind for ProblemKind {
            const ALL: &'static [Self] = &[$(Self::$name,)*];
            const CHALLENGE: &'static str = $challenge;
            const PAGE: &'static str = $page;

            fn of(shared: $crate::problem::Shared) -> Self {
                match shared {
                    $crate::problem::Shared::MalformedRequest => Self::MalformedRequest,
                    $crate::problem::Shared::Unauthenticated => Self::Unauthenticated,
                    $crate::problem::Shared::NotFound => Self::NotFound,
                    $crate::problem::Shared::MethodNotAllowed => Self::MethodNotAllowed,
                    $crate::problem::Shared::PayloadTooLarge => Self::PayloadTooLarge,
                    $crate::problem::Shared::UnsupportedMediaType => Self::UnsupportedMediaType,
                    $crate::problem::Shared::Invalid => Self::Invalid,
                    $crate::problem::Shared::Internal => Self::Internal,
                    $crate::problem::Shared::Overloaded => Self::Overloaded,
                    $crate::problem::Shared::TimedOut => Self::TimedOut,
                }
            }

            fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            fn status(self) -> ::http::StatusCode {
                match self { $(Self::$name => ::http::StatusCode::$status,)* }
            }

            fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            fn help(self) -> &'static str {
                match self { $(Self::$name => $help,)* }
            }
        }
    };
}

/// An error answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem<K> {
    kind: K,
    detail: String,
    members: Map<String, Value>,
    retry_after_s: Option<u32>,
    /// For the log; the caller does not see it.
    cause: Option<Cause>,
}

/// Why a request failed, for the log; passed in the extensions of the response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause(pub(crate) String);

impl<K: Kind> Problem<K> {
    /// Creates a problem; `detail` says what happened in this case and what would be valid.
    pub fn new(kind: K, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            members: Map::new(),
            retry_after_s: None,
            cause: None,
        }
    }

    /// Creates a problem of the shared parts.
    pub(crate) fn shared(kind: Shared, detail: impl Into<String>) -> Self {
        Self::new(K::of(kind), detail)
    }

    /// Creates the problem of a value that is not allowed, with the JSON pointer of its field.
    pub fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::shared(Shared::Invalid, detail).with("pointer", pointer.into())
    }

    /// Creates the problem of a query parameter that is not allowed.
    pub fn parameter(name: &str, detail: impl Into<String>) -> Self {
        Self::shared(Shared::Invalid, detail).with("parameter", name)
    }

    /// Creates the problem of a failure of the server; the caller does not see its cause.
    pub fn internal(cause: impl Into<String>) -> Self {
        Self::shared(Shared::Internal, INTERNAL).cause(cause.into())
    }

    /// The kind.
    pub fn kind(&self) -> K {
        self.kind
    }

    /// Adds a member for programs.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Puts `prefix` before the pointer, for a value inside a larger document.
    #[must_use]
    pub fn within(mut self, prefix: &str) -> Self {
        if let Some(Value::String(pointer)) = self.members.get_mut("pointer") {
            pointer.insert_str(0, prefix);
        }
        self
    }

    /// Sets the number of seconds after which the same request may succeed.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Sets the cause of the failure, for the log.
    #[must_use]
    pub fn cause(mut self, cause: String) -> Self {
        self.cause = Some(Cause(cause));
        self
    }

    /// The document.
    pub fn to_json(&self) -> Value {
        let mut body = self.members.clone();
        let kind = self.kind;
        let link = format!("/problems/{}", kind.code());
        body.insert("type".to_owned(), link.into());
        body.insert("title".to_owned(), kind.title().into());
        body.insert("status".to_owned(), kind.status().as_u16().into());
        body.insert("detail".to_owned(), self.detail.clone().into());
        Value::Object(body)
    }
}

impl<K: Kind> IntoResponse for Problem<K> {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.to_json().to_string()));
        *response.status_mut() = self.kind.status();
        if let Some(cause) = self.cause {
            response.extensions_mut().insert(cause);
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.kind == K::of(Shared::Unauthenticated) {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(K::CHALLENGE));
        }
        response
    }
}

/// Returns the error answers of every operation, for the OpenAPI document.
#[derive(Debug)]
pub struct Problems<K>(PhantomData<K>);

impl<K: Kind> utoipa::IntoResponses for Problems<K> {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let schema = utoipa::openapi::Ref::from_schema_name("Problem");
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let response = ResponseBuilder::new()
            .description(format!("A problem document; {} lists the types", K::PAGE))
            .content(PROBLEM_JSON, content)
            .build();
        BTreeMap::from([("default".to_owned(), RefOr::T(response))])
    }
}

/// Answers with the documentation of a kind of problem, in Markdown.
pub(crate) async fn explain<K: Kind>(Path(code): Path<String>) -> Result<Response, Problem<K>> {
    let kind = K::ALL.iter().find(|kind| kind.code() == code);
    let Some(kind) = kind else {
        let detail = format!(
            "this type of problem does not exist; {} lists all types",
            K::PAGE
        );
        return Err(Problem::shared(Shared::NotFound, detail));
    };
    let content_type = "text/markdown; charset=utf-8";
    Ok(([(CONTENT_TYPE, content_type)], kind.markdown()).into_response())
}
