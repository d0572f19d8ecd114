//! Defines the messages producers send and consumers receive.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use flate2::read::{GzDecoder, ZlibDecoder};
use grpc_api::v2::{self, Encoding, MessageType, Resource, SystemProperties};

use crate::connection::Connection;
use crate::digest;
use crate::error::Error;
use crate::timestamp;

/// First byte of a gzip stream; some producers announce gzip and send zlib, which begins with another.
const GZIP_MAGIC: u8 = 0x1f;
/// Largest decompressed body, in bytes: the most that Apache RocketMQ lets a client receive.
const BODY_BYTES_MAX: u64 = 130 * 1024 * 1024;

/// A message to be sent.
///
/// ```
/// use std::time::Duration;
///
/// let reminder = client::Message::new("reminders", "pay order 7")
///     .tag("unpaid")
///     .key("order-7")
///     .property("amount", "500")
///     .deliver_after(Duration::from_secs(1_800));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub(crate) topic: String,
    body: Bytes,
    tag: Option<String>,
    keys: Vec<String>,
    properties: HashMap<String, String>,
    /// The message group, if it is in one.
    pub(crate) group: Option<String>,
    delivery: Delivery,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    Now,
    At(SystemTime),
    After(Duration),
}

impl Message {
    /// A message of a topic, to be delivered at once.
    pub fn new(topic: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            body: body.into(),
            tag: None,
            keys: Vec::new(),
            properties: HashMap::new(),
            group: None,
            delivery: Delivery::Now,
        }
    }

    /// Sets the tag, by which consumers filter.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = Some(tag.into());
        self
    }

    /// Adds a key, by which the message can be looked up.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// Adds a property, which SQL filters see.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }

    /// Sets the message group: the messages of one group are delivered one by one, in order.
    #[must_use]
    pub fn message_group(mut self, message_group: impl Into<String>) -> Self {
        self.group = Some(message_group.into());
        self
    }

    /// Sets the delivery time, with a resolution of 1 ms. For a message in a message group, or in a transaction, only
    /// Duetime accepts this.
    #[must_use]
    pub fn deliver_at(mut self, at: SystemTime) -> Self {
        self.delivery = Delivery::At(at);
        self
    }

    /// Sets the delay between sending and delivery; see [`Message::deliver_at`].
    #[must_use]
    pub fn deliver_after(mut self, wait: Duration) -> Self {
        self.delivery = Delivery::After(wait);
        self
    }

    /// The type of the message, which follows from its fields.
    pub(crate) fn kind(&self) -> MessageType {
        match (&self.group, self.delivery) {
            (Some(_), _) => MessageType::Fifo,
            (None, Delivery::Now) => MessageType::Normal,
            (None, _) => MessageType::Delay,
        }
    }

    /// The protocol form of the message.
    pub(crate) fn into_protocol(self, envelope: Envelope<'_>) -> v2::Message {
        let now = clock::wall::since_epoch();
        let due = match self.delivery {
            Delivery::Now => None,
            Delivery::At(at) => Some(timestamp::since_epoch(at)),
            Delivery::After(wait) => Some(now.saturating_add(wait)),
        };
        v2::Message {
            topic: Some(envelope.topic.clone()),
            user_properties: self.properties,
            system_properties: Some(SystemProperties {
                tag: self.tag,
                keys: self.keys,
                message_id: envelope.message_id,
                body_encoding: Encoding::Identity.into(),
                message_type: envelope.kind.into(),
                born_timestamp: Some(timestamp::timestamp(now)),
                born_host: envelope.host.to_owned(),
                queue_id: envelope.queue_id,
                delivery_timestamp: due.map(timestamp::timestamp),
                message_group: self.group,
                orphaned_transaction_recovery_duration: envelope
                    .check_after
                    .map(timestamp::duration),
                ..SystemProperties::default()
            }),
            body: self.body,
        }
    }
}

/// The fields of an outgoing message that the client adds.
pub(crate) struct Envelope<'a> {
    pub(crate) topic: &'a Resource,
    pub(crate) kind: MessageType,
    pub(crate) message_id: String,
    pub(crate) host: &'a str,
    pub(crate) queue_id: i32,
    pub(crate) check_after: Option<Duration>,
}

