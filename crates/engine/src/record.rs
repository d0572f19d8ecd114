//! Defines the rows on disk: their keys, their values, the version byte and the checksum.
//!
//! docs/format.md draws what this file writes. Keys are big-endian, so that the order of bytes is the
//! order of due times. Every value starts with the format version and ends with a CRC-32 of what stands
//! before it.

use bytes::Bytes;

use crate::codec::{Reader, put_bytes, put_varint};
use crate::message::{Message, NewMessage};
use crate::place::{PartitionId, Place};
use crate::store::{Space, StoreError};

/// Format of the values this version writes; it reads this one and older ones.
pub const FORMAT: u8 = 1;

/// Number of a topic, never reused.
pub type TopicId = u32;
/// Number of a consumer group, never reused.
pub type GroupId = u32;

const CHECKSUM_BYTES: usize = 4;

/// First byte of every key in [`Space::Meta`].
mod meta {
    pub(super) const HEAD: u8 = 1;
    pub(super) const TOPIC: u8 = 2;
    pub(super) const GROUP: u8 = 3;
    pub(super) const PROGRESS: u8 = 4;
    pub(super) const RETRY: u8 = 5;
    pub(super) const IDENTITY: u8 = 6;
    pub(super) const IDENTITY_END: u8 = 7;
    pub(super) const PINS: u8 = 8;
    pub(super) const TOTALS: u8 = 9;
    pub(super) const HALF: u8 = 10;
    pub(super) const CHECK: u8 = 11;
    pub(super) const OUTCOME: u8 = 12;
    pub(super) const OUTCOME_END: u8 = 13;
}

/// First byte of every key in a partition.
mod part {
    pub(super) const TIMELINE: u8 = 1;
    pub(super) const INDEX: u8 = 2;
    pub(super) const COUNTS: u8 = 3;
}

/// A key of a fixed number of bytes, built on the stack.
macro_rules! key {
    ($kind:expr $(, $part:expr)*) => {{
        let parts: &[&[u8]] = &[&[$kind] $(, &$part.to_be_bytes())*];
        parts.concat()
    }};
}

pub(crate) fn head_key() -> Vec<u8> {
    key!(meta::HEAD)
}

pub(crate) fn topic_key(topic: TopicId) -> Vec<u8> {
    key!(meta::TOPIC, topic)
}

pub(crate) fn group_key(group: GroupId) -> Vec<u8> {
    key!(meta::GROUP, group)
}

pub(crate) fn progress_key(group: GroupId, topic: TopicId, queue: u16) -> Vec<u8> {
    key!(meta::PROGRESS, group, topic, queue)
}

pub(crate) fn retry_key(group: GroupId, topic: TopicId, place: Place) -> Vec<u8> {
    key!(meta::RETRY, group, topic, place.due_ms, place.sequence)
}

pub(crate) fn identity_key(topic: TopicId, identity: u64) -> Vec<u8> {
    key!(meta::IDENTITY, topic, identity)
}

pub(crate) fn identity_end_key(end_hour: u64, topic: TopicId, identity: u64) -> Vec<u8> {
    key!(meta::IDENTITY_END, end_hour, topic, identity)
}

pub(crate) fn pins_key(partition: PartitionId) -> Vec<u8> {
    key!(meta::PINS, partition.start_hour, partition.level)
}

pub(crate) fn totals_key(topic: TopicId) -> Vec<u8> {
    key!(meta::TOTALS, topic)
}

pub(crate) fn half_key(topic: TopicId, sequence: u64) -> Vec<u8> {
    key!(meta::HALF, topic, sequence)
}

pub(crate) fn check_key(check_ms: u64, topic: TopicId, sequence: u64) -> Vec<u8> {
    key!(meta::CHECK, check_ms, topic, sequence)
}

pub(crate) fn outcome_key(topic: TopicId, sequence: u64) -> Vec<u8> {
    key!(meta::OUTCOME, topic, sequence)
}

pub(crate) fn outcome_end_key(end_ms: u64, topic: TopicId, sequence: u64) -> Vec<u8> {
    key!(meta::OUTCOME_END, end_ms, topic, sequence)
}

/// Checks of transactions that are due by `now_ms`.
pub(crate) fn checks_due_by(now_ms: u64) -> (Vec<u8>, Vec<u8>) {
    (
        vec![meta::CHECK],
        key!(meta::CHECK, now_ms.saturating_add(1)),
    )
}

pub(crate) fn checks_span() -> (Vec<u8>, Vec<u8>) {
    span(&[meta::CHECK])
}

/// Outcomes that need not be remembered any longer at `now_ms`.
pub(crate) fn outcome_ends_by(now_ms: u64) -> (Vec<u8>, Vec<u8>) {
    (
        vec![meta::OUTCOME_END],
        key!(meta::OUTCOME_END, now_ms.saturating_add(1)),
    )
}

/// Reads the instant, the topic and the sequence of a key of a check or of an outcome's end.
pub(crate) fn parts_of_timed_key(key: &[u8]) -> Option<(u64, TopicId, u64)> {
    let instant = u64::from_be_bytes(key.get(1..9)?.try_into().ok()?);
    let topic = u32::from_be_bytes(key.get(9..13)?.try_into().ok()?);
    let sequence = u64::from_be_bytes(key.get(13..21)?.try_into().ok()?);
    Some((instant, topic, sequence))
}

pub(crate) fn counts_key(topic: TopicId) -> Vec<u8> {
    key!(part::COUNTS, topic)
}

