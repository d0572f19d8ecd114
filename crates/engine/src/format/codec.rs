//! Provides the codec of records and handles: numbers, lengths, bytes, places.

use bytes::{Buf as _, Bytes};

use crate::limits::COUNT_MAX;
use crate::place::Place;

/// Appends a number in 7-bit groups, lowest first; small numbers take one byte.
pub(crate) fn put_varint(buffer: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = u8::try_from(value & 0x7f).expect("seven bits fit a byte");
        value >>= 7;
        if value == 0 {
            buffer.push(low);
            return;
        }
        buffer.push(low | 0x80);
    }
}

/// Appends a number as its distance from another one, which is short if they are near.
pub(crate) fn put_near(buffer: &mut Vec<u8>, last: u64, value: u64) {
    let distance = value.wrapping_sub(last).cast_signed();
    put_varint(buffer, ((distance << 1) ^ (distance >> 63)).cast_unsigned());
}

/// Reads what [`put_near`] wrote.
pub(crate) fn read_near(reader: &mut Reader, last: u64) -> Result<u64, &'static str> {
    let folded = reader.varint()?;
    let sign = (folded & 1).wrapping_neg();
    Ok(last.wrapping_add((folded >> 1) ^ sign))
}

/// Appends a length and the bytes.
pub(crate) fn put_bytes(buffer: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(buffer, bytes.len() as u64);
    buffer.extend_from_slice(bytes);
}

/// Reads what the functions above wrote; every error says what is missing.
pub(crate) struct Reader {
    rest: Bytes,
    format: u8,
}

impl Reader {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self {
            rest: bytes,
            format: 0,
        }
    }

    /// Reads the format of a value, its first byte, and remembers it.
    pub(crate) fn read_format(&mut self) -> Result<(), &'static str> {
        self.format = self.u8()?;
        Ok(())
    }

    /// The format of the value that is read; 0 for what has none.
    pub(crate) fn format(&self) -> u8 {
        self.format
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn u8(&mut self) -> Result<u8, &'static str> {
        let byte = *self.rest.first().ok_or("it ends early")?;
        self.rest.advance(1);
        Ok(byte)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let bytes = self.take(N)?;
        <[u8; N]>::try_from(bytes.as_ref()).map_err(|_| "it ends early")
    }

    pub(crate) fn u64(&mut self) -> Result<u64, &'static str> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err("a number is too large");
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number is too long")
    }

    /// A number of things that were counted or numbered one by one, so that sums of some of them fit too.
    pub(crate) fn count(&mut self) -> Result<u64, &'static str> {
        let count = self.varint()?;
        if count > COUNT_MAX {
            return Err("a count is impossible");
        }
        Ok(count)
    }

    pub(crate) fn length(&mut self) -> Result<usize, &'static str> {
        usize::try_from(self.varint()?).map_err(|_| "a length is too large")
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<Bytes, &'static str> {
        if length > self.rest.len() {
            return Err("it ends early");
        }
        Ok(self.rest.split_to(length))
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, &'static str> {
        let length = self.length()?;
        self.take(length)
    }

    pub(crate) fn text(&mut self) -> Result<String, &'static str> {
        let bytes = self.bytes()?;
        std::str::from_utf8(&bytes)
            .map(str::to_owned)
            .map_err(|_| "a text is not UTF-8")
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_and_bytes_come_back(numbers in proptest::collection::vec(any::<u64>(), 0..20), text in ".{0,40}") {
            let mut buffer = Vec::new();
            for number in &numbers {
                put_varint(&mut buffer, *number);
            }
            let mut last = 7;
            for number in &numbers {
                put_near(&mut buffer, last, *number);
                last = *number;
            }
            put_bytes(&mut buffer, text.as_bytes());
            let mut reader = Reader::new(Bytes::from(buffer));
            for number in &numbers {
                prop_assert_eq!(reader.varint(), Ok(*number));
            }
            let mut last = 7;
            for number in &numbers {
                prop_assert_eq!(read_near(&mut reader, last), Ok(*number));
                last = *number;
            }
            prop_assert_eq!(reader.text(), Ok(text));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = Reader::new(Bytes::from(bytes));
            while reader.text().is_ok() {}
            let _ = reader.varint();
            let _ = reader.u64();
        }
    }
}
