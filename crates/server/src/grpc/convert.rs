//! Converts messages of the protocol to messages of the broker and back; protocol types are not used beyond it.
//!
//! Three values of the protocol have no field in a stored message. They are stored as properties whose names
//! begin with [`CARRIED_PREFIX`], which clients cannot set and which consumers do not receive as properties:
//!
//! | property | what | when |
//! |---|---|---|
//! | `__dt_host` | the host of the producer | if the client sends it |
//! | `__dt_trace` | the trace context | if the client sends it |
//! | `__dt_type` | `DELAY` or `TRANSACTION` | for messages of these types; other types follow from the fields |
//!
//! A message of another front end has none of them: its type follows from its message group and from whether
//! it was delayed. Checksums, encodings and offsets are not stored: bodies are stored unpacked, the MD5 is computed for
//! each delivery, and the offset is the sequence of the message, which grows but has gaps.

use std::io::Read;

use broker::clock::Clock;
use broker::{Delivery, Message, NewMessage, ReceiptHandle};
use bytes::Bytes;
use flate2::read::{GzDecoder, ZlibDecoder};
use grpc_api::v2::{
    self, Code, DeadLetterQueue, Digest, DigestType, Encoding, MessageType, Resource,
    SystemProperties,
};
use grpc_api::{Duration, Timestamp};
use md5::{Digest as _, Md5};

use super::limits::{CARRIED_BYTES_MAX, RECOVERY_MS_MAX};
use super::names::namespace::short_name;
use super::status::Problem;
use super::validate;
use crate::carried::CARRIED_PREFIX;
use edge::budget::Share;

const HOST: &str = "__dt_host";
const TRACE: &str = "__dt_trace";
const KIND: &str = "__dt_type";
const KIND_DELAY: &str = "DELAY";
const KIND_TRANSACTION: &str = "TRANSACTION";
const DEAD_LETTER_TOPIC: &str = "DLQ_ORIGIN_TOPIC";
const DEAD_LETTER_ID: &str = "DLQ_ORIGIN_MESSAGE_ID";
/// A message of another front end is a delayed one if it waited for more than this, in ms.
const WAITED_MS: u64 = 1_000;
/// First byte of a gzip stream; a zlib stream begins with another byte.
const GZIP_MAGIC: u8 = 0x1f;
/// A packed body is unpacked, and counted, in parts of so many bytes.
const UNPACKED_PART_BYTES: usize = 64 * 1024;

/// A message from a producer.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) kind: MessageType,
    pub(crate) message: NewMessage,
    /// Of a half message: how long to wait before the producer is asked for the outcome, in ms.
    pub(crate) check_after_ms: Option<u64>,
}

/// Converts a message from a producer.
pub(crate) fn incoming(
    message: v2::Message,
    clock: &dyn Clock,
    body_bytes_max: usize,
    held: &Share,
) -> Result<Incoming, Problem> {
    let system = message.system_properties.unwrap_or_default();
    validate::system_properties(&system)?;
    validate::user_properties(&message.user_properties, &system)?;
    let kind = kind_of(&system)?;
    let body = unpack(message.body, system.body_encoding(), body_bytes_max, held)?;
    validate::body(&body, body_bytes_max)?;
    let delivery = match &system.delivery_timestamp {
        Some(at) => {
            let wall_ms = ms_of(at).ok_or_else(|| illegal_delivery("is out of range"))?;
            Delivery::At {
                due_ms: clock.at_wall_ms(wall_ms),
            }
        }
        None if kind == MessageType::Delay => {
            return Err(illegal_delivery("is missing in a DELAY message"));
        }
        None => Delivery::Now,
    };
    let check_after_ms = match &system.orphaned_transaction_recovery_duration {
        Some(wait) if kind == MessageType::Transaction => recovery_ms(wait)?,
        _ => None,
    };
    let mut properties: Vec<(String, String)> = message.user_properties.into_iter().collect();
    properties.sort_unstable();
    carry(&mut properties, HOST, Some(system.born_host));
    carry(&mut properties, TRACE, system.trace_context);
    carry(&mut properties, KIND, kind_mark(kind).map(str::to_owned));
    let message = NewMessage {
        body,
        message_id: Some(system.message_id),
        tag: system.tag,
        keys: system.keys,
        properties,
        message_group: system.message_group,
        born_ms: system.born_timestamp.as_ref().and_then(ms_of).unwrap_or(0),
        delivery,
    };
    Ok(Incoming {
        kind,
        message,
        check_after_ms,
    })
}

fn illegal_delivery(what: &str) -> Problem {
    Problem::new(
        Code::IllegalDeliveryTime,
        format!("the delivery timestamp {what}"),
    )
}

