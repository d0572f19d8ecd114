//! Defines the messages producers send and consumers receive.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use flate2::read::{GzDecoder, ZlibDecoder};
use grpc_api::v2::{self, Encoding, MessageType, Resource, SystemProperties};

use crate::clock;
use crate::connection::Line;
use crate::digest;
use crate::error::Error;

/// First byte of a gzip stream; some producers say gzip and mean zlib, which begins otherwise.
const GZIP_MAGIC: u8 = 0x1f;
/// Largest unpacked body, in bytes: what Apache RocketMQ lets a client take at most.
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
    /// The message group.
    pub(crate) order: Option<String>,
    delivery: Delivery,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    Now,
    At(SystemTime),
    After(Duration),
}

impl Message {
    /// Of a topic, with a body, to be delivered at once.
    pub fn new(topic: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            body: body.into(),
            tag: None,
            keys: Vec::new(),
            properties: HashMap::new(),
            order: None,
            delivery: Delivery::Now,
        }
    }

    /// With a tag, by which consumers filter.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = Some(tag.into());
        self
    }

    /// With one more key, by which people find it.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// With one more property, which SQL filters see.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }

    /// In a message group: consumers get the messages of one group one by one, in their order.
    #[must_use]
    pub fn message_group(mut self, message_group: impl Into<String>) -> Self {
        self.order = Some(message_group.into());
        self
    }

    /// To be delivered at an instant, to the ms. Of a message in a group, or of a half message of a
    /// transaction, only Duetime takes this.
    #[must_use]
    pub fn deliver_at(mut self, at: SystemTime) -> Self {
        self.delivery = Delivery::At(at);
        self
    }

    /// To be delivered a while after it is sent; see [`Message::deliver_at`].
    #[must_use]
    pub fn deliver_after(mut self, wait: Duration) -> Self {
        self.delivery = Delivery::After(wait);
        self
    }

    /// The type of the message, as its fields tell.
    pub(crate) fn kind(&self) -> MessageType {
        match (&self.order, self.delivery) {
            (Some(_), _) => MessageType::Fifo,
            (None, Delivery::Now) => MessageType::Normal,
            (None, _) => MessageType::Delay,
        }
    }

    /// As it goes out.
    pub(crate) fn outgoing(self, around: Outgoing<'_>) -> v2::Message {
        let now = clock::now();
        let due = match self.delivery {
            Delivery::Now => None,
            Delivery::At(at) => Some(clock::since_epoch(at)),
            Delivery::After(wait) => Some(now.saturating_add(wait)),
        };
        v2::Message {
            topic: Some(around.topic.clone()),
            user_properties: self.properties,
            system_properties: Some(SystemProperties {
                tag: self.tag,
                keys: self.keys,
                message_id: around.message_id,
                body_encoding: Encoding::Identity.into(),
                message_type: around.kind.into(),
                born_timestamp: Some(clock::timestamp(now)),
                born_host: around.host.to_owned(),
                queue_id: around.queue_id,
                delivery_timestamp: due.map(clock::timestamp),
                message_group: self.order,
                orphaned_transaction_recovery_duration: around.check_after.map(clock::duration),
                ..SystemProperties::default()
            }),
            body: self.body,
        }
    }
}

/// What stands around a message when it goes out.
pub(crate) struct Outgoing<'a> {
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
    /// Its id, which its producer gave it.
    pub message_id: String,
    /// Its body, unpacked.
    pub body: Bytes,
    /// Its tag.
    pub tag: Option<String>,
    /// Its keys.
    pub keys: Vec<String>,
    /// The properties its producer gave it.
    pub properties: HashMap<String, String>,
    /// Its message group.
    pub message_group: Option<String>,
    /// How often it was delivered, this time included.
    pub attempt: u32,
    /// When its producer made it, by the producer's clock.
    pub born: Option<SystemTime>,
    /// When the server stored it.
    pub stored: Option<SystemTime>,
    /// When it was due, if it was a delayed message.
    pub due: Option<SystemTime>,
    /// The message queue it lies in.
    pub queue_id: i32,
    /// Its place in that queue.
    pub offset: i64,
    /// Of a dead letter: topic and id of the message it is a copy of.
    pub dead_letter_of: Option<(String, String)>,
    pub(crate) receipt: Receipt,
}

/// What settling a delivery takes.
#[derive(Clone, Debug)]
pub(crate) struct Receipt {
    pub(crate) topic: Resource,
    pub(crate) handle: String,
    pub(crate) line: Arc<Line>,
}

/// A delivery that nobody may get to see, for its body is not what was sent.
#[derive(Debug)]
pub(crate) struct Damaged {
    /// What can be read of it; the body is empty.
    pub(crate) delivery: Received,
    pub(crate) error: Error,
}

impl From<Box<Damaged>> for Error {
    fn from(damaged: Box<Damaged>) -> Self {
        damaged.error
    }
}

