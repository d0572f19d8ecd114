//! Defines the frame: a length, a header, a body.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::header::{Header, HeaderError, Serialization};

/// Length of the longest frame Apache RocketMQ takes by default, in bytes after the length field.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of the field that says how long the frame is.
const LENGTH_BYTES: usize = 4;
/// Bytes of the field with the form and the length of the header.
const META_BYTES: usize = 4;
/// The largest length that the three bytes for it can say.
const HEADER_BYTES_MAX: usize = 0xFF_FFFF;

/// A frame that cannot be read or written. The connection has lost its place in the stream after
/// [`FrameError::Length`] and [`FrameError::HeaderLength`]; after the others the frame is taken out of the buffer.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The frame says that it is shorter than its own header fields, or longer than it may be.
    #[error("a frame of {length} bytes; between {META_BYTES} and {max} are taken")]
    Length {
        /// Length the frame says it has, as it was read.
        length: i32,
        /// Length of the longest frame taken, in bytes.
        max: usize,
    },
    /// The header is longer than the frame.
    #[error("a header of {header} bytes in a frame of {frame}")]
    HeaderLength {
        /// Length of the header, in bytes.
        header: usize,
        /// Length of the frame, in bytes.
        frame: usize,
    },
    /// The header has a form that is not known.
    #[error("the header has the unknown form {0}")]
    Serialization(u8),
    /// The header is malformed.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The frame would be too long to be sent.
    #[error("the frame is too long to be sent")]
    TooLong,
}

/// A request or a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What is asked or answered.
    pub header: Header,
    /// Its content; often empty.
    pub body: Bytes,
    /// The form the header came in, or goes out in.
    pub serialization: Serialization,
}

impl Frame {
    /// The length in bytes of the frame that begins the buffer, with its length field; none if too little of it is there
    /// to know.
    ///
    /// # Errors
    ///
    /// [`FrameError::Length`] if it is negative, too short, or longer than `bytes_max`.
    pub fn length(buffer: &[u8], bytes_max: usize) -> Result<Option<usize>, FrameError> {
        let Some(mut field) = buffer.get(..LENGTH_BYTES) else {
            return Ok(None);
        };
        let length = field.get_i32();
        match usize::try_from(length) {
            Ok(bytes) if (META_BYTES..=bytes_max).contains(&bytes) => {
                Ok(Some(bytes + LENGTH_BYTES))
            }
            _ => Err(FrameError::Length {
                length,
                max: bytes_max,
            }),
        }
    }

    /// Takes the frame at the front of the buffer; none if it is not there as a whole. The body shares the memory of the buffer.
    ///
    /// # Errors
    ///
    /// [`FrameError`] if it is malformed, or longer than `bytes_max` after its length field.
    pub fn decode(buffer: &mut BytesMut, bytes_max: usize) -> Result<Option<Self>, FrameError> {
        let Some(length) = Self::length(buffer, bytes_max)? else {
            return Ok(None);
        };
        if buffer.len() < length {
            return Ok(None);
        }
        let mut frame = buffer.split_to(length).freeze();
        frame.advance(LENGTH_BYTES);
        let form = frame.get_u8();
        let header = usize::from(frame.get_u8()) << 16 | usize::from(frame.get_u16());
        if header > frame.len() {
            return Err(FrameError::HeaderLength {
                header,
                frame: length - LENGTH_BYTES,
            });
        }
        let serialization = match form {
            0 => Serialization::Json,
            1 => Serialization::Binary,
            other => return Err(FrameError::Serialization(other)),
        };
        let header = frame.split_to(header);
        Ok(Some(Self {
            header: Header::decode(&header, serialization)?,
            body: frame,
            serialization,
        }))
    }

    /// Appends the frame to the buffer; an error leaves the buffer as it was.
    ///
    /// # Errors
    ///
    /// [`FrameError`] if a part is longer than its length field can say.
    pub fn encode(&self, buffer: &mut BytesMut) -> Result<(), FrameError> {
        let start = buffer.len();
        let written = self.write(buffer);
        if written.is_err() {
            buffer.truncate(start);
        }
        written
    }

