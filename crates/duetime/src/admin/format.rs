//! Formats values for people: aligned tables, local times, grouped numbers.

use broker::clock::{Clock, SystemClock};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

/// The clock and the time zone that instants are shown in.
pub(super) struct View {
    clock: Box<dyn Clock>,
    zone: TimeZone,
}

impl View {
    /// Those of this machine; the clock is read when an instant is printed.
    pub(super) fn of_this_machine() -> Self {
        Self {
            clock: Box::new(SystemClock::start()),
            zone: TimeZone::system(),
        }
    }

    /// An instant of the API as local time with its offset, and how far away it is.
    pub(super) fn instant(&self, value: Option<&Value>) -> String {
        let Some(text) = value.and_then(Value::as_str) else {
            return "-".to_owned();
        };
        match text.parse::<Timestamp>() {
            Ok(timestamp) => format!("{} ({})", self.local(timestamp), self.away(timestamp)),
            Err(_) => text.to_owned(),
        }
    }

    fn local(&self, timestamp: Timestamp) -> String {
        let local = timestamp.to_zoned_datetime(self.zone.clone());
        local.strftime("%Y-%m-%d %H:%M:%S%.3f %:z").to_string()
    }

    fn away(&self, timestamp: Timestamp) -> String {
        let now_ms = i64::try_from(self.clock.now_ms()).unwrap_or(i64::MAX);
        let ahead_ms = timestamp.as_millisecond().saturating_sub(now_ms);
        let distance = distance(ahead_ms.unsigned_abs());
        match ahead_ms {
            -999..=999 => "now".to_owned(),
            ahead_ms if ahead_ms > 0 => format!("in {distance}"),
            _ => format!("{distance} ago"),
        }
    }
}

/// A duration, rounded to the unit in which it is exact enough and short.
fn distance(ms: u64) -> String {
    let seconds = ms.saturating_add(500) / 1_000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_170 => format!("{} min", (seconds + 30) / 60),
        7_170..171_000 => format!("{} h", (seconds + 1_800) / 3_600),
        _ => format!("{} days", (seconds + 43_200) / 86_400),
    }
}

/// A number with its digits in groups of three.
pub(super) fn count(value: Option<&Value>) -> String {
    match value.and_then(Value::as_u64) {
        Some(number) => grouped(number),
        None => "-".to_owned(),
    }
}

/// A number that an answer may say is estimated, `~2,000` then.
pub(super) fn estimate(found: &Value, name: &str) -> String {
    let estimated = found.get(format!("{name}_estimated"));
    let about = if estimated == Some(&Value::Bool(true)) {
        "~"
    } else {
        ""
    };
    format!("{about}{}", count(found.get(name)))
}

/// A number of things, `1 message` or `2,000 messages`.
pub(super) fn count_of(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(number))
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A warning if this is a topic or group of the order platform.
pub(super) fn platform_warning(name: &str) -> &'static str {
    if name.starts_with("duetime-") {
        " (THE ORDER PLATFORM USES IT)"
    } else {
        ""
    }
}

/// A number of bytes in a binary unit.
pub(super) fn size(value: Option<&Value>) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let Some(bytes) = value.and_then(Value::as_u64) else {
        return "-".to_owned();
    };
    let (mut unit, mut unit_bytes) = (0, 1_u64);
    while bytes / unit_bytes >= 1_024 && unit + 1 < UNITS.len() {
        unit += 1;
        unit_bytes *= 1_024;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    let (whole, tenths) = (bytes / unit_bytes, bytes % unit_bytes * 10 / unit_bytes);
    if whole < 10 && tenths > 0 {
        format!("{whole}.{tenths} {name}")
    } else {
        format!("{whole} {name}")
    }
}

/// A text, or a dash.
pub(super) fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) if !text.is_empty() => visible(text),
        Some(Value::Array(items)) if !items.is_empty() => {
            let items: Vec<_> = items.iter().map(text_of).collect();
            items.join(", ")
        }
        Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
        _ => "-".to_owned(),
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), visible)
}

/// A text without characters that would move a terminal's cursor or colours.
fn visible(text: &str) -> String {
    let shown = text
        .chars()
        .map(|letter| if letter.is_control() { '?' } else { letter });
    shown.collect()
}

