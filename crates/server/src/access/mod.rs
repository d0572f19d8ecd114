//! Defines how the front ends authenticate callers and authorise what they do.

mod accounts;

use std::sync::Arc;

pub use self::accounts::{Accounts, AccountsError};

/// An action that needs a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Send to a topic, and recall or move what was sent.
    Publish {
        /// The topic.
        topic: &'a str,
    },
    /// Receive from a topic as a member of a consumer group, and settle what was received.
    Consume {
        /// The topic.
        topic: &'a str,
        /// The consumer group.
        group: &'a str,
    },
    /// Learn where the queues of a topic are, which makes the topic where topics are made on first use.
    Route {
        /// The topic.
        topic: &'a str,
    },
    /// Be a member of a consumer group, and learn its settings.
    Join {
        /// The consumer group.
        group: &'a str,
    },
    /// Read everything, create and delete topics and groups, replay and purge dead letters.
    Administer,
}

/// Prefixes that precede the namespace of a name.
const PREFIXES: [&str; 2] = ["%DLQ%", "%RETRY%"];

/// Returns the name of a topic or group without a prefix `%DLQ%` or `%RETRY%`.
pub(crate) fn without_prefix(name: &str) -> &str {
    let mut prefixes = PREFIXES.iter();
    prefixes
        .find_map(|prefix| name.strip_prefix(prefix))
        .unwrap_or(name)
}

/// Returns the namespace of a full name, `dev` of `dev%orders` and of `%DLQ%dev%closer`; empty if it has none.
fn namespace(name: &str) -> &str {
    let split = without_prefix(name).split_once('%');
    split.map_or("", |(namespace, _)| namespace)
}

/// The credentials of a caller.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Credentials<'a> {
    /// The name of an account and its secret.
    Password {
        /// The name of the account.
        name: &'a str,
        /// Its secret.
        secret: &'a str,
    },
    /// A token, which identifies the account by itself.
    Token(&'a str),
    /// The name of an account and a signature made with its secret, which is not sent.
    Signature {
        /// The name of the account.
        name: &'a str,
        /// The signed text.
        signed: &'a [u8],
        /// The HMAC-SHA1 of the text, with the secret as the key.
        signature: &'a [u8],
    },
}

impl std::fmt::Debug for Credentials<'_> {
    /// Writes the kind and the name, never a secret.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Password { name, .. } => write!(formatter, "Password of {name:?}"),
            Self::Token(_) => formatter.write_str("Token"),
            Self::Signature { name, .. } => write!(formatter, "Signature of {name:?}"),
        }
    }
}

/// A caller to authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller<'a> {
    /// The credentials, if any were sent.
    pub credentials: Option<Credentials<'a>>,
    /// Whether the caller is on this machine, and does not forward the request of another machine.
    pub local: bool,
}

/// Why a caller is not authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No credentials were sent.
    #[error("credentials are required")]
    Missing,
    /// No account matches the credentials.
    #[error("the credentials are wrong")]
    Wrong,
}

/// The account of an authenticated caller.
pub trait Account: std::fmt::Debug + Send + Sync {
    /// Returns the name of the account in logs.
    fn name(&self) -> &str;

    /// Returns whether the account may do this.
    fn may(&self, action: Action<'_>) -> bool;
}

/// Finds the account of a caller.
pub trait Authenticate: std::fmt::Debug + Send + Sync {
    /// Returns the account of a caller. Secrets are compared in constant time.
    fn authenticate(&self, caller: &Caller<'_>) -> Result<Arc<dyn Account>, Refused>;
}

/// No accounts: local callers may do everything, others nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoopbackOnly;

/// No accounts, by configuration: every caller may do everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenAccess;

/// Any caller.
#[derive(Debug)]
struct AnyCaller;

impl Account for AnyCaller {
    fn name(&self) -> &'static str {
        "anyone"
    }

    fn may(&self, _: Action<'_>) -> bool {
        true
    }
}

impl Authenticate for OpenAccess {
    fn authenticate(&self, caller: &Caller<'_>) -> Result<Arc<dyn Account>, Refused> {
        match caller.credentials {
            // Without accounts no credentials can be right.
            Some(_) => Err(Refused::Wrong),
            None => Ok(Arc::new(AnyCaller)),
        }
    }
}

/// A caller on this machine.
#[derive(Debug)]
struct Local;

impl Account for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn may(&self, _: Action<'_>) -> bool {
        true
    }
}

impl Authenticate for LoopbackOnly {
    fn authenticate(&self, caller: &Caller<'_>) -> Result<Arc<dyn Account>, Refused> {
        match (caller.local, caller.credentials) {
            // Without accounts no credentials can be right.
            (_, Some(_)) => Err(Refused::Wrong),
            (false, None) => Err(Refused::Missing),
            (true, None) => Ok(Arc::new(Local)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_accounts_only_local_callers_are_accepted() {
        let caller = |local, credentials| Caller { credentials, local };
        let account = LoopbackOnly.authenticate(&caller(true, None)).unwrap();
        assert!(account.may(Action::Administer));
        let token = Some(Credentials::Token("t"));
        for (local, credentials, refused) in [
            (false, None, Refused::Missing),
            (false, token, Refused::Wrong),
            (true, token, Refused::Wrong),
        ] {
            let result = LoopbackOnly.authenticate(&caller(local, credentials));
            assert_eq!(result.unwrap_err(), refused);
        }
    }

    #[test]
    fn open_access_accepts_every_caller() {
        let mut caller = Caller {
            credentials: None,
            local: false,
        };
        let account = OpenAccess.authenticate(&caller).unwrap();
        assert!(account.may(Action::Administer));
        caller.credentials = Some(Credentials::Token("t"));
        assert_eq!(
            OpenAccess.authenticate(&caller).unwrap_err(),
            Refused::Wrong
        );
    }

    #[test]
    fn secrets_are_not_printed() {
        let credentials = Credentials::Password {
            name: "ann",
            secret: "hidden",
        };
        assert_eq!(format!("{credentials:?}"), "Password of \"ann\"");
        assert_eq!(format!("{:?}", Credentials::Token("hidden")), "Token");
    }
}
