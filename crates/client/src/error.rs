//! Defines the errors of the client, with the server's own code and message where there is one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use grpc_api::v2::{Code, Status};

/// Why an operation failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument is invalid; nothing was sent.
    #[error("{0}")]
    Invalid(String),
    /// The server refused the request.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The connection could not be established.
    #[error("connect to {address}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// The error of the operating system or of TLS.
        #[source]
        source: Arc<io::Error>,
    },
    /// The connection failed during a call; whether the server carried the request out is unknown.
    #[error("the connection broke")]
    Broken(#[source] Arc<h2::Error>),
    /// No response arrived in time; whether the server carried the request out is unknown.
    #[error("no response within {0:?}")]
    Timeout(Duration),
    /// The server ended the call with a gRPC error status instead of a response.
    #[error("the call ended with gRPC status {status}: {message}")]
    Call {
        /// The gRPC status code, such as 14 for UNAVAILABLE.
        status: i32,
        /// The server's message.
        message: String,
    },
    /// The response does not follow the protocol.
    #[error("malformed response: {0}")]
    Malformed(String),
    /// This client has been shut down.
    #[error("the client has been shut down")]
    Closed,
}

/// The server's refusal of a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server refuses: {message} ({code})")]
pub struct Refused {
    /// The protocol's code, such as 40402; [`Refused::code`] names it.
    pub code: i32,
    /// The server's message.
    pub message: String,
}

impl Refused {
    /// The named code; `None` if this version does not know it.
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

    /// Whether the same request may succeed when repeated: the server was busy, slow or unreachable.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Refused(refused) => {
                matches!(refused.code, 40_800 | 42_900 | 50_000..=50_099 | 50_400..=50_499)
            }
            Self::Unreachable { .. } | Self::Broken(_) | Self::Timeout(_) => true,
            // CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE: proxies report a broken
            // stream as one of them.
            Self::Call { status, .. } => matches!(status, 1 | 2 | 4 | 8 | 13 | 14),
            Self::Invalid(_) | Self::Malformed(_) | Self::Closed => false,
        }
    }
}

/// The outcome that the status in a response reports.
pub(crate) fn check(status: Option<Status>) -> Result<(), Error> {
    match status {
        Some(status) if status.code == i32::from(Code::Ok) => Ok(()),
        Some(status) => Err(Refused::from(status).into()),
        None => Err(Error::Malformed("there is no status".to_owned())),
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
    fn only_errors_that_may_pass_are_transient() {
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
