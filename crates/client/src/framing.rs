//! Provides the message framing of gRPC: encodes messages with their prefix, and splits received bytes into messages.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use prost::Message;

use crate::error::Error;

/// Length of the prefix of each message: one byte for compression, four bytes for the length.
const PREFIX_BYTES: usize = 5;
/// Largest message that is accepted, in bytes: the most that Apache RocketMQ sends.
const MESSAGE_BYTES_MAX: usize = 130 * 1024 * 1024;

/// A message with its prefix.
pub(crate) fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message
        .encode(&mut frame)
        .expect("there is room for as many bytes as the message said it has");
    frame.freeze()
}

/// Received bytes that are not split into messages yet.
///
/// A message that is complete within one chunk, as most are, is taken out of it without a copy.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// The rest of the last chunk; empty while `partial` is not.
    chunk: Bytes,
    /// The start of a message that spans several chunks.
    partial: BytesMut,
}

impl Inbox {
    pub(crate) fn push(&mut self, chunk: Bytes) {
        if self.partial.is_empty() && self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            self.partial.extend_from_slice(&self.chunk);
            self.chunk.clear();
            self.partial.extend_from_slice(&chunk);
        }
    }

    /// The next message, once it is complete.
    pub(crate) fn take<M: Message + Default>(&mut self) -> Result<Option<M>, Error> {
        let held: &[u8] = if self.partial.is_empty() {
            &self.chunk
        } else {
            &self.partial
        };
        let Some(length) = complete_length(held)? else {
            return Ok(None);
        };
        let mut bytes = if self.partial.is_empty() {
            self.chunk.split_to(PREFIX_BYTES + length)
        } else {
            self.partial.split_to(PREFIX_BYTES + length).freeze()
        };
        bytes.advance(PREFIX_BYTES);
        M::decode(bytes)
            .map(Some)
            .map_err(|error| Error::Malformed(error.to_string()))
    }

    /// Whether all bytes were taken; if not, a message is incomplete.
    pub(crate) fn is_empty(&self) -> bool {
        self.chunk.is_empty() && self.partial.is_empty()
    }
}

/// The length of the first message, if it is complete.
fn complete_length(held: &[u8]) -> Result<Option<usize>, Error> {
    let Some((&[packed, a, b, c, d], rest)) = held.split_first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    if packed != 0 {
        return Err(Error::Malformed(
            "the message is compressed, which was not offered".to_owned(),
        ));
    }
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if length > MESSAGE_BYTES_MAX {
        return Err(Error::Malformed(format!("the message has {length} bytes")));
    }
    Ok((rest.len() >= length).then_some(length))
}

/// Decodes the percent-encoding of a `grpc-message`.
pub(crate) fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, rest_of_text)) = rest.split_first() {
        let escaped = match (first, rest_of_text.split_first_chunk::<2>()) {
            (b'%', Some((digits, rest_of_text))) => std::str::from_utf8(digits)
                .ok()
                // `from_str_radix` accepts a sign.
                .filter(|digits| !digits.starts_with('+'))
                .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                .map(|byte| (byte, rest_of_text)),
            _ => None,
        };
        let (byte, rest_of_text) = escaped.unwrap_or((first, rest_of_text));
        bytes.push(byte);
        rest = rest_of_text;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use grpc_api::v2::{ReceiveMessageResponse, Status};

    fn status(message: &str) -> Status {
        Status {
            code: 20_000,
            message: message.to_owned(),
        }
    }

    #[test]
    fn messages_are_split_wherever_the_chunks_end() {
        let sent = [
            status("a"),
            status(""),
            status(&"long".repeat(50)),
            status("b"),
        ];
        let stream: Vec<u8> = sent.iter().flat_map(frame).collect();
        for size in 1..=stream.len() {
            let mut inbox = Inbox::default();
            let mut cut = Vec::new();
            for chunk in stream.chunks(size) {
                inbox.push(Bytes::copy_from_slice(chunk));
                while let Some(message) = inbox.take::<Status>().unwrap() {
                    cut.push(message);
                }
            }
            assert_eq!(cut, sent, "in chunks of {size}");
            assert!(inbox.is_empty());
        }
    }

    #[test]
    fn malformed_messages_are_refused() {
        for bytes in [
            &[1, 0, 0, 0, 0][..],
            &[0, 255, 255, 255, 255],
            &[0, 0, 0, 0, 1, 7],
        ] {
            let mut inbox = Inbox::default();
            inbox.push(Bytes::copy_from_slice(bytes));
            assert!(inbox.take::<Status>().is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn escapes_are_decoded() {
        for (text, expected) in [
            ("plain", "plain"),
            ("a%20b%", "a b%"),
            ("%C3%A9%zz", "\u{e9}%zz"),
            ("%+f", "%+f"),
        ] {
            assert_eq!(unescape(text), expected);
        }
    }

    #[test]
    fn responses_of_any_content_are_split_or_refused() {
        let stream: Vec<u8> = [status("a"), status("long")]
            .iter()
            .flat_map(frame)
            .collect();
        let target = fuzz::Target::new(env!("CARGO_MANIFEST_DIR"), "answer")
            .seed([vec![3], stream].concat())
            .tokens(&["\0\0\0\0\0", "\0\x08", "%C3%A9"]);
        target.check(|input| {
            // The first byte is the size of the chunks in which the others arrive.
            let (size, bytes) = input.split_first().unwrap_or((&0, &[]));
            let mut inbox = Inbox::default();
            for chunk in bytes.chunks(usize::from(*size) + 1) {
                inbox.push(Bytes::copy_from_slice(chunk));
                while let Ok(Some(_)) = inbox.take::<ReceiveMessageResponse>() {}
            }
            let text = String::from_utf8_lossy(bytes);
            unescape(&text);
            let _ = text.parse::<crate::config::HostPort>();
        });
    }
}