/// A message that was received.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Received {
    /// The topic it was sent to.
    pub topic: String,
    /// Its id, made by its producer.
    pub message_id: String,
    /// Its body, decompressed.
    pub body: Bytes,
    /// Its tag.
    pub tag: Option<String>,
    /// Its keys.
    pub keys: Vec<String>,
    /// Its properties.
    pub properties: HashMap<String, String>,
    /// Its message group.
    pub message_group: Option<String>,
    /// Number of this delivery, counted from 1.
    pub attempt: u32,
    /// When its producer created it, by the producer's clock.
    pub born: Option<SystemTime>,
    /// When the server stored it.
    pub stored: Option<SystemTime>,
    /// Its delivery time, if it is a delayed message.
    pub due: Option<SystemTime>,
    /// The message queue it is in.
    pub queue_id: i32,
    /// Its offset in that queue.
    pub offset: i64,
    /// For a dead letter, topic and id of the message it is a copy of.
    pub dead_letter_of: Option<(String, String)>,
    pub(crate) receipt: Receipt,
}

/// What is needed to settle a delivery.
#[derive(Clone, Debug)]
pub(crate) struct Receipt {
    pub(crate) topic: Resource,
    pub(crate) handle: String,
    pub(crate) connection: Arc<Connection>,
}

/// A delivery that is not passed on, since its body is not what was sent.
#[derive(Debug)]
pub(crate) struct Damaged {
    /// The delivery with an empty body.
    pub(crate) delivery: Received,
    pub(crate) error: Error,
}

impl From<Box<Damaged>> for Error {
    fn from(damaged: Box<Damaged>) -> Self {
        damaged.error
    }
}

impl Received {
    pub(crate) fn read(
        message: v2::Message,
        connection: &Arc<Connection>,
    ) -> Result<Self, Box<Damaged>> {
        let body = match &message.system_properties {
            Some(system) => verified_body(message.body, system),
            None => Err("a message has no system properties".to_owned()),
        };
        let system = message.system_properties.unwrap_or_default();
        let topic = message.topic.unwrap_or_default();
        let (body, damage) = match body {
            Ok(body) => (body, None),
            Err(damage) => (Bytes::new(), Some(damage)),
        };
        let delivery = Self {
            topic: topic.name.clone(),
            body,
            born: system.born_timestamp.as_ref().map(timestamp::instant),
            stored: system.store_timestamp.as_ref().map(timestamp::instant),
            due: system.delivery_timestamp.as_ref().map(timestamp::instant),
            attempt: u32::try_from(system.delivery_attempt()).unwrap_or(1),
            queue_id: system.queue_id,
            offset: system.queue_offset(),
            receipt: Receipt {
                topic,
                handle: system.receipt_handle.unwrap_or_default(),
                connection: Arc::clone(connection),
            },
            message_id: system.message_id,
            tag: system.tag,
            keys: system.keys,
            properties: message.user_properties,
            message_group: system.message_group,
            dead_letter_of: system
                .dead_letter_queue
                .map(|origin| (origin.topic, origin.message_id)),
        };
        match damage {
            None => Ok(delivery),
            Some(damage) => Err(Box::new(Damaged {
                delivery,
                error: Error::Malformed(damage),
            })),
        }
    }

    /// Approximate memory use, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        /// The fields without the body, with their allocations.
        const OVERHEAD: usize = 1_024;
        self.body.len() + OVERHEAD
    }
}

/// The body as its producer sent it, or why it cannot be restored.
fn verified_body(body: Bytes, system: &SystemProperties) -> Result<Bytes, String> {
    // The digest covers the body as transmitted, compressed if it is.
    match digest::mismatch(&body, system.body_digest.as_ref()) {
        Some(name) => Err(format!("a body does not match its {name} digest")),
        None => decompress(body, system.body_encoding()),
    }
}

