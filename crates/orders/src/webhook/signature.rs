//! Signs webhooks as Standard Webhooks 1.0 has it: HMAC-SHA256 over id, time and body, with a secret of the endpoint.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// What the text form of a secret begins with.
const PREFIX: &str = "whsec_";
/// The length of a new secret, in bytes.
const SECRET_BYTES: usize = 32;

/// The secret that signs an endpoint's webhooks. It is shown once, when it is made, and is in no log.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Vec<u8>);

impl Secret {
    /// A new secret. It never follows from a seed.
    pub(crate) fn random() -> Self {
        let bytes: [u8; SECRET_BYTES] = rand::random();
        Self(bytes.to_vec())
    }

    /// The secret of these bytes.
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text form: `whsec_` and base64.
    pub(crate) fn reveal(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }

    fn sign(&self, signed: &str) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(signed.as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The value of the header `webhook-signature`: one signature by each secret.
pub(crate) fn signatures<'a>(
    secrets: impl IntoIterator<Item = &'a Secret>,
    id: &str,
    timestamp_s: i64,
    body: &str,
) -> String {
    let signed = format!("{id}.{timestamp_s}.{body}");
    let signatures: Vec<_> = secrets
        .into_iter()
        .map(|secret| secret.sign(&signed))
        .collect();
    signatures.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published() -> Secret {
        Secret(STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap())
    }

    /// The published example of Standard Webhooks.
    #[test]
    fn the_published_example_is_signed_alike() {
        let secret = published();
        assert_eq!(secret.reveal(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signed = signatures(
            [&secret],
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn two_secrets_sign_twice() {
        let (old, new) = (published(), Secret::random());
        let signed = signatures([&new, &old], "evt_1", 5, "{}");
        let each: Vec<_> = signed.split(' ').collect();
        assert_eq!(each.len(), 2);
        assert_eq!(each[1], signatures([&old], "evt_1", 5, "{}"));
        assert_ne!(each[0], each[1]);
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", published()), "Secret(..)");
        assert_ne!(Secret::random(), Secret::random());
        assert_eq!(Secret::random().bytes().len(), SECRET_BYTES);
    }
}
