//! Defines the binary form in which messages are delivered, RocketMQ's store format.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::cursor::Cursor;
use crate::properties;

/// Begins a message whose topic has a length of one byte.
const MAGIC_V1: i32 = 0xDAA3_20A7_u32.cast_signed();
/// Begins a message whose topic has a length of two bytes.
const MAGIC_V2: i32 = 0xDAA3_20AB_u32.cast_signed();
/// The longest topic of the first form: Java reads the length as a signed byte.
const TOPIC_V1_BYTES_MAX: usize = i8::MAX as usize;

/// Bits of [`StoredMessage::sys_flag`].
pub mod sys_flag {
    /// The body is compressed.
    pub const COMPRESSED: i32 = 0x1;
    /// A half message of a transaction.
    pub const TRANSACTION_PREPARED: i32 = 0x4;
    /// A transaction that was committed.
    pub const TRANSACTION_COMMIT: i32 = 0x8;
    /// A transaction that was rolled back; also the mask of all three.
    pub const TRANSACTION_ROLLBACK: i32 = 0xC;
    /// The address of the producer is an IPv6 one.
    pub const BORN_HOST_V6: i32 = 0x10;
    /// The address of the broker is an IPv6 one.
    pub const STORE_HOST_V6: i32 = 0x20;
    /// The mask of the compression; 0 is ZLIB, as of old.
    pub const COMPRESSION: i32 = 0x700;
    /// The body is compressed as an LZ4 frame.
    pub const COMPRESSION_LZ4: i32 = 0x100;
    /// The body is compressed with ZSTD.
    pub const COMPRESSION_ZSTD: i32 = 0x200;
    /// The body is compressed with ZLIB.
    pub const COMPRESSION_ZLIB: i32 = 0x300;
}

/// A message that cannot be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The message ends early, has a length that does not fit, or text that is not UTF-8.
    #[error("the message is malformed at its {0}")]
    Malformed(&'static str),
    /// A part is longer than its length field can say.
    #[error("the {0} is too long for a message of this protocol")]
    TooLong(&'static str),
}

/// A message as consumers get it. Instants are in ms since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Topic.
    pub topic: String,
    /// Queue of the topic.
    pub queue_id: i32,
    /// Offset in the queue.
    pub queue_offset: i64,
    /// Position in the broker's log, by which clients name the message when they send it back.
    pub physical_offset: i64,
    /// A number of the producer's.
    pub flag: i32,
    /// Bits of [`sys_flag`]; those of the addresses follow the addresses when the message is written.
    pub sys_flag: i32,
    /// When the producer made it.
    pub born_ms: i64,
    /// Address of the producer.
    pub born_host: SocketAddr,
    /// When the broker stored it.
    pub stored_ms: i64,
    /// Address of the broker.
    pub store_host: SocketAddr,
    /// How often it was consumed before.
    pub reconsume_times: i32,
    /// Position of the half message it was; else 0.
    pub prepared_offset: i64,
    /// Body, as the producer sent it.
    pub body: Bytes,
    /// Properties as text; see [`properties`].
    pub properties: String,
}

impl StoredMessage {
    /// Appends the message to the buffer; an error leaves the buffer as it was.
    ///
    /// # Errors
    ///
    /// [`MessageError::TooLong`] for a topic, properties or a body that the length fields have no room for.
    pub fn encode(&self, buffer: &mut BytesMut) -> Result<(), MessageError> {
        let start = buffer.len();
        let written = self.write(buffer);
        if written.is_err() {
            buffer.truncate(start);
        }
        written
    }

    fn write(&self, buffer: &mut BytesMut) -> Result<(), MessageError> {
        let start = buffer.len();
        let is_v2 = self.topic.len() > TOPIC_V1_BYTES_MAX;
        buffer.put_i32(0);
        buffer.put_i32(if is_v2 { MAGIC_V2 } else { MAGIC_V1 });
        // Clients that compare it leave the sign bit out.
        buffer.put_u32(crc32fast::hash(&self.body) & 0x7FFF_FFFF);
        buffer.put_i32(self.queue_id);
        buffer.put_i32(self.flag);
        buffer.put_i64(self.queue_offset);
        buffer.put_i64(self.physical_offset);
        buffer.put_i32(self.flags_of_hosts());
        buffer.put_i64(self.born_ms);
        put_host(buffer, self.born_host);
        buffer.put_i64(self.stored_ms);
        put_host(buffer, self.store_host);
        buffer.put_i32(self.reconsume_times);
        buffer.put_i64(self.prepared_offset);
        let too_long = MessageError::TooLong;
        buffer.put_i32(i32::try_from(self.body.len()).map_err(|_| too_long("body"))?);
        buffer.extend_from_slice(&self.body);
        match (
            u8::try_from(self.topic.len()),
            i16::try_from(self.topic.len()),
        ) {
            (Ok(length), _) if !is_v2 => buffer.put_u8(length),
            (_, Ok(length)) => buffer.put_i16(length),
            _ => return Err(too_long("topic")),
        }
        buffer.extend_from_slice(self.topic.as_bytes());
        let length = i16::try_from(self.properties.len()).map_err(|_| too_long("properties"))?;
        buffer.put_i16(length);
        buffer.extend_from_slice(self.properties.as_bytes());
        let length = i32::try_from(buffer.len() - start).map_err(|_| too_long("message"))?;
        if let Some(mut field) = buffer.get_mut(start..start + 4) {
            field.put_i32(length);
        }
        Ok(())
    }