fn recovery_ms(wait: &Duration) -> Result<Option<u64>, Problem> {
    match ms_of_duration(wait) {
        Some(0) => Ok(None),
        Some(wait_ms) if wait_ms <= RECOVERY_MS_MAX => Ok(Some(wait_ms)),
        _ => Err(Problem::new(
            Code::BadRequest,
            format!(
                "the recovery duration of a transaction is at most {} s",
                RECOVERY_MS_MAX / 1_000
            ),
        )),
    }
}

fn carry(properties: &mut Vec<(String, String)>, name: &str, value: Option<String>) {
    let value = value.filter(|value| !value.is_empty() && value.len() <= CARRIED_BYTES_MAX);
    if let Some(value) = value {
        properties.push((name.to_owned(), value));
    }
}

fn kind_mark(kind: MessageType) -> Option<&'static str> {
    match kind {
        MessageType::Delay => Some(KIND_DELAY),
        MessageType::Transaction => Some(KIND_TRANSACTION),
        _ => None,
    }
}

/// Returns the type that the client sends, or the one that follows from the fields; both must agree.
fn kind_of(system: &SystemProperties) -> Result<MessageType, Problem> {
    let conflict = |message: &str| Problem::new(Code::MessagePropertyConflictWithType, message);
    let grouped = system.message_group.is_some();
    let delayed = system.delivery_timestamp.is_some();
    match system.message_type() {
        MessageType::Unspecified if grouped => Ok(MessageType::Fifo),
        MessageType::Unspecified if delayed => Ok(MessageType::Delay),
        MessageType::Unspecified => Ok(MessageType::Normal),
        MessageType::Normal if grouped || delayed => Err(conflict(
            "a NORMAL message has neither a message group nor a delivery timestamp",
        )),
        MessageType::Fifo if !grouped => Err(Problem::new(
            Code::IllegalMessageGroup,
            "the message group is missing in a FIFO message",
        )),
        MessageType::Transaction if grouped => {
            Err(conflict("a TRANSACTION message has no message group"))
        }
        MessageType::Lite => Err(conflict("LITE messages are not supported")),
        MessageType::Priority => Err(conflict("PRIORITY messages are not supported")),
        // One client sends a delayed message with a message group as DELAY: the group still applies.
        kind => Ok(kind),
    }
}

/// Unpacks a body: bodies are stored unpacked, so that every client can read them.
///
/// What they take unpacked is counted in the budget of requests.
fn unpack(
    body: Bytes,
    encoding: Encoding,
    bytes_max: usize,
    held: &Share,
) -> Result<Bytes, Problem> {
    if encoding != Encoding::Gzip {
        return Ok(body);
    }
    let packed: &[u8] = &body;
    let mut reader: Box<dyn Read + '_> = if packed.first() == Some(&GZIP_MAGIC) {
        Box::new(GzDecoder::new(packed))
    } else {
        Box::new(ZlibDecoder::new(packed))
    };
    let mut unpacked = Vec::new();
    // One byte more than allowed is enough to know that it is too large.
    while unpacked.len() <= bytes_max {
        let left = (bytes_max - unpacked.len()).saturating_add(1);
        let part = std::cmp::min(left, UNPACKED_PART_BYTES);
        let limit = u64::try_from(part).unwrap_or(u64::MAX);
        let read = reader.by_ref().take(limit).read_to_end(&mut unpacked);
        let read = read.map_err(|error| {
            let message = format!("the body cannot be unpacked: {error}");
            Problem::new(Code::MessageCorrupted, message)
        })?;
        if !held.grow(read) {
            let message = "the server holds as many bytes of requests as it may; try again later";
            return Err(Problem::new(Code::TooManyRequests, message));
        }
        if read < part {
            break;
        }
    }
    Ok(unpacked.into())
}

/// What a delivery adds to a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    /// The topic name that the consumer used.
    pub(crate) topic: &'a Resource,
    /// The namespace the client uses; empty if it uses none.
    pub(crate) namespace: &'a str,
    pub(crate) queue: u16,
    /// The delivery attempt and the receipt handle; none for a half message.
    pub(crate) delivery: Option<(u16, &'a ReceiptHandle)>,
    /// How long it stays hidden, in ms.
    pub(crate) invisible_ms: Option<u64>,
    /// The store host shown to people.
    pub(crate) store_host: &'a str,
}

