//! Asks before something that cannot be undone.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use clap::Args;

use crate::failure::{Failure, failed, usage};
use crate::terminal::note;

/// Whether to ask before something that cannot be undone.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Asking {
    /// Do it without asking
    #[arg(long, short)]
    yes: bool,
    /// Only print what would be done
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
}

/// Whether to ask, and whether what the order platform uses is meant.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Confirmation {
    #[command(flatten)]
    asking: Asking,
    #[command(flatten)]
    force: Force,
}

impl Confirmation {
    /// What the parameter `force` of the request says.
    pub(super) fn force(self) -> Option<&'static str> {
        self.force.parameter()
    }
}

/// Whether what the order platform uses is meant.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Force {
    /// Do it also if the order platform uses the topic or consumer group
    #[arg(long)]
    force_platform: bool,
}

impl Force {
    /// What the parameter `force` of the request says.
    pub(super) fn parameter(self) -> Option<&'static str> {
        self.force_platform.then_some("platform")
    }
}

/// Whether to go on with an action that cannot be undone, `delete topic a` for instance.
pub(super) fn confirm(confirmation: Confirmation, action: &str) -> Result<bool, Failure> {
    ask(confirmation.asking, action)
}

/// The same for what the order platform has.
pub(super) fn ask(asking: Asking, action: &str) -> Result<bool, Failure> {
    if asking.dry_run {
        note(&format!("would {action}; nothing was done"));
        return Ok(false);
    }
    if asking.yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        return Err(usage(format!(
            "this would {action}: say --yes to do it, or --dry-run to see what it would do"
        )));
    }
    let mut question = std::io::stderr().lock();
    // Without a standard error the answer is read all the same.
    let _ = write!(question, "This will {action}. Go on? [y/N] ");
    let _ = question.flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| Failure::Work(error.into()))?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(true),
        _ => Err(failed("nothing was done")),
    }
}
