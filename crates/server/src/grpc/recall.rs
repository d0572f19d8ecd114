//! Recalls delayed messages, and reports whether that was in time.
//!
//! A recall handle is the broker's handle, a dot, and the message id: the answer has to repeat the id, and the
//! broker cannot look it up by the handle of a cancelled message. It is opaque to clients.

use broker::{MessageHandle, Recall};
use grpc_api::v2::{Code, RecallMessageRequest, RecallMessageResponse};

use super::Shared;
use super::peer::Peer;
use super::status::{Problem, ok};

/// Returns the recall handle of a delayed message.
pub(crate) fn recall_handle(handle: &MessageHandle, message_id: &str) -> String {
    format!("{handle}.{message_id}")
}

pub(super) fn parts_of(text: &str) -> Result<(MessageHandle, &str), Problem> {
    let (handle, message_id) = text.split_once('.').unwrap_or((text, ""));
    match handle.parse() {
        Ok(handle) => Ok((handle, message_id)),
        Err(_) => Err(Problem::new(
            Code::BadRequest,
            "the recall handle is not one of this broker",
        )),
    }
}

impl Shared {
    pub(crate) async fn recall(
        &self,
        peer: &Peer,
        request: RecallMessageRequest,
    ) -> Result<RecallMessageResponse, Problem> {
        let topic = peer.topic_name(request.topic.as_ref())?;
        peer.may_publish(&topic)?;
        let (handle, message_id) = parts_of(&request.recall_handle)?;
        self.check_topic(&topic, handle.topic).await?;
        match self.broker.recall(handle).await? {
            Recall::Cancelled => Ok(RecallMessageResponse {
                status: Some(ok()),
                message_id: message_id.to_owned(),
            }),
            // Apache RocketMQ answers the same. No other outcome of a recall has this code.
            Recall::TooLate => Err(Problem::new(
                Code::InternalServerError,
                "too late to recall: the message is already due",
            )),
            Recall::Unknown => Err(Problem::new(
                Code::NotFound,
                "the message does not exist: it was never stored, or is no longer kept",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_carry_the_message_id() {
        let mut handle: MessageHandle = MessageHandle {
            topic: 3,
            queue: 1,
            place: broker::Place {
                due_ms: 5,
                sequence: 6,
                level: 0,
            },
            identity: 6,
        };
        handle.identity = 4;
        let text = recall_handle(&handle, "01.AB");
        assert_eq!(parts_of(&text).unwrap(), (handle, "01.AB"));
        assert_eq!(parts_of(&handle.to_string()).unwrap(), (handle, ""));
        for text in ["", ".", "x", "x.y", "\u{e9}.y"] {
            assert_eq!(parts_of(text).unwrap_err().code, Code::BadRequest, "{text}");
        }
    }
}
