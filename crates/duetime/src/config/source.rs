//! Reads settings from a TOML file, the environment and the command line, and remembers where each came from.

use std::borrow::Cow;
use std::fmt;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::keys::{KEYS, Key, SECTIONS};
use super::kind::{Kind, Value, Written};
use super::suggest::closest;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    File { name: String, line: usize },
    Variable(String),
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File { name, line } => write!(formatter, "{name} line {line}"),
            Self::Variable(name) => write!(formatter, "environment {name}"),
            Self::Flag(flag) => write!(formatter, "flag {flag}"),
        }
    }
}

/// A value for a key, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: &'static str,
    pub(crate) written: Written,
    pub(crate) origin: Origin,
}

/// The content of one source: its entries, and everything that is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) entries: Vec<Entry>,
    pub(crate) problems: Vec<String>,
}

/// A setting with its value.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) key: &'static Key,
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

/// Reads the text of a TOML file; `name` is what errors call it.
pub(crate) fn read_file(name: &str, text: &str) -> Found {
    let mut found = Found::default();
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            let message = error.message();
            found
                .problems
                .push(format!("{name} line {line} is not TOML: {message}"));
            return found;
        }
    };
    let mut reader = FileReader { name, text, found };
    for (section, content) in in_order(table.get_ref()) {
        reader.section(section, content);
    }
    reader.found
}

struct FileReader<'a> {
    name: &'a str,
    text: &'a str,
    found: Found,
}

impl FileReader<'_> {
    fn section(&mut self, section: &Spanned<Cow<'_, str>>, content: &Spanned<DeValue<'_>>) {
        let name = section.get_ref().as_ref();
        let place = self.place(section.span().start);
        if !SECTIONS.iter().any(|(known, _)| *known == name) {
            self.found.problems.push(unknown_section(name, &place));
            return;
        }
        let DeValue::Table(table) = content.get_ref() else {
            self.found.problems.push(format!(
                "\"{name}\" in {place} is a section; write [{name}]"
            ));
            return;
        };
        for (key, value) in in_order(table) {
            let path = format!("{name}.{}", key.get_ref());
            let line = line_of(self.text, key.span().start);
            if let Some(known) = KEYS.iter().find(|known| known.path == path) {
                self.found.entries.push(Entry {
                    path: known.path,
                    written: written(value.get_ref()),
                    origin: Origin::File {
                        name: self.name.to_owned(),
                        line,
                    },
                });
            } else {
                let place = self.place(key.span().start);
                let problem = unknown_key(name, key.get_ref(), &place);
                self.found.problems.push(problem);
            }
        }
    }

    fn place(&self, offset: usize) -> String {
        format!("{} line {}", self.name, line_of(self.text, offset))
    }
}

/// The entries of a table in the order of the file.
fn in_order<'a, 'i>(
    table: &'a DeTable<'i>,
) -> Vec<(&'a Spanned<Cow<'i, str>>, &'a Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// The line of a byte offset, counted from 1.
fn line_of(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or(text);
    before.matches('\n').count() + 1
}

fn written(value: &DeValue<'_>) -> Written {
    match value {
        DeValue::String(text) => Written::Text(text.clone().into_owned()),
        DeValue::Integer(integer) => Written::Integer(decimal(integer.as_str(), integer.radix())),
        DeValue::Boolean(on) => Written::Switch(*on),
        DeValue::Array(array) => {
            strings(array).map_or(Written::Other("such a list"), Written::List)
        }
        DeValue::Float(_) => Written::Other("a fraction"),
        DeValue::Datetime(_) => Written::Other("a date"),
        DeValue::Table(_) => Written::Other("a table"),
    }
}

/// An integer of any base in base ten; one that is too large is left as it is and refused later.
fn decimal(digits: &str, radix: u32) -> String {
    let number = u64::from_str_radix(digits, radix);
    number.map_or_else(|_| digits.to_owned(), |number| number.to_string())
}

/// The texts of an array that holds nothing else.
fn strings(array: &DeArray<'_>) -> Option<Vec<String>> {
    array
        .iter()
        .map(|item| match item.get_ref() {
            DeValue::String(text) => Some(text.clone().into_owned()),
            _ => None,
        })
        .collect()
}

fn unknown_section(name: &str, place: &str) -> String {
    let sections = SECTIONS.iter().map(|(section, _)| *section);
    let hint = if let Some(section) = closest(name, sections.clone()) {
        format!("did you mean [{section}]?")
    } else if let Some(key) = KEYS.iter().find(|key| key.name() == name) {
        format!("\"{name}\" belongs in [{}]", key.section())
    } else {
        format!(
            "the sections are {}",
            sections.collect::<Vec<_>>().join(", ")
        )
    };
    format!("unknown section \"{name}\" in {place}; {hint}")
}

fn unknown_key(section: &str, name: &str, place: &str) -> String {
    let of_section = KEYS
        .iter()
        .filter(|key| key.section() == section)
        .map(Key::name);
    let elsewhere = || closest(name, KEYS.iter().map(Key::name));
    let hint = if let Some(near) = closest(name, of_section) {
        format!("; did you mean \"{near}\"?")
    } else if let Some(key) =
        elsewhere().and_then(|near| KEYS.iter().find(|key| key.name() == near))
    {
        format!("; did you mean \"{}\" in [{}]?", key.name(), key.section())
    } else {
        format!("; duetime config --reference lists the keys of [{section}]")
    };
    format!("unknown key \"{name}\" in {place}{hint}")
}

/// Reads the environment. A variable that resembles a setting is only a warning: container platforms set
/// `DUETIME_...` variables of their own for a service of this name.
pub(crate) fn read_environment(variables: &[(String, String)]) -> (Found, Vec<String>) {
    let mut found = Found::default();
    let mut warnings = Vec::new();
    let known: Vec<(String, &Key)> = KEYS.iter().map(|key| (key.variable(), key)).collect();
    for (name, value) in variables {
        if let Some((_, key)) = known.iter().find(|(variable, _)| variable == name) {
            found.entries.push(Entry {
                path: key.path,
                written: Written::Word(value.clone()),
                origin: Origin::Variable(name.clone()),
            });
        } else if name.starts_with("DUETIME_") && name != "DUETIME_CONFIG" {
            let near = closest(name, known.iter().map(|(variable, _)| variable.as_str()));
            warnings.extend(near.map(|near| {
                format!("environment variable {name} is not a setting; did you mean {near}?")
            }));
        }
    }
    (found, warnings)
}

/// A value from the command line: a flag of its own, or `--set path=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FlagValue {
    pub(crate) flag: String,
    pub(crate) path: String,
    pub(crate) value: String,
}

