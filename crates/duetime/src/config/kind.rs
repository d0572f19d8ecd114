//! Defines the kinds of settings: what may be written, within which bounds, and the value it becomes.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::units::{format_duration, format_size, parse_duration_ms, parse_size_bytes};

/// What a setting is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An IP address and a port.
    Address,
    /// A file or folder.
    Path,
    /// A text; empty means that there is none.
    Text,
    /// A text that is never shown; empty means that there is none.
    Secret,
    /// `true` or `false`.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A span of time within these bounds, in ms.
    Duration { min: u64, max: u64 },
    /// A list of spans of time, in ms, each within these bounds and at most `count_max` of them.
    Durations {
        min: u64,
        max: u64,
        count_max: usize,
    },
    /// A number of bytes within these bounds.
    Size { min: u64, max: u64 },
    /// A whole number within these bounds.
    Count { min: u64, max: u64 },
}

/// A setting's value, within the bounds of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Address(SocketAddr),
    Path(PathBuf),
    Text(String),
    Secret(String),
    Switch(bool),
    Choice(&'static str),
    Duration(u64),
    Durations(Vec<u64>),
    Size(u64),
    Count(u64),
}

/// A value as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// In the environment or on the command line, where everything is text.
    Word(String),
    /// A TOML string.
    Text(String),
    /// A TOML integer.
    Integer(String),
    /// A TOML boolean.
    Switch(bool),
    /// A TOML array of strings.
    List(Vec<String>),
    /// Any other TOML value, with the name of its type.
    Other(&'static str),
}

impl Kind {
    /// Reads a value; the error is a sentence without a subject, like `"x" is not a duration`.
    pub(crate) fn read(self, written: &Written) -> Result<Value, String> {
        match (self, written) {
            (Self::Durations { .. }, Written::Word(text) | Written::Text(text)) => {
                self.durations(text.split([' ', ',']).filter(|part| !part.is_empty()))
            }
            (Self::Durations { .. }, Written::List(parts)) => {
                self.durations(parts.iter().map(String::as_str))
            }
            (Self::Switch, Written::Switch(on)) => Ok(Value::Switch(*on)),
            (Self::Choice(words), Written::Switch(on)) if words.contains(&word(*on)) => {
                Ok(Value::Choice(word(*on)))
            }
            (Self::Count { min, max }, Written::Integer(digits)) => count(digits, min, max),
            (Self::Switch | Self::Count { .. }, Written::Text(text)) => Err(format!(
                "\"{text}\" is text; write {} without quotes",
                self.example()
            )),
            (_, Written::Word(text) | Written::Text(text)) => self.text(text),
            (_, Written::Integer(digits)) => {
                Err(format!("{digits} is a number; write {}", self.example()))
            }
            (_, Written::Switch(on)) => Err(format!("{on} is a switch; write {}", self.example())),
            (_, Written::List(_)) => {
                Err(format!("a list is not allowed; write {}", self.example()))
            }
            (_, Written::Other(name)) => {
                Err(format!("{name} does not fit; write {}", self.example()))
            }
        }
    }

    fn text(self, text: &str) -> Result<Value, String> {
        let wrong = |what: &str| format!("\"{text}\" is not {what}; write {}", self.example());
        match self {
            Self::Address => text
                .parse()
                .map(Value::Address)
                .map_err(|_| wrong("an IP address with a port")),
            Self::Path if text.is_empty() => Err("the path is empty".to_owned()),
            Self::Path => Ok(Value::Path(PathBuf::from(text))),
            Self::Text => Ok(Value::Text(text.to_owned())),
            Self::Secret => Ok(Value::Secret(text.to_owned())),
            Self::Switch => text
                .parse()
                .map(Value::Switch)
                .map_err(|_| wrong("a switch")),
            Self::Choice(words) => words
                .iter()
                .find(|word| **word == text)
                .map(|word| Value::Choice(word))
                .ok_or_else(|| format!("\"{text}\" is not one of {}", words.join(", "))),
            Self::Duration { min, max } => {
                let ms = parse_duration_ms(text).ok_or_else(|| wrong("a duration"))?;
                within(ms, min, max, format_duration).map(Value::Duration)
            }
            Self::Durations { .. } => self.durations(std::iter::once(text)),
            Self::Size { min, max } => {
                let bytes = parse_size_bytes(text).ok_or_else(|| wrong("a size"))?;
                within(bytes, min, max, format_size).map(Value::Size)
            }
            Self::Count { min, max } => count(text, min, max),
        }
    }

