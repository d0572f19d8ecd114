//! Defines the rows on disk: their keys, their values, the version byte and the checksum.
//!
//! docs/format.md draws what this file writes. Keys are big-endian, so that the order of bytes is the
//! order of due times. Every value starts with the format version and ends with a CRC-32 of the bytes
//! before it.

use bytes::Bytes;

use crate::format::codec::{Reader, put_bytes, put_varint};
use crate::format::message_id::made_message_id;
use crate::ids::{GroupId, TopicId};
use crate::message::{BodyDigest, Message, NewMessage};
use crate::place::Place;
use crate::store::{Space, StoreError};

/// Format of the values this version writes; it reads this one and older ones.
pub const FORMAT: u8 = 2;

const CHECKSUM_BYTES: usize = 4;

/// Appends a value: version, what `encode` writes, checksum.
pub(crate) fn seal(buffer: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>)) {
    let start = buffer.len();
    buffer.push(FORMAT);
    encode(buffer);
    let checksum = crc32fast::hash(buffer.get(start..).unwrap_or_default());
    buffer.extend_from_slice(&checksum.to_le_bytes());
}

/// Checks a value and reads it.
pub(crate) fn open<T>(
    space: Space,
    key: &[u8],
    value: &Bytes,
    decode: impl FnOnce(&mut Reader) -> Result<T, &'static str>,
) -> Result<T, StoreError> {
    let damaged = |reason| StoreError::Damaged {
        space,
        key: hex(key),
        reason,
    };
    let split = value
        .len()
        .checked_sub(CHECKSUM_BYTES)
        .ok_or_else(|| damaged("it is too short"))?;
    let (content, checksum) = (value.slice(..split), value.slice(split..));
    if checksum.as_ref() != crc32fast::hash(&content).to_le_bytes() {
        return Err(damaged("its checksum does not match"));
    }
    let mut reader = Reader::new(content);
    reader.read_format().map_err(damaged)?;
    let format = reader.format();
    if format > FORMAT {
        return Err(StoreError::Newer {
            space,
            key: hex(key),
            found: format,
            supported: FORMAT,
        });
    }
    let decoded = decode(&mut reader).map_err(damaged)?;
    if reader.is_empty() {
        Ok(decoded)
    } else {
        Err(damaged("it is too long"))
    }
}

fn hex(key: &[u8]) -> String {
    use std::fmt::Write as _;
    key.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

const HAS_TAG: u8 = 1;
const HAS_GROUP: u8 = 2;
const HAS_ID: u8 = 4;
const WAS_MOVED: u8 = 8;

/// What a message row holds, borrowed from wherever the message comes from.
pub(crate) struct MessageFields<'a> {
    pub(crate) place: Place,
    pub(crate) identity: u64,
    pub(crate) message_id: Option<&'a str>,
    pub(crate) tag: Option<&'a str>,
    pub(crate) keys: &'a [String],
    pub(crate) properties: &'a [(String, String)],
    pub(crate) message_group: Option<&'a str>,
    pub(crate) born_ms: u64,
    pub(crate) stored_ms: u64,
    pub(crate) body: &'a [u8],
}

impl<'a> MessageFields<'a> {
    pub(crate) fn of_new(message: &'a NewMessage, place: Place, stored_ms: u64) -> Self {
        Self {
            place,
            identity: place.sequence,
            message_id: message.message_id.as_deref(),
            tag: message.tag.as_deref(),
            keys: &message.keys,
            properties: &message.properties,
            message_group: message.message_group.as_deref(),
            born_ms: message.born_ms,
            stored_ms,
            body: &message.body,
        }
    }

    pub(crate) fn of_stored(message: &'a Message, place: Place) -> Self {
        Self {
            place,
            identity: message.identity,
            message_id: Some(&message.message_id),
            tag: message.tag.as_deref(),
            keys: &message.keys,
            properties: &message.properties,
            message_group: message.message_group.as_deref(),
            born_ms: message.born_ms,
            stored_ms: message.stored_ms,
            body: &message.body,
        }
    }

    /// Appends the whole value of a message row.
    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        seal(buffer, |buffer| self.encode_bare(buffer));
    }

    /// Appends the fields only, for a record that holds more than a message.
    pub(crate) fn encode_bare(&self, buffer: &mut Vec<u8>) {
        let moved = self.identity != self.place.sequence;
        let flag = |present: bool, bit: u8| if present { bit } else { 0 };
        buffer.push(
            flag(self.tag.is_some(), HAS_TAG)
                | flag(self.message_group.is_some(), HAS_GROUP)
                | flag(self.message_id.is_some(), HAS_ID)
                | flag(moved, WAS_MOVED),
        );
        if moved {
            put_varint(buffer, self.identity);
        }
        put_varint(buffer, self.stored_ms);
        put_varint(buffer, self.born_ms);
        for text in [self.message_id, self.tag, self.message_group]
            .into_iter()
            .flatten()
        {
            put_bytes(buffer, text.as_bytes());
        }
        put_varint(buffer, self.keys.len() as u64);
        for key in self.keys {
            put_bytes(buffer, key.as_bytes());
        }
        put_varint(buffer, self.properties.len() as u64);
        for (name, value) in self.properties {
            put_bytes(buffer, name.as_bytes());
            put_bytes(buffer, value.as_bytes());
        }
        put_bytes(buffer, self.body);
    }
}