/// The beginning of a payload on one line.
pub(super) fn preview(message: Option<&Value>) -> String {
    const CHARS_MAX: usize = 48;
    let member = |name| {
        message
            .and_then(|message| message.get(name))
            .and_then(Value::as_str)
    };
    let Some(body) = member("body") else {
        let bytes = member("body_base64").map_or(0, |text| text.len() / 4 * 3);
        return format!("({bytes} bytes)");
    };
    let mut shown: String = visible(body).chars().take(CHARS_MAX).collect();
    if body.chars().count() > CHARS_MAX {
        shown.push_str("...");
    }
    shown
}

/// The alignment of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    /// For texts.
    Left,
    /// For numbers.
    Right,
}

/// Rows under headings, aligned.
pub(super) fn table<const N: usize>(heads: [(&str, Align); N], rows: Vec<[String; N]>) -> String {
    let titles = heads.map(|(title, _)| title.to_owned());
    let rows: Vec<_> = std::iter::once(titles).chain(rows).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for ((cell, (_, align)), width) in row.iter().zip(heads).zip(&widths) {
            let room = " ".repeat(width.saturating_sub(cell.chars().count()));
            match align {
                Align::Left => line.extend([cell, room.as_str(), "  "]),
                Align::Right => line.extend([room.as_str(), cell, "  "]),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Names with their values, one a line.
pub(super) fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in fields {
        let room = " ".repeat(width.saturating_sub(name.len()));
        text.extend([name, room.as_str(), "  ", value, "\n"]);
    }
    text
}

#[cfg(test)]
mod tests {
    use broker::clock::ManualClock;
    use serde_json::json;

    use super::*;

    fn view() -> View {
        View {
            clock: Box::new(ManualClock::new(1_795_510_800_000)),
            zone: TimeZone::fixed(jiff::tz::offset(1)),
        }
    }

    #[test]
    fn counts_say_that_they_are_estimated() {
        let found = json!({ "ready": 2_000, "ready_estimated": true, "waiting": 12_345 });
        let shown = ["ready", "waiting", "other"].map(|name| estimate(&found, name));
        assert_eq!(shown, ["~2,000", "12,345", "-"]);
    }

    #[test]
    fn instants_are_local_and_say_how_far_away_they_are() {
        for (instant, shown) in [
            (
                "2026-11-24T09:29:30.500Z",
                "2026-11-24 10:29:30.500 +01:00 (in 30 min)",
            ),
            (
                "2026-11-24T09:00:00.400Z",
                "2026-11-24 10:00:00.400 +01:00 (now)",
            ),
            (
                "2026-11-24T08:59:00.000Z",
                "2026-11-24 09:59:00.000 +01:00 (60 s ago)",
            ),
            (
                "2026-11-24T19:00:00.000Z",
                "2026-11-24 20:00:00.000 +01:00 (in 10 h)",
            ),
            (
                "2036-11-24T09:00:00.000Z",
                "2036-11-24 10:00:00.000 +01:00 (in 3653 days)",
            ),
            ("soon", "soon"),
        ] {
            assert_eq!(view().instant(Some(&json!(instant))), shown);
        }
        assert_eq!(view().instant(None), "-");
    }

    #[test]
    fn numbers_and_sizes_can_be_read() {
        for (number, shown) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(count(Some(&json!(number))), shown);
        }
        assert_eq!(
            (count_of(1, "day"), count_of(2_000, "day")),
            ("1 day".to_owned(), "2,000 days".to_owned())
        );
        for (bytes, shown) in [
            (0_u64, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1 KiB"),
            (1_536, "1.5 KiB"),
            (4 << 20, "4 MiB"),
            (11 << 30, "11 GiB"),
            (u64::MAX, "16777215 TiB"),
        ] {
            assert_eq!(size(Some(&json!(bytes))), shown);
        }
    }

    #[test]
    fn tables_are_aligned_and_texts_cannot_move_the_cursor() {
        let rows = vec![
            ["a".to_owned(), "1,000".to_owned()],
            ["long name".to_owned(), "5".to_owned()],
        ];
        let shown = table([("NAME", Align::Left), ("WAITING", Align::Right)], rows);
        assert_eq!(
            shown,
            "NAME       WAITING\na            1,000\nlong name        5\n"
        );
        assert_eq!(text(Some(&json!("a\u{1b}[31mb\n"))), "a?[31mb?");
        let long = json!({ "body": "x".repeat(60) });
        assert_eq!(preview(Some(&long)), format!("{}...", "x".repeat(48)));
        assert_eq!(
            preview(Some(&json!({ "body_base64": "AAAA" }))),
            "(3 bytes)"
        );
    }
}
