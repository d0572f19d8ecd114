//! Defines the outcome of a call: converts the errors of the broker to codes of the protocol.

use broker::{Error, Refusal};
use grpc_api::v2::{Code, Status};

/// Why a call, or one entry of it, failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Refused(refusal) => code_of(refusal),
            Error::TooManyPollers { .. } | Error::AnswersFull => Code::TooManyRequests,
            // The outcome is unknown, or the server is stopping: the client retries elsewhere or later.
            _ => Code::InternalError,
        };
        Self::new(code, error.to_string())
    }
}

/// Returns the code that Apache RocketMQ uses for the case.
fn code_of(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::TopicNotFound { .. } => Code::TopicNotFound,
        Refusal::GroupNotFound { .. } | Refusal::NotSubscribed { .. } => {
            Code::ConsumerGroupNotFound
        }
        Refusal::WrongKind { .. } => Code::MessagePropertyConflictWithType,
        Refusal::IdTaken { .. } => Code::IllegalMessageId,
        Refusal::OverLimit { field, .. } | Refusal::Invalid { field, .. } => code_of_field(field),
        // Both end when messages are consumed or dropped: clients retry with a growing back-off.
        Refusal::QuotaReached { .. } | Refusal::DiskReserve { .. } => Code::TooManyRequests,
        Refusal::Handle(_) | Refusal::Expired => Code::InvalidReceiptHandle,
        Refusal::TransactionNotFound | Refusal::TransactionEnded { .. } => {
            Code::InvalidTransactionId
        }
        Refusal::Exists { .. } | Refusal::GroupBusy { .. } | Refusal::TopicInOrder { .. } => {
            Code::BadRequest
        }
        _ => Code::InternalError,
    }
}

fn code_of_field(field: &str) -> Code {
    match field {
        "body" => Code::MessageBodyTooLarge,
        "message_id" => Code::IllegalMessageId,
        "tag" => Code::IllegalMessageTag,
        "key" | "keys" => Code::IllegalMessageKey,
        "message_group" => Code::IllegalMessageGroup,
        "delay in ms" => Code::IllegalDeliveryTime,
        "invisible duration in ms" => Code::IllegalInvisibleTime,
        "topic name" => Code::IllegalTopic,
        "consumer group name" => Code::IllegalConsumerGroup,
        "tags of the filter" => Code::IllegalFilterExpression,
        _ if field.starts_with("properties") => Code::MessagePropertiesTooLarge,
        _ => Code::BadRequest,
    }
}

/// Returns the status of a call that succeeded.
pub(crate) fn ok() -> Status {
    Status {
        code: Code::Ok.into(),
        message: "OK".to_owned(),
    }
}

/// Returns the status of a batch: the one that all entries have, or that they differ.
pub(crate) fn summary<'a>(entries: impl IntoIterator<Item = &'a Status>) -> Status {
    let mut entries = entries.into_iter();
    let Some(first) = entries.next() else {
        return ok();
    };
    if entries.all(|status| status.code == first.code) {
        return first.clone();
    }
    Status {
        code: Code::MultipleResults.into(),
        message: "the entries have different outcomes".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker::TopicKind;

    #[test]
    fn refusals_have_the_codes_of_rocketmq() {
        let over = |field| Refusal::OverLimit {
            field,
            found: 2,
            limit: 1,
        };
        let cases = [
            (Refusal::TopicNotFound { topic: "t".into() }, 40402),
            (Refusal::GroupNotFound { group: "g".into() }, 40403),
            (over("body"), 41301),
            (over("properties, tag and keys in bytes"), 43101),
            (over("delay in ms"), 40012),
            (over("invisible duration in ms"), 40011),
            (Refusal::Expired, 40013),
            (
                Refusal::IdTaken {
                    message_id: "m".into(),
                    ago_s: 1,
                },
                40009,
            ),
            (Refusal::TransactionNotFound, 40008),
            (
                Refusal::WrongKind {
                    topic: "t".into(),
                    expected: TopicKind::Fifo,
                    found: TopicKind::Delay,
                },
                40014,
            ),
        ];
        for (refusal, code) in cases {
            let message = refusal.to_string();
            let problem = Problem::from(Error::Refused(refusal));
            assert_eq!((problem.code as i32, &problem.message), (code, &message));
        }
        let busy = Error::TooManyPollers {
            waiting: 1,
            limit: 1,
        };
        assert_eq!(Problem::from(busy).code as i32, 42900);
        assert_eq!(Problem::from(Error::Failed).code as i32, 50000);
    }

    #[test]
    fn a_batch_has_the_status_of_all_its_entries() {
        let status = |code: Code| Status {
            code: code.into(),
            message: String::new(),
        };
        let of = |codes: &[Code]| {
            let entries: Vec<Status> = codes.iter().map(|code| status(*code)).collect();
            summary(&entries).code()
        };
        assert_eq!(of(&[Code::Ok, Code::Ok]), Code::Ok);
        assert_eq!(of(&[Code::Ok, Code::NotFound]), Code::MultipleResults);
        assert_eq!(of(&[Code::NotFound; 2]), Code::NotFound);
    }
}
