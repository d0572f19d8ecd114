//! Parses and formats durations and sizes: `30s`, `1h 30m`, `4 MiB`.

/// Milliseconds of a second.
pub(crate) const SECOND_MS: u64 = 1_000;
/// Milliseconds of a minute.
pub(crate) const MINUTE_MS: u64 = 60 * SECOND_MS;
/// Milliseconds of an hour.
pub(crate) const HOUR_MS: u64 = 60 * MINUTE_MS;
/// Milliseconds of a day.
pub(crate) const DAY_MS: u64 = 24 * HOUR_MS;
/// Bytes of a MiB.
pub(crate) const MIB: u64 = 1 << 20;
/// Bytes of a GiB.
pub(crate) const GIB: u64 = 1 << 30;

/// Units of time in ms, the longest first.
const TIME_UNITS: &[(&str, u64)] = &[
    ("d", DAY_MS),
    ("h", HOUR_MS),
    ("m", MINUTE_MS),
    ("s", SECOND_MS),
    ("ms", 1),
];

/// Binary units of size in bytes, the largest first.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", GIB),
    ("MiB", MIB),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Decimal units of size in bytes, which are read but never written.
const DECIMAL_SIZE_UNITS: &[(&str, u64)] = &[
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
];

/// Reads a duration like `30s` or `1h 30m`, in ms; `None` if it is none or too long to count.
pub(crate) fn parse_duration_ms(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut total_ms = 0_u64;
    let mut parts = 0;
    while !rest.is_empty() {
        let (number, unit, tail) = split_quantity(rest)?;
        let (_, unit_ms) = TIME_UNITS.iter().find(|(name, _)| *name == unit)?;
        total_ms = total_ms.checked_add(number.checked_mul(*unit_ms)?)?;
        rest = tail;
        parts += 1;
    }
    (parts > 0).then_some(total_ms)
}

/// Reads a size like `4 MiB` or `512KB`, in bytes; `None` if it is none or too large to count.
pub(crate) fn parse_size_bytes(text: &str) -> Option<u64> {
    let (number, unit, tail) = split_quantity(text.trim())?;
    let (_, unit_bytes) = SIZE_UNITS
        .iter()
        .chain(DECIMAL_SIZE_UNITS)
        .find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    tail.is_empty()
        .then(|| number.checked_mul(*unit_bytes))
        .flatten()
}

/// Splits `30s rest` into the number, the unit and what follows.
fn split_quantity(text: &str) -> Option<(u64, &str, &str)> {
    let unit_at = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (digits, rest) = text.split_at_checked(unit_at)?;
    let rest = rest.trim_start();
    let end = rest
        .find(|letter: char| !letter.is_ascii_alphabetic())
        .unwrap_or(rest.len());
    let (unit, tail) = rest.split_at_checked(end)?;
    Some((digits.parse().ok()?, unit, tail.trim_start()))
}

/// Writes a duration in the longest unit that needs no fraction.
pub(crate) fn format_duration(ms: u64) -> String {
    let (unit, unit_ms) = whole_unit(TIME_UNITS, ms).unwrap_or(("s", SECOND_MS));
    format!("{}{unit}", ms / unit_ms)
}

/// Writes a size in the largest binary unit that needs no fraction.
pub(crate) fn format_size(bytes: u64) -> String {
    let (unit, unit_bytes) = whole_unit(SIZE_UNITS, bytes).unwrap_or(("B", 1));
    format!("{} {unit}", bytes / unit_bytes)
}

fn whole_unit(units: &[(&'static str, u64)], value: u64) -> Option<(&'static str, u64)> {
    let fits = |unit: u64| value > 0 && value.is_multiple_of(unit);
    units.iter().copied().find(|(_, unit)| fits(*unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, expected) in [
            ("30s", Some(30_000)),
            (" 15 m ", Some(900_000)),
            ("1h 30m", Some(5_400_000)),
            ("1h30m", Some(5_400_000)),
            ("250ms", Some(250)),
            ("7d", Some(604_800_000)),
            ("0s", Some(0)),
            ("", None),
            ("30", None),
            ("s", None),
            ("-1s", None),
            ("1.5h", None),
            ("41 dais", None),
            ("1h 30", None),
            ("99999999999999999999d", None),
            ("99999999999999d", None),
        ] {
            assert_eq!(parse_duration_ms(text), expected, "{text:?}");
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, expected) in [
            ("4 MiB", Some(4 * MIB)),
            ("4mib", Some(4 * MIB)),
            ("512 B", Some(512)),
            ("2 MB", Some(2_000_000)),
            ("1GiB", Some(GIB)),
            ("", None),
            ("4", None),
            ("4 M", None),
            ("4 MiB 2 KiB", None),
            ("99999999 TiB", None),
        ] {
            assert_eq!(parse_size_bytes(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for ms in [0, 1, 1_500, 30_000, 5_400_000, 259_200_000] {
            assert_eq!(parse_duration_ms(&format_duration(ms)), Some(ms));
        }
        for bytes in [0, 1, 1_000, 4 * MIB, 3 * GIB + 1] {
            assert_eq!(parse_size_bytes(&format_size(bytes)), Some(bytes));
        }
        assert_eq!(format_duration(5_400_000), "90m");
        assert_eq!(format_size(4 * MIB), "4 MiB");
    }
}