    fn durations<'a>(self, parts: impl Iterator<Item = &'a str>) -> Result<Value, String> {
        let Self::Durations {
            min,
            max,
            count_max,
        } = self
        else {
            return Err(format!("a list does not fit; write {}", self.example()));
        };
        let one = |part: &str| {
            let ms = parse_duration_ms(part)
                .ok_or_else(|| format!("\"{part}\" is not a duration; write {}", self.example()))?;
            within(ms, min, max, format_duration)
        };
        let durations = parts.map(one).collect::<Result<Vec<_>, _>>()?;
        if durations.is_empty() || durations.len() > count_max {
            return Err(format!(
                "{} entries, allowed are 1 to {count_max}",
                durations.len()
            ));
        }
        Ok(Value::Durations(durations))
    }

    /// How such a value is written in TOML, for error messages.
    fn example(self) -> &'static str {
        match self {
            Self::Address => "\"127.0.0.1:8080\"",
            Self::Path => "\"/var/lib/duetime\"",
            Self::Text | Self::Secret => "a text in quotes",
            Self::Switch => "true or false",
            Self::Choice(_) => "one of its words in quotes",
            Self::Duration { .. } => "a number with a unit like \"30s\", \"15m\" or \"7d\"",
            Self::Durations { .. } => "a list like [\"1s\", \"5s\", \"10s\"]",
            Self::Size { .. } => "a number with a unit like \"512 KiB\" or \"4 MiB\"",
            Self::Count { .. } => "a whole number",
        }
    }

    /// What may be written, for the reference.
    pub(crate) fn allowed(self) -> String {
        match self {
            Self::Address => "IP address and port".to_owned(),
            Self::Path => "path".to_owned(),
            Self::Text | Self::Secret => "text".to_owned(),
            Self::Switch => "`true` or `false`".to_owned(),
            Self::Choice(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
                words.join(", ")
            }
            Self::Duration { min, max } => range(min, max, format_duration),
            Self::Durations {
                min,
                max,
                count_max,
            } => {
                format!(
                    "1 to {count_max} durations of {}",
                    range(min, max, format_duration)
                )
            }
            Self::Size { min, max } => range(min, max, format_size),
            Self::Count { min, max } => range(min, max, |number| number.to_string()),
        }
    }
}

/// A switch as a word.
fn word(on: bool) -> &'static str {
    if on { "true" } else { "false" }
}

fn range(min: u64, max: u64, show: impl Fn(u64) -> String) -> String {
    format!("{} to {}", show(min), show(max))
}

fn count(digits: &str, min: u64, max: u64) -> Result<Value, String> {
    let number = digits
        .replace('_', "")
        .parse()
        .map_err(|_| format!("{digits} is not a whole number from {min} to {max}"))?;
    within(number, min, max, |number| number.to_string()).map(Value::Count)
}

fn within(value: u64, min: u64, max: u64, show: impl Fn(u64) -> String) -> Result<u64, String> {
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(format!(
        "{} is outside the bounds, allowed is {}",
        show(value),
        range(min, max, show)
    ))
}

impl Value {
    /// The value as TOML; secrets are not shown.
    pub(crate) fn to_toml(&self) -> String {
        let quoted = |text: &str| toml_string(text);
        match self {
            Self::Address(address) => quoted(&address.to_string()),
            Self::Path(path) => quoted(&path.to_string_lossy()),
            Self::Text(text) => quoted(text),
            Self::Secret(secret) => quoted(if secret.is_empty() { "" } else { "(hidden)" }),
            Self::Switch(on) => on.to_string(),
            Self::Choice(word) => quoted(word),
            Self::Duration(ms) => quoted(&format_duration(*ms)),
            Self::Durations(list) => {
                let parts: Vec<String> = list
                    .iter()
                    .map(|ms| quoted(&format_duration(*ms)))
                    .collect();
                format!("[{}]", parts.join(", "))
            }
            Self::Size(bytes) => quoted(&format_size(*bytes)),
            Self::Count(number) => number.to_string(),
        }
    }

