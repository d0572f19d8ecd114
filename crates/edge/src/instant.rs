//! Defines how the APIs write instants and durations, and converts between wall time and the engine clock.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clock::Clock;
use jiff::Timestamp;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// An instant of the wall clock, in ms since the Unix epoch; written as `2026-11-24T09:00:00.000Z`.
///
/// Any offset from UTC is accepted; digits beyond the millisecond are rounded up, so that nothing is due early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(pub i64);

impl Instant {
    /// Returns the instant `ms` after the Unix epoch.
    pub fn from_ms(ms: u64) -> Self {
        Self(i64::try_from(ms).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Timestamp::from_millisecond(self.0) {
            Ok(timestamp) => write!(formatter, "{timestamp:.3}"),
            // Outside the years -9999 to 9999: an unlimited bound.
            Err(_) => write!(formatter, "{:.3}", Timestamp::MAX),
        }
    }
}

impl FromStr for Instant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let timestamp: Timestamp = text.parse().map_err(|_| {
            let shown: String = text.chars().take(64).collect();
            format!("`{shown}` is not an instant as in RFC 3339, such as 2026-11-24T09:00:00.000Z")
        })?;
        let cut_ms = timestamp.as_millisecond();
        // Towards zero: before 1970 that is up already.
        let is_cut = timestamp.as_nanosecond() > i128::from(cut_ms) * 1_000_000;
        Ok(Self(cut_ms + i64::from(is_cut)))
    }
}

/// A span of time, read as a whole number with a unit: `500ms`, `30s`, `10m`, `2h`, `3d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The length, in ms.
    pub ms: u64,
}

impl Span {
    /// Returns the span as a duration.
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.ms)
    }
}

/// Units of spans, the longest first, with their length in ms.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, unit_ms): &&(&str, u64)| self.ms > 0 && self.ms.is_multiple_of(*unit_ms);
        match UNITS.iter().find(fits) {
            Some((unit, unit_ms)) => write!(formatter, "{}{unit}", self.ms / unit_ms),
            None => formatter.write_str("0s"),
        }
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit_ms = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, unit_ms)| *unit_ms);
        number
            .parse::<u64>()
            .ok()
            .zip(unit_ms)
            .and_then(|(number, unit_ms)| number.checked_mul(unit_ms))
            .map(|ms| Self { ms })
            .ok_or_else(|| {
                let shown: String = text.chars().take(64).collect();
                format!("`{shown}` is not a duration, such as 500ms, 30s, 10m, 2h or 3d")
            })
    }
}

/// Serializes a type as its `Display` text, and deserializes it with `FromStr`.
macro_rules! as_text {
    ($($name:ident: $expecting:literal;)*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                        formatter.write_str($expecting)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    )*};
}

as_text! {
    Instant: "an instant as in RFC 3339";
    Span: "a duration such as 30s, 10m, 2h or 3d";
}

/// The two clocks at one moment: the engine clock, which never goes back, and the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// The engine clock, in ms.
    pub now_ms: u64,
    /// How far it is ahead of the wall clock, in ms.
    ahead_ms: u64,
}

impl Clocks {
    /// Reads both clocks.
    pub fn read(clock: &dyn Clock) -> Self {
        Self {
            now_ms: clock.now_ms(),
            ahead_ms: clock.ahead_ms(),
        }
    }

    /// Converts an instant of the engine clock to the wall clock.
    pub fn wall(self, engine_ms: u64) -> Instant {
        let ms = engine_ms.saturating_sub(self.ahead_ms);
        Instant(i64::try_from(ms).unwrap_or(i64::MAX))
    }

    /// Like [`Clocks::wall`], for an instant as a database stores it.
    pub fn shown(self, engine_ms: i64) -> Instant {
        let ahead_ms = i64::try_from(self.ahead_ms).unwrap_or(i64::MAX);
        Instant(engine_ms.saturating_sub(ahead_ms))
    }

    /// Converts an instant of the wall clock to the engine clock; an instant before 1970 counts as 1970.
    pub fn engine(self, Instant(wall_ms): Instant) -> u64 {
        u64::try_from(wall_ms)
            .unwrap_or(0)
            .saturating_add(self.ahead_ms)
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
        assert_eq!("1970-01-01T02:00:00.0019+02:00".parse(), Ok(Instant(2)));
        assert_eq!("1970-01-01T00:00:00.001Z".parse(), Ok(Instant(1)));
        assert_eq!("1969-12-31T23:59:59.9981Z".parse(), Ok(Instant(-1)));
        for text in ["", "tomorrow", "1970-01-01", "5"] {
            assert!(text.parse::<Instant>().is_err(), "{text}");
        }
        assert!(Instant(i64::MAX).to_string().starts_with("9999-12-"));
    }

    #[test]
    fn spans_are_read_and_written_in_their_largest_whole_unit() {
        for (text, ms) in [
            ("500ms", 500),
            ("90s", 90_000),
            ("10m", 600_000),
            ("2h", 7_200_000),
            ("3d", 259_200_000),
        ] {
            assert_eq!(text.parse(), Ok(Span { ms }), "{text}");
            assert_eq!(Span { ms }.to_string(), text);
        }
        assert_eq!("0s".parse(), Ok(Span { ms: 0 }));
        assert_eq!(Span { ms: 0 }.to_string(), "0s");
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "1.5h",
            "1 h",
            "99999999999999999999s",
            "300000000000d",
            "1w",
        ] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn instants_are_shown_by_the_wall_clock() {
        let clocks = Clocks {
            now_ms: 5_000,
            ahead_ms: 30,
        };
        assert_eq!(clocks.engine(Instant(1_000)), 1_030);
        assert_eq!(clocks.wall(1_030), Instant(1_000));
        assert_eq!(clocks.engine(Instant(-5)), 30);
    }
}