pub(crate) fn index_key(topic: TopicId, hash: u64, place: Place, queue: u16) -> Vec<u8> {
    key!(
        part::INDEX,
        topic,
        hash,
        place.due_ms,
        place.sequence,
        queue
    )
}

/// Rows of one kind: from the first possible key to behind the last.
fn span(prefix: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut to = prefix.to_vec();
    while to.last() == Some(&u8::MAX) {
        to.pop();
    }
    if let Some(last) = to.last_mut() {
        *last += 1;
    }
    (prefix.to_vec(), to)
}

pub(crate) fn topics_span() -> (Vec<u8>, Vec<u8>) {
    span(&[meta::TOPIC])
}

pub(crate) fn groups_span() -> (Vec<u8>, Vec<u8>) {
    span(&[meta::GROUP])
}

pub(crate) fn progress_span() -> (Vec<u8>, Vec<u8>) {
    span(&[meta::PROGRESS])
}

pub(crate) fn pins_span() -> (Vec<u8>, Vec<u8>) {
    span(&[meta::PINS])
}

pub(crate) fn totals_span() -> (Vec<u8>, Vec<u8>) {
    span(&[meta::TOTALS])
}

pub(crate) fn counts_span() -> (Vec<u8>, Vec<u8>) {
    span(&[part::COUNTS])
}

pub(crate) fn identity_ends_span() -> (Vec<u8>, Vec<u8>) {
    span(&[meta::IDENTITY_END])
}

pub(crate) fn index_span(topic: TopicId, hash: u64) -> (Vec<u8>, Vec<u8>) {
    span(&key!(part::INDEX, topic, hash))
}

/// Retry rows of a subscription behind `after`.
pub(crate) fn retry_span(group: GroupId, topic: TopicId, after: Place) -> (Vec<u8>, Vec<u8>) {
    let (_, to) = span(&key!(meta::RETRY, group, topic));
    (
        key!(
            meta::RETRY,
            group,
            topic,
            after.due_ms,
            after.sequence.saturating_add(1)
        ),
        to,
    )
}

pub(crate) fn timeline_key(topic: TopicId, queue: u16, place: Place) -> [u8; 23] {
    let mut key = [0_u8; 23];
    key[0] = part::TIMELINE;
    key[1..5].copy_from_slice(&topic.to_be_bytes());
    key[5..7].copy_from_slice(&queue.to_be_bytes());
    key[7..15].copy_from_slice(&place.due_ms.to_be_bytes());
    key[15..23].copy_from_slice(&place.sequence.to_be_bytes());
    key
}

/// Messages of a queue behind `after`, up to the end of the queue.
pub(crate) fn timeline_span(topic: TopicId, queue: u16, after: Place) -> ([u8; 23], Vec<u8>) {
    let (_, to) = span(&key!(part::TIMELINE, topic, queue));
    let next = Place {
        sequence: after.sequence.saturating_add(1),
        ..after
    };
    (timeline_key(topic, queue, next), to)
}

/// Reads the due time and sequence that end the keys of timelines and retries.
pub(crate) fn place_of_key(key: &[u8], level: u8) -> Option<Place> {
    let tail = key.get(key.len().checked_sub(16)?..)?;
    let (due, sequence) = tail.split_at(8);
    Some(Place {
        due_ms: u64::from_be_bytes(due.try_into().ok()?),
        sequence: u64::from_be_bytes(sequence.try_into().ok()?),
        level,
    })
}

/// Reads the place and the queue that end an index key.
pub(crate) fn place_of_index_key(key: &[u8], level: u8) -> Option<(Place, u16)> {
    let (head, queue) = key.split_at_checked(key.len().checked_sub(2)?)?;
    Some((
        place_of_key(head, level)?,
        u16::from_be_bytes(queue.try_into().ok()?),
    ))
}

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
    let format = reader.u8().map_err(damaged)?;
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

/// Writes the place a value points to; the level first, for it says where to look.
pub(crate) fn put_place(buffer: &mut Vec<u8>, place: Place) {
    buffer.push(place.level);
    buffer.extend_from_slice(&place.due_ms.to_be_bytes());
    buffer.extend_from_slice(&place.sequence.to_be_bytes());
}

pub(crate) fn read_place(reader: &mut Reader) -> Result<Place, &'static str> {
    let level = reader.u8()?;
    Ok(Place {
        due_ms: reader.u64()?,
        sequence: reader.u64()?,
        level,
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
    let message_id = message_id.unwrap_or_else(|| crate::handle::made_message_id(queue, place));
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
            next_sequence: reader.varint()?,
            floor_ms: reader.varint()?,
            next_topic: id(reader)?,
            next_group: id(reader)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeline_keys_sort_as_places_do() {
        let places = [(1, 9), (2, 1), (2, 2), (256, 0), (1 << 40, 3)];
        let keys: Vec<_> = places
            .iter()
            .map(|&(due_ms, sequence)| {
                timeline_key(
                    7,
                    1,
                    Place {
                        due_ms,
                        sequence,
                        level: 0,
                    },
                )
            })
            .collect();
        assert!(keys.is_sorted());
        for (key, (due_ms, sequence)) in keys.iter().zip(places) {
            assert_eq!(
                place_of_key(key, 2),
                Some(Place {
                    due_ms,
                    sequence,
                    level: 2
                })
            );
        }
    }

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
                    found: 2,
                    supported: 1,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn spans_end_behind_the_last_key() {
        let (from, to) = span(&[1, u8::MAX]);
        assert_eq!((from, to), (vec![1, u8::MAX], vec![2]));
    }
}
