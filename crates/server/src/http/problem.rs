//! Defines the errors of the JSON API: problem documents (RFC 9457) with a stable type each.

use edge::problem_kinds;
use utoipa::ToSchema;

pub use edge::problem::Kind;

/// An error answer of this API.
pub type Problem = edge::problem::Problem<ProblemKind>;
/// The error answers of every operation.
pub(super) type Problems = edge::problem::Problems<ProblemKind>;

problem_kinds! {
    pub enum ProblemKind;
    challenge: "Basic realm=\"duetime\", Bearer";
    page: "docs/broker-http.md";
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
    MessageIdTaken = "message_id_taken", CONFLICT, "The message id was used for another message",
        "Within two minutes a message id on a topic names one message; a send that repeats it has to hold the same. `message_id` is the id. Choose another, or cancel the first message.";
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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse as _;
    use edge::problem::PROBLEM_JSON;
    use http::header::{CONTENT_TYPE, RETRY_AFTER};

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
