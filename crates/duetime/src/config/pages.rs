//! Provides the texts made from the table of settings: resolved list, example file, reference page.

use std::fmt::Write as _;

use super::keys::{KEYS, Key, SECTIONS};
use super::kind::{Value, Written};
use super::settings::Settings;

impl Settings {
    /// The resolved settings as TOML that could be used as a configuration file, each with its origin.
    pub(crate) fn to_toml(&self) -> String {
        let mut text = String::new();
        for (section, _) in SECTIONS {
            let separator = if text.is_empty() { "" } else { "\n" };
            line(&mut text, format_args!("{separator}[{section}]"));
            let of_section: Vec<(String, String)> = self
                .list
                .iter()
                .filter(|setting| setting.key.section() == *section)
                .map(|setting| {
                    let assignment =
                        format!("{} = {}", setting.key.name(), setting.value.to_toml());
                    (assignment, setting.origin.to_string())
                })
                .collect();
            // Long lists stand out of the column rather than pushing it off the screen.
            let width = of_section
                .iter()
                .map(|(text, _)| text.len())
                .filter(|width| *width < 60)
                .max();
            let width = width.unwrap_or(0);
            for (assignment, origin) in of_section {
                line(&mut text, format_args!("{assignment:width$}  # {origin}"));
            }
        }
        text
    }

    /// The resolved settings as one JSON object with an object per section.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let mut sections = serde_json::Map::new();
        for setting in &self.list {
            let section = sections
                .entry(setting.key.section())
                .or_insert_with(|| serde_json::Value::Object(serde_json::Map::new()));
            if let serde_json::Value::Object(section) = section {
                section.insert(setting.key.name().to_owned(), setting.value.to_json());
            }
        }
        serde_json::Value::Object(sections)
    }
}

/// The example file: every setting, commented out, with its default.
pub(crate) fn example() -> String {
    let mut text = String::from(
        "# Every setting of Duetime with its default; made by: duetime config --example\n\
         # Uncomment what you want to change. Durations are like \"30s\", \"15m\", \"7d\", sizes like \"4 MiB\".\n\
         # The environment wins over this file, and flags win over both; docs/configuration.md says more.\n",
    );
    for (section, about) in SECTIONS {
        line(&mut text, format_args!("\n# {about}\n[{section}]"));
        for key in KEYS.iter().filter(|key| key.section() == *section) {
            line(&mut text, format_args!(""));
            for words in wrap(key.about, 98) {
                line(&mut text, format_args!("# {words}"));
            }
            line(
                &mut text,
                format_args!("# Allowed: {}.", key.kind.allowed().replace('`', "\"")),
            );
            line(
                &mut text,
                format_args!("#{} = {}", key.name(), default_of(key).to_toml()),
            );
        }
    }
    text
}

/// The reference page.
pub(crate) fn reference() -> String {
    let mut text = String::from(REFERENCE_INTRODUCTION);
    for (section, about) in SECTIONS {
        line(&mut text, format_args!("\n## [{section}]\n\n{about}\n"));
        line(
            &mut text,
            format_args!("| Key | Default | Allowed | What it does |\n|---|---|---|---|"),
        );
        for key in KEYS.iter().filter(|key| key.section() == *section) {
            let name = key.name();
            let default = default_of(key).to_toml();
            let allowed = key.kind.allowed();
            let flag = key
                .flag
                .map_or_else(String::new, |flag| format!(" Flag: `{flag}`."));
            line(
                &mut text,
                format_args!(
                    "| `{name}` | `{default}` | {allowed} | {}{flag} |",
                    key.about
                ),
            );
        }
    }
    text
}

const REFERENCE_INTRODUCTION: &str = "\
# Configuration

Made by `duetime config --reference` from the table that the parser uses (`crates/duetime/src/config/keys.rs`);
a test compares them.

Settings come from four places; a later one wins:

1. the defaults below,
2. a TOML file: `--config FILE`, or the file that `DUETIME_CONFIG` names, or `duetime.toml` in the current folder,
3. the environment: `DUETIME_` + section + `_` + key in capitals, so `orders.deadline_max` is
   `DUETIME_ORDERS_DEADLINE_MAX`; a list is written with blanks between its parts,
4. flags: `--set section.key=value` for any setting, and short ones for those that have one below.

`duetime config` prints what comes out, each value with its origin, and `duetime config --example` a file to start from.
Everything is checked once, at the start: an unknown key, a wrong value or two that contradict each other end the
process with exit code 2 and a message that names the place. Nothing is reloaded while the server runs.

A duration is a number with `ms`, `s`, `m`, `h` or `d` (`30s`, `1h 30m`); a size is a number with `B`, `KiB`, `MiB`, `GiB`
or `TiB`, or the decimal `KB`, `MB`, `GB`, `TB`.
";

fn default_of(key: &Key) -> Value {
    let written = Written::Word(key.default.to_owned());
    key.kind.read(&written).expect("a test reads every default")
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    writeln!(text, "{content}").expect("writing to a string cannot fail");
}

/// Splits a text into lines of at most `width` letters.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(last) if last.len() + 1 + word.len() <= width => {
                last.push(' ');
                last.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