/// Reads the flags.
pub(crate) fn read_flags(flags: &[FlagValue]) -> Found {
    let mut found = Found::default();
    for FlagValue { flag, path, value } in flags {
        if let Some(key) = KEYS.iter().find(|key| key.path == path) {
            found.entries.push(Entry {
                path: key.path,
                written: Written::Word(value.clone()),
                origin: Origin::Flag(flag.clone()),
            });
        } else {
            let near = closest(path, KEYS.iter().map(|key| key.path));
            let hint = near.map(|near| format!("; did you mean \"{near}\"?"));
            let hint = hint.unwrap_or_default();
            found
                .problems
                .push(format!("unknown key \"{path}\" in {flag}{hint}"));
        }
    }
    found
}

/// Combines the sources: later ones win over earlier ones, and all of them over the defaults.
///
/// An overridden value must be valid too: otherwise removing the other one would break the start.
pub(crate) fn combine(sources: Vec<Found>) -> Result<Vec<Setting>, Vec<String>> {
    let mut problems = Vec::new();
    let mut settings = Vec::new();
    for key in KEYS {
        let default = Written::Word(key.default.to_owned());
        let value = key.kind.read(&default).expect("a test reads every default");
        settings.push(Setting {
            key,
            value,
            origin: Origin::Default,
        });
    }
    for source in sources {
        problems.extend(source.problems);
        for entry in source.entries {
            let Some(setting) = settings
                .iter_mut()
                .find(|setting| setting.key.path == entry.path)
            else {
                continue;
            };
            match setting.key.kind.read(&entry.written) {
                Ok(value) => {
                    setting.value = value;
                    setting.origin = entry.origin;
                }
                Err(message) => problems.push(wrong(setting.key, &entry, &message)),
            }
        }
    }
    if problems.is_empty() {
        Ok(settings)
    } else {
        Err(problems)
    }
}

