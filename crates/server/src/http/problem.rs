//! Defines the errors of the JSON API: problem documents (RFC 9457) with a stable type each.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa::openapi::{ContentBuilder, RefOr, ResponseBuilder};

/// Media type of a problem document.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

macro_rules! problem_kinds {
    ($($name:ident = $code:literal, $status:ident, $title:literal, $help:literal;)*) => {
        /// What went wrong, as a machine tells it apart.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ProblemKind {
            $(#[doc = $title] $name,)*
        }

        impl ProblemKind {
            /// Every kind, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable code; the problem's `type` is `/problems/` and this.
            pub fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The HTTP status.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// The same short sentence for every occurrence.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// What to do about it.
            pub fn help(self) -> &'static str {
                match self { $(Self::$name => $help,)* }
            }
        }
    };
}

problem_kinds! {
    MalformedRequest = "malformed_request", BAD_REQUEST, "The request cannot be read",
        "The body is not JSON, or a header cannot be read; `detail` says where. Nothing was done.";
    Unauthenticated = "unauthenticated", UNAUTHORIZED, "The credentials are missing or wrong",
        "Send `Authorization: Basic` with the name and the secret of an account, or `Authorization: Bearer` with a token. Only callers on this machine may leave it out, and only where no accounts are asked for.";
    Forbidden = "forbidden", FORBIDDEN, "The account may not do this",
        "`detail` names what is not allowed. Ask whoever keeps the accounts.";
    NotFound = "not_found", NOT_FOUND, "There is no such thing",
        "The path is none of the API's; /openapi.json lists those it has.";
    TopicNotFound = "topic_not_found", NOT_FOUND, "The topic does not exist",
        "Create it with `POST /v1/topics`, or check its name; `%` in a name is written `%25` in a path.";
    GroupNotFound = "group_not_found", NOT_FOUND, "The consumer group does not exist",
        "Create it with `POST /v1/groups`, or let it come into being with its first receive.";
    MessageNotFound = "message_not_found", NOT_FOUND, "There is no such message",
        "It was never sent, was cancelled, or was due so long ago that it is not kept any more. `outcome` is `unknown`.";
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "The path does not take this method",
        "The `Allow` header lists the methods that the path takes.";
    TooLate = "too_late", CONFLICT, "Its time has come",
        "The message is due, whether somebody has read it or not: it is not cancelled and not moved. `outcome` is `too_late`, `due_at` when it was due.";
    Ambiguous = "ambiguous", CONFLICT, "Several messages have this id",
        "More than one message that waits has this id. Name the one you mean by its `handle`.";
    ReceiptExpired = "receipt_expired", CONFLICT, "The receipt does not hold any more",
        "The message was delivered again, was finished, or its group was reset since. If the work is done, expect to see the message once more.";
    Exists = "exists", CONFLICT, "It exists with other settings",
        "A topic or group of this name is there and differs from what was asked for. Look at it with GET, or choose another name.";
    PayloadTooLarge = "payload_too_large", PAYLOAD_TOO_LARGE, "The body is too large",
        "`detail` names the limit. Nothing was read beyond it.";
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The body is not sent as JSON",
        "Send `Content-Type: application/json`.";
    Invalid = "invalid", UNPROCESSABLE_ENTITY, "A value is not allowed",
        "`pointer` is the JSON pointer of the field, or `parameter` the name of the query parameter; `detail` says what is wrong and what would be right. Fields that the API does not know are refused too.";
    OverLimit = "over_limit", UNPROCESSABLE_ENTITY, "A limit is exceeded",
        "`found` is what was asked for, `limit` the most that is allowed.";
    WrongTopicKind = "wrong_topic_kind", UNPROCESSABLE_ENTITY, "The topic does not hold such messages",
        "A topic holds messages of one kind: with a delay, with a message group, or plain ones. Send to a topic of the right kind, or to a MIXED one.";
    TooManyPollers = "too_many_pollers", TOO_MANY_REQUESTS, "Too many receivers wait already",
        "Nothing was delivered. Repeat after `Retry-After` seconds, or wait with fewer receivers at a time.";
    Internal = "internal", INTERNAL_SERVER_ERROR, "Something broke on our side",
        "The server's log has the cause under the `X-Request-Id` of the answer. Whether the request took effect is not known.";
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "The broker is away",
        "The broker stops, or its store has failed. Whether a send under way was stored is not known: repeat it with the same `message_id` after `Retry-After` seconds.";
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, "The server has too much under way",
        "Nothing was done. Repeat after `Retry-After` seconds.";
    TimedOut = "timed_out", SERVICE_UNAVAILABLE, "The request took too long",
        "Whether it took effect is not known.";
    QuotaReached = "quota_reached", INSUFFICIENT_STORAGE, "The topic is full",
        "The topic holds as many bytes as its quota allows. It takes messages again when old ones are dropped.";
    DiskFull = "disk_full", INSUFFICIENT_STORAGE, "The disk is nearly full",
        "New messages stop at a reserve of free space; receiving and acknowledging go on, so that the disk heals.";
}

