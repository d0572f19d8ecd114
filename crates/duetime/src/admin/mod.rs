//! Provides the commands of whoever uses and runs a broker: topics, groups, messages, timers, dead letters.
//!
//! They talk to the broker's JSON API like any other client. What a command finds goes to standard output, for
//! people by default and as JSON with `--json`; everything else goes to standard error.

mod api;
mod dlq;
mod format;
mod groups;
mod messages;
mod time;
mod timers;
mod topics;
mod transport;

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use self::api::Client;
use self::format::Eye;
use crate::{Failure, tell};

pub(crate) use self::dlq::LetterArguments;
pub(crate) use self::groups::GroupArguments;
pub(crate) use self::messages::MessageArguments;
pub(crate) use self::timers::TimerArguments;
pub(crate) use self::topics::TopicArguments;

/// One of the commands.
#[derive(Clone, Debug)]
pub(crate) enum Errand {
    Topic(TopicArguments),
    Group(GroupArguments),
    Message(MessageArguments),
    Timer(TimerArguments),
    Letter(LetterArguments),
}

/// Which broker, and how to answer.
#[derive(Clone, Debug, Args)]
pub(crate) struct Access {
    /// Where the broker's HTTP API listens
    #[arg(
        long,
        global = true,
        help_heading = "Broker",
        value_name = "URL",
        env = "DUETIME_URL",
        hide_env_values = true
    )]
    #[arg(default_value = "http://127.0.0.1:8082")]
    server: String,
    /// Name and secret of an account
    #[arg(
        long,
        global = true,
        help_heading = "Broker",
        value_name = "NAME:SECRET",
        env = "DUETIME_ACCOUNT"
    )]
    #[arg(hide_env_values = true)]
    account: Option<String>,
    /// Token of an account
    #[arg(
        long,
        global = true,
        help_heading = "Broker",
        value_name = "TOKEN",
        env = "DUETIME_TOKEN"
    )]
    #[arg(hide_env_values = true, conflicts_with = "account")]
    token: Option<String>,
    /// Trust the certificates in this PEM file
    #[arg(
        long,
        global = true,
        help_heading = "Broker",
        value_name = "FILE",
        env = "DUETIME_CA"
    )]
    #[arg(hide_env_values = true)]
    ca: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long, global = true, help_heading = "Broker")]
    json: bool,
}

/// How sure somebody is about something that cannot be undone.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Sure {
    /// Do it without asking
    #[arg(long, short)]
    yes: bool,
    /// Only say what would be done
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
}

/// What every command works with.
struct Desk {
    client: Client,
    eye: Eye,
    json: bool,
}

/// Runs a command to its end.
pub(crate) fn run(errand: Errand) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Work(error.into()))?;
    runtime.block_on(async {
        match errand {
            Errand::Topic(arguments) => topics::run(arguments).await,
            Errand::Group(arguments) => groups::run(arguments).await,
            Errand::Message(arguments) => messages::run(arguments).await,
            Errand::Timer(arguments) => timers::run(arguments).await,
            Errand::Letter(arguments) => dlq::run(arguments).await,
        }
    })
}

impl Desk {
    fn open(access: &Access) -> Result<Self, Failure> {
        Ok(Self {
            client: Client::new(access)?,
            eye: Eye::of_this_machine(),
            json: access.json,
        })
    }

    /// Prints something found: as JSON, or as `text` says it to a person.
    fn print(&self, value: &Value, text: impl FnOnce(&Eye) -> String) -> Result<(), Failure> {
        if self.json {
            return print(&format!("{value}\n"));
        }
        print(&text(&self.eye))
    }

    /// Prints a list: as JSON lines, or as `text` says it to a person.
    fn print_list(&self, list: &List, text: impl FnOnce(&Eye) -> String) -> Result<(), Failure> {
        if self.json {
            for item in &list.items {
                print(&format!("{item}\n"))?;
            }
        } else if !list.items.is_empty() {
            print(&text(&self.eye))?;
        }
        if list.items.is_empty() && !self.json {
            tell("nothing found");
        }
        if list.more {
            tell(&format!(
                "there are more than these {}; see --limit",
                list.items.len()
            ));
        }
        Ok(())
    }

    /// Says on standard error that something was done; with `--json` what came of it goes to standard output.
    fn done(&self, value: &Value, text: impl FnOnce(&Eye) -> String) -> Result<(), Failure> {
        if self.json {
            return print(&format!("{value}\n"));
        }
        tell(&text(&self.eye));
        Ok(())
    }
}

/// Items of a list, and whether there are more.
struct List {
    items: Vec<Value>,
    more: bool,
}

fn print(text: &str) -> Result<(), Failure> {
    crate::print(text.as_bytes())
}

/// Whether to go on with something that cannot be undone: `what` says it, `delete topic "a"` for instance.
fn confirm(sure: Sure, what: &str) -> Result<bool, Failure> {
    if sure.dry_run {
        tell(&format!("would {what}; nothing was done"));
        return Ok(false);
    }
    if sure.yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        return Err(usage(format!(
            "this would {what}: say --yes to do it, or --dry-run to see what it would do"
        )));
    }
    let mut question = std::io::stderr().lock();
    // Nobody is left to be asked if standard error is gone; the answer is then read all the same.
    let _ = write!(question, "This will {what}. Go on? [y/N] ");
    let _ = question.flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| Failure::Work(error.into()))?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(true),
        _ => Err(Failure::Work(anyhow::anyhow!("nothing was done"))),
    }
}

fn usage(text: String) -> Failure {
    Failure::Usage(anyhow::anyhow!(text))
}

fn failed(text: String) -> Failure {
    Failure::Work(anyhow::anyhow!(text))
}
