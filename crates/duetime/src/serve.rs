//! Provides `duetime serve`: everything embedded, in this process.

use anyhow::{Result, bail};

use crate::config::Config;

/// Runs until the process is told to stop.
pub(crate) fn run(config: Config) -> Result<()> {
    let Config {
        server, storage, ..
    } = config;
    bail!(
        "serve is not built yet: nothing listens on {}, and {} is untouched",
        server.listen,
        storage.data.display()
    )
}