/// Converts a message for a consumer.
pub(crate) fn outgoing(message: &Message, around: Outgoing<'_>) -> v2::Message {
    let property = |wanted: &str| {
        let mut properties = message.properties.iter();
        properties.find_map(|(name, value)| (name == wanted).then(|| value.clone()))
    };
    let kind = match property(KIND).as_deref() {
        Some(KIND_DELAY) => MessageType::Delay,
        Some(KIND_TRANSACTION) => MessageType::Transaction,
        _ if message.message_group.is_some() => MessageType::Fifo,
        _ if message.place.due_ms > message.stored_ms.saturating_add(WAITED_MS) => {
            MessageType::Delay
        }
        _ => MessageType::Normal,
    };
    let dead_letter_queue = property(DEAD_LETTER_TOPIC).map(|topic| DeadLetterQueue {
        topic: short_name(around.namespace, &topic).into_owned(),
        message_id: property(DEAD_LETTER_ID).unwrap_or_default(),
    });
    let born_ms = if message.born_ms == 0 {
        message.stored_ms
    } else {
        message.born_ms
    };
    // Computed once for a message, however many groups it is delivered to.
    let sum = message.digest.get_or_compute(|| md5(&message.body));
    let system = SystemProperties {
        tag: message.tag.clone(),
        keys: message.keys.clone(),
        message_id: message.message_id.clone(),
        body_digest: Some(digest(sum)),
        body_encoding: Encoding::Identity.into(),
        message_type: kind.into(),
        born_timestamp: Some(timestamp_of_ms(born_ms)),
        born_host: property(HOST).unwrap_or_else(|| "unknown".to_owned()),
        store_timestamp: Some(timestamp_of_ms(message.stored_ms)),
        store_host: around.store_host.to_owned(),
        delivery_timestamp: (kind == MessageType::Delay)
            .then(|| timestamp_of_ms(message.place.due_ms)),
        receipt_handle: around.delivery.map(|(_, handle)| handle.to_string()),
        queue_id: i32::from(around.queue),
        queue_offset: Some(offset(message.place.sequence)),
        invisible_duration: around.invisible_ms.map(duration_of_ms),
        delivery_attempt: Some(around.delivery.map_or(1, |(attempt, _)| i32::from(attempt))),
        message_group: message.message_group.clone(),
        trace_context: property(TRACE),
        dead_letter_queue,
        ..SystemProperties::default()
    };
    let shown = message.properties.iter().filter(|(name, _)| is_shown(name));
    v2::Message {
        topic: Some(around.topic.clone()),
        user_properties: shown.cloned().collect(),
        system_properties: Some(system),
        body: message.body.clone(),
    }
}

/// Returns whether a property was set by the user.
pub(crate) fn is_shown(name: &str) -> bool {
    !name.starts_with(CARRIED_PREFIX) && name != DEAD_LETTER_TOPIC && name != DEAD_LETTER_ID
}

fn md5(body: &[u8]) -> [u8; 16] {
    Md5::digest(body).into()
}

/// Returns an MD5 in upper-case hex, which all clients compare; they differ in how they compare other checksums.
fn digest(sum: [u8; 16]) -> Digest {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| {
        DIGITS
            .get(usize::from(nibble))
            .map_or('0', |digit| char::from(*digit))
    };
    Digest {
        r#type: DigestType::Md5.into(),
        checksum: sum
            .iter()
            .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
            .collect(),
    }
}

/// Converts a sequence to the protocol's offset.
pub(crate) fn offset(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}

/// Converts an instant to ms since the Unix epoch, rounded up so that no message is early; one before the epoch counts as 0.
pub(crate) fn ms_of(at: &Timestamp) -> Option<u64> {
    let Ok(seconds) = u64::try_from(at.seconds) else {
        return Some(0);
    };
    let part_ms = u64::try_from(at.nanos).unwrap_or(0).div_ceil(1_000_000);
    seconds.checked_mul(1_000)?.checked_add(part_ms)
}

/// Converts a span to ms, rounded up; `None` if it is negative or too long.
pub(crate) fn ms_of_duration(span: &Duration) -> Option<u64> {
    let seconds = u64::try_from(span.seconds).ok()?;
    let part_ms = u64::try_from(span.nanos).ok()?.div_ceil(1_000_000);
    seconds.checked_mul(1_000)?.checked_add(part_ms)
}

pub(crate) fn timestamp_of_ms(at_ms: u64) -> Timestamp {
    let (seconds, nanos) = split(at_ms);
    Timestamp { seconds, nanos }
}

pub(crate) fn duration_of_ms(span_ms: u64) -> Duration {
    let (seconds, nanos) = split(span_ms);
    Duration { seconds, nanos }
}

