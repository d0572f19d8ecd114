//! Defines the JSON form of messages, and converts it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use broker::{Delivery, Found, Message, MessageHandle, NewMessage, Sent};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::Problem;
use edge::instant::{Clocks, Instant, Span};

/// A message to send. At most one of `at`, `after` and `level` sets its due time; without one it is due now.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = NewMessage)]
pub(super) struct NewMessageBody {
    /// The payload as text.
    #[schema(example = "close order 42")]
    body: Option<String>,
    /// The payload as base64, for bytes that are not text.
    body_base64: Option<String>,
    /// The id of the message; a repeated send with the same id within two minutes is stored once. The broker generates
    /// one if it is absent.
    #[schema(max_length = 255)]
    message_id: Option<String>,
    /// The tag, by which consumers may filter.
    #[schema(example = "created", max_length = 16_384)]
    tag: Option<String>,
    /// Keys by which the message can be found.
    #[schema(example = json!(["order-42"]))]
    keys: Vec<String>,
    /// User properties.
    properties: BTreeMap<String, String>,
    /// Messages of one group are delivered in order, one at a time.
    #[schema(max_length = 64)]
    message_group: Option<String>,
    /// The due time; an instant in the past means now.
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Instant>,
    /// The delay from now: `500ms`, `30s`, `10m`, `2h`, `3d`.
    #[schema(value_type = Option<String>, example = "30m")]
    after: Option<Span>,
    /// The delay level, counted from 1; a level above the last one means the last one.
    level: Option<i32>,
}

impl NewMessageBody {
    /// The field that sets the due time.
    pub(super) fn due_pointer(&self) -> Option<&'static str> {
        let (at, after) = (self.at, self.after);
        Due { at, after }.pointer()
    }

    /// Converts it to a message of the broker.
    pub(super) fn read(self, clocks: Clocks) -> Result<NewMessage, Problem> {
        check_given("/message_id", self.message_id.as_deref())?;
        check_given("/tag", self.tag.as_deref())?;
        check_given("/message_group", self.message_group.as_deref())?;
        let delivery = match (self.level, self.at, self.after) {
            (Some(level), None, None) => Delivery::Level(level),
            (Some(_), _, _) => {
                let detail = "level is given together with at or after; send one of them";
                return Err(Problem::invalid("/level", detail));
            }
            (None, at, after) => Due { at, after }.read(clocks)?.unwrap_or_default(),
        };
        Ok(NewMessage {
            body: payload(self.body, self.body_base64)?.unwrap_or_default(),
            message_id: self.message_id,
            tag: self.tag,
            keys: self.keys,
            properties: self.properties.into_iter().collect(),
            message_group: self.message_group,
            born_ms: clocks.now_ms,
            delivery,
        })
    }
}

/// A due time: one of two fields.
pub(super) struct Due {
    pub(super) at: Option<Instant>,
    pub(super) after: Option<Span>,
}

impl Due {
    /// The field that is given.
    pub(super) fn pointer(&self) -> Option<&'static str> {
        match (self.at, self.after) {
            (Some(_), _) => Some("/at"),
            (None, Some(_)) => Some("/after"),
            (None, None) => None,
        }
    }

    /// Converts it to a time of the broker; none if neither field is given.
    pub(super) fn read(self, clocks: Clocks) -> Result<Option<Delivery>, Problem> {
        match (self.at, self.after) {
            (Some(_), Some(_)) => {
                let detail = "at and after are both given; send one of them";
                Err(Problem::invalid("/after", detail))
            }
            (Some(at), None) => Ok(Some(Delivery::At {
                due_ms: clocks.engine(at),
            })),
            (None, Some(after)) => Ok(Some(Delivery::After { delay_ms: after.ms })),
            (None, None) => Ok(None),
        }
    }

    /// Converts it where one of the fields is required.
    pub(super) fn read_needed(self, clocks: Clocks) -> Result<Delivery, Problem> {
        self.read(clocks)?.ok_or_else(|| {
            let detail =
                "at or after is missing: an instant as in RFC 3339, or a duration such as 30m";
            Problem::invalid("", detail)
        })
    }
}

/// Refuses a text that is given and empty.
pub(super) fn check_given(pointer: &str, text: Option<&str>) -> Result<(), Problem> {
    if text != Some("") {
        return Ok(());
    }
    let name = pointer.trim_start_matches('/');
    let detail = format!("{name} must not be empty; leave it out if there is none");
    Err(Problem::invalid(pointer, detail))
}

