//! Provides the signature of callbacks: HMAC-SHA256 over id, time and body, as Standard Webhooks lays it out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::CallbackError;

/// Carries the event's id, the same for every repetition.
pub const ID_HEADER: HeaderName = HeaderName::from_static("webhook-id");
/// Carries when the callback was signed, in s since the Unix epoch.
pub const TIMESTAMP_HEADER: HeaderName = HeaderName::from_static("webhook-timestamp");
/// Carries the signatures, `v1,` and base64 each, apart by a blank.
pub const SIGNATURE_HEADER: HeaderName = HeaderName::from_static("webhook-signature");

/// How far from now a callback may have been signed, in ms: an older one is refused.
pub const TOLERANCE_MS: u64 = 5 * 60 * 1_000;

/// The secret that signs the callbacks of one account.
#[derive(Clone)]
pub(super) struct Secret(Vec<u8>);

impl Secret {
    /// The secret made of these bytes.
    pub(super) fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// A secret for one account that cannot be computed from another account's.
    pub(super) fn derive(&self, account_id: &str) -> Self {
        Self(self.mac(&[account_id.as_bytes()]))
    }

    /// The headers of a callback signed now.
    pub(super) fn sign(&self, event_id: &str, body: &[u8], now_ms: u64) -> HeaderMap {
        let timestamp = (now_ms / 1_000).to_string();
        let mac = self.mac(&signed_parts(event_id, &timestamp, body));
        let signature = format!("v1,{}", STANDARD.encode(mac));
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (ID_HEADER, event_id),
            (TIMESTAMP_HEADER, timestamp.as_str()),
            (SIGNATURE_HEADER, signature.as_str()),
        ] {
            let value = HeaderValue::from_str(value)
                .expect("ids, digits and base64 are visible ASCII characters");
            headers.insert(name, value);
        }
        headers
    }

    /// Checks the signature and its age; the answer is the event's id.
    pub(super) fn verify<'a>(
        &self,
        headers: &'a HeaderMap,
        body: &[u8],
        now_ms: u64,
    ) -> Result<&'a str, CallbackError> {
        let event_id = header(headers, &ID_HEADER, "webhook-id")?;
        let timestamp = header(headers, &TIMESTAMP_HEADER, "webhook-timestamp")?;
        let signatures = header(headers, &SIGNATURE_HEADER, "webhook-signature")?;
        let signed_at_ms = timestamp
            .parse::<u64>()
            .ok()
            .and_then(|seconds| seconds.checked_mul(1_000))
            .ok_or(CallbackError::Header("webhook-timestamp"))?;
        let expected = self.mac(&signed_parts(event_id, timestamp, body));
        // The signature comes first, so that the receiver's clock cannot be learned without the secret.
        let genuine = signatures
            .split(' ')
            .filter_map(|signature| signature.strip_prefix("v1,"))
            .filter_map(|text| STANDARD.decode(text).ok())
            .any(|bytes| bool::from(bytes.as_slice().ct_eq(&expected)));
        if !genuine {
            return Err(CallbackError::Signature);
        }
        let offset_ms = now_ms.abs_diff(signed_at_ms);
        if offset_ms > TOLERANCE_MS {
            return Err(CallbackError::Stale {
                offset_ms,
                tolerance_ms: TOLERANCE_MS,
            });
        }
        Ok(event_id)
    }

    fn mac(&self, parts: &[&[u8]]) -> Vec<u8> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().to_vec()
    }
}

fn signed_parts<'a>(event_id: &'a str, timestamp: &'a str, body: &'a [u8]) -> [&'a [u8]; 5] {
    [event_id.as_bytes(), b".", timestamp.as_bytes(), b".", body]
}

fn header<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    label: &'static str,
) -> Result<&'a str, CallbackError> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .filter(|text| !text.is_empty())
        .ok_or(CallbackError::Header(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_614_265_330_000;

    /// The example that the Standard Webhooks libraries test themselves with.
    fn published_secret() -> Secret {
        Secret::new(STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap())
    }

    #[test]
    fn agrees_with_the_published_example() {
        let headers = published_secret().sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            br#"{"test": 2432232314}"#,
            NOW_MS,
        );
        assert_eq!(
            headers[SIGNATURE_HEADER],
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        assert_eq!(headers[TIMESTAMP_HEADER], "1614265330");
    }

    #[test]
    fn a_changed_byte_an_other_account_or_an_other_id_is_refused() {
        let secret = published_secret();
        let body = b"{\"amount\":100}";
        let headers = secret.sign("evt_1", body, NOW_MS);
        assert_eq!(secret.verify(&headers, body, NOW_MS), Ok("evt_1"));
        let refused = Err(CallbackError::Signature);
        assert_eq!(
            secret.verify(&headers, b"{\"amount\":900}", NOW_MS),
            refused
        );
        let other = secret.derive("gwa_2");
        assert_eq!(other.verify(&headers, body, NOW_MS), refused);
        let mut renamed = headers.clone();
        renamed.insert(ID_HEADER, HeaderValue::from_static("evt_2"));
        assert_eq!(secret.verify(&renamed, body, NOW_MS), refused);
        let mut retimed = headers;
        retimed.insert(TIMESTAMP_HEADER, HeaderValue::from_static("1614265331"));
        assert_eq!(secret.verify(&retimed, body, NOW_MS), refused);
    }

    #[test]
    fn a_replay_outside_the_window_is_refused_both_ways() {
        let secret = published_secret();
        let headers = secret.sign("evt_1", b"{}", NOW_MS);
        let last_ms = NOW_MS + TOLERANCE_MS;
        assert!(secret.verify(&headers, b"{}", last_ms).is_ok());
        for now_ms in [last_ms + 1, NOW_MS - TOLERANCE_MS - 1] {
            let stale = CallbackError::Stale {
                offset_ms: TOLERANCE_MS + 1,
                tolerance_ms: TOLERANCE_MS,
            };
            assert_eq!(secret.verify(&headers, b"{}", now_ms), Err(stale));
        }
    }

    #[test]
    fn any_signature_of_a_list_is_enough_and_missing_headers_are_named() {
        let secret = published_secret();
        let mut headers = secret.sign("evt_1", b"{}", NOW_MS);
        let good = headers[SIGNATURE_HEADER].to_str().unwrap().to_owned();
        let list = format!("v1,AAAA v2,zzz {good}");
        headers.insert(SIGNATURE_HEADER, HeaderValue::from_str(&list).unwrap());
        assert!(secret.verify(&headers, b"{}", NOW_MS).is_ok());
        for (name, label) in [
            (ID_HEADER, "webhook-id"),
            (TIMESTAMP_HEADER, "webhook-timestamp"),
            (SIGNATURE_HEADER, "webhook-signature"),
        ] {
            let mut without = headers.clone();
            without.remove(&name);
            let missing = Err(CallbackError::Header(label));
            assert_eq!(secret.verify(&without, b"{}", NOW_MS), missing);
        }
        headers.insert(TIMESTAMP_HEADER, HeaderValue::from_static("yesterday"));
        let malformed = Err(CallbackError::Header("webhook-timestamp"));
        assert_eq!(secret.verify(&headers, b"{}", NOW_MS), malformed);
    }
}
