//! Provides the body of a request that sends several messages.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::cursor::Cursor;
use crate::stored_message::MessageError;

/// One message of a batch. Topic and queue are those of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchMessage {
    /// A number of the producer's.
    pub flag: i32,
    /// Body, never compressed.
    pub body: Bytes,
    /// Properties as text; see [`properties`](crate::properties).
    pub properties: String,
}

/// Reads the messages of a batch, at most `count_max` of them. Bodies share the memory of the input.
///
/// # Errors
///
/// [`MessageError::Malformed`] if a message is malformed or cut off, [`MessageError::TooLong`] if there are more.
pub fn decode(bytes: &Bytes, count_max: usize) -> Result<Vec<BatchMessage>, MessageError> {
    let mut cursor = Cursor(bytes.clone());
    let mut messages = Vec::new();
    while !cursor.is_empty() {
        if messages.len() == count_max {
            return Err(MessageError::TooLong("list of messages"));
        }
        let message = cursor.entry().and_then(|message| read(Cursor(message)));
        messages.push(message.ok_or(MessageError::Malformed("entry of the batch"))?);
    }
    Ok(messages)
}

fn read(mut cursor: Cursor) -> Option<BatchMessage> {
    // A magic number and a checksum, which clients leave 0.
    cursor.bytes(8)?;
    let flag = cursor.i32()?;
    let length = cursor.i32()?;
    let body = cursor.counted(length)?;
    let length = cursor.i16()?;
    let properties = cursor.text(length)?;
    cursor.is_empty().then_some(BatchMessage {
        flag,
        body,
        properties,
    })
}

/// The body with these messages.
///
/// # Errors
///
/// [`MessageError::TooLong`] if a part is longer than its length field can say.
pub fn encode(messages: &[BatchMessage]) -> Result<Bytes, MessageError> {
    let mut buffer = BytesMut::new();
    for message in messages {
        let properties = i16::try_from(message.properties.len())
            .map_err(|_| MessageError::TooLong("properties"))?;
        let body = i32::try_from(message.body.len()).map_err(|_| MessageError::TooLong("body"))?;
        let length = 22 + message.body.len() + message.properties.len();
        buffer.put_i32(i32::try_from(length).map_err(|_| MessageError::TooLong("body"))?);
        buffer.put_i64(0);
        buffer.put_i32(message.flag);
        buffer.put_i32(body);
        buffer.extend_from_slice(&message.body);
        buffer.put_i16(properties);
        buffer.extend_from_slice(message.properties.as_bytes());
    }
    Ok(buffer.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &'static str) -> BatchMessage {
        BatchMessage {
            flag: 1,
            body: Bytes::from_static(body.as_bytes()),
            properties: format!("UNIQ_KEY\u{1}{body}\u{2}"),
        }
    }

    #[test]
    fn a_batch_is_read_as_it_was_written() {
        let messages = [message("a"), message(""), message("ccc")];
        let bytes = encode(&messages).expect("it can be written");
        assert_eq!(
            bytes[..16],
            [0, 0, 0, 34, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
        );
        assert_eq!(decode(&bytes, 3), Ok(messages.to_vec()));
        assert_eq!(
            decode(&bytes, 2),
            Err(MessageError::TooLong("list of messages"))
        );
        for length in 1..bytes.len() {
            let cut = decode(&bytes.slice(..length), 3);
            // The first and the second message end at these lengths.
            assert_eq!(cut.is_ok(), [34, 66].contains(&length), "cut to {length}");
        }
    }
}