    /// The value as JSON, in the words of the TOML form.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Address(address) => address.to_string().into(),
            Self::Path(path) => path.to_string_lossy().into(),
            Self::Text(text) => text.as_str().into(),
            Self::Secret(secret) => if secret.is_empty() { "" } else { "(hidden)" }.into(),
            Self::Switch(on) => (*on).into(),
            Self::Choice(word) => (*word).into(),
            Self::Duration(ms) => format_duration(*ms).into(),
            Self::Durations(list) => list.iter().map(|ms| format_duration(*ms)).collect(),
            Self::Size(bytes) => format_size(*bytes).into(),
            Self::Count(number) => (*number).into(),
        }
    }
}

/// A TOML basic string.
fn toml_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => {
                quoted.extend(format!("\\u{:04X}", u32::from(letter)).chars());
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Kind = Kind::Duration {
        min: 1_000,
        max: 60_000,
    };
    const NUMBER: Kind = Kind::Count { min: 1, max: 9 };
    const LIST: Kind = Kind::Durations {
        min: 0,
        max: 60_000,
        count_max: 2,
    };

    fn word(text: &str) -> Written {
        Written::Word(text.to_owned())
    }

    fn text(text: &str) -> Written {
        Written::Text(text.to_owned())
    }

    #[test]
    fn values_are_read_by_kind() {
        let address = "[::1]:8080".parse().unwrap();
        for (kind, written, expected) in [
            (Kind::Address, text("[::1]:8080"), Value::Address(address)),
            (Kind::Path, text("data"), Value::Path("data".into())),
            (Kind::Text, text(""), Value::Text(String::new())),
            (Kind::Switch, Written::Switch(true), Value::Switch(true)),
            (Kind::Switch, word("false"), Value::Switch(false)),
            (
                Kind::Choice(&["fsync", "os"]),
                word("os"),
                Value::Choice("os"),
            ),
            (SPAN, text("30s"), Value::Duration(30_000)),
            (
                Kind::Size { min: 1, max: 4_096 },
                text("1 KiB"),
                Value::Size(1_024),
            ),
            (NUMBER, Written::Integer("5".to_owned()), Value::Count(5)),
            (NUMBER, word("5"), Value::Count(5)),
            (LIST, word("1s 5s"), Value::Durations(vec![1_000, 5_000])),
            (
                LIST,
                Written::List(vec!["1s".to_owned()]),
                Value::Durations(vec![1_000]),
            ),
        ] {
            assert_eq!(kind.read(&written), Ok(expected), "{written:?}");
        }
    }

    #[test]
    fn errors_say_what_is_wrong_and_what_is_allowed() {
        for (kind, written, expected) in [
            (
                SPAN,
                text("41 dais"),
                "\"41 dais\" is not a duration; write a number with a unit like",
            ),
            (
                SPAN,
                text("2m"),
                "2m is outside the bounds, allowed is 1s to 1m",
            ),
            (
                SPAN,
                Written::Integer("30".to_owned()),
                "30 is a number; write a number with a unit",
            ),
            (
                NUMBER,
                Written::Integer("0".to_owned()),
                "0 is outside the bounds, allowed is 1 to 9",
            ),
            (
                NUMBER,
                Written::Integer("-1".to_owned()),
                "-1 is not a whole number from 1 to 9",
            ),
            (
                NUMBER,
                text("5"),
                "\"5\" is text; write a whole number without quotes",
            ),
            (
                Kind::Choice(&["fsync", "os"]),
                word("sync"),
                "\"sync\" is not one of fsync, os",
            ),
            (
                Kind::Address,
                text("8080"),
                "\"8080\" is not an IP address with a port",
            ),
            (Kind::Path, text(""), "the path is empty"),
            (LIST, word("1s 2s 3s"), "3 entries, allowed are 1 to 2"),
            (
                LIST,
                Written::List(Vec::new()),
                "0 entries, allowed are 1 to 2",
            ),
            (
                Kind::Switch,
                Written::Other("a table"),
                "a table does not fit; write true or false",
            ),
        ] {
            let error = kind.read(&written).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(Value::Secret("key".to_owned()).to_toml(), "\"(hidden)\"");
        assert_eq!(Value::Secret("key".to_owned()).to_json(), "(hidden)");
        assert_eq!(Value::Secret(String::new()).to_toml(), "\"\"");
    }

    #[test]
    fn toml_strings_are_escaped() {
        assert_eq!(toml_string("a\"b\\c\n"), "\"a\\\"b\\\\c\\u000A\"");
    }
}