    fn write(&self, buffer: &mut BytesMut) -> Result<(), FrameError> {
        let start = buffer.len();
        buffer.put_bytes(0, LENGTH_BYTES + META_BYTES);
        self.header.encode(buffer, self.serialization)?;
        let header = buffer.len() - start - LENGTH_BYTES - META_BYTES;
        if header > HEADER_BYTES_MAX {
            return Err(FrameError::TooLong);
        }
        let form = match self.serialization {
            Serialization::Json => 0,
            Serialization::Binary => 1,
        };
        let length = i32::try_from(META_BYTES + header + self.body.len())
            .map_err(|_| FrameError::TooLong)?;
        if let Some(mut fields) = buffer.get_mut(start..start + LENGTH_BYTES + META_BYTES) {
            fields.put_i32(length);
            fields.put_u8(form);
            fields.put_uint(header as u64, 3);
        }
        buffer.extend_from_slice(&self.body);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::language::Language;

    fn frames() -> impl Strategy<Value = Frame> {
        let fields = prop::collection::vec((".{0,8}", ".{0,40}"), 0..6);
        let numbers = (
            0..0xFFFF_i32,
            0..14_u8,
            0..=i32::from(i16::MAX),
            any::<i32>(),
            any::<i32>(),
        );
        let form = prop_oneof![Just(Serialization::Json), Just(Serialization::Binary)];
        let body = prop::collection::vec(any::<u8>(), 0..64);
        (numbers, prop::option::of(".{1,20}"), fields, body, form).prop_map(
            |((code, language, version, opaque, flags), remark, fields, body, serialization)| {
                Frame {
                    header: Header {
                        code: if [3442, 3443, 3445, 3446, 3543].contains(&code) {
                            10
                        } else {
                            code
                        },
                        language: Language::from_byte(language),
                        version,
                        opaque,
                        flags,
                        remark,
                        fields: fields.into_iter().collect(),
                    },
                    body: body.into(),
                    serialization,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn frames_are_read_as_they_were_written(frames in prop::collection::vec(frames(), 1..4)) {
            let mut buffer = BytesMut::new();
            for frame in &frames {
                frame.encode(&mut buffer).expect("it can be written");
            }
            for frame in &frames {
                let read = Frame::decode(&mut buffer, FRAME_BYTES_MAX).expect("it can be read");
                prop_assert_eq!(read.as_ref(), Some(frame));
            }
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn a_frame_that_is_not_whole_stays_in_the_buffer(frame in frames(), cut in any::<prop::sample::Index>()) {
            let mut whole = BytesMut::new();
            frame.encode(&mut whole).expect("it can be written");
            let part = &whole[..cut.index(whole.len())];
            let mut buffer = BytesMut::from(part);
            prop_assert!(Frame::decode(&mut buffer, FRAME_BYTES_MAX).expect("nothing is wrong yet").is_none());
            prop_assert_eq!(buffer.as_ref(), part);
        }
    }

    #[test]
    fn lengths_out_of_range_are_refused_before_anything_is_kept() {
        let refused = |bytes: &[u8]| {
            let mut buffer = BytesMut::from(bytes);
            Frame::decode(&mut buffer, 1_024).unwrap_err().to_string()
        };
        assert_eq!(
            refused(&[0, 0, 0, 3]),
            "a frame of 3 bytes; between 4 and 1024 are taken"
        );
        assert_eq!(
            refused(&[0, 0, 4, 1]),
            "a frame of 1025 bytes; between 4 and 1024 are taken"
        );
        assert_eq!(
            refused(b"\xFF\xFF\xFF\xFF"),
            "a frame of -1 bytes; between 4 and 1024 are taken"
        );
        assert_eq!(
            refused(&[0, 0, 0, 4, 0, 0, 0, 1]),
            "a header of 1 bytes in a frame of 4"
        );
        assert_eq!(
            refused(&[0, 0, 0, 4, 9, 0, 0, 0]),
            "the header has the unknown form 9"
        );
    }
}
