//! Defines the command line, and reads from it and from the process what the configuration needs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::completions::CompletionArguments;
use crate::config::{FlagValue, Sources};
use crate::{admin, demo};

/// Read when no other file is named, if it is there.
const DEFAULT_FILE: &str = "duetime.toml";

/// Orders close on time; messages arrive in due time.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "duetime",
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration. Data goes to standard \
                  output, everything else to standard error.",
    after_long_help = "Examples:\n  \
        duetime demo                                  watch 20,000 orders close on time\n  \
        duetime serve --data /var/lib/duetime         run the order platform\n  \
        duetime serve --set orders.deadline_default=15m\n  \
        duetime config --example > duetime.toml       a configuration file to start from\n  \
        duetime timer set reminders order-42 30m      remind somebody, over a running broker\n  \
        duetime completions bash > ~/.local/share/bash-completion/completions/duetime\n\n\
        Exit codes: 0 done, 1 failed, 2 wrong usage or configuration. Data goes to standard output,\n\
        everything else to standard error."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the order platform and its broker in this process
    Serve(ConfigArguments),
    /// Watch orders close on time, in a temporary folder
    Demo(demo::Arguments),
    /// Print the resolved configuration, each setting with its origin
    Config(PrintArguments),
    /// List, show, create and delete topics
    Topic(admin::TopicArguments),
    /// List, show, create, reset and delete consumer groups
    Group(admin::GroupArguments),
    /// Send, receive, find, recall and move messages
    Message(admin::MessageArguments),
    /// Set, show and cancel timers by key
    Timer(admin::TimerArguments),
    /// List, replay and purge dead letters
    Dlq(admin::LetterArguments),
    /// Print what a shell needs to complete this command line
    Completions(CompletionArguments),
}

/// Where settings come from.
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
    /// Tell RocketMQ clients to come to this host and port
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Answer when data survives a power cut (fsync) or a crash of the process (os)
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

fn parse_assignment(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .ok_or_else(|| {
            "write section.key=value, orders.deadline_default=15m for instance".to_owned()
        })
}

impl ConfigArguments {
    /// What holds without flags: the file that the environment names or that lies here, and the environment.
    pub(crate) fn of_surroundings() -> Self {
        Self {
            config: std::env::var_os("DUETIME_CONFIG").map(PathBuf::from),
            ..Self::default()
        }
    }

    /// Reads the configuration file and puts the sources together.
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

    /// Name and text of the file, if there is one; a file that was named must be there.
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::config::{load, reference};

    fn parse(words: &[&str]) -> ConfigArguments {
        match Cli::try_parse_from(words).unwrap().command {
            Command::Serve(arguments) => arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn short_help_fits_a_screen() {
        let mut command = Cli::command();
        command.build();
        for subcommand in command.get_subcommands_mut() {
            let lines = subcommand.render_help().to_string().lines().count();
            assert!(lines <= 24, "{} has {lines} lines", subcommand.get_name());
        }
        assert!(command.render_help().to_string().lines().count() <= 24);
    }

    #[test]
    fn long_help_shows_examples_that_can_be_typed() {
        let mut command = Cli::command();
        command.build();
        for name in ["topic", "group", "message", "timer", "dlq"] {
            let subcommand = command.find_subcommand_mut(name).unwrap();
            let help = subcommand.render_long_help().to_string();
            let examples: Vec<_> = help
                .lines()
                .filter_map(|line| line.strip_prefix("  duetime "))
                .collect();
            assert!(examples.len() >= 3, "{help}");
            for example in examples {
                // What is said about it stands behind a gap, what the shell does behind a sign of its own.
                let typed = example.split("  ").next().unwrap();
                let typed = typed.split(['<', '|']).next().unwrap().replace('"', "");
                let words = typed.split_whitespace().map(str::to_owned);
                // Words of a quoted text count as one only in a shell.
                let words = words.filter(|word| !["order", "42"].contains(&word.as_str()));
                let parsed =
                    Cli::try_parse_from(std::iter::once("duetime".to_owned()).chain(words));
                assert!(parsed.is_ok(), "{example}: {parsed:?}");
            }
        }
    }

    #[test]
    fn own_flags_win_over_set_and_all_of_them_are_settings() {
        let arguments = parse(&[
            "duetime",
            "serve",
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
        assert_eq!(config.storage.data, Path::new("/d"));
        assert_eq!(config.log.level, "debug");
    }

    #[test]
    fn flags_of_the_reference_are_flags_of_the_commands() {
        let mut command = Cli::command();
        command.build();
        let serve = command.find_subcommand("serve").unwrap();
        for rest in reference().split("Flag: `--").skip(1) {
            let flag = rest.split('`').next().unwrap();
            assert!(
                serve
                    .get_arguments()
                    .any(|argument| argument.get_long() == Some(flag)),
                "{flag}"
            );
        }
    }

    #[test]
    fn named_file_must_be_there() {
        let arguments = parse(&["duetime", "serve", "--config", "/nonexistent/duetime.toml"]);
        let error = format!("{:#}", arguments.file().unwrap_err());
        assert!(
            error.starts_with("read the configuration file /nonexistent/duetime.toml: "),
            "{error}"
        );
    }
}
