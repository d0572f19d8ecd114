//! Defines the errors of opening a store.

use std::path::PathBuf;

/// Why a data folder could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process holds it.
    #[error("data folder {} is in use by process {process}; two servers cannot share it", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The other process, or `?` if it did not say.
        process: String,
    },
    /// A newer version wrote it.
    #[error("data folder {} has format {found}; this version reads up to {supported}", path.display())]
    Newer {
        /// The folder.
        path: PathBuf,
        /// The format it has.
        found: String,
        /// The newest this version reads.
        supported: u32,
    },
    /// It holds something else, or what it holds is damaged.
    #[error("data folder {} is damaged: {reason}", path.display())]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system refused.
    #[error("cannot {action} in data folder {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}
