//! Defines the errors of the HTTP API: problem documents (RFC 9457) with a stable type each.

use edge::problem_kinds;
use utoipa::ToSchema;

pub use edge::problem::Kind;

/// An error answer of this API.
pub type Problem = edge::problem::Problem<ProblemKind>;
/// The error answers of every operation.
pub(super) type Problems = edge::problem::Problems<ProblemKind>;

problem_kinds! {
    pub enum ProblemKind;
    challenge: "Bearer";
    page: "docs/problems.md";
    MalformedRequest = "malformed_request", BAD_REQUEST, "The request cannot be read",
        "The body is not JSON, or a query parameter or header cannot be read. `detail` says where. Nothing was done.";
    IdempotencyKeyMissing = "idempotency_key_missing", BAD_REQUEST, "The Idempotency-Key header is missing",
        "Every POST that creates something or changes stock needs an `Idempotency-Key` header: 1 to 128 visible characters, new for each thing to create and the same for each repetition. A UUID is suitable.";
    Unauthenticated = "unauthenticated", UNAUTHORIZED, "The API key is missing or unknown",
        "Send `Authorization: Bearer KEY` with a key of the merchant. Only requests from this machine itself may leave it out.";
    CallbackRejected = "callback_rejected", UNAUTHORIZED, "The callback cannot be verified",
        "The signature does not match the body and the account, or its time differs from now by more than 5 minutes. Nothing was done; the gateway repeats the callback.";
    Forbidden = "forbidden", FORBIDDEN, "Only the operator may do this",
        "Merchants, API keys and the global pause belong to the operator: call from this machine without a key, or with the operator's key.";
    MissingScope = "missing_scope", FORBIDDEN, "The API key has not the scope for this",
        "The key may do less than this: `read` is for every GET, `refund` for refunds, `admin` for coupon rules, gateway accounts, pauses and the settling of attempts by hand, `write` for the rest. Use another key of the merchant.";
    NotFound = "not_found", NOT_FOUND, "The resource does not exist",
        "No resource has this id, or it belongs to another merchant, or the API does not have the path.";
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "The path does not allow this method",
        "The `Allow` header lists the methods that the path allows.";
    OrderState = "order_state", CONFLICT, "The order's state does not allow this",
        "Another request or a timer changed the order first: `state` is its current state. Read the order again, then decide.";
    DeadlineReached = "deadline_reached", CONFLICT, "The order's deadline has been reached",
        "From its deadline on an order accepts no payment and its deadline cannot be extended. Create a new order.";
    Duplicate = "duplicate", CONFLICT, "The number is taken",
        "The merchant already has a resource with this number or name. A repeated request has the same Idempotency-Key and gets the first answer instead.";
    InsufficientStock = "insufficient_stock", CONFLICT, "There is not enough stock",
        "`available` units can be held now. Order fewer, or later: unpaid orders release their stock when they close.";
    CouponUnusable = "coupon_unusable", CONFLICT, "The coupon cannot be used",
        "It is held by another order, used, expired, or not for this buyer or currency; `detail` says which.";
    RefundState = "refund_state", CONFLICT, "The refund's state does not allow this",
        "`state` is the refund's current state. Only a refund that needs an operator can be tried again, withdrawn or settled by hand; `detail` says what was in the way.";
    AttemptState = "attempt_state", CONFLICT, "The payment attempt's state does not allow this",
        "`state` is the attempt's current state. Only an attempt without a final answer can be asked about again, and one that succeeded cannot be settled by hand.";
    Settled = "settled", CONFLICT, "It was settled before",
        "It was settled with another reference, or the gateway reported the money again so that it could be recorded. Read it again.";
    AttemptNotPayable = "attempt_not_payable", CONFLICT, "The attempt cannot be paid",
        "Only from the simulated gateway: the attempt is closed, expired or paid. `forced` pays nevertheless, which simulates a payment that arrives too late.";
    RefundTooLarge = "refund_too_large", CONFLICT, "The refund exceeds the payment",
        "`left` minor units of the payment have not been refunded. Request at most that amount.";
    IdempotencyInFlight = "idempotency_in_flight", CONFLICT, "The same request is still being answered",
        "A request with the same Idempotency-Key has not been answered yet. Repeat this one after `Retry-After` seconds to get its answer.";
    CursorExpired = "cursor_expired", GONE, "The cursor has expired",
        "Events after the cursor are no longer kept, or the database was restored from a backup, so some would be missed. Read the orders themselves, then begin with `after=latest` or without a cursor.";
    PayloadTooLarge = "payload_too_large", PAYLOAD_TOO_LARGE, "The body is too large",
        "`detail` names the limit. Nothing was read beyond it.";
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The body is not sent as JSON",
        "Send `Content-Type: application/json`.";
    Invalid = "invalid", UNPROCESSABLE_ENTITY, "A value is not allowed",
        "`pointer` is the JSON pointer of the field, or `parameter` the name of the query parameter; `detail` says what is wrong and what is allowed. Unknown fields are refused too.";
    IdempotencyKeyReused = "idempotency_key_reused", UNPROCESSABLE_ENTITY, "The Idempotency-Key was used for another request",
        "The key was used earlier with another path or body. Use a new key for a new request.";
    GatewayRefused = "gateway_refused", UNPROCESSABLE_ENTITY, "The payment gateway refused the attempt",
        "The gateway refuses this attempt; `detail` has its reason. It cannot be paid. Start another attempt once the reason is resolved.";
    TooManyRequests = "too_many_requests", TOO_MANY_REQUESTS, "The merchant has too many requests under way",
        "Wait `Retry-After` seconds, then repeat with the same Idempotency-Key, with fewer requests at a time.";
    Internal = "internal", INTERNAL_SERVER_ERROR, "The server failed",
        "The server's log has the cause under the `X-Request-Id` of the answer. Whether the request took effect is not known: repeat it with the same Idempotency-Key.";
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "The platform is temporarily unavailable",
        "The platform is starting or stopping, its database does not answer, or the broker has taken no messages for so long that no order is accepted. Repeat after `Retry-After` seconds with the same Idempotency-Key.";
    InsufficientStorage = "insufficient_storage", INSUFFICIENT_STORAGE, "The disk is full",
        "The database has no room on its disk. Nothing was done. Repeat with the same Idempotency-Key once the operator has made room.";
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, "The server has too many requests under way",
        "Nothing was done. Repeat after `Retry-After` seconds.";
    TimedOut = "timed_out", SERVICE_UNAVAILABLE, "The request took too long",
        "Whether it took effect is not known: repeat it with the same Idempotency-Key, or read the resource.";
}

