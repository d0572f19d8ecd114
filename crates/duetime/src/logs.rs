//! Sets up the log: text on a terminal, JSON lines elsewhere, always on standard error.

use std::io::IsTerminal as _;

use anyhow::{Result, anyhow};
use tracing_subscriber::filter::LevelFilter;

use crate::config::{Log, LogFormat};

/// Starts to log what the configuration asks for.
pub(crate) fn start(log: Log) -> Result<()> {
    let level: LevelFilter = log
        .level
        .parse()
        .map_err(|_| anyhow!("log.level {:?} is unknown", log.level))?;
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level);
    let terminal = std::io::stderr().is_terminal();
    let colours = terminal && std::env::var_os("NO_COLOR").is_none();
    let json = match log.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let started = if json {
        builder.json().try_init()
    } else {
        builder.with_ansi(colours).try_init()
    };
    started.map_err(|error| anyhow!("start the log: {error}"))
}