    fn flags_of_hosts(&self) -> i32 {
        let bit = |host: SocketAddr, bit: i32| if host.is_ipv6() { bit } else { 0 };
        self.sys_flag & !(sys_flag::BORN_HOST_V6 | sys_flag::STORE_HOST_V6)
            | bit(self.born_host, sys_flag::BORN_HOST_V6)
            | bit(self.store_host, sys_flag::STORE_HOST_V6)
    }

    /// Reads messages that follow one another. Bodies share the memory of the input.
    ///
    /// # Errors
    ///
    /// [`MessageError::Malformed`] if one of them is malformed or cut off.
    pub fn decode_all(bytes: &Bytes) -> Result<Vec<Self>, MessageError> {
        let mut cursor = Cursor(bytes.clone());
        let mut messages = Vec::new();
        while !cursor.is_empty() {
            let message = cursor.entry().ok_or(MessageError::Malformed("length"))?;
            messages.push(Self::read(Cursor(message))?);
        }
        Ok(messages)
    }

    fn read(mut cursor: Cursor) -> Result<Self, MessageError> {
        let magic = cursor
            .i32()
            .ok_or(MessageError::Malformed("magic number"))?;
        let checksum = cursor.i32().ok_or(MessageError::Malformed("checksum"))?;
        let queue_id = cursor.i32().ok_or(MessageError::Malformed("queue"))?;
        let flag = cursor.i32().ok_or(MessageError::Malformed("flag"))?;
        let queue_offset = cursor
            .i64()
            .ok_or(MessageError::Malformed("queue offset"))?;
        let physical_offset = cursor
            .i64()
            .ok_or(MessageError::Malformed("physical offset"))?;
        let flags = cursor
            .i32()
            .ok_or(MessageError::Malformed("system flags"))?;
        let born_ms = cursor
            .i64()
            .ok_or(MessageError::Malformed("instant of birth"))?;
        let born_host = host(&mut cursor, flags & sys_flag::BORN_HOST_V6 != 0)?;
        let stored_ms = cursor
            .i64()
            .ok_or(MessageError::Malformed("instant of storage"))?;
        let store_host = host(&mut cursor, flags & sys_flag::STORE_HOST_V6 != 0)?;
        let reconsume_times = cursor
            .i32()
            .ok_or(MessageError::Malformed("count of deliveries"))?;
        let prepared_offset = cursor
            .i64()
            .ok_or(MessageError::Malformed("offset of its half"))?;
        let length = cursor.i32().ok_or(MessageError::Malformed("body"))?;
        let body = cursor
            .counted(length)
            .ok_or(MessageError::Malformed("body"))?;
        let length = match magic {
            MAGIC_V1 => cursor.u8().map(i16::from),
            MAGIC_V2 => cursor.i16(),
            _ => return Err(MessageError::Malformed("magic number")),
        };
        let topic = length.and_then(|length| cursor.text(length));
        let length = cursor.i16().ok_or(MessageError::Malformed("properties"))?;
        let properties = cursor
            .text(length)
            .ok_or(MessageError::Malformed("properties"))?;
        if !cursor.is_empty() {
            return Err(MessageError::Malformed("end"));
        }
        if checksum != 0 && checksum.cast_unsigned() != crc32fast::hash(&body) & 0x7FFF_FFFF {
            return Err(MessageError::Malformed("checksum"));
        }
        Ok(Self {
            topic: topic.ok_or(MessageError::Malformed("topic"))?,
            queue_id,
            queue_offset,
            physical_offset,
            flag,
            sys_flag: flags,
            born_ms,
            born_host,
            stored_ms,
            store_host,
            reconsume_times,
            prepared_offset,
            body,
            properties,
        })
    }

    /// The value of a property, if the message has it.
    pub fn property(&self, name: &str) -> Option<&str> {
        let found = properties::parse(&self.properties).find(|(known, _)| *known == name);
        found.map(|(_, value)| value)
    }
}

fn put_host(buffer: &mut BytesMut, host: SocketAddr) {
    match host.ip() {
        IpAddr::V4(ip) => buffer.put_slice(&ip.octets()),
        IpAddr::V6(ip) => buffer.put_slice(&ip.octets()),
    }
    buffer.put_i32(host.port().into());
}

