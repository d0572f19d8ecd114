//! Builds the headers of every call: the identity of the client, and the signature of its account.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue};
use sha1::Sha1;

use crate::config::{Config, Credentials};
use crate::error::Error;
use crate::timestamp;

/// The client version that is announced; proxies treat older ones differently.
pub(crate) const CLIENT_VERSION: &str = "5.1.0";

const DATE_TIME: HeaderName = HeaderName::from_static("x-mq-date-time");
/// The time limit of the call.
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Largest value of a timeout: eight digits.
const TIMEOUT_MS_MAX: u128 = 99_999_999;

/// The headers of one client.
#[derive(Debug)]
pub(crate) struct Headers {
    fixed: HeaderMap,
    credentials: Option<Credentials>,
    /// The signed headers of the last second in use: signing is expensive, and the date has no finer unit.
    signed: Mutex<(u64, Arc<HeaderMap>)>,
}

impl Headers {
    pub(crate) fn new(config: &Config, client_id: &str) -> Result<Self, Error> {
        let value = |text: &str| {
            HeaderValue::from_str(text)
                .map_err(|_| Error::Invalid(format!("{text:?} is no valid header value")))
        };
        let mut fixed = HeaderMap::new();
        fixed.insert(TIMEOUT, timeout(config.request_timeout));
        fixed.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        fixed.insert(TE, HeaderValue::from_static("trailers"));
        fixed.insert(USER_AGENT, HeaderValue::from_static("duetime-client"));
        for (name, text) in [
            ("x-mq-client-id", client_id),
            ("x-mq-language", "RUST"),
            ("x-mq-client-version", CLIENT_VERSION),
            ("x-mq-protocol", "v2"),
        ] {
            fixed.insert(HeaderName::from_static(name), value(text)?);
        }
        if !config.namespace.is_empty() {
            let name = HeaderName::from_static("x-mq-namespace");
            fixed.insert(name, value(&config.namespace)?);
        }
        if let Some(credentials) = &config.credentials {
            value(&credentials.access_key)?;
        }
        Ok(Self {
            fixed,
            credentials: config.credentials.clone(),
            signed: Mutex::new((0, Arc::default())),
        })
    }

    /// For a call made now with the request time limit.
    pub(crate) fn now(&self) -> Arc<HeaderMap> {
        self.at(clock::wall::since_epoch().as_secs())
    }

    /// For a call made now with another time limit.
    pub(crate) fn now_within(&self, limit: Duration) -> Arc<HeaderMap> {
        let mut headers = HeaderMap::clone(&self.now());
        headers.insert(TIMEOUT, timeout(limit));
        Arc::new(headers)
    }

    /// For a call made now without a time limit.
    pub(crate) fn now_unlimited(&self) -> Arc<HeaderMap> {
        let mut headers = HeaderMap::clone(&self.now());
        headers.remove(TIMEOUT);
        Arc::new(headers)
    }

    fn at(&self, second: u64) -> Arc<HeaderMap> {
        let mut signed = self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        if signed.0 != second {
            *signed = (second, Arc::new(self.sign(second)));
        }
        Arc::clone(&signed.1)
    }

    fn sign(&self, second: u64) -> HeaderMap {
        let date_time = timestamp::date_time(second);
        let mut headers = self.fixed.clone();
        if let Some(credentials) = &self.credentials
            && let Ok(value) = HeaderValue::from_str(&authorization(credentials, &date_time))
        {
            headers.insert(AUTHORIZATION, value);
        }
        if let Ok(value) = HeaderValue::from_str(&date_time) {
            headers.insert(DATE_TIME, value);
        }
        headers
    }
}

/// The value of the timeout header: ms, at most eight digits.
fn timeout(limit: Duration) -> HeaderValue {
    let limit_ms = std::cmp::min(limit.as_millis(), TIMEOUT_MS_MAX);
    HeaderValue::from_str(&format!("{limit_ms}m"))
        .expect("digits and a letter are a valid header value")
}

fn authorization(credentials: &Credentials, date_time: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(credentials.secret_key.as_bytes())
        .expect("an HMAC key may have any length");
    mac.update(date_time.as_bytes());
    let mut text = format!(
        "MQv2-HMAC-SHA1 Credential={}, SignedHeaders=x-mq-date-time, Signature=",
        credentials.access_key
    );
    for byte in mac.finalize().into_bytes() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02X}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_equal_those_of_other_clients() {
        let credentials = Credentials {
            access_key: "AK".to_owned(),
            secret_key: "SK".to_owned(),
        };
        let text = authorization(&credentials, "20261122T152808Z");
        assert_eq!(
            text,
            "MQv2-HMAC-SHA1 Credential=AK, SignedHeaders=x-mq-date-time, \
             Signature=B8966B27FA36A897632366E22492E35CE8BD5150"
        );
    }

    #[test]
    fn a_new_second_has_a_new_signature() {
        let config = Config::new("a").unwrap().with_credentials("AK", "SK");
        let headers = Headers::new(&config, "me").unwrap();
        let (first, second) = (headers.at(1_000), headers.at(1_001));
        assert_eq!(first, headers.at(1_000));
        assert_ne!(first[AUTHORIZATION], second[AUTHORIZATION]);
        assert_eq!(second[DATE_TIME], "19700101T001641Z");
        let wrong = Config::new("a").unwrap().with_credentials("A\nK", "SK");
        assert!(Headers::new(&wrong, "me").is_err());
    }
    #[test]
    fn limits_are_written_in_ms() {
        let mut config = Config::new("a").unwrap();
        config.request_timeout = Duration::from_secs(3);
        let headers = Headers::new(&config, "me").unwrap();
        assert_eq!(headers.now()[TIMEOUT], "3000m");
        let limit = Duration::from_millis(23_001);
        assert_eq!(headers.now_within(limit)[TIMEOUT], "23001m");
        assert_eq!(headers.now_within(Duration::MAX)[TIMEOUT], "99999999m");
        assert!(!headers.now_unlimited().contains_key(TIMEOUT));
    }
}
