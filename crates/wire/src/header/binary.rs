//! Provides the binary form of headers.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{Header, HeaderError};
use crate::cursor::Cursor;
use crate::fields::Fields;
use crate::language::Language;

/// Codes that do not fit into the two bytes of a binary header; they arrive as their lower half.
const WIDE_CODES: [i32; 5] = [200_050, 200_051, 200_053, 200_054, 200_151];

pub(super) fn decode(bytes: &Bytes) -> Result<Header, HeaderError> {
    let mut cursor = Cursor(bytes.clone());
    let code = cursor.u16().ok_or(HeaderError::Binary("code"))?;
    let language = cursor.u8().ok_or(HeaderError::Binary("language"))?;
    let version = cursor.i16().ok_or(HeaderError::Binary("version"))?;
    let opaque = cursor.i32().ok_or(HeaderError::Binary("opaque"))?;
    let flags = cursor.i32().ok_or(HeaderError::Binary("flag"))?;
    let length = cursor.i32().ok_or(HeaderError::Binary("remark"))?;
    let remark = cursor.text(length).ok_or(HeaderError::Binary("remark"))?;
    let length = cursor.i32().ok_or(HeaderError::Binary("fields"))?;
    let fields = cursor
        .counted(length)
        .ok_or(HeaderError::Binary("fields"))?;
    if !cursor.is_empty() {
        return Err(HeaderError::Binary("end"));
    }
    Ok(Header {
        code: widened(code),
        language: Language::from_byte(language),
        version: version.into(),
        opaque,
        flags,
        remark: (!remark.is_empty()).then_some(remark),
        fields: read_fields(Cursor(fields)).ok_or(HeaderError::Binary("fields"))?,
    })
}

fn widened(code: u16) -> i32 {
    let wide = WIDE_CODES
        .iter()
        .find(|wide| **wide & 0xFFFF == i32::from(code));
    wide.copied().unwrap_or_else(|| i32::from(code))
}

fn read_fields(mut cursor: Cursor) -> Option<Fields> {
    let mut fields = Vec::new();
    while !cursor.is_empty() {
        let length = cursor.i16()?;
        let name = cursor.text(length)?;
        let length = cursor.i32()?;
        fields.push((name, cursor.text(length)?));
    }
    Some(fields.into_iter().collect())
}

pub(super) fn encode(header: &Header, buffer: &mut BytesMut) -> Result<(), HeaderError> {
    // Codes are cut to two bytes, as Apache RocketMQ does.
    let [_, _, high, low] = header.code.to_be_bytes();
    buffer.put_slice(&[high, low]);
    buffer.put_u8(header.language.byte());
    buffer.put_i16(i16::try_from(header.version).unwrap_or(i16::MAX));
    buffer.put_i32(header.opaque);
    buffer.put_i32(header.flags);
    let remark = header.remark.as_deref().unwrap_or_default();
    put_counted(buffer, remark, "remark")?;
    let mut fields = BytesMut::new();
    for (name, value) in &header.fields {
        let length =
            i16::try_from(name.len()).map_err(|_| HeaderError::TooLong("name of a field"))?;
        fields.put_i16(length);
        fields.put_slice(name.as_bytes());
        put_counted(&mut fields, value, "value of a field")?;
    }
    put_counted(buffer, &fields, "list of fields")
}

fn put_counted(
    buffer: &mut BytesMut,
    bytes: impl AsRef<[u8]>,
    what: &'static str,
) -> Result<(), HeaderError> {
    let bytes = bytes.as_ref();
    let length = i32::try_from(bytes.len()).map_err(|_| HeaderError::TooLong(what))?;
    buffer.put_i32(length);
    buffer.put_slice(bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_protocol() {
        let mut header = Header::request(310, 9);
        header.fields.set("b", "t");
        let mut buffer = BytesMut::new();
        encode(&header, &mut buffer).expect("it can be written");
        let expected = [
            &[0x01, 0x36, 0][..],
            &479_i16.to_be_bytes(),
            &9_i32.to_be_bytes(),
            &0_i32.to_be_bytes(),
            &0_i32.to_be_bytes(),
            &8_i32.to_be_bytes(),
            &[0, 1, b'b', 0, 0, 0, 1, b't'],
        ];
        assert_eq!(buffer.as_ref(), expected.concat());
    }

    #[test]
    fn a_code_beyond_two_bytes_is_found_again() {
        let mut buffer = BytesMut::new();
        encode(&Header::request(200_050, 1), &mut buffer).expect("it can be written");
        let read = decode(&buffer.freeze()).expect("it can be read");
        assert_eq!(read.code, 200_050);
    }

    #[test]
    fn lengths_below_zero_and_bytes_after_the_end_are_refused() {
        let mut buffer = BytesMut::new();
        encode(&Header::request(10, 1), &mut buffer).expect("it can be written");
        let whole = buffer.freeze();
        let with = |at: usize, byte: u8| {
            let mut bytes = whole.to_vec();
            bytes[at] = byte;
            decode(&Bytes::from(bytes)).map_err(|error| error.to_string())
        };
        assert_eq!(
            with(13, 0xFF),
            Err("the binary header is malformed at its remark".to_owned())
        );
        assert_eq!(
            with(17, 0xFF),
            Err("the binary header is malformed at its fields".to_owned())
        );
        let longer = [&whole[..], &[0]].concat();
        assert!(decode(&Bytes::from(longer)).is_err());
        for length in 0..whole.len() {
            assert!(decode(&whole.slice(..length)).is_err(), "cut to {length}");
        }
    }
}
