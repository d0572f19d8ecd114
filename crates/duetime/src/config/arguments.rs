//! Defines the command-line arguments that name the configuration, and reads the sources they name.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::settings::Sources;
use super::source::FlagValue;

/// The configuration file that is read if no other is named and it exists.
const DEFAULT_FILE: &str = "duetime.toml";

/// The sources of the settings.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ConfigArguments {
    /// Read this TOML file [default: duetime.toml, if there is one]
    #[arg(long, value_name = "FILE", env = "DUETIME_CONFIG")]
    config: Option<PathBuf>,
    /// Keep the data in this folder
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Listen on this address
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Send RocketMQ clients to this host and port
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Answer once data survives a power cut (fsync) or a crash of the process (os)
    #[arg(long, value_name = "LEVEL")]
    durability: Option<String>,
    /// Set any setting; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_assignment)]
    set: Vec<(String, String)>,
}

/// What `duetime config` prints.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct PrintArguments {
    #[command(flatten)]
    pub(crate) from: ConfigArguments,
    /// Print JSON instead of TOML
    #[arg(long, conflicts_with_all = ["example", "reference"])]
    pub(crate) json: bool,
    /// Print a file with every setting and its default instead
    #[arg(long, conflicts_with = "reference")]
    pub(crate) example: bool,
    /// Print the reference page (Markdown) instead
    #[arg(long)]
    pub(crate) reference: bool,
}

impl ConfigArguments {
    /// The arguments of a command line without flags: the environment names the file.
    pub(crate) fn from_environment() -> Self {
        Self {
            config: std::env::var_os("DUETIME_CONFIG").map(PathBuf::from),
            ..Self::default()
        }
    }

    /// Reads the configuration file and collects the other sources.
    pub(crate) fn sources(&self) -> Result<Sources> {
        let variable = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            (
                name.to_string_lossy().into_owned(),
                value.to_string_lossy().into_owned(),
            )
        };
        Ok(Sources {
            file: self.file()?,
            environment: std::env::vars_os().map(variable).collect(),
            flags: self.flags(),
        })
    }

    /// Name and text of the file, if there is one; a file that was named must exist.
    fn file(&self) -> Result<Option<(String, String)>> {
        let path = match &self.config {
            Some(path) => path.as_path(),
            None if Path::new(DEFAULT_FILE).exists() => Path::new(DEFAULT_FILE),
            None => return Ok(None),
        };
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("read the configuration file {name}"))?;
        Ok(Some((name, text)))
    }

    fn flags(&self) -> Vec<FlagValue> {
        let data = self
            .data
            .as_ref()
            .map(|path| path.to_string_lossy().into_owned());
        let own = [
            ("--data", "storage.data", data),
            ("--listen", "server.listen", self.listen.clone()),
            ("--advertise", "grpc.advertise", self.advertise.clone()),
            (
                "--durability",
                "storage.durability",
                self.durability.clone(),
            ),
        ];
        let set = self
            .set
            .iter()
            .map(|(path, value)| ("--set", path.as_str(), Some(value.clone())));
        set.chain(own)
            .filter_map(|(flag, path, value)| {
                Some(FlagValue {
                    flag: flag.to_owned(),
                    path: path.to_owned(),
                    value: value?,
                })
            })
            .collect()
    }
}

fn parse_assignment(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .ok_or_else(|| {
            "write section.key=value, orders.deadline_default=15m for instance".to_owned()
        })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::load;
    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: ConfigArguments,
    }

    fn parse(words: &[&str]) -> ConfigArguments {
        Line::try_parse_from(words).unwrap().arguments
    }

    #[test]
    fn own_flags_win_over_set_and_all_of_them_are_settings() {
        let arguments = parse(&[
            "duetime",
            "--data",
            "/d",
            "--listen",
            "127.0.0.1:0",
            "--durability",
            "os",
            "--set",
            "server.listen=127.0.0.1:1",
            "--set",
            "log.level = debug",
        ]);
        let sources = Sources {
            flags: arguments.flags(),
            ..Sources::default()
        };
        let config = load(&sources).unwrap().resolve().unwrap();
        assert_eq!(config.server.listen.port(), 0);
        assert_eq!(config.data, Path::new("/d"));
        assert_eq!(config.log.level, "debug");
    }

    #[test]
    fn named_file_must_be_there() {
        let arguments = parse(&["duetime", "--config", "/nonexistent/duetime.toml"]);
        let error = format!("{:#}", arguments.file().unwrap_err());
        assert!(
            error.starts_with("read the configuration file /nonexistent/duetime.toml: "),
            "{error}"
        );
    }
}