/// An error answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    kind: ProblemKind,
    detail: String,
    members: Map<String, Value>,
    retry_after_s: Option<u32>,
    /// What the log is to say and the caller is not to see.
    cause: Option<Cause>,
}

/// Why a request failed, for the log; travels in the extensions of the response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cause(pub(super) String);

impl Problem {
    /// A problem; `detail` says what happened this time, to what, and what would be right.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            members: Map::new(),
            retry_after_s: None,
            cause: None,
        }
    }

    /// A value that is not allowed, with the JSON pointer of its field.
    pub fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::Invalid, detail).with("pointer", pointer.into())
    }

    /// A query parameter that is not allowed.
    pub fn parameter(name: &str, detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::Invalid, detail).with("parameter", name)
    }

    /// What went wrong.
    pub fn kind(&self) -> ProblemKind {
        self.kind
    }

    /// Adds a member that a program can use.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Puts `prefix` before the pointer, for a value that lies within a larger document.
    #[must_use]
    pub(super) fn within(mut self, prefix: &str) -> Self {
        if let Some(Value::String(pointer)) = self.members.get_mut("pointer") {
            pointer.insert_str(0, prefix);
        }
        self
    }

    /// Says after how many seconds the same request may work.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Notes for the log why the request failed.
    pub(super) fn cause(mut self, cause: String) -> Self {
        self.cause = Some(Cause(cause));
        self
    }

    /// The document.
    pub(super) fn to_json(&self) -> Value {
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

impl IntoResponse for Problem {
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
        if self.kind == ProblemKind::Unauthenticated {
            let schemes = HeaderValue::from_static("Basic realm=\"duetime\", Bearer");
            headers.insert(WWW_AUTHENTICATE, schemes);
        }
        response
    }
}

/// An error answer as the OpenAPI document describes it.
#[derive(Debug, ToSchema)]
#[schema(as = Problem)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct ProblemBody {
    /// `/problems/` and the stable code.
    #[schema(example = "/problems/topic_not_found")]
    r#type: String,
    /// The same short sentence for every occurrence.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What happened this time.
    detail: String,
    /// JSON pointer of the field that is not allowed.
    pointer: Option<String>,
    /// Name of the query parameter that is not allowed.
    parameter: Option<String>,
    /// Of a recall or a move that did not happen: `too_late` or `unknown`.
    outcome: Option<String>,
}

/// The error answers of every operation.
pub(super) struct Problems;

impl utoipa::IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let schema = utoipa::openapi::Ref::from_schema_name("Problem");
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let response = ResponseBuilder::new()
            .description("A problem document; docs/broker-http.md lists the types")
            .content(PROBLEM_JSON, content)
            .build();
        BTreeMap::from([("default".to_owned(), RefOr::T(response))])
    }
}

impl ProblemKind {
    /// The documentation of this kind, in Markdown.
    pub(super) fn markdown(self) -> String {
        let (code, title, status) = (self.code(), self.title(), self.status().as_u16());
        format!(
            "## /problems/{code}\n\n**{title}** (status {status}). {}\n",
            self.help()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_errors_have_error_statuses() {
        let mut codes: Vec<_> = ProblemKind::ALL.iter().map(|kind| kind.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), ProblemKind::ALL.len());
        for kind in ProblemKind::ALL {
            let status = kind.status();
            assert!(status.is_client_error() || status.is_server_error());
        }
    }

    #[test]
    fn a_problem_document_has_the_standard_members_and_its_own() {
        let problem = Problem::invalid("/tag", "it is empty")
            .within("/messages/3")
            .retry_after(3);
        let expected = serde_json::json!({
            "type": "/problems/invalid",
            "title": "A value is not allowed",
            "status": 422,
            "detail": "it is empty",
            "pointer": "/messages/3/tag",
        });
        assert_eq!(problem.to_json(), expected);
        let response = problem.into_response();
        assert_eq!(response.headers()[CONTENT_TYPE], PROBLEM_JSON);
        assert_eq!(response.headers()[RETRY_AFTER], "3");
    }
}
