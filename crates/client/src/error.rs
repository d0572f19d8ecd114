//! Defines what can go wrong, with the server's own code and words where it gave some.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use grpc_api::v2::{Code, Status};

/// Why something could not be done.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What the caller gave cannot be used; nothing was sent.
    #[error("{0}")]
    Invalid(String),
    /// The server understood, and says no.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// No connection could be made.
    #[error("connect to {address}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What the operating system or TLS says.
        #[source]
        source: Arc<io::Error>,
    },
    /// The connection broke while a call was under way; whether the server did what was asked is unknown.
    #[error("the connection broke")]
    Broken(#[source] Arc<h2::Error>),
    /// No answer came in time; whether the server did what was asked is unknown.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The server ended the call with a status of gRPC instead of an answer.
    #[error("the call ended with gRPC status {status}: {message}")]
    Call {
        /// The number of the status, such as 14 for UNAVAILABLE.
        status: i32,
        /// The server's words.
        message: String,
    },
    /// The answer is not one of this protocol.
    #[error("the answer cannot be read: {0}")]
    Malformed(String),
    /// This client has been shut down.
    #[error("the client has been shut down")]
    Closed,
}

/// A refusal, in the words of the server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server refuses: {message} ({code})")]
pub struct Refused {
    /// The number of the protocol, such as 40402; [`Refused::code`] names it.
    pub code: i32,
    /// The server's words.
    pub message: String,
}

impl Refused {
    /// The code by its name; `None` if this version does not know it.
    pub fn code(&self) -> Option<Code> {
        Code::try_from(self.code).ok()
    }
}

impl Error {
    /// The code of the server, if it refused.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused(refused) => refused.code(),
            _ => None,
        }
    }

    /// Whether the same request may succeed when it is made again: the server was busy, late or out of reach.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Refused(refused) => {
                matches!(refused.code, 40_800 | 42_900 | 50_000..=50_099 | 50_400..=50_499)
            }
            Self::Unreachable { .. } | Self::Broken(_) | Self::Timeout(_) => true,
            // RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE, and what proxies make of a broken stream.
            Self::Call { status, .. } => matches!(status, 1 | 2 | 4 | 8 | 13 | 14),
            Self::Invalid(_) | Self::Malformed(_) | Self::Closed => false,
        }
    }
}

/// Reads the status inside an answer.
pub(crate) fn check(status: Option<Status>) -> Result<(), Error> {
    match status {
        Some(status) if status.code == i32::from(Code::Ok) => Ok(()),
        Some(status) => Err(Refused::from(status).into()),
        None => Err(Error::Malformed("it has no status".to_owned())),
    }
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self {
            code: status.code,
            message: status.message,
        }
    }
}

impl From<h2::Error> for Error {
    fn from(error: h2::Error) -> Self {
        Self::Broken(Arc::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_by_itself_is_transient() {
        let refused = |code| {
            Error::from(Refused {
                code,
                message: String::new(),
            })
        };
        for (code, transient) in [
            (42_900, true),
            (50_001, true),
            (50_400, true),
            (40_402, false),
            (40_100, false),
            (50_100, false),
        ] {
            assert_eq!(refused(code).is_transient(), transient, "{code}");
        }
        assert_eq!(refused(40_402).code(), Some(Code::TopicNotFound));
        assert_eq!(refused(1).code(), None);
        assert!(check(None).is_err() && check(Some(Status::default())).is_err());
    }
}