fn host(cursor: &mut Cursor, is_v6: bool) -> Result<SocketAddr, MessageError> {
    let ip = if is_v6 {
        let octets = cursor
            .bytes(16)
            .and_then(|bytes| <[u8; 16]>::try_from(&bytes[..]).ok());
        octets.map(|octets| IpAddr::from(Ipv6Addr::from(octets)))
    } else {
        let octets = cursor
            .bytes(4)
            .and_then(|bytes| <[u8; 4]>::try_from(&bytes[..]).ok());
        octets.map(|octets| IpAddr::from(Ipv4Addr::from(octets)))
    };
    let port = cursor.i32().and_then(|port| u16::try_from(port).ok());
    match (ip, port) {
        (Some(ip), Some(port)) => Ok(SocketAddr::new(ip, port)),
        _ => Err(MessageError::Malformed("address")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn messages()(
            topic in prop_oneof!["[a-z%]{1,20}", "[a-z]{120,200}"],
            numbers in (any::<i32>(), any::<i64>(), any::<i64>(), any::<i32>(), 0..8_i32, any::<i32>(), any::<i64>()),
            instants in (any::<i64>(), any::<i64>()),
            hosts in (any::<(IpAddr, u16)>(), any::<(IpAddr, u16)>()),
            body in prop::collection::vec(any::<u8>(), 0..100),
            properties in ".{0,60}",
        ) -> StoredMessage {
            let mut message = StoredMessage {
                topic,
                queue_id: numbers.0,
                queue_offset: numbers.1,
                physical_offset: numbers.2,
                flag: numbers.3,
                sys_flag: numbers.4,
                born_ms: instants.0,
                born_host: hosts.0.into(),
                stored_ms: instants.1,
                store_host: hosts.1.into(),
                reconsume_times: numbers.5,
                prepared_offset: numbers.6,
                body: body.into(),
                properties,
            };
            message.sys_flag = message.flags_of_hosts();
            message
        }
    }

    proptest! {
        #[test]
        fn messages_are_read_as_they_were_written(messages in prop::collection::vec(messages(), 0..4)) {
            let mut buffer = BytesMut::new();
            for message in &messages {
                message.encode(&mut buffer).expect("it can be written");
            }
            prop_assert_eq!(StoredMessage::decode_all(&buffer.freeze()), Ok(messages));
        }

        #[test]
        fn a_message_that_is_cut_off_is_an_error(message in messages(), cut in any::<prop::sample::Index>()) {
            let mut buffer = BytesMut::new();
            message.encode(&mut buffer).expect("it can be written");
            let whole = buffer.freeze();
            let length = 1 + cut.index(whole.len() - 1);
            prop_assert!(StoredMessage::decode_all(&whole.slice(..length)).is_err());
        }
    }

    pub(crate) fn message(topic: String) -> StoredMessage {
        StoredMessage {
            topic,
            queue_id: 3,
            queue_offset: 5,
            physical_offset: 7,
            flag: 0,
            sys_flag: 0,
            born_ms: 1,
            born_host: ([10, 0, 0, 1], 80).into(),
            stored_ms: 2,
            store_host: ([10, 0, 0, 2], 9_876).into(),
            reconsume_times: 0,
            prepared_offset: 0,
            body: Bytes::from_static(b"pay"),
            properties: "TAGS\u{1}a\u{2}".to_owned(),
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_protocol() {
        let mut buffer = BytesMut::new();
        message("t".to_owned())
            .encode(&mut buffer)
            .expect("it can be written");
        let expected = [
            &(88_i32 + 3 + 2 + 2 + 7).to_be_bytes()[..],
            &[0xDA, 0xA3, 0x20, 0xA7],
            &(crc32fast::hash(b"pay") & 0x7FFF_FFFF).to_be_bytes(),
            &3_i32.to_be_bytes(),
            &0_i32.to_be_bytes(),
            &5_i64.to_be_bytes(),
            &7_i64.to_be_bytes(),
            &0_i32.to_be_bytes(),
            &1_i64.to_be_bytes(),
            &[10, 0, 0, 1, 0, 0, 0, 80],
            &2_i64.to_be_bytes(),
            &[10, 0, 0, 2, 0, 0, 0x26, 0x94],
            &0_i32.to_be_bytes(),
            &0_i64.to_be_bytes(),
            &3_i32.to_be_bytes(),
            b"pay",
            &[1, b't'],
            &7_i16.to_be_bytes(),
            b"TAGS\x01a\x02",
        ]
        .concat();
        assert_eq!(buffer.as_ref(), expected);
        let read = StoredMessage::decode_all(&buffer.freeze()).expect("it can be read");
        assert_eq!(read[0].property("TAGS"), Some("a"));
    }

    #[test]
    fn a_part_without_room_leaves_the_buffer_as_it_was() {
        let mut buffer = BytesMut::from(&b"before"[..]);
        let long = message("t".repeat(40_000)).encode(&mut buffer);
        assert_eq!(long, Err(MessageError::TooLong("topic")));
        let properties = StoredMessage {
            properties: "p".repeat(40_000),
            ..message("t".to_owned())
        };
        assert_eq!(
            properties.encode(&mut buffer),
            Err(MessageError::TooLong("properties"))
        );
        assert_eq!(buffer.as_ref(), b"before");
    }
}
