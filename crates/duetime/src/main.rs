//! The `duetime` command: the order platform and its broker in one process.

mod admin;
mod cli;
mod completions;
mod config;
mod demo;
mod logs;
mod run;
mod serve;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::admin::Errand;
use crate::cli::{Cli, Command};
use crate::config::{Config, ConfigArguments, PrintArguments, Settings};

/// A message is allocated on the thread that reads it and freed on the one that wrote it to the disk: the allocator of
/// the C library pays for that with locks and with merging of what is freed. Tests count what decoders allocate, by an
/// allocator of their own.
#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code of wrong usage, which clap uses too: a restart would not help.
const WRONG_USAGE: u8 = 2;

/// Why the command ends early.
enum Failure {
    /// What was typed or configured cannot be used.
    Usage(anyhow::Error),
    /// It was tried and did not work.
    Work(anyhow::Error),
}

fn main() -> ExitCode {
    let (error, code) = match run(Cli::parse().command) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(error)) => (error, ExitCode::from(WRONG_USAGE)),
        Err(Failure::Work(error)) => (error, ExitCode::FAILURE),
    };
    tell(&format!("error: {}", words(&error)));
    code
}

/// What went wrong and why; a cause that was told already is not told again.
fn words(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(arguments) => serve::run(&resolve(&arguments)?).map_err(Failure::Work),
        Command::Demo(arguments) => demo::run(&arguments).map_err(Failure::Work),
        Command::Config(arguments) => print_config(&arguments),
        Command::Topic(arguments) => admin::run(Errand::Topic(arguments)),
        Command::Group(arguments) => admin::run(Errand::Group(arguments)),
        Command::Message(arguments) => admin::run(Errand::Message(arguments)),
        Command::Timer(arguments) => admin::run(Errand::Timer(arguments)),
        Command::Dlq(arguments) => admin::run(Errand::Letter(arguments)),
        Command::Completions(arguments) => {
            print(&completions::script(arguments, &mut Cli::command()))
        }
    }
}

fn load(arguments: &ConfigArguments) -> Result<Settings, Failure> {
    let sources = arguments.sources().map_err(Failure::Usage)?;
    let settings = config::load(&sources).map_err(|problems| usage(&problems))?;
    for warning in &settings.warnings {
        tell(&format!("warning: {warning}"));
    }
    Ok(settings)
}

fn resolve(arguments: &ConfigArguments) -> Result<Config, Failure> {
    load(arguments)?
        .resolve()
        .map_err(|problems| usage(&problems))
}

fn usage(problems: &config::Problems) -> Failure {
    Failure::Usage(anyhow::anyhow!("{problems}"))
}

fn print_config(arguments: &PrintArguments) -> Result<(), Failure> {
    let text = if arguments.example {
        config::example()
    } else if arguments.reference {
        config::reference()
    } else {
        let settings = load(&arguments.from)?;
        // What is printed is what a server would run with, so it is checked as a whole too.
        settings.resolve().map_err(|problems| usage(&problems))?;
        if arguments.json {
            format!("{}\n", settings.to_json())
        } else {
            settings.to_toml()
        }
    };
    print(text.as_bytes())
}

/// Writes to standard output.
fn print(bytes: &[u8]) -> Result<(), Failure> {
    match std::io::stdout().lock().write_all(bytes) {
        // A reader that has seen enough, `head` for instance, is no failure.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Work(error.into()))
        }
        _ => Ok(()),
    }
}

/// Says something to the person at the terminal.
fn tell(text: &str) {
    // Nobody is left to be told if standard error is gone.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_told_once() {
        let inner = anyhow::anyhow!("no such file");
        let error = inner
            .context("cannot read a: no such file")
            .context("start");
        assert_eq!(words(&error), "start: cannot read a: no such file");
    }
}
