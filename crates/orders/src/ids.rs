//! Defines the identifiers: version 7 UUIDs inside, a prefix and 26 characters of base32 outside, as in `TypeID`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::limits::MERCHANT_ID_CHARS_MAX;

/// Crockford's alphabet: no letter that reads as a digit, and it sorts as the numbers do.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 26 characters of 5 bits hold the 128 bits of an id.
const SUFFIX_CHARS: usize = 26;

/// Why a text is not an id.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not an id of the form {prefix}_ followed by 26 characters of base32")]
pub struct IdError {
    /// What was given, cut to a length that fits a message.
    pub text: String,
    /// The prefix that was expected.
    pub prefix: &'static str,
}

fn encode(id: Uuid, out: &mut String) {
    let bits = id.as_u128();
    for place in (0..SUFFIX_CHARS).rev() {
        let digit = usize::try_from((bits >> (place * 5)) & 31).unwrap_or(0);
        out.push(char::from(ALPHABET.get(digit).copied().unwrap_or(b'0')));
    }
}

fn decode(suffix: &str) -> Option<Uuid> {
    if suffix.len() != SUFFIX_CHARS {
        return None;
    }
    let mut bits: u128 = 0;
    for byte in suffix.bytes() {
        let digit = ALPHABET.iter().position(|&letter| letter == byte)?;
        // A first character above 7 would need a 129th bit.
        if bits >> 123 != 0 {
            return None;
        }
        bits = (bits << 5) | u128::try_from(digit).ok()?;
    }
    Some(Uuid::from_u128(bits))
}

/// A fresh version 7 UUID stamped with `now_ms` (ms since the Unix epoch), above those made before it at that time.
///
/// The time is followed by 26 bits of a counter and 48 random bits. Without the counter, a list that continues after
/// the last id seen could miss a row that was created later in the same millisecond.
fn fresh(now_ms: i64) -> Uuid {
    let millis = u64::try_from(now_ms).unwrap_or(0);
    let (count, random) = crate::random::id_parts();
    let count = u128::from(count);
    // The builder writes the version over the first 4 of these 80 bits and the variant over the 17th and 18th.
    let first = ((count >> 14) & 0xfff) << 64;
    let second = (count & 0x3fff) << 48;
    let random = random & 0xffff_ffff_ffff;
    let [_, _, _, _, _, _, tail @ ..] = (first | second | random).to_be_bytes();
    uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid()
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// What its text form begins with, before the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// A fresh id, stamped with `now_ms` (ms since the Unix epoch) so that ids sort by age.
            pub fn new(now_ms: i64) -> Self {
                Self(fresh(now_ms))
            }

            /// The bare identifier.
            pub fn uuid(self) -> Uuid {
                self.0
            }

            /// The id of a bare identifier.
            pub fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = String::with_capacity($prefix.len() + 1 + SUFFIX_CHARS);
                text.push_str(concat!($prefix, "_"));
                encode(self.0, &mut text);
                f.write_str(&text)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix(concat!($prefix, "_"))
                    .and_then(decode)
                    .map(Self)
                    .ok_or_else(|| IdError {
                        text: text.chars().take(64).collect(),
                        prefix: $prefix,
                    })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    };
}

id_type!(
    /// Names an order.
    OrderId, "ord"
);
id_type!(
    /// Names a product.
    ProductId, "prd"
);
id_type!(
    /// Names a payment attempt.
    AttemptId, "att"
);
id_type!(
    /// Names a payment: one transaction at a gateway.
    PaymentId, "pay"
);
id_type!(
    /// Names money that no payment could hold.
    UnmatchedPaymentId, "ump"
);
id_type!(
    /// Names a refund.
    RefundId, "ref"
);
id_type!(
    /// Names a coupon.
    CouponId, "cpn"
);
id_type!(
    /// Names a rule that issues coupons.
    CouponRuleId, "cpr"
);
id_type!(
    /// Names an account at a payment gateway.
    GatewayAccountId, "gwa"
);
id_type!(
    /// Names an API key; not the key itself.
    ApiKeyId, "key"
);
id_type!(
    /// Names an endpoint that events are sent to.
    WebhookId, "whk"
);
id_type!(
    /// Names the delivery of an event to an endpoint.
    WebhookDeliveryId, "whd"
);
id_type!(
    /// Names an event; the same for every repetition of it.
    EventId, "evt"
);

/// Names a merchant: 1 to 32 of `a-z`, `0-9`, `_` and `-`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MerchantId(Arc<str>);

impl MerchantId {
    /// The merchant that an embedded platform starts with.
    pub fn fallback() -> Self {
        Self(Arc::from("default"))
    }

    /// Its text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// For values that the database gave back, where they were checked on their way in.
    pub(crate) fn from_stored(text: String) -> Self {
        Self(Arc::from(text))
    }
}

impl fmt::Display for MerchantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MerchantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for MerchantId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        if (1..=MERCHANT_ID_CHARS_MAX).contains(&text.len()) && text.bytes().all(allowed) {
            return Ok(Self(Arc::from(text)));
        }
        Err(IdError {
            text: text.chars().take(64).collect(),
            prefix: "merchant",
        })
    }
}

impl Serialize for MerchantId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for MerchantId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text_form_and_sorts_by_age() {
        let old = OrderId::new(1_700_000_000_000);
        let young = OrderId::new(1_700_000_000_001);
        assert_eq!(old.to_string().parse::<OrderId>(), Ok(old));
        assert_eq!(old.to_string().len(), 30);
        assert!(old.to_string() < young.to_string());
        assert!(old < young);
    }

    #[test]
    fn ids_of_one_millisecond_sort_by_age_and_are_not_alike() {
        let ids: Vec<_> = (0..20_000).map(|_| OrderId::new(1)).collect();
        assert!(ids.is_sorted());
        let tails: std::collections::BTreeSet<_> = ids
            .iter()
            .map(|id| id.uuid().as_u128() & 0xffff_ffff_ffff)
            .collect();
        assert!(tails.len() > 19_990, "{} random tails", tails.len());
        assert_eq!(ids[0].uuid().get_version_num(), 7);
    }

    #[test]
    fn the_published_typeid_example_decodes() {
        // The example of the TypeID specification.
        let id = OrderId::from_str("ord_01h455vb4pex5vsknk084sn02q").unwrap();
        let uuid = Uuid::parse_str("01890a5d-ac96-774b-bcce-b302099a8057").unwrap();
        assert_eq!(id.uuid(), uuid);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "ord_",
            "pay_01h455vb4pex5vsknk084sn02q",
            "ord_01h455vb4pex5vsknk084sn02",
            "ord_81h455vb4pex5vsknk084sn02q",
            "ord_01h455vb4pex5vsknk084sn0iq",
            "ord_01H455VB4PEX5VSKNK084SN02Q",
        ] {
            assert!(text.parse::<OrderId>().is_err(), "{text}");
        }
        assert!("shop-1".parse::<MerchantId>().is_ok());
        assert!("Shop".parse::<MerchantId>().is_err());
        assert!("".parse::<MerchantId>().is_err());
    }
}