impl Received {
    pub(crate) fn read(message: v2::Message, line: &Arc<Line>) -> Result<Self, Box<Damaged>> {
        let body = match &message.system_properties {
            Some(system) => sound(message.body, system),
            None => Err("a message has no system properties".to_owned()),
        };
        let system = message.system_properties.unwrap_or_default();
        let topic = message.topic.unwrap_or_default();
        let (body, wrong) = match body {
            Ok(body) => (body, None),
            Err(wrong) => (Bytes::new(), Some(wrong)),
        };
        let delivery = Self {
            topic: topic.name.clone(),
            body,
            born: system.born_timestamp.as_ref().map(clock::instant),
            stored: system.store_timestamp.as_ref().map(clock::instant),
            due: system.delivery_timestamp.as_ref().map(clock::instant),
            attempt: u32::try_from(system.delivery_attempt()).unwrap_or(1),
            queue_id: system.queue_id,
            offset: system.queue_offset(),
            receipt: Receipt {
                topic,
                handle: system.receipt_handle.unwrap_or_default(),
                line: Arc::clone(line),
            },
            message_id: system.message_id,
            tag: system.tag,
            keys: system.keys,
            properties: message.user_properties,
            message_group: system.message_group,
            dead_letter_of: system
                .dead_letter_queue
                .map(|letter| (letter.topic, letter.message_id)),
        };
        match wrong {
            None => Ok(delivery),
            Some(wrong) => Err(Box::new(Damaged {
                delivery,
                error: Error::Malformed(wrong),
            })),
        }
    }

    /// About the memory it takes, in bytes.
    pub(crate) fn weight(&self) -> usize {
        /// What the fields themselves and their allocations take.
        const REST: usize = 1_024;
        self.body.len() + REST
    }
}

/// The body as its producer made it, or why that cannot be had.
fn sound(body: Bytes, system: &SystemProperties) -> Result<Bytes, String> {
    // The digest is of the body on its way, packed if it is.
    match digest::mismatch(&body, system.body_digest.as_ref()) {
        Some(name) => Err(format!("a body does not fit its {name} digest")),
        None => unpack(body, system.body_encoding()),
    }
}

fn unpack(body: Bytes, encoding: Encoding) -> Result<Bytes, String> {
    if encoding != Encoding::Gzip {
        return Ok(body);
    }
    let mut unpacked = Vec::new();
    let read = if body.first() == Some(&GZIP_MAGIC) {
        GzDecoder::new(&body[..])
            .take(BODY_BYTES_MAX)
            .read_to_end(&mut unpacked)
    } else {
        ZlibDecoder::new(&body[..])
            .take(BODY_BYTES_MAX)
            .read_to_end(&mut unpacked)
    };
    match read {
        Ok(_) => Ok(unpacked.into()),
        Err(error) => Err(format!("a body cannot be unpacked: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use std::io::Write as _;

    #[test]
    fn the_type_is_told_by_the_fields() {
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
    fn everything_goes_out_and_comes_in() {
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
        let outgoing = sent.outgoing(Outgoing {
            topic: &topic,
            kind: MessageType::Fifo,
            message_id: "01AB".to_owned(),
            host: "here",
            queue_id: 3,
            check_after: None,
        });
        let line = Line::new(Vec::new(), None);
        let received = Received::read(outgoing, &line).unwrap();
        assert_eq!(received.due, Some(at));
        assert_eq!(received.keys, ["k1", "k2"]);
        assert_eq!(received.tag.as_deref(), Some("a"));
        assert_eq!(received.properties["p"], "v");
        assert_eq!(received.message_group.as_deref(), Some("g"));
        assert_eq!((received.queue_id, &received.body[..]), (3, &b"body"[..]));
        assert!(Received::read(v2::Message::default(), &line).is_err());
    }

    #[test]
    fn a_damaged_body_is_not_handed_out() {
        let line = Line::new(Vec::new(), None);
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
        let received = Received::read(message(b"hello", Encoding::Identity), &line).unwrap();
        assert_eq!(&received.body[..], b"hello");
        for (body, encoding, why) in [
            (&b"hellp"[..], Encoding::Identity, "MD5"),
            (b"", Encoding::Identity, "MD5"),
            (b"hello", Encoding::Gzip, "unpacked"),
        ] {
            let damaged = Received::read(message(body, encoding), &line).unwrap_err();
            assert!(damaged.delivery.body.is_empty());
            assert_eq!(damaged.delivery.receipt.handle, "handle");
            let error = Error::from(damaged).to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn packed_bodies_are_unpacked() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(b"hello").unwrap();
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(b"hello").unwrap();
        for packed in [gzip.finish().unwrap(), zlib.finish().unwrap()] {
            let unpacked = unpack(packed.into(), Encoding::Gzip).unwrap();
            assert_eq!(&unpacked[..], b"hello");
        }
        assert!(unpack(Bytes::from_static(b"\x1fno"), Encoding::Gzip).is_err());
        assert!(unpack(Bytes::from_static(b"\x1fno"), Encoding::Identity).is_ok());
    }
}
