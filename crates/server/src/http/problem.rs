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
        "Send `Authorization: Basic` with the name and the secret of an account, or `Authorization: Bearer` with a token. Only callers on the same machine need none, and only if no accounts are configured.";
    Forbidden = "forbidden", FORBIDDEN, "The account may not do this",
        "`detail` names what is not allowed. Ask the operator for the permission.";
    NotFound = "not_found", NOT_FOUND, "The path does not exist",
        "The API does not have this path; /openapi.json lists its paths.";
    TopicNotFound = "topic_not_found", NOT_FOUND, "The topic does not exist",
        "Create it with `POST /v1/topics`, or check its name; `%` in a name is written `%25` in a path.";
    GroupNotFound = "group_not_found", NOT_FOUND, "The consumer group does not exist",
        "Create it with `POST /v1/groups`; the first receive creates it too.";
    MessageNotFound = "message_not_found", NOT_FOUND, "The message does not exist",
        "It was never sent, was cancelled, or was due so long ago that it is no longer kept. `outcome` is `unknown`.";
    TransactionNotFound = "transaction_not_found", NOT_FOUND, "The transaction does not exist",
        "It was never begun, or ended so long ago that its outcome is no longer known.";
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "The path does not allow this method",
        "The `Allow` header lists the methods that the path allows.";
    TooLate = "too_late", CONFLICT, "The message is already due",
        "The message is due, whether it has been delivered or not: it is not cancelled and not moved. `outcome` is `too_late`, `due_at` when it was due.";
    Ambiguous = "ambiguous", CONFLICT, "Several messages have this id",
        "More than one waiting message has this id. Use the `handle` of the one you mean.";
    ReceiptExpired = "receipt_expired", CONFLICT, "The receipt is no longer valid",
        "The message was delivered again or settled, or its group was reset. If the work is done, the message may be delivered once more.";
    Exists = "exists", CONFLICT, "The name exists with other settings",
        "A topic or group of this name exists with other settings than requested. Read it with GET, or choose another name.";
    TransactionEnded = "transaction_ended", CONFLICT, "The transaction has ended",
        "It was committed or rolled back before; `detail` says which. Nothing was changed.";
    PlatformOwned = "platform_owned", CONFLICT, "The order platform uses it",
        "The order platform of this process loses messages that way: its orders then close late. Add `?force=platform` if that is meant. Nothing was changed.";
    InUse = "in_use", CONFLICT, "The setting cannot be changed now",
        "`detail` says what keeps it: `in_flight` and `retrying` messages of a group, or `messages` of a topic. Nothing was changed.";
    MessageIdTaken = "message_id_taken", CONFLICT, "The message id was used for another message",
        "Within two minutes a message id identifies one message of a topic; a repeated send must have the same content. `message_id` is the id. Choose another, or cancel the first message.";
    PayloadTooLarge = "payload_too_large", PAYLOAD_TOO_LARGE, "The body is too large",
        "`detail` names the limit. Nothing was read beyond it.";
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The body is not sent as JSON",
        "Send `Content-Type: application/json`.";
    Invalid = "invalid", UNPROCESSABLE_ENTITY, "A value is not allowed",
        "`pointer` is the JSON pointer of the field, or `parameter` the name of the query parameter; `detail` says what is wrong and what is allowed. Unknown fields are refused too.";
    OverLimit = "over_limit", UNPROCESSABLE_ENTITY, "A limit is exceeded",
        "`found` is the requested value, `limit` the largest allowed one.";
    WrongTopicKind = "wrong_topic_kind", UNPROCESSABLE_ENTITY, "The topic does not accept such messages",
        "A topic holds messages of one kind: with a delay, with a message group, or plain ones. Send to a topic of the right kind, or to a MIXED one.";
    TooManyPollers = "too_many_pollers", TOO_MANY_REQUESTS, "Too many receivers are waiting",
        "Nothing was delivered. Repeat after `Retry-After` seconds, or wait with fewer receivers at a time.";
    Internal = "internal", INTERNAL_SERVER_ERROR, "The server failed",
        "The server's log has the cause under the `X-Request-Id` of the answer. Whether the request took effect is not known.";
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "The broker is unavailable",
        "The broker is stopping, or its store has failed. Whether a send under way was stored is not known: repeat it with the same `message_id` after `Retry-After` seconds.";
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, "The server has too many requests under way",
        "Nothing was done. Repeat after `Retry-After` seconds.";
    TimedOut = "timed_out", SERVICE_UNAVAILABLE, "The request took too long",
        "Whether it took effect is not known.";
    QuotaReached = "quota_reached", INSUFFICIENT_STORAGE, "The topic is full",
        "The topic holds as many bytes as its quota allows. It accepts messages again when old ones are dropped.";
    DiskFull = "disk_full", INSUFFICIENT_STORAGE, "The disk is nearly full",
        "New messages are refused below a reserve of free space; receiving and acknowledging go on, which frees space.";
}

/// An error answer as the OpenAPI document describes it.
#[derive(Debug, ToSchema)]
#[schema(as = Problem)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct ProblemBody {
    /// `/problems/` followed by the stable code.
    #[schema(example = "/problems/topic_not_found")]
    r#type: String,
    /// A short sentence, the same for every occurrence.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What happened in this case.
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
