//! Defines the TCP protocol of classic RocketMQ clients ("remoting"): frames, headers, requests, and the binary form of messages.
//!
//! Bytes become structs and structs become bytes; there is no I/O, no clock and no type of the broker. All integers are
//! big-endian. A connection carries [`Frame`]s, each of which has a [`Header`] in one of two [`Serialization`]s and a
//! body, whose form depends on the header's code:
//!
//! * a request has its parameters in the header's [`Fields`]; [`request`] reads them,
//! * a heartbeat, a route or a list of queues is JSON; [`body`] has these documents,
//! * messages sent are the body itself, or a [`batch`] of them; messages delivered are [`StoredMessage`]s one after the other.
//!
//! ```
//! use bytes::{Bytes, BytesMut};
//! use wire::{Frame, Header, Serialization, code};
//!
//! let mut request = Header::request(code::request::GET_ROUTE, 7);
//! request.fields.set("topic", "orders");
//! let frame = Frame { header: request, body: Bytes::new(), serialization: Serialization::Json };
//! let mut buffer = BytesMut::new();
//! frame.encode(&mut buffer)?;
//!
//! let read = Frame::decode(&mut buffer, wire::FRAME_BYTES_MAX)?.ok_or("the frame is whole")?;
//! assert_eq!(read.header.fields.text("topic")?, "orders");
//! assert_eq!(read.header.reply(code::response::SUCCESS).opaque, 7);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod batch;
pub mod body;
pub mod code;
mod cursor;
mod fields;
mod frame;
mod header;
#[cfg(test)]
mod hostile;
mod language;
mod message_id;
pub mod properties;
pub mod request;
mod signature;
mod stored_message;

pub use crate::fields::{FieldError, Fields};
pub use crate::frame::{FRAME_BYTES_MAX, Frame, FrameError};
pub use crate::header::{Header, HeaderError, Serialization};
pub use crate::language::Language;
pub use crate::message_id::{OffsetMessageId, OffsetMessageIdError};
pub use crate::signature::signed_content;
pub use crate::stored_message::{MessageError, StoredMessage, sys_flag};
