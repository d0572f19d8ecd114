//! Reads all sources into settings, and resolves the settings into a [`Config`].

use std::fmt;

use super::check::check;
use super::resolve::Config;
use super::source::{FlagValue, Setting, combine, read_environment, read_file, read_flags};

/// Everything that settings are read from, the weakest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// Name and text of the configuration file.
    pub(crate) file: Option<(String, String)>,
    /// The environment variables of the process.
    pub(crate) environment: Vec<(String, String)>,
    /// The settings given on the command line.
    pub(crate) flags: Vec<FlagValue>,
}

/// Everything that is wrong with a configuration, so that one run shows it all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problems(Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.join("\n       "))
    }
}

/// The value of every setting with its origin: what `duetime config` prints and a [`Config`] is made from.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(super) list: Vec<Setting>,
    /// Values that look like a mistake but are not an error.
    pub(crate) warnings: Vec<String>,
}

/// Reads all sources; fails with everything that is wrong in them.
pub(crate) fn load(sources: &Sources) -> Result<Settings, Problems> {
    let file = sources
        .file
        .as_ref()
        .map(|(name, text)| read_file(name, text));
    let (environment, warnings) = read_environment(&sources.environment);
    let found = file
        .into_iter()
        .chain([environment, read_flags(&sources.flags)])
        .collect();
    let list = combine(found).map_err(Problems)?;
    Ok(Settings { list, warnings })
}

impl Settings {
    /// Writes every value to its field, then checks the settings that depend on each other.
    pub(crate) fn resolve(&self) -> Result<Config, Problems> {
        let mut config = Config::unset();
        let mut problems = Vec::new();
        for Setting { key, value, .. } in &self.list {
            if let Err(problem) = key.apply(&mut config, value) {
                problems.push(format!("{}: {problem}", key.path));
            }
        }
        config.complete();
        problems.extend(check(&config));
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(Problems(problems))
        }
    }
}
