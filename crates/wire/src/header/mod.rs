//! Defines the header of a frame, which is the same in both serializations.

mod binary;
mod json;

use bytes::{Bytes, BytesMut};

use crate::fields::Fields;
use crate::language::Language;

/// Bit of [`Header::flags`]: this is a response.
const RESPONSE: i32 = 1;
/// Bit of [`Header::flags`]: no response is wanted.
const ONE_WAY: i32 = 2;
/// The version this side gives itself: the number that Apache RocketMQ 5.3.3 has. Clients compare it with the version
/// that brought a feature, such as SQL filters.
const VERSION: i32 = 479;

/// A header that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// The JSON is malformed, or a member has another type than it should have.
    #[error("the header is no JSON of the protocol: {0}")]
    Json(#[from] serde_json::Error),
    /// The binary form ends early, has a negative length or text that is not UTF-8.
    #[error("the binary header is malformed at its {0}")]
    Binary(&'static str),
    /// A name or a value is longer than its length field can say.
    #[error("the {0} is too long for a binary header")]
    TooLong(&'static str),
}

/// The form of a header. A response has the form of its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Serialization {
    /// A JSON object: the default of all clients.
    #[default]
    Json,
    /// RocketMQ's own binary form, which Java and Go clients use when asked to.
    Binary,
}

/// The header of a request or of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// What is asked for, or what came of it: a constant of [`code`](crate::code).
    pub code: i32,
    /// The language of the sender.
    pub language: Language,
    /// The version of the sender, an ordinal of Apache RocketMQ's list of versions.
    pub version: i32,
    /// The number of the request, which its response repeats. Each side of a connection counts its own requests.
    pub opaque: i32,
    /// Bit 0: a response; bit 1: one-way. The others have no meaning.
    pub flags: i32,
    /// Text for people; what is wrong, in a response that refuses.
    pub remark: Option<String>,
    /// The parameters.
    pub fields: Fields,
}

impl Header {
    /// The header of a request of this side.
    pub fn request(code: i32, opaque: i32) -> Self {
        Self {
            code,
            language: Language::Java,
            version: VERSION,
            opaque,
            flags: 0,
            remark: None,
            fields: Fields::default(),
        }
    }

    /// The header of a response to this request.
    #[must_use]
    pub fn reply(&self, code: i32) -> Self {
        Self {
            flags: RESPONSE,
            ..Self::request(code, self.opaque)
        }
    }

    /// The same header with a remark, cut to 1,024 characters.
    #[must_use]
    pub fn with_remark(self, remark: impl AsRef<str>) -> Self {
        Self {
            remark: Some(remark.as_ref().chars().take(1_024).collect()),
            ..self
        }
    }

    /// The same header, as a request that wants no response.
    #[must_use]
    pub fn one_way(self) -> Self {
        Self {
            flags: self.flags | ONE_WAY,
            ..self
        }
    }

    /// Whether this is a response.
    pub fn is_response(&self) -> bool {
        self.flags & RESPONSE != 0
    }

    /// Whether no response is wanted.
    pub fn is_one_way(&self) -> bool {
        self.flags & ONE_WAY != 0
    }

    pub(crate) fn decode(bytes: &Bytes, form: Serialization) -> Result<Self, HeaderError> {
        match form {
            Serialization::Json => json::decode(bytes),
            Serialization::Binary => binary::decode(bytes),
        }
    }

    pub(crate) fn encode(
        &self,
        buffer: &mut BytesMut,
        form: Serialization,
    ) -> Result<(), HeaderError> {
        match form {
            Serialization::Json => json::encode(self, buffer),
            Serialization::Binary => binary::encode(self, buffer),
        }
    }
}
