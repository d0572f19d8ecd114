//! Converts the errors of the broker to problem documents.

use broker::{Error, Refusal};

use super::ApiState;
use super::problem::{Problem, ProblemKind};
use edge::admission::overloaded;
use edge::instant::Span;

/// The `Retry-After` when the broker is unavailable or has too many receivers, in s.
const RETRY_AFTER_S: u32 = 1;
/// The `Retry-After` when the topic or the disk is full, in s.
const ROOM_RETRY_AFTER_S: u32 = 30;

/// Converts an error of the broker; a delay that is too long points to the field that gave it.
pub(super) fn of_delay(error: Error, pointer: Option<&'static str>) -> Problem {
    let is_of_delay = matches!(
        error,
        Error::Refused(Refusal::OverLimit {
            field: "delay in ms",
            ..
        })
    );
    let problem = of_broker(error);
    match pointer.filter(|_| is_of_delay) {
        Some(pointer) => problem.with("pointer", pointer),
        None => problem,
    }
}

/// Fields that are measured in bytes.
const IN_BYTES: [&str; 7] = [
    "topic name",
    "consumer group name",
    "body",
    "message_id",
    "tag",
    "message_group",
    "key",
];

/// Converts an error of the broker.
pub(super) fn of_broker(error: Error) -> Problem {
    let detail = error.to_string();
    match error {
        Error::Refused(refusal) => of_refusal(refusal, detail),
        Error::TooManyPollers { .. } => {
            Problem::new(ProblemKind::TooManyPollers, detail).retry_after(RETRY_AFTER_S)
        }
        Error::AnswersFull => overloaded(detail),
        // Failed, Stopped, and later errors that end the broker.
        _ => Problem::new(ProblemKind::Unavailable, detail).retry_after(RETRY_AFTER_S),
    }
}

fn of_refusal(refusal: Refusal, detail: String) -> Problem {
    match refusal {
        Refusal::TopicNotFound { topic } => {
            let hint = format!("{detail}; create it with POST /v1/topics");
            Problem::new(ProblemKind::TopicNotFound, hint).with("topic", topic)
        }
        Refusal::GroupNotFound { group } | Refusal::NotSubscribed { group, .. } => {
            Problem::new(ProblemKind::GroupNotFound, detail).with("group", group)
        }
        Refusal::Exists { .. } => Problem::new(ProblemKind::Exists, detail),
        Refusal::GroupBusy { open, retrying, .. } => Problem::new(ProblemKind::InUse, detail)
            .with("in_flight", open)
            .with("retrying", retrying),
        Refusal::TopicInOrder { messages, .. } => {
            Problem::new(ProblemKind::InUse, detail).with("messages", messages)
        }
        Refusal::TooFine {
            step_ms,
            resolution_ms,
        } => {
            let (step, resolution) = (Span { ms: step_ms }, Span { ms: resolution_ms });
            let detail = format!(
                "step is {step}; in this stretch messages are counted in spans of {resolution}"
            );
            Problem::parameter("step", detail).with("resolution", resolution.to_string())
        }
        Refusal::IdTaken { message_id, .. } => {
            Problem::new(ProblemKind::MessageIdTaken, detail).with("message_id", message_id)
        }
        Refusal::WrongKind { .. } => Problem::new(ProblemKind::WrongTopicKind, detail),
        Refusal::OverLimit {
            field,
            found,
            limit,
        } => over_limit(field, found, limit),
        Refusal::Invalid { field, reason } => {
            let detail = format!("{} {reason}", shown(field));
            match (field, pointer_of(field)) {
                // In the path.
                ("topic", _) => Problem::parameter(field, detail),
                (_, Some(pointer)) => Problem::invalid(pointer, detail),
                (_, None) => Problem::new(ProblemKind::Invalid, detail),
            }
        }
        Refusal::QuotaReached { .. } => {
            Problem::new(ProblemKind::QuotaReached, detail).retry_after(ROOM_RETRY_AFTER_S)
        }
        Refusal::DiskReserve { .. } => {
            Problem::new(ProblemKind::DiskFull, detail).retry_after(ROOM_RETRY_AFTER_S)
        }
        Refusal::Handle(_) => Problem::new(ProblemKind::MessageNotFound, detail),
        Refusal::MessageNotFound => message_not_found(detail),
        Refusal::TransactionNotFound => Problem::new(ProblemKind::TransactionNotFound, detail),
        Refusal::TransactionEnded { .. } => Problem::new(ProblemKind::TransactionEnded, detail),
        Refusal::Expired => Problem::new(ProblemKind::ReceiptExpired, detail),
        _ => Problem::internal(detail),
    }
}

