//! Provides reading of big-endian integers and counted bytes, where everything that is missing is an error.

use bytes::{Buf as _, Bytes};

/// What is left of an input; each step takes from its front, or nothing if too little is left.
#[derive(Debug)]
pub(crate) struct Cursor(pub(crate) Bytes);

impl Cursor {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.0.try_get_u8().ok()
    }

    pub(crate) fn i16(&mut self) -> Option<i16> {
        self.0.try_get_i16().ok()
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.0.try_get_u16().ok()
    }

    pub(crate) fn i32(&mut self) -> Option<i32> {
        self.0.try_get_i32().ok()
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.0.try_get_i64().ok()
    }

    /// So many bytes, which share the memory of the input.
    pub(crate) fn bytes(&mut self, length: usize) -> Option<Bytes> {
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }

    /// Bytes whose number was read as a signed integer; none if it is negative.
    pub(crate) fn counted(&mut self, length: impl TryInto<usize>) -> Option<Bytes> {
        self.bytes(length.try_into().ok()?)
    }

    /// The rest of an entry that begins with its length in four bytes, which count themselves.
    pub(crate) fn entry(&mut self) -> Option<Bytes> {
        let length = self.i32()?.checked_sub(4)?;
        self.counted(length)
    }

    /// As [`Cursor::counted`], as text.
    pub(crate) fn text(&mut self, length: impl TryInto<usize>) -> Option<String> {
        let bytes = self.counted(length)?;
        std::str::from_utf8(&bytes).ok().map(str::to_owned)
    }
}
