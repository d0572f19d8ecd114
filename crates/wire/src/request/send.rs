//! Defines the parameters of a send and of its response.

use crate::code;
use crate::fields::{FieldError, Fields};

/// The names of the parameters, long ones and those of one letter.
struct Names {
    producer_group: &'static str,
    topic: &'static str,
    default_topic: &'static str,
    default_topic_queues: &'static str,
    queue_id: &'static str,
    sys_flag: &'static str,
    born_ms: &'static str,
    flag: &'static str,
    properties: &'static str,
    reconsume_times: &'static str,
    batch: &'static str,
    reconsume_times_max: &'static str,
}

const LONG: Names = Names {
    producer_group: "producerGroup",
    topic: "topic",
    default_topic: "defaultTopic",
    default_topic_queues: "defaultTopicQueueNums",
    queue_id: "queueId",
    sys_flag: "sysFlag",
    born_ms: "bornTimestamp",
    flag: "flag",
    properties: "properties",
    reconsume_times: "reconsumeTimes",
    batch: "batch",
    reconsume_times_max: "maxReconsumeTimes",
};

const SHORT: Names = Names {
    producer_group: "a",
    topic: "b",
    default_topic: "c",
    default_topic_queues: "d",
    queue_id: "e",
    sys_flag: "f",
    born_ms: "g",
    flag: "h",
    properties: "i",
    reconsume_times: "j",
    batch: "m",
    reconsume_times_max: "l",
};

/// A message to store, or several; the body of the request has its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendMessage {
    /// Group of the producer.
    pub producer_group: String,
    /// Topic.
    pub topic: String,
    /// Topic whose route the producer used because `topic` had none, `TBW102`; else the same name, which has no meaning.
    pub default_topic: String,
    /// Number of queues that a topic made by this send is to have.
    pub default_topic_queues: i32,
    /// Queue; less than 0: the broker chooses.
    pub queue_id: i32,
    /// Bits of [`sys_flag`](crate::sys_flag).
    pub sys_flag: i32,
    /// When the producer made the message, in ms since 1970.
    pub born_ms: i64,
    /// A number of the producer's.
    pub flag: i32,
    /// Properties as text; see [`properties`](crate::properties).
    pub properties: String,
    /// How often the message was consumed before; 0 except on retry topics.
    pub reconsume_times: i32,
    /// How often it may be consumed again, if the consumer said so.
    pub reconsume_times_max: Option<i32>,
    /// Whether the body is a [`batch`](crate::batch).
    pub is_batch: bool,
}

impl SendMessage {
    /// Reads the parameters of a request with this code, a send or a reply.
    ///
    /// # Errors
    ///
    /// [`FieldError`] for the first that is missing or wrong.
    pub fn read(code: i32, fields: &Fields) -> Result<Self, FieldError> {
        let is_short = matches!(
            code,
            code::request::SEND_V2 | code::request::SEND_BATCH | code::request::SEND_REPLY_V2
        );
        let names = if is_short { SHORT } else { LONG };
        Ok(Self {
            producer_group: fields.text(names.producer_group)?.to_owned(),
            topic: fields.text(names.topic)?.to_owned(),
            default_topic: fields.text(names.default_topic)?.to_owned(),
            default_topic_queues: fields.number(names.default_topic_queues)?,
            queue_id: fields.number(names.queue_id)?,
            sys_flag: fields.number(names.sys_flag)?,
            born_ms: fields.number(names.born_ms)?,
            flag: fields.number(names.flag)?,
            properties: fields.get(names.properties).unwrap_or_default().to_owned(),
            reconsume_times: fields.number_if_any(names.reconsume_times)?.unwrap_or(0),
            reconsume_times_max: fields.number_if_any(names.reconsume_times_max)?,
            is_batch: code == code::request::SEND_BATCH || fields.flag(names.batch)?,
        })
    }
}

/// What is answered to a producer about a message that was stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SendResponse {
    /// Offset ids of the messages; clients read them, so they must be real ones. A batch has them with commas between.
    pub message_id: String,
    /// Queue the message is in.
    pub queue_id: i32,
    /// Offset of the message in its queue.
    pub queue_offset: i64,
    /// Id of the transaction, of a half message.
    pub transaction_id: Option<String>,
    /// Handle by which the message is cancelled, of one with an instant of delivery.
    pub recall_handle: Option<String>,
}

impl SendResponse {
    /// Writes the parameters. A region and the tracing switch are among them, because Java reads both in any case.
    pub fn write(&self, fields: &mut Fields) {
        fields.set("msgId", &self.message_id);
        fields.set("queueId", self.queue_id);
        fields.set("queueOffset", self.queue_offset);
        if let Some(id) = &self.transaction_id {
            fields.set("transactionId", id);
        }
        if let Some(handle) = &self.recall_handle {
            fields.set("recallHandle", handle);
        }
        fields.set("MSG_REGION", "DefaultRegion");
        fields.set("TRACE_ON", "true");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        pairs.collect()
    }

    #[test]
    fn both_forms_say_the_same() {
        let long = fields(&[
            ("producerGroup", "g"),
            ("topic", "orders"),
            ("defaultTopic", "TBW102"),
            ("defaultTopicQueueNums", "4"),
            ("queueId", "-1"),
            ("sysFlag", "1"),
            ("bornTimestamp", "1700000000000"),
            ("flag", "5"),
            ("properties", "DELAY\u{1}16\u{2}"),
            ("reconsumeTimes", "2"),
            ("batch", "false"),
            ("maxReconsumeTimes", "16"),
        ]);
        let short = fields(&[
            ("a", "g"),
            ("b", "orders"),
            ("c", "TBW102"),
            ("d", "4"),
            ("e", "-1"),
            ("f", "1"),
            ("g", "1700000000000"),
            ("h", "5"),
            ("i", "DELAY\u{1}16\u{2}"),
            ("j", "2"),
            ("k", "false"),
            ("l", "16"),
            ("m", "false"),
            ("n", "broker-a"),
        ]);
        let read = SendMessage::read(code::request::SEND, &long).expect("it is whole");
        assert_eq!(
            SendMessage::read(code::request::SEND_V2, &short),
            Ok(read.clone())
        );
        assert_eq!((read.queue_id, read.reconsume_times_max), (-1, Some(16)));
        let batch = SendMessage::read(code::request::SEND_BATCH, &short).expect("it is whole");
        assert!(batch.is_batch && !read.is_batch);
        assert_eq!(
            SendMessage::read(code::request::SEND_V2, &long),
            Err(FieldError::Missing("a"))
        );
    }

    #[test]
    fn a_response_has_what_java_reads_in_any_case() {
        let mut fields = Fields::default();
        let response = SendResponse {
            message_id: "7F00000100002A9F0000000000000000".to_owned(),
            ..SendResponse::default()
        };
        response.write(&mut fields);
        let names: Vec<_> = fields.iter().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            ["MSG_REGION", "TRACE_ON", "msgId", "queueId", "queueOffset"]
        );
    }
}