pub(crate) fn read_message(
    reader: &mut Reader,
    queue: u16,
    place: Place,
) -> Result<Message, &'static str> {
    let flags = reader.u8()?;
    let identity = if flags & WAS_MOVED == 0 {
        place.sequence
    } else {
        reader.varint()?
    };
    let stored_ms = reader.varint()?;
    let born_ms = reader.varint()?;
    let mut text_if = |bit: u8| {
        if flags & bit == 0 {
            Ok(None)
        } else {
            reader.text().map(Some)
        }
    };
    let message_id = text_if(HAS_ID)?;
    let tag = text_if(HAS_TAG)?;
    let message_group = text_if(HAS_GROUP)?;
    let mut keys = Vec::new();
    for _ in 0..reader.length()? {
        keys.push(reader.text()?);
    }
    let mut properties = Vec::new();
    for _ in 0..reader.length()? {
        properties.push((reader.text()?, reader.text()?));
    }
    let body = reader.bytes()?;
    let message_id = message_id.unwrap_or_else(|| made_message_id(queue, place));
    Ok(Message {
        place,
        identity,
        message_id,
        tag,
        keys,
        properties,
        message_group,
        born_ms,
        stored_ms,
        body,
        digest: BodyDigest::default(),
    })
}

/// Decodes a message row.
pub(crate) fn open_message(
    queue: u16,
    place: Place,
    key: &[u8],
    value: &Bytes,
) -> Result<Message, StoreError> {
    open(Space::Partition(place.partition()), key, value, |reader| {
        read_message(reader, queue, place)
    })
}

/// The record each commit carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The next sequence to give.
    pub(crate) next_sequence: u64,
    /// Nothing past this instant has been shown, and nothing is written at or below it after a restart.
    pub(crate) floor_ms: u64,
    /// The next topic id to give.
    pub(crate) next_topic: TopicId,
    /// The next group id to give.
    pub(crate) next_group: GroupId,
}

impl Head {
    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        seal(buffer, |buffer| {
            put_varint(buffer, self.next_sequence);
            put_varint(buffer, self.floor_ms);
            put_varint(buffer, u64::from(self.next_topic));
            put_varint(buffer, u64::from(self.next_group));
        });
    }

    pub(crate) fn read(reader: &mut Reader) -> Result<Self, &'static str> {
        let id =
            |reader: &mut Reader| u32::try_from(reader.varint()?).map_err(|_| "an id is too large");
        Ok(Self {
            next_sequence: reader.count()?,
            floor_ms: reader.count()?,
            next_topic: id(reader)?,
            next_group: id(reader)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_row_comes_back_and_damage_is_told() {
        let message = NewMessage {
            body: Bytes::from_static(b"pay me"),
            message_id: Some("m-1".into()),
            tag: Some("t".into()),
            keys: vec!["k".into()],
            properties: vec![("a".into(), "b".into())],
            message_group: Some("g".into()),
            born_ms: 5,
            ..NewMessage::default()
        };
        let place = Place {
            due_ms: 10,
            sequence: 3,
            level: 1,
        };
        let mut value = Vec::new();
        MessageFields::of_new(&message, place, 6).encode(&mut value);
        let read =
            open_message(2, place, b"k", &Bytes::from(value.clone())).expect("an intact row");
        assert_eq!(
            (read.body.as_ref(), read.identity, read.stored_ms),
            (b"pay me".as_ref(), 3, 6)
        );
        assert_eq!(
            (read.message_id.as_str(), read.message_group.as_deref()),
            ("m-1", Some("g"))
        );

        for index in 0..value.len() {
            let mut damaged = value.clone();
            damaged[index] ^= 0x10;
            let error =
                open_message(2, place, b"k", &Bytes::from(damaged)).expect_err("a flipped bit");
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        }
        assert!(open_message(2, place, b"k", &Bytes::from(value[..9].to_vec())).is_err());
    }

    #[test]
    fn a_newer_format_is_refused_with_its_number() {
        let mut value = vec![FORMAT + 1, 0];
        let checksum = crc32fast::hash(&value);
        value.extend_from_slice(&checksum.to_le_bytes());
        let error =
            open(Space::Meta, b"k", &Bytes::from(value), |_| Ok(())).expect_err("a newer format");
        assert!(
            matches!(
                error,
                StoreError::Newer {
                    found: 3,
                    supported: 2,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn a_value_of_the_first_format_is_read() {
        let mut value = vec![1, 7];
        let checksum = crc32fast::hash(&value);
        value.extend_from_slice(&checksum.to_le_bytes());
        let read = open(Space::Meta, b"k", &Bytes::from(value), |reader| {
            Ok((reader.format(), reader.u8()?))
        })
        .expect("an older format");
        assert_eq!(read, (1, 7));
    }
}
