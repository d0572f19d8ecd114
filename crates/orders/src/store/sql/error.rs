//! Defines why a statement failed.

/// What kind of failure it is, as far as a caller may want to act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DbErrorKind {
    /// A UNIQUE constraint refused the statement.
    Unique,
    /// The disk has no room for what the statement or the commit writes; nothing of it was done.
    Full,
    /// The database does not answer; the same statement may succeed later.
    Unavailable,
    /// Anything else.
    Other,
}

/// Why a statement failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct DbError {
    /// What kind of failure it is.
    pub kind: DbErrorKind,
    /// The database's own words.
    pub text: String,
}

impl DbError {
    /// The database does not answer.
    pub(crate) fn unavailable(text: impl Into<String>) -> Self {
        let kind = DbErrorKind::Unavailable;
        let text = text.into();
        Self { kind, text }
    }

    /// The system gives no thread.
    pub(in crate::store) fn no_thread(error: &std::io::Error) -> Self {
        Self::unavailable(format!("no thread for the database: {error}"))
    }

    /// A failure that no caller acts on.
    pub(crate) fn other(text: impl Into<String>) -> Self {
        let kind = DbErrorKind::Other;
        let text = text.into();
        Self { kind, text }
    }
}
