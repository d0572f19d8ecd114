//! Sets up the log: text on a terminal, JSON lines elsewhere, always on standard error.

use std::io::IsTerminal as _;

use anyhow::{Result, anyhow};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::config::{Log, LogFormat};

/// Libraries whose info lines are of no use to an operator.
const QUIET: [&str; 4] = ["fjall", "lsm_tree", "hyper", "tower"];

/// Starts the log with the level and format of the configuration.
pub(crate) fn start(log: Log) -> Result<()> {
    let level: LevelFilter = log
        .level
        .parse()
        .map_err(|_| anyhow!("log.level {:?} is unknown", log.level))?;
    let terminal = std::io::stderr().is_terminal();
    let colours = terminal && std::env::var_os("NO_COLOR").is_none();
    let json = match log.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    // At info these libraries log only what their authors need.
    let filter = QUIET
        .iter()
        .fold(Targets::new().with_default(level), |filter, target| {
            filter.with_target(*target, std::cmp::min(level, LevelFilter::WARN))
        });
    let writer = fmt::layer().with_writer(std::io::stderr);
    let layer = if json {
        writer.json().boxed()
    } else {
        writer.with_ansi(colours).boxed()
    };
    let started = tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init();
    started.map_err(|error| anyhow!("start the log: {error}"))
}
