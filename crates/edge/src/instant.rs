//! Defines how the APIs write instants and durations, and converts between wall time and the engine clock.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clock::Clock;
use jiff::SignedDuration;
use jiff::civil::DateTime;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// An instant of the wall clock, in ms since the Unix epoch; written as `2026-11-24T09:00:00.000Z`.
///
/// It is read as RFC 3339 writes it, with any offset from UTC, in the years 0000 to 9999; digits beyond the millisecond
/// are rounded up, so that nothing is due early.
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
        let shown = EPOCH.checked_add(SignedDuration::from_millis(self.0));
        // Outside the years -9999 to 9999: an unlimited bound.
        let unlimited = if self.0 < 0 {
            DateTime::MIN
        } else {
            DateTime::MAX
        };
        write!(formatter, "{:.3}Z", shown.unwrap_or(unlimited))
    }
}

impl FromStr for Instant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        read_rfc3339(text).ok_or_else(|| {
            let shown: String = text.chars().take(64).collect();
            format!(
                "`{shown}` is not an instant as in RFC 3339, such as 2026-11-24T09:00:00.000Z, in the years 0000 to 9999"
            )
        })
    }
}

/// Where the wall clock of UTC begins to count.
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
/// Bytes of a date and a time of day without a fraction.
const DATE_TIME_BYTES: usize = 19;
/// Digits of a fraction that are read; further ones are below a nanosecond.
const FRACTION_DIGITS_MAX: usize = 9;

/// Reads `date-time` of RFC 3339. The library for dates reads other forms of ISO 8601 too, and ends on 30 December 9999.
fn read_rfc3339(text: &str) -> Option<Instant> {
    let (date_time, rest) = text.split_at_checked(DATE_TIME_BYTES)?;
    let shape = b"dddd-dd-ddTdd:dd:dd";
    let fits = |(byte, expected): (u8, &u8)| match expected {
        b'd' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't' | b' '),
        _ => byte == *expected,
    };
    if !date_time.bytes().zip(shape).all(fits) {
        return None;
    }
    let date_time: DateTime = date_time.to_ascii_uppercase().parse().ok()?;
    let (fraction_ms, rest) = match rest.strip_prefix('.') {
        Some(rest) => read_fraction(rest)?,
        None => (0, rest),
    };
    let whole_ms = date_time.duration_since(EPOCH).as_millis();
    let ms = i64::try_from(whole_ms).ok()? + fraction_ms - read_offset(rest)?;
    Some(Instant(ms))
}

/// Reads the digits of a fraction of a second, as ms, rounded up; returns what follows them too.
fn read_fraction(text: &str) -> Option<(i64, &str)> {
    let count = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at_checked(count).filter(|_| count > 0)?;
    let kept = digits.get(..FRACTION_DIGITS_MAX).unwrap_or(digits);
    let ns: i64 = format!("{kept:0<FRACTION_DIGITS_MAX$}").parse().ok()?;
    let is_cut = digits
        .bytes()
        .skip(FRACTION_DIGITS_MAX)
        .any(|digit| digit != b'0');
    let ms = ns / 1_000_000 + i64::from(ns % 1_000_000 > 0 || is_cut);
    Some((ms, rest))
}

/// Reads an offset from UTC, in ms.
fn read_offset(text: &str) -> Option<i64> {
    let (sign, hours_minutes) = match text.as_bytes() {
        [b'Z' | b'z'] => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let [h, hh, b':', m, mm] = hours_minutes else {
        return None;
    };
    let digits = [h, hh, m, mm].map(|digit| char::from(*digit).to_digit(10).map(i64::from));
    let [Some(h), Some(hh), Some(m), Some(mm)] = digits else {
        return None;
    };
    let (hours, minutes) = (h * 10 + hh, m * 10 + mm);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60_000)
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
    fn instants_are_read_as_rfc_3339_writes_them_up_to_the_end_of_9999() {
        for (text, shown) in [
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000Z"),
            ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000Z"),
            ("2026-11-24t09:00:00z", "2026-11-24T09:00:00.000Z"),
            ("2026-11-24 09:00:00-00:30", "2026-11-24T09:30:00.000Z"),
            (
                "2024-02-29T23:59:59.0000000001Z",
                "2024-02-29T23:59:59.001Z",
            ),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.000Z"),
        ] {
            let read: Instant = text.parse().unwrap();
            assert_eq!(read.to_string(), shown, "{text}");
        }
        // Past the end, and shown as the end.
        let past: Instant = "9999-12-31T23:59:59-23:59".parse().unwrap();
        assert_eq!(past.to_string(), "9999-12-31T23:59:59.999Z");
        for text in [
            "2026-11-24T09:00:00,5Z",
            "2026-11-24T09:00:00.Z",
            "2026-11-24T09:00Z",
            "2026-11-24T09:00:00",
            "20261124T090000Z",
            "2026-11-24T09:00:00+01",
            "2026-11-24T09:00:00+0100",
            "2026-11-24T09:00:00+24:00",
            "2026-11-24T09:00:00Z[Europe/Berlin]",
            "2026-02-29T09:00:00Z",
            "2026-11-24T25:00:00Z",
            "+002026-11-24T09:00:00Z",
            "-009999-01-01T00:00:00Z",
            "10000-01-01T00:00:00Z",
            "2026-11-24T09:00:0\u{e9}Z",
        ] {
            let error = text.parse::<Instant>().unwrap_err();
            assert!(
                error.contains("in the years 0000 to 9999"),
                "{text}: {error}"
            );
        }
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
