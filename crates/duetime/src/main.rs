//! The `duetime` command: the order platform and its broker in one process.

mod admin;
mod cli;
mod completions;
mod config;
mod demo;
mod failure;
mod logs;
mod run;
mod serve;
mod terminal;
mod transport;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::admin::AdminCommand;
use crate::cli::{Cli, Command};
use crate::config::{Config, ConfigArguments, PrintArguments, Settings};
use crate::failure::{Failure, message, usage};
use crate::terminal::{note, print};

/// A message is allocated on the thread that reads it and freed on the one that wrote it to the disk: the allocator of
/// the C library pays for that with locks and with merging of what is freed. Tests count what decoders allocate, by an
/// allocator of their own.
#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code of wrong usage, which clap uses too: a restart would not help.
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    let (error, code) = match run(Cli::parse().command) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(error)) => (error, ExitCode::from(WRONG_USAGE)),
        Err(Failure::Work(error)) => (error, ExitCode::FAILURE),
    };
    note(&format!("error: {}", message(&error)));
    code
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(arguments) => serve::run(&resolve(&arguments)?).map_err(Failure::Work),
        Command::Demo(arguments) => demo::run(&arguments).map_err(Failure::Work),
        Command::Config(arguments) => print_config(&arguments),
        Command::Topic(arguments) => admin::run(AdminCommand::Topic(arguments)),
        Command::Group(arguments) => admin::run(AdminCommand::Group(arguments)),
        Command::Message(arguments) => admin::run(AdminCommand::Message(arguments)),
        Command::Timer(arguments) => admin::run(AdminCommand::Timer(arguments)),
        Command::Dlq(arguments) => admin::run(AdminCommand::Dlq(arguments)),
        Command::Transaction(arguments) => admin::run(AdminCommand::Transaction(arguments)),
        Command::Order(arguments) => admin::run(AdminCommand::Order(arguments)),
        Command::Refund(arguments) => admin::run(AdminCommand::Refund(arguments)),
        Command::Payment(arguments) => admin::run(AdminCommand::Payment(arguments)),
        Command::Product(arguments) => admin::run(AdminCommand::Product(arguments)),
        Command::Merchant(arguments) => admin::run(AdminCommand::Merchant(arguments)),
        Command::Outbox(arguments) => admin::run(AdminCommand::Outbox(arguments)),
        Command::Completions(arguments) => {
            print(&completions::script(arguments, &mut Cli::command()))
        }
    }
}

fn load(arguments: &ConfigArguments) -> Result<Settings, Failure> {
    let sources = arguments.sources().map_err(Failure::Usage)?;
    let settings = config::load(&sources).map_err(usage)?;
    for warning in &settings.warnings {
        note(&format!("warning: {warning}"));
    }
    Ok(settings)
}

fn resolve(arguments: &ConfigArguments) -> Result<Config, Failure> {
    load(arguments)?.resolve().map_err(usage)
}

fn print_config(arguments: &PrintArguments) -> Result<(), Failure> {
    let text = if arguments.example {
        config::example()
    } else if arguments.reference {
        config::reference()
    } else {
        let settings = load(&arguments.from)?;
        // A server would run with what is printed, so it is checked as a whole too.
        settings.resolve().map_err(usage)?;
        if arguments.json {
            format!("{}\n", settings.to_json())
        } else {
            settings.to_toml()
        }
    };
    print(text.as_bytes())
}