/// Returns the payload of the field that is given.
pub(super) fn payload(
    text: Option<String>,
    base64: Option<String>,
) -> Result<Option<bytes::Bytes>, Problem> {
    match (text, base64) {
        (Some(_), Some(_)) => {
            let detail = "body and body_base64 are both given; send one of them";
            Err(Problem::invalid("/body_base64", detail))
        }
        (Some(text), None) => Ok(Some(text.into())),
        (None, Some(base64)) => {
            let bytes = STANDARD.decode(base64).map_err(|error| {
                let detail = format!("body_base64 is not base64: {error}");
                Problem::invalid("/body_base64", detail)
            })?;
            Ok(Some(bytes.into()))
        }
        (None, None) => Ok(None),
    }
}

/// A stored message.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Sent)]
pub(super) struct SentBody {
    /// Its id.
    pub(super) message_id: String,
    /// Its handle, with which it can be recalled or moved.
    pub(super) handle: String,
    /// Its due time.
    #[schema(value_type = String, format = DateTime)]
    pub(super) due_at: Instant,
    /// Whether it was already stored by an earlier send with the same id.
    pub(super) repeated: bool,
}

impl SentBody {
    /// Creates the answer for a sent message; `message_id` is the id that its producer chose.
    pub(super) fn new(sent: Sent, message_id: Option<String>, clocks: Clocks) -> Self {
        Self {
            message_id: message_id.unwrap_or_else(|| sent.made_message_id()),
            handle: sent.handle.to_string(),
            due_at: clocks.wall(sent.due_ms()),
            repeated: sent.repeated,
        }
    }
}

/// A successful recall.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Recalled)]
pub(super) struct RecalledBody {
    /// `cancelled`: it is never delivered.
    #[schema(example = "cancelled")]
    pub(super) outcome: &'static str,
}

/// A message.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Message)]
pub(super) struct MessageBody {
    /// Its id.
    message_id: String,
    /// Its handle, with which it can be recalled or moved while it waits.
    handle: String,
    /// `waiting` until its due time, `due` from then on, whether it has been delivered or not.
    #[schema(example = "waiting")]
    state: &'static str,
    /// Its due time.
    #[schema(value_type = String, format = DateTime)]
    due_at: Instant,
    /// When it was stored.
    #[schema(value_type = String, format = DateTime)]
    stored_at: Instant,
    /// The tag, by which consumers may filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    /// Keys by which it can be found.
    keys: Vec<String>,
    /// User properties.
    properties: BTreeMap<String, String>,
    /// Messages of one group are delivered in order, one at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_group: Option<String>,
    /// The payload, if it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// The payload as base64, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

impl MessageBody {
    /// Creates the answer for a message that was found.
    pub(super) fn of_found(found: &Found, clocks: Clocks) -> Self {
        Self::new(&found.message, found.handle, clocks)
    }

    /// Creates the answer for a message with its handle.
    pub(super) fn new(message: &Message, handle: MessageHandle, clocks: Clocks) -> Self {
        let (body, body_base64) = match std::str::from_utf8(&message.body) {
            Ok(text) => (Some(text.to_owned()), None),
            Err(_) => (None, Some(STANDARD.encode(&message.body))),
        };
        let waits = message.place.due_ms > clocks.now_ms;
        Self {
            message_id: message.message_id.clone(),
            handle: handle.to_string(),
            state: if waits { "waiting" } else { "due" },
            due_at: clocks.wall(message.place.due_ms),
            stored_at: clocks.wall(message.stored_ms),
            tag: message.tag.clone(),
            keys: message.keys.clone(),
            properties: message.properties.iter().cloned().collect(),
            message_group: message.message_group.clone(),
            body,
            body_base64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_text_or_base64_and_never_both() {
        let read = |text: Option<&str>, base64: Option<&str>| {
            payload(text.map(str::to_owned), base64.map(str::to_owned))
        };
        assert_eq!(read(None, None), Ok(None));
        assert_eq!(read(Some("a"), None).unwrap().unwrap(), "a");
        assert_eq!(read(None, Some("/wA=")).unwrap().unwrap(), &[0xff, 0][..]);
        for (text, base64) in [(Some("a"), Some("YQ==")), (None, Some("~"))] {
            let problem = read(text, base64).unwrap_err().to_json();
            assert_eq!(problem["pointer"], "/body_base64");
        }
    }
}