/// An error answer as the OpenAPI document describes it.
#[derive(Debug, ToSchema)]
#[schema(as = Problem)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct ProblemBody {
    /// `/problems/` followed by the stable code.
    #[schema(example = "/problems/not_found")]
    r#type: String,
    /// A short sentence, the same for every occurrence.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What happened in this case.
    detail: String,
    /// JSON pointer of the field that is not allowed.
    pointer: Option<String>,
    /// The order's current state, if that is the reason.
    state: Option<String>,
}

/// Returns the documentation of every kind of problem, in Markdown: docs/problems.md.
pub fn problems_markdown() -> String {
    let mut text = String::from(
        "# Problem types\n\nErrors of the HTTP API are problem documents (RFC 9457, `application/problem+json`). `type` is one of the\n\
         paths below and stable; `title` and `status` belong to it; `detail` describes this occurrence in text. A running\n\
         platform serves the explanation of each type at its path.\n",
    );
    for kind in ProblemKind::ALL {
        text.push('\n');
        text.push_str(&kind.markdown());
    }
    text
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
        let problem = Problem::invalid("/lines/0/quantity", "0 is too few").retry_after(3);
        let body = problem.to_json();
        let expected = serde_json::json!({
            "type": "/problems/invalid",
            "title": "A value is not allowed",
            "status": 422,
            "detail": "0 is too few",
            "pointer": "/lines/0/quantity",
        });
        assert_eq!(body, expected);
        let response = problem.into_response();
        assert_eq!(response.headers()[CONTENT_TYPE], PROBLEM_JSON);
        assert_eq!(response.headers()[RETRY_AFTER], "3");
    }

    #[test]
    fn the_documentation_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/problems.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, problems_markdown()).unwrap();
            return;
        }
        assert!(
            written == problems_markdown(),
            "docs/problems.md is out of date; run the tests of `orders` with UPDATE_DOCS=1"
        );
    }
}
