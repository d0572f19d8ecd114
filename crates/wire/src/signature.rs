//! Provides what a signed request signs.

use bytes::{BufMut as _, BytesMut};

use crate::frame::Frame;

/// The parameter with the signature, which it cannot cover itself.
const SIGNATURE: &str = "Signature";
/// A parameter that clients put in after they have signed, up to a version.
const UNIQUE_KEY_QUERY: &str = "_UNIQUE_KEY_QUERY";
/// The last version that does: 4.9.3.
const UNIQUE_KEY_QUERY_VERSION_MAX: i32 = 399;

/// The bytes a request's signature covers: the values of all its parameters but the signature, in the order of their
/// names, and then its body. The signature is the Base64 of their HMAC-SHA1 under the account's secret.
pub fn signed_content(request: &Frame) -> BytesMut {
    let is_old = request.header.version <= UNIQUE_KEY_QUERY_VERSION_MAX;
    let mut content = BytesMut::with_capacity(request.body.len() + 256);
    for (name, value) in &request.header.fields {
        if name != SIGNATURE && !(is_old && name == UNIQUE_KEY_QUERY) {
            content.put_slice(value.as_bytes());
        }
    }
    content.put_slice(&request.body);
    content
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::header::{Header, Serialization};

    #[test]
    fn the_values_are_in_the_order_of_their_names_and_the_body_is_last() {
        let mut header = Header::request(10, 1);
        for (name, value) in [
            ("topic", "T"),
            ("AccessKey", "AK"),
            ("Signature", "S"),
            ("b", "small"),
            ("_UNIQUE_KEY_QUERY", "true"),
        ] {
            header.fields.set(name, value);
        }
        let mut frame = Frame {
            header,
            body: Bytes::from_static(b"body"),
            serialization: Serialization::Json,
        };
        assert_eq!(signed_content(&frame), "AKtruesmallTbody");
        frame.header.version = 399;
        assert_eq!(signed_content(&frame), "AKsmallTbody");
    }
}
