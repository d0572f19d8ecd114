//! Compares a body with the digest that was sent with it.

use grpc_api::v2::{Digest, DigestType};
use md5::Md5;
use sha1::{Digest as _, Sha1};

/// The kind of the digest that a body does not match; `None` if it matches, or if the client knows no such digest.
pub(crate) fn mismatch(body: &[u8], digest: Option<&Digest>) -> Option<&'static str> {
    let digest = digest?;
    let checksum = digest.checksum.as_str();
    let (name, matches) = match digest.r#type() {
        // Written as a number, with or without leading zeros.
        DigestType::Crc32 => (
            "CRC-32",
            u32::from_str_radix(checksum, 16) == Ok(crc32fast::hash(body)),
        ),
        DigestType::Md5 => ("MD5", is_hex(checksum, &Md5::digest(body))),
        DigestType::Sha1 => ("SHA-1", is_hex(checksum, &Sha1::digest(body))),
        DigestType::Unspecified => return None,
    };
    (!matches).then_some(name)
}

/// Whether a text is the hexadecimal form of these bytes.
fn is_hex(text: &str, bytes: &[u8]) -> bool {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let pairs = text.as_bytes().chunks_exact(2);
    text.len() == bytes.len() * 2
        && pairs.zip(bytes).all(|(pair, byte)| match pair {
            [high, low] => {
                digit(*high) == Some(u32::from(byte >> 4))
                    && digit(*low) == Some(u32::from(byte & 15))
            }
            _ => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(kind: DigestType, checksum: &str) -> Digest {
        Digest {
            r#type: kind.into(),
            checksum: checksum.to_owned(),
        }
    }

    #[test]
    fn bodies_match_what_servers_write() {
        for (kind, checksum) in [
            (DigestType::Crc32, "3610A686"),
            (DigestType::Crc32, "3610a686"),
            (DigestType::Md5, "5D41402ABC4B2A76B9719D911017C592"),
            (DigestType::Sha1, "AAF4C61DDCC5E8A2DABEDE0F3B482CD9AEA9434D"),
        ] {
            let digest = digest(kind, checksum);
            assert_eq!(mismatch(b"hello", Some(&digest)), None, "{checksum}");
            assert!(mismatch(b"hellp", Some(&digest)).is_some(), "{checksum}");
        }
        // One server writes leading zeros, another does not.
        for checksum in ["06B9DF6F", "6B9DF6F"] {
            let digest = digest(DigestType::Crc32, checksum);
            assert_eq!(mismatch(b"c", Some(&digest)), None, "{checksum}");
        }
    }

    #[test]
    fn an_invalid_digest_matches_nothing_and_a_missing_one_everything() {
        assert_eq!(mismatch(b"hello", None), None);
        assert_eq!(mismatch(b"hello", Some(&Digest::default())), None);
        let unknown = Digest {
            r#type: 99,
            checksum: "?".to_owned(),
        };
        assert_eq!(mismatch(b"hello", Some(&unknown)), None);
        for kind in [DigestType::Crc32, DigestType::Md5, DigestType::Sha1] {
            for checksum in [
                "",
                "5D41",
                "+",
                "\u{e9}",
                "zz41402ABC4B2A76B9719D911017C592",
            ] {
                let digest = digest(kind, checksum);
                assert!(mismatch(b"hello", Some(&digest)).is_some(), "{checksum}");
            }
        }
    }
}