fn wrong(key: &Key, entry: &Entry, message: &str) -> String {
    // An invalid secret is still a secret.
    let message = if key.kind == Kind::Secret {
        "the value is not text"
    } else {
        message
    };
    format!("{} ({}): {message}", key.path, entry.origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        combine(vec![read_file("duetime.toml", text)]).unwrap_err()
    }

    fn setting<'a>(settings: &'a [Setting], path: &str) -> &'a Setting {
        settings
            .iter()
            .find(|setting| setting.key.path == path)
            .unwrap()
    }

    fn variable(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn later_sources_win_and_origins_are_kept() {
        let file =
            "[orders]\ndeadline_default = \"10m\"\ndeadline_max = \"1d\"\n[limits]\nbatch = 0x10\n";
        let environment = [
            variable("DUETIME_ORDERS_DEADLINE_MAX", "2d"),
            variable("HOME", "/"),
        ];
        let (environment, warnings) = read_environment(&environment);
        let flags = read_flags(&[FlagValue {
            flag: "--set".to_owned(),
            path: "log.level".to_owned(),
            value: "debug".to_owned(),
        }]);
        let settings = combine(vec![read_file("duetime.toml", file), environment, flags]).unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        for (path, value, origin) in [
            ("orders.deadline_default", "\"10m\"", "duetime.toml line 2"),
            (
                "orders.deadline_max",
                "\"2d\"",
                "environment DUETIME_ORDERS_DEADLINE_MAX",
            ),
            ("orders.deadline_min", "\"1s\"", "default"),
            ("limits.batch", "16", "duetime.toml line 5"),
            ("log.level", "\"debug\"", "flag --set"),
        ] {
            let setting = setting(&settings, path);
            assert_eq!(
                (
                    setting.value.to_toml().as_str(),
                    setting.origin.to_string().as_str()
                ),
                (value, origin)
            );
        }
    }

    #[test]
    fn unknown_names_are_refused_with_line_and_hint() {
        for (text, expected) in [
            (
                "[broker]\n\nretension = \"1d\"\n",
                "unknown key \"retension\" in duetime.toml line 3; did you mean \"retention\"?",
            ),
            (
                "[storage]\nretention = \"1d\"\n",
                "unknown key \"retention\" in duetime.toml line 2; did you mean \"retention\" in [broker]?",
            ),
            (
                "[order]\n",
                "unknown section \"order\" in duetime.toml line 1; did you mean [orders]?",
            ),
            (
                "\nlisten = \"0.0.0.0:80\"\n",
                "unknown section \"listen\" in duetime.toml line 2; \"listen\" belongs in [server]",
            ),
            (
                "log = \"info\"\n",
                "\"log\" in duetime.toml line 1 is a section; write [log]",
            ),
            (
                "[log]\nzzzzzz = 1\n",
                "unknown key \"zzzzzz\" in duetime.toml line 2; duetime config --reference lists the keys of [log]",
            ),
        ] {
            assert_eq!(problems(text), [expected]);
        }
        let sections: Vec<_> = SECTIONS.iter().map(|(name, _)| *name).collect();
        let sections = sections.join(", ");
        let expected =
            format!("unknown section \"xyz\" in duetime.toml line 1; the sections are {sections}");
        assert_eq!(problems("[xyz]\n"), [expected]);
    }

    #[test]
    fn wrong_values_name_key_place_and_bounds() {
        let text = "[orders]\ndeadline_max = \"41 dais\"\n[limits]\nbatch = 1.5\ntopics = 3\n";
        let problems = problems(text);
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].starts_with(
            "orders.deadline_max (duetime.toml line 2): \"41 dais\" is not a duration"
        ));
        assert!(
            problems[1].starts_with("limits.batch (duetime.toml line 4): a fraction does not fit")
        );
        assert!(
            problems[2].starts_with("limits.topics (duetime.toml line 5): 3 is outside the bounds")
        );
    }

    #[test]
    fn broken_toml_names_the_line() {
        let problems = problems("[orders]\ndeadline_max = \n");
        assert_eq!(problems.len(), 1);
        assert!(
            problems[0].starts_with("duetime.toml line 2 is not TOML: "),
            "{problems:?}"
        );
    }

    #[test]
    fn almost_known_variables_are_warned_of() {
        let variables = [
            variable("DUETIME_ORDERS_DEADLINE_MAXX", "1d"),
            variable("DUETIME_SERVICE_HOST", "10.0.0.1"),
            variable("DUETIME_CONFIG", "x.toml"),
        ];
        let (found, warnings) = read_environment(&variables);
        assert_eq!(found, Found::default());
        assert_eq!(
            warnings,
            [
                "environment variable DUETIME_ORDERS_DEADLINE_MAXX is not a setting; did you mean DUETIME_ORDERS_DEADLINE_MAX?"
            ]
        );
    }

    #[test]
    fn unknown_flag_keys_and_overridden_values_are_refused() {
        let flags = read_flags(&[FlagValue {
            flag: "--set".to_owned(),
            path: "orders.deadline_mx".to_owned(),
            value: "1d".to_owned(),
        }]);
        let (environment, _) = read_environment(&[variable("DUETIME_LOG_LEVEL", "info")]);
        let file = read_file("duetime.toml", "[log]\nlevel = \"loud\"\n");
        assert_eq!(
            combine(vec![file, environment, flags]).unwrap_err(),
            [
                "log.level (duetime.toml line 2): \"loud\" is not one of error, warn, info, debug",
                "unknown key \"orders.deadline_mx\" in --set; did you mean \"orders.deadline_max\"?",
            ]
        );
    }
}