fn decompress(body: Bytes, encoding: Encoding) -> Result<Bytes, String> {
    if encoding != Encoding::Gzip {
        return Ok(body);
    }
    let mut decompressed = Vec::new();
    let read = if body.first() == Some(&GZIP_MAGIC) {
        GzDecoder::new(&body[..])
            .take(BODY_BYTES_MAX)
            .read_to_end(&mut decompressed)
    } else {
        ZlibDecoder::new(&body[..])
            .take(BODY_BYTES_MAX)
            .read_to_end(&mut decompressed)
    };
    match read {
        Ok(_) => Ok(decompressed.into()),
        Err(error) => Err(format!("a body cannot be decompressed: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use std::io::Write as _;

    #[test]
    fn the_type_follows_from_the_fields() {
        let message = || Message::new("t", "b");
        let wait = Duration::from_secs(1);
        for (message, kind) in [
            (message(), MessageType::Normal),
            (message().message_group("g"), MessageType::Fifo),
            (message().deliver_after(wait), MessageType::Delay),
            (
                message().deliver_at(SystemTime::UNIX_EPOCH),
                MessageType::Delay,
            ),
            (
                message().message_group("g").deliver_after(wait),
                MessageType::Fifo,
            ),
        ] {
            assert_eq!(message.kind(), kind, "{message:?}");
        }
    }

    #[test]
    fn every_field_survives_a_round_trip() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_123);
        let topic = Resource {
            resource_namespace: String::new(),
            name: "t".to_owned(),
        };
        let sent = Message::new("t", "body")
            .tag("a")
            .key("k1")
            .key("k2")
            .property("p", "v")
            .message_group("g")
            .deliver_at(at);
        let outgoing = sent.into_protocol(Envelope {
            topic: &topic,
            kind: MessageType::Fifo,
            message_id: "01AB".to_owned(),
            host: "here",
            queue_id: 3,
            check_after: None,
        });
        let connection = Connection::new(Vec::new(), None);
        let received = Received::read(outgoing, &connection).unwrap();
        assert_eq!(received.due, Some(at));
        assert_eq!(received.keys, ["k1", "k2"]);
        assert_eq!(received.tag.as_deref(), Some("a"));
        assert_eq!(received.properties["p"], "v");
        assert_eq!(received.message_group.as_deref(), Some("g"));
        assert_eq!((received.queue_id, &received.body[..]), (3, &b"body"[..]));
        assert!(Received::read(v2::Message::default(), &connection).is_err());
    }

    #[test]
    fn a_damaged_body_is_not_passed_on() {
        let connection = Connection::new(Vec::new(), None);
        let message = |body: &'static [u8], encoding: Encoding| v2::Message {
            body: Bytes::from_static(body),
            system_properties: Some(SystemProperties {
                message_id: "01AB".to_owned(),
                receipt_handle: Some("handle".to_owned()),
                body_encoding: encoding.into(),
                body_digest: Some(v2::Digest {
                    r#type: v2::DigestType::Md5.into(),
                    checksum: "5D41402ABC4B2A76B9719D911017C592".to_owned(),
                }),
                ..SystemProperties::default()
            }),
            ..v2::Message::default()
        };
        let received = Received::read(message(b"hello", Encoding::Identity), &connection).unwrap();
        assert_eq!(&received.body[..], b"hello");
        for (body, encoding, why) in [
            (&b"hellp"[..], Encoding::Identity, "MD5"),
            (b"", Encoding::Identity, "MD5"),
            (b"hello", Encoding::Gzip, "decompressed"),
        ] {
            let damaged = Received::read(message(body, encoding), &connection).unwrap_err();
            assert!(damaged.delivery.body.is_empty());
            assert_eq!(damaged.delivery.receipt.handle, "handle");
            let error = Error::from(damaged).to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn compressed_bodies_are_decompressed() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(b"hello").unwrap();
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(b"hello").unwrap();
        for packed in [gzip.finish().unwrap(), zlib.finish().unwrap()] {
            let decompressed = decompress(packed.into(), Encoding::Gzip).unwrap();
            assert_eq!(&decompressed[..], b"hello");
        }
        assert!(decompress(Bytes::from_static(b"\x1fno"), Encoding::Gzip).is_err());
        assert!(decompress(Bytes::from_static(b"\x1fno"), Encoding::Identity).is_ok());
    }
}
