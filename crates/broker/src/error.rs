//! Defines the errors of the broker handle.

/// Why a call to the broker failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The broker refused; nothing has been changed.
    #[error(transparent)]
    Refused(#[from] engine::Error),
    /// Too many pollers wait already.
    #[error("{waiting} pollers wait already; the most allowed is {limit}")]
    TooManyPollers {
        /// How many wait.
        waiting: usize,
        /// The limit.
        limit: usize,
    },
    /// Messages that are being sent to consumers take as much memory as they may.
    #[error("too many messages are being sent to consumers that do not read them; try again later")]
    AnswersFull,
    /// The disk failed: the broker no longer accepts or delivers. The outcome of this call is
    /// unknown.
    #[error("the broker has stopped because its store failed")]
    Failed,
    /// The broker was shut down.
    #[error("the broker was shut down")]
    Stopped,
}

/// Why a broker could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The folder could not be opened as a store.
    #[error(transparent)]
    Store(#[from] storage::OpenError),
    /// What the store holds is not a broker's state of this version.
    #[error("cannot read the broker's state: {0}")]
    State(#[from] engine::StoreError),
    /// The operating system gave no thread.
    #[error("cannot start the broker's threads: {0}")]
    Threads(#[from] std::io::Error),
}
