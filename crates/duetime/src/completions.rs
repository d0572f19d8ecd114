//! Provides `duetime completions`: the scripts with which shells complete the command line.

use clap::Args;
use clap_complete::Shell;

/// Which shell.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct CompletionArguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// The script for the shell that completes `command`.
pub(crate) fn script(arguments: CompletionArguments, command: &mut clap::Command) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, command, "duetime", &mut script);
    script
}
