//! Parses the instants and durations of the command line.

use clap::Args;
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::config::{format_duration, parse_duration_ms};

/// A duration, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    ms: u64,
}

impl Span {
    /// Its length, in ms.
    pub(super) fn ms(self) -> u64 {
        self.ms
    }

    /// As the API accepts it.
    pub(super) fn text(self) -> String {
        format_duration(self.ms)
    }
}

/// Parses a duration, `30m`, `2h` or `1h 30m` for instance.
pub(super) fn parse_span(text: &str) -> Result<Span, String> {
    parse_duration_ms(text)
        .map(|ms| Span { ms })
        .ok_or_else(|| "write a duration as 500ms, 30s, 10m, 2h or 3d".to_owned())
}

/// An instant, or a duration from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// At this instant.
    At(Timestamp),
    /// After this duration.
    After(Span),
}

impl When {
    /// Adds it to a request.
    pub(super) fn put(self, body: &mut Map<String, Value>) {
        let (name, text) = match self {
            Self::At(at) => ("at", format!("{at:.3}")),
            Self::After(span) => ("after", span.text()),
        };
        body.insert(name.to_owned(), text.into());
    }
}

/// Parses an instant as in RFC 3339, or a duration.
pub(super) fn parse_when(text: &str) -> Result<When, String> {
    if let Ok(span) = parse_span(text) {
        return Ok(When::After(span));
    }
    parse_instant(text).map(When::At).map_err(|_| {
        "write an instant as 2026-11-24T10:00:00+01:00, or a duration as 30m, 2h or 3d".to_owned()
    })
}

/// Parses an instant as in RFC 3339.
pub(super) fn parse_instant(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| {
        format!(
            "write an instant as 2026-11-24T10:00:00+01:00, not after {:.0}",
            Timestamp::MAX
        )
    })
}

/// When something is due; now by default.
#[derive(Clone, Debug, Args)]
#[group(multiple = false)]
pub(crate) struct Due {
    /// Due after this duration: 30s, 10m, 2h, 3d
    #[arg(long = "in", value_name = "DURATION", value_parser = parse_span)]
    after: Option<Span>,
    /// Due at this instant, as in RFC 3339
    #[arg(long, value_name = "INSTANT", value_parser = parse_instant)]
    at: Option<Timestamp>,
}

impl Due {
    /// The instant or duration, if one was given.
    pub(super) fn when(&self) -> Option<When> {
        let after = self.after.map(When::After);
        after.or_else(|| self.at.map(When::At))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_and_durations_are_distinguished() {
        let put = |text: &str| {
            let mut body = Map::new();
            parse_when(text).unwrap().put(&mut body);
            Value::Object(body).to_string()
        };
        assert_eq!(put("30m"), r#"{"after":"30m"}"#);
        assert_eq!(put("1h 30m"), r#"{"after":"90m"}"#);
        assert_eq!(
            put("2026-11-24T10:00:00+01:00"),
            r#"{"at":"2026-11-24T09:00:00.000Z"}"#
        );
        for text in ["", "soon", "30", "2026-11-24", "-5s"] {
            assert!(parse_when(text).is_err(), "{text}");
        }
    }
}
