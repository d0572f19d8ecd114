//! Defines the handles clients hold: of a message, of one delivery of it, of a transaction.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

use crate::format::codec::{Reader, put_place, put_varint, read_place};
use crate::ids::{GroupId, TopicId};
use crate::place::{LEVEL_MAX, Place};

const MESSAGE_HANDLE: u8 = 1;
const RECEIPT_HANDLE: u8 = 2;
const TRANSACTION_HANDLE: u8 = 3;

/// A text is not a handle of this broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a handle of this broker: {reason}")]
pub struct HandleError {
    reason: &'static str,
}

/// Names a message, to recall or reschedule it. Its text form is opaque to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageHandle {
    /// The topic's number.
    pub topic: TopicId,
    /// The message queue.
    pub queue: u16,
    /// The place of the message when the handle was made.
    pub place: Place,
    /// The sequence it was first stored under.
    pub identity: u64,
}

/// Names one delivery of a message to a group. Its text form is opaque to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReceiptHandle {
    /// The topic's number.
    pub topic: TopicId,
    /// The group's number.
    pub group: GroupId,
    /// The group's generation; a reset bumps it, which ends all older handles.
    pub generation: u32,
    /// The message queue.
    pub queue: u16,
    /// The place of the message.
    pub place: Place,
    /// 1 for the first delivery.
    pub attempt: u16,
    /// How often the message had been handed back unworked since the last delivery that failed.
    pub returned: u16,
    /// The row on the group's retry timeline that was delivered, unless it was the first delivery.
    pub retry: Option<Place>,
}

pub(crate) fn to_text(kind: u8, encode: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut buffer = vec![kind];
    encode(&mut buffer);
    let checksum = crc32fast::hash(&buffer);
    buffer.extend_from_slice(&checksum.to_le_bytes());
    URL_SAFE_NO_PAD.encode(buffer)
}

pub(crate) fn from_text<T>(
    text: &str,
    kind: u8,
    decode: impl FnOnce(&mut Reader) -> Result<T, &'static str>,
) -> Result<T, HandleError> {
    let fail = |reason| HandleError { reason };
    let bytes = URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| fail("it is not base64url"))?;
    let split = bytes
        .len()
        .checked_sub(4)
        .ok_or_else(|| fail("it is too short"))?;
    let (content, checksum) = bytes.split_at(split);
    if checksum != crc32fast::hash(content).to_le_bytes() {
        return Err(fail("its checksum does not match"));
    }
    let mut reader = Reader::new(Bytes::copy_from_slice(content));
    if reader.u8().map_err(fail)? != kind {
        return Err(fail("it is of another kind"));
    }
    let value = decode(&mut reader).map_err(fail)?;
    if reader.is_empty() {
        Ok(value)
    } else {
        Err(fail("it is too long"))
    }
}

fn checked_place(reader: &mut Reader) -> Result<Place, &'static str> {
    let place = read_place(reader)?;
    if place.level > LEVEL_MAX {
        Err("its place is impossible")
    } else {
        Ok(place)
    }
}

impl fmt::Display for MessageHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = to_text(MESSAGE_HANDLE, |buffer| {
            put_varint(buffer, u64::from(self.topic));
            put_varint(buffer, u64::from(self.queue));
            put_place(buffer, self.place);
            put_varint(buffer, self.identity);
        });
        formatter.write_str(&text)
    }
}

impl FromStr for MessageHandle {
    type Err = HandleError;

    fn from_str(text: &str) -> Result<Self, HandleError> {
        from_text(text, MESSAGE_HANDLE, |reader| {
            Ok(Self {
                topic: u32::try_from(reader.varint()?).map_err(|_| "its topic is impossible")?,
                queue: u16::try_from(reader.varint()?).map_err(|_| "its queue is impossible")?,
                place: checked_place(reader)?,
                identity: reader.varint()?,
            })
        })
    }
}

impl fmt::Display for ReceiptHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = to_text(RECEIPT_HANDLE, |buffer| {
            put_varint(buffer, u64::from(self.topic));
            put_varint(buffer, u64::from(self.group));
            put_varint(buffer, u64::from(self.generation));
            put_varint(buffer, u64::from(self.queue));
            put_place(buffer, self.place);
            let number = u64::from(self.attempt) | u64::from(self.returned) << 16;
            put_varint(buffer, number);
            if let Some(retry) = self.retry {
                put_place(buffer, retry);
            }
        });
        formatter.write_str(&text)
    }
}

impl FromStr for ReceiptHandle {
    type Err = HandleError;

    fn from_str(text: &str) -> Result<Self, HandleError> {
        from_text(text, RECEIPT_HANDLE, |reader| {
            let number = |reader: &mut Reader| {
                u32::try_from(reader.varint()?).map_err(|_| "a number is impossible")
            };
            let short = |reader: &mut Reader| {
                u16::try_from(reader.varint()?).map_err(|_| "a number is impossible")
            };
            let (topic, group) = (number(reader)?, number(reader)?);
            let (generation, queue) = (number(reader)?, short(reader)?);
            let place = checked_place(reader)?;
            let delivery = number(reader)?.to_be_bytes();
            let [high, low, upper, lower] = delivery;
            Ok(Self {
                topic,
                group,
                generation,
                queue,
                place,
                attempt: u16::from_be_bytes([upper, lower]),
                returned: u16::from_be_bytes([high, low]),
                retry: if reader.is_empty() {
                    None
                } else {
                    Some(checked_place(reader)?)
                },
            })
        })
    }
}

/// Names a transaction. Its text form is opaque to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransactionHandle {
    /// The topic's number.
    pub topic: TopicId,
    /// The sequence of the half message.
    pub sequence: u64,
}

impl fmt::Display for TransactionHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&to_text(TRANSACTION_HANDLE, |buffer| {
            put_varint(buffer, u64::from(self.topic));
            put_varint(buffer, self.sequence);
        }))
    }
}

impl FromStr for TransactionHandle {
    type Err = HandleError;

    fn from_str(text: &str) -> Result<Self, HandleError> {
        from_text(text, TRANSACTION_HANDLE, |reader| {
            let topic = u32::try_from(reader.varint()?).map_err(|_| "its topic is impossible")?;
            Ok(Self {
                topic,
                sequence: reader.varint()?,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place() -> impl Strategy<Value = Place> {
        (0..1_u64 << 47, any::<u64>(), 0..=LEVEL_MAX).prop_map(|(due_ms, sequence, level)| Place {
            due_ms,
            sequence,
            level,
        })
    }

    proptest! {
        #[test]
        fn handles_come_back_from_their_text(
            topic in any::<u32>(), group in any::<u32>(), queue in any::<u16>(), attempt in any::<u16>(), returned in any::<u16>(),
            place in place(), retry in proptest::option::of(place()), identity in any::<u64>(),
        ) {
            let message = MessageHandle { topic, queue, place, identity };
            prop_assert_eq!(message.to_string().parse(), Ok(message));
            let receipt = ReceiptHandle { topic, group, generation: 3, queue, place, attempt, returned, retry };
            prop_assert_eq!(receipt.to_string().parse(), Ok(receipt));
            prop_assert!(receipt.to_string().parse::<MessageHandle>().is_err());
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,80}") {
            prop_assert!(text.parse::<MessageHandle>().is_err());
            prop_assert!(text.parse::<ReceiptHandle>().is_err());
        }
    }
}
