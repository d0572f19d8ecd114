//! Provides `duetime demo`: a platform in a temporary folder, watched while its orders close.

use anyhow::{Result, bail};

/// What the demo does.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many orders to create
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    orders: u32,
}

/// Runs the demo and prints its report.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    bail!(
        "demo is not built yet: none of {} orders was created",
        arguments.orders
    )
}
