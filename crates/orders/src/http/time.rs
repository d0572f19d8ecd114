//! Defines how the API writes instants: RFC 3339 in UTC with milliseconds.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// An instant, in ms since the Unix epoch; written as `2026-11-24T09:00:00.000Z`.
///
/// Read with any offset from UTC; digits beyond the millisecond are cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Instant(pub(super) i64);

impl Instant {
    /// The instant so many ms after the Unix epoch.
    pub(super) fn from_ms(ms: u64) -> Self {
        Self(i64::try_from(ms).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Timestamp::from_millisecond(self.0) {
            Ok(timestamp) => write!(f, "{timestamp:.3}"),
            // Outside the years -9999 to 9999, which no accepted input reaches.
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

impl FromStr for Instant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "an instant as in RFC 3339, such as 2026-11-24T09:00:00.000Z";
        let shown: String = text.chars().take(64).collect();
        let timestamp: Timestamp = text
            .parse()
            .map_err(|_| format!("`{shown}` is not {form}"))?;
        Ok(Self(timestamp.as_millisecond()))
    }
}

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Instant;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an instant as in RFC 3339")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Instant, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_with_milliseconds_and_read_with_any_offset() {
        assert_eq!(Instant(0).to_string(), "1970-01-01T00:00:00.000Z");
        let written = Instant(1_795_510_800_123).to_string();
        assert_eq!(written.parse(), Ok(Instant(1_795_510_800_123)));
        let shifted = "1970-01-01T02:00:00.0019+02:00".parse();
        assert_eq!(shifted, Ok(Instant(1)));
        for text in ["", "tomorrow", "1970-01-01", "1970-01-01T00:00:00", "5"] {
            assert!(text.parse::<Instant>().is_err(), "{text}");
        }
    }
}