fn split(ms: u64) -> (i64, i32) {
    let seconds = i64::try_from(ms / 1_000).unwrap_or(i64::MAX);
    let nanos = i32::try_from(ms % 1_000 * 1_000_000).unwrap_or(0);
    (seconds, nanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker::clock::ManualClock;
    use edge::budget::Budget;
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use std::io::Write;

    fn sent(system: SystemProperties) -> v2::Message {
        v2::Message {
            topic: None,
            user_properties: [("k".to_owned(), "v".to_owned())].into(),
            system_properties: Some(SystemProperties {
                message_id: "01ABC".into(),
                ..system
            }),
            body: Bytes::from_static(b"hello"),
        }
    }

    fn read(system: SystemProperties) -> Result<Incoming, Problem> {
        let held = Budget::new(usize::MAX).hold();
        incoming(sent(system), &ManualClock::new(1_000), 1_024, &held)
    }

    #[test]
    fn delivery_times_are_never_rounded_down() {
        let at = |seconds, nanos| SystemProperties {
            delivery_timestamp: Some(Timestamp { seconds, nanos }),
            ..SystemProperties::default()
        };
        for (seconds, nanos, due_ms) in [(5, 0, 5_000), (5, 1, 5_001), (5, 999_999_999, 6_000)] {
            let incoming = read(at(seconds, nanos)).unwrap();
            assert_eq!(incoming.kind, MessageType::Delay);
            assert_eq!(incoming.message.delivery, Delivery::At { due_ms });
        }
        let past = read(at(-5, 7)).unwrap();
        assert_eq!(past.message.delivery, Delivery::At { due_ms: 0 });
        let problem = read(at(i64::MAX, 0)).unwrap_err();
        assert_eq!(problem.code, Code::IllegalDeliveryTime);
    }

    #[test]
    fn types_and_fields_agree() {
        let system = |kind: MessageType, group: Option<&str>, delayed: bool| SystemProperties {
            message_type: kind.into(),
            message_group: group.map(str::to_owned),
            delivery_timestamp: delayed.then(Timestamp::default),
            ..SystemProperties::default()
        };
        for (kind, group, delayed, expected) in [
            (
                MessageType::Unspecified,
                None,
                false,
                Ok(MessageType::Normal),
            ),
            (
                MessageType::Unspecified,
                Some("g"),
                true,
                Ok(MessageType::Fifo),
            ),
            (MessageType::Fifo, Some("g"), true, Ok(MessageType::Fifo)),
            (MessageType::Delay, Some("g"), true, Ok(MessageType::Delay)),
            (
                MessageType::Transaction,
                None,
                true,
                Ok(MessageType::Transaction),
            ),
            (MessageType::Normal, Some("g"), false, Err(40014)),
            (MessageType::Fifo, None, false, Err(40006)),
            (MessageType::Delay, None, false, Err(40012)),
            (MessageType::Transaction, Some("g"), false, Err(40014)),
            (MessageType::Priority, None, false, Err(40014)),
        ] {
            let read = read(system(kind, group, delayed));
            let read = read.map(|incoming| incoming.kind);
            assert_eq!(read.map_err(|problem| problem.code as i32), expected);
        }
    }

    #[test]
    fn packed_bodies_are_unpacked_within_bounds() {
        let plain = vec![7_u8; 1_000];
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&plain).unwrap();
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(&plain).unwrap();
        for packed in [gzip.finish().unwrap(), zlib.finish().unwrap()] {
            let packed = Bytes::from(packed);
            let held = Budget::new(usize::MAX).hold();
            let unpack = |packed, encoding, bytes_max| unpack(packed, encoding, bytes_max, &held);
            let unpacked = unpack(packed.clone(), Encoding::Gzip, 1_000).unwrap();
            assert_eq!(unpacked, plain);
            let bounded = unpack(packed.clone(), Encoding::Gzip, 999).unwrap();
            assert_eq!(bounded.len(), 1_000, "unpacking stops at the limit");
            let broken = unpack(packed.slice(..10), Encoding::Gzip, 1_000).unwrap_err();
            assert_eq!(broken.code, Code::MessageCorrupted);
        }
    }

    #[test]
    fn digests_are_the_text_clients_compare() {
        assert_eq!(
            digest(md5(b"hello")).checksum,
            "5D41402ABC4B2A76B9719D911017C592"
        );
    }

    #[test]
    fn a_digest_is_computed_once_for_a_message() {
        let message = Message {
            place: broker::Place {
                due_ms: 1,
                sequence: 1,
                level: 0,
            },
            identity: 1,
            message_id: "m".into(),
            tag: None,
            keys: Vec::new(),
            properties: Vec::new(),
            message_group: None,
            born_ms: 0,
            stored_ms: 0,
            body: Bytes::from_static(b"hello"),
            digest: broker::BodyDigest::default(),
        };
        let around = Outgoing {
            topic: &Resource::default(),
            namespace: "",
            queue: 0,
            delivery: None,
            invisible_ms: None,
            store_host: "",
        };
        let first = outgoing(&message, around);
        let again = || panic!("it is kept");
        assert_eq!(message.digest.get_or_compute(again)[0], 0x5d);
        assert_eq!(outgoing(&message.clone(), around), first);
    }
}
