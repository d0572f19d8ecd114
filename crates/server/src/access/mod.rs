//! Defines who may do what: the border between the front ends and whatever keeps the accounts.

mod accounts;

use std::sync::Arc;

pub use self::accounts::{Accounts, AccountsError};

/// Something an account may be allowed to do.
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
    /// Look at everything, create and delete topics and groups, replay and purge dead letters.
    Administer,
}

/// Prefixes that are in front of the namespace of a name.
const PREFIXES: [&str; 2] = ["%DLQ%", "%RETRY%"];

/// The name of a topic or group without `%DLQ%` or `%RETRY%` in front.
pub(crate) fn without_prefix(name: &str) -> &str {
    let mut prefixes = PREFIXES.iter();
    prefixes
        .find_map(|prefix| name.strip_prefix(prefix))
        .unwrap_or(name)
}

/// The namespace of a full name, `dev` of `dev%orders` and of `%DLQ%dev%closer`; empty if it has none.
fn namespace(name: &str) -> &str {
    let split = without_prefix(name).split_once('%');
    split.map_or("", |(namespace, _)| namespace)
}

/// What a caller says to be known by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Credentials<'a> {
    /// The name of an account and its secret.
    Password {
        /// The name of the account.
        name: &'a str,
        /// Its secret.
        secret: &'a str,
    },
    /// A secret that names the account by itself.
    Token(&'a str),
    /// The name of an account, and proof that the caller knows its secret, which is not shown.
    Signature {
        /// The name of the account.
        name: &'a str,
        /// What was signed.
        signed: &'a [u8],
        /// HMAC-SHA1 of it, the secret being the key.
        signature: &'a [u8],
    },
}

impl std::fmt::Debug for Credentials<'_> {
    /// Tells the kind and the name, never a secret.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Password { name, .. } => write!(formatter, "Password of {name:?}"),
            Self::Token(_) => formatter.write_str("Token"),
            Self::Signature { name, .. } => write!(formatter, "Signature of {name:?}"),
        }
    }
}

/// Somebody at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller<'a> {
    /// What the caller says to be known by, if anything.
    pub credentials: Option<Credentials<'a>>,
    /// Whether the caller is on this machine, and speaks for nobody who is not.
    pub local: bool,
}

/// Why a caller is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nothing was given to be known by.
    #[error("credentials are needed")]
    Missing,
    /// No account fits what was given.
    #[error("the credentials are wrong")]
    Wrong,
}

/// Somebody who was let in.
pub trait Account: std::fmt::Debug + Send + Sync {
    /// The name by which logs know the account.
    fn name(&self) -> &str;

    /// Whether the account may do this.
    fn may(&self, action: Action<'_>) -> bool;
}

/// What tells who a caller is.
pub trait Authenticate: std::fmt::Debug + Send + Sync {
    /// The account of a caller. Secrets are compared in constant time.
    fn authenticate(&self, caller: &Caller<'_>) -> Result<Arc<dyn Account>, Refused>;
}

/// No accounts: everybody on this machine may do everything, nobody else may do anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoopbackOnly;

/// No accounts, on purpose: everybody who reaches the server may do everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Everybody;

/// Whoever it is.
#[derive(Debug)]
struct Anybody;

impl Account for Anybody {
    fn name(&self) -> &'static str {
        "anybody"
    }

    fn may(&self, _: Action<'_>) -> bool {
        true
    }
}

impl Authenticate for Everybody {
    fn authenticate(&self, caller: &Caller<'_>) -> Result<Arc<dyn Account>, Refused> {
        match caller.credentials {
            // There is no account that any credentials could be of.
            Some(_) => Err(Refused::Wrong),
            None => Ok(Arc::new(Anybody)),
        }
    }
}

/// Somebody on this machine.
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
            // There is no account that any credentials could be of.
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
    fn only_who_is_here_gets_in_without_accounts() {
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
    fn everybody_gets_in_where_that_is_meant() {
        let mut caller = Caller {
            credentials: None,
            local: false,
        };
        let account = Everybody.authenticate(&caller).unwrap();
        assert!(account.may(Action::Administer));
        caller.credentials = Some(Credentials::Token("t"));
        assert_eq!(Everybody.authenticate(&caller).unwrap_err(), Refused::Wrong);
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