fn over_limit(field: &str, found: u64, limit: u64) -> Problem {
    let detail = if let Some(what) = field.strip_suffix(" in ms") {
        let (found, limit) = (about(found), about(limit));
        format!("the {what} is {found}; at most {limit} is allowed")
    } else if IN_BYTES.contains(&field) {
        format!("{field} has {found} bytes; at most {limit} are allowed")
    } else {
        format!("{} is {found}; the most allowed is {limit}", shown(field))
    };
    let problem = Problem::new(ProblemKind::OverLimit, detail)
        .with("found", found)
        .with("limit", limit);
    match pointer_of(field) {
        Some(pointer) => problem.with("pointer", pointer),
        None => problem,
    }
}

/// Writes a span of time for people.
fn about(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Returns the name of a field of the broker as it is in a request.
fn shown(field: &str) -> &str {
    match field {
        "backoff_ms" => "the number of steps of backoff",
        "messages_max" => "max",
        "tags of the filter" => "the number of tags",
        field => field,
    }
}

/// Returns the JSON pointer of a field of the broker, if it has one place in a request.
fn pointer_of(field: &str) -> Option<&'static str> {
    Some(match field {
        "topic name" | "consumer group name" => "/name",
        "queues" => "/queues",
        "attempts_max" => "/attempts_max",
        "backoff_ms" | "backoff in ms" => "/backoff",
        "body" => "/body",
        "message_id" => "/message_id",
        "tag" => "/tag",
        "message_group" => "/message_group",
        "keys" | "key" => "/keys",
        "properties" | "properties, tag and keys in bytes" => "/properties",
        "messages_max" => "/max",
        "invisible duration in ms" => "/invisible_for",
        "tags of the filter" => "/tags",
        _ => return None,
    })
}

/// Returns the problem of a message that does not exist.
pub(super) fn message_not_found(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::MessageNotFound, detail).with("outcome", "unknown")
}

/// Returns the problem of a message that is already due.
pub(super) fn too_late(state: &ApiState, due_ms: u64) -> Problem {
    let due_at = state.clocks().wall(due_ms).to_string();
    let detail = format!("the message was due at {due_at}: nothing was changed");
    Problem::new(ProblemKind::TooLate, detail)
        .with("outcome", "too_late")
        .with("due_at", due_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_reported_with_its_numbers_and_its_pointer() {
        let refusal = Refusal::OverLimit {
            field: "tag",
            found: 200,
            limit: 128,
        };
        let body = of_broker(Error::Refused(refusal)).to_json();
        assert_eq!(body["type"], "/problems/over_limit");
        assert_eq!((&body["found"], &body["limit"]), (&200.into(), &128.into()));
        assert_eq!(body["pointer"], "/tag");
        assert_eq!(body["detail"], "tag has 200 bytes; at most 128 are allowed");
        let refusal = Refusal::OverLimit {
            field: "delay in ms",
            found: 45_000 * 86_400_000,
            limit: 3_660 * 86_400_000,
        };
        let body = of_broker(Error::Refused(refusal)).to_json();
        let expected = "the delay is 45000 days; at most 3660 days is allowed";
        assert_eq!(body["detail"], expected);
    }

    #[test]
    fn an_unavailable_broker_has_a_retry_after_and_a_defect_has_no_cause() {
        let problem = of_broker(Error::Stopped);
        assert_eq!(problem.kind(), ProblemKind::Unavailable);
        let failed = broker::StoreError::Failed {
            action: "writes a transaction",
            source: "it is gone".into(),
        };
        let problem = of_broker(Error::Refused(Refusal::Store(failed)));
        assert_eq!(problem.kind(), ProblemKind::Internal);
        assert!(!problem.to_json().to_string().contains("transaction"));
    }
}
