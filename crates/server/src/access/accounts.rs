//! Reads the accounts of clients from a file that only its owner may read.
//!
//! ```toml
//! [[account]]
//! name = "shop"                 # what RocketMQ clients call the access key
//! secret = "at least 8 letters" # what they call the secret key
//! publish = ["orders", "audit-*"]
//! consume = ["orders"]          # topics,
//! groups = ["closer-*"]         # as a member of these groups
//!
//! [[account]]
//! name = "operator"
//! secret = "another one"
//! administer = true             # and everything else
//! ```

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker::clock::Clock;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use sha1::Sha1;
use subtle::ConstantTimeEq as _;

use crate::access::{Account, Action, Authenticate, Caller, Credentials, Refused, namespace};
use edge::reload::Reloaded;

/// Shortest secret, in bytes.
const SECRET_BYTES_MIN: usize = 8;
/// Most accounts of a file.
const ACCOUNTS_MAX: usize = 4_096;
/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The secret that signatures of unknown accounts are compared with, so that they take as long as others.
const UNKNOWN_SECRET: &[u8] = b"there is no such account";

/// Why a file of accounts cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountsError {
    /// The file could not be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Other users than its owner may read it.
    #[error(
        "{} is readable by other users (mode {mode:o}) and holds secrets: chmod 600 {}",
        file.display(), file.display()
    )]
    Exposed {
        /// The file.
        file: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Its text is not valid.
    #[error("{}: {reason}", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// The error.
        reason: String,
    },
}

/// The accounts of a file, which is reloaded when it changes.
#[derive(Debug)]
pub struct Accounts {
    clock: Arc<dyn Clock>,
    list: Reloaded<List, AccountsError>,
}

/// The accounts of a file, found by name or by secret.
#[derive(Debug, Default)]
struct List {
    by_name: HashMap<String, Arc<Grants>>,
    /// By a hash of their secrets under a key of this process. The few with one hash are compared in constant time, so the
    /// time shows nothing of a secret.
    by_secret: HashMap<u64, Vec<Arc<Grants>>>,
    hasher: RandomState,
}

impl List {
    fn add(&mut self, account: Grants) {
        let account = Arc::new(account);
        let hash = self.hasher.hash_one(&account.secret);
        let of_hash = self.by_secret.entry(hash).or_default();
        of_hash.push(Arc::clone(&account));
        self.by_name.insert(account.name.clone(), account);
    }

    /// Returns the account with a secret, the last one if it is that of several.
    fn of_secret(&self, secret: &[u8]) -> Option<&Arc<Grants>> {
        let candidates = self.by_secret.get(&self.hasher.hash_one(secret))?;
        candidates.iter().fold(None, |found, account| {
            let fits = bool::from(account.secret.ct_eq(secret));
            if fits { Some(account) } else { found }
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    account: Vec<WrittenAccount>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenAccount {
    name: String,
    secret: String,
    #[serde(default)]
    publish: Vec<String>,
    #[serde(default)]
    consume: Vec<String>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    administer: bool,
}

/// One account.
struct Grants {
    name: String,
    secret: Vec<u8>,
    publish: Vec<String>,
    consume: Vec<String>,
    groups: Vec<String>,
    administer: bool,
}

impl std::fmt::Debug for Grants {
    /// Never shows the secret.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("Grants");
        shown.field("name", &self.name).finish_non_exhaustive()
    }
}

impl Accounts {
    /// Reads the accounts of `file`.
    pub fn open(file: &Path, clock: Arc<dyn Clock>) -> Result<Self, AccountsError> {
        let list = Reloaded::open(vec![file.to_owned()], |files| match files {
            [file] => read(file),
            _ => Ok(List::default()),
        })?;
        Ok(Self { clock, list })
    }
}

fn read(file: &Path) -> Result<List, AccountsError> {
    let fail = |source| AccountsError::Read {
        file: file.to_owned(),
        source,
    };
    let invalid = |reason: String| AccountsError::Invalid {
        file: file.to_owned(),
        reason,
    };
    let metadata = std::fs::metadata(file).map_err(fail)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(AccountsError::Exposed {
            file: file.to_owned(),
            mode,
        });
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(invalid(format!(
            "it has {} bytes; at most {FILE_BYTES_MAX} are allowed",
            metadata.len()
        )));
    }
    let text = std::fs::read_to_string(file).map_err(fail)?;
    parse(&text).map_err(invalid)
}

fn parse(text: &str) -> Result<List, String> {
    // The message names line and column; the line itself may hold a secret.
    let written: Written = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(0, |span| {
            let before = text.get(..span.start).unwrap_or_default();
            before.matches('\n').count() + 1
        });
        format!("line {line}: {}", error.message())
    })?;
    checked(written.account)
}

fn checked(written: Vec<WrittenAccount>) -> Result<List, String> {
    if written.len() > ACCOUNTS_MAX {
        let count = written.len();
        return Err(format!(
            "it has {count} accounts; at most {ACCOUNTS_MAX} are allowed"
        ));
    }
    let mut accounts = List::default();
    for account in written {
        let name = account.name;
        if name.is_empty() || name.contains(['/', ',', '=', ' ']) {
            return Err(format!(
                "the name {name:?} must not be empty or contain / , = or blanks"
            ));
        }
        if accounts.by_name.contains_key(&name) {
            return Err(format!("account {name:?} is defined twice"));
        }
        if account.secret.len() < SECRET_BYTES_MIN {
            return Err(format!(
                "the secret of account {name:?} has {} bytes; at least {SECRET_BYTES_MIN} are needed",
                account.secret.len()
            ));
        }
        accounts.add(Grants {
            name,
            secret: account.secret.into_bytes(),
            publish: account.publish,
            consume: account.consume,
            groups: account.groups,
            administer: account.administer,
        });
    }
    Ok(accounts)
}

impl Authenticate for Accounts {
    fn authenticate(&self, caller: &Caller<'_>) -> Result<Arc<dyn Account>, Refused> {
        let list = self.list.current(self.clock.now_ms());
        let named = |name: &str| list.by_name.get(name);
        let found = match caller.credentials.ok_or(Refused::Missing)? {
            Credentials::Signature {
                name,
                signed,
                signature,
            } => {
                let account = named(name);
                let secret = account.map_or(UNKNOWN_SECRET, |account| &account.secret);
                account.filter(|_| has_signed(secret, signed, signature))
            }
            Credentials::Password { name, secret } => {
                let account = named(name);
                let expected = account.map_or(UNKNOWN_SECRET, |account| &account.secret);
                account.filter(|_| bool::from(expected.ct_eq(secret.as_bytes())))
            }
            Credentials::Token(secret) => list.of_secret(secret.as_bytes()),
        };
        let account = found.ok_or(Refused::Wrong)?;
        Ok(Arc::<Grants>::clone(account))
    }
}

/// Returns whether `signature` is the HMAC-SHA1 of `signed`, compared in constant time.
fn has_signed(secret: &[u8], signed: &[u8], signature: &[u8]) -> bool {
    Hmac::<Sha1>::new_from_slice(secret)
        .is_ok_and(|hmac| hmac.chain_update(signed).verify_slice(signature).is_ok())
}

impl Account for Grants {
    fn name(&self) -> &str {
        &self.name
    }

    fn may(&self, action: Action<'_>) -> bool {
        let among = |patterns: &[String], name: &str| {
            let mut patterns = patterns.iter();
            patterns.any(|pattern| matches_pattern(pattern, name))
        };
        self.administer
            || match action {
                Action::Publish { topic } => among(&self.publish, topic),
                Action::Consume { topic, group } => {
                    let own_letters = topic.strip_prefix("%DLQ%") == Some(group);
                    (own_letters || among(&self.consume, topic)) && among(&self.groups, group)
                }
                Action::Route { topic } => {
                    let letters_of = topic.strip_prefix("%DLQ%");
                    among(&self.publish, topic)
                        || (among(&self.consume, topic) && !self.groups.is_empty())
                        || letters_of.is_some_and(|group| among(&self.groups, group))
                }
                Action::Join { group } => among(&self.groups, group),
                Action::Administer => false,
            }
    }
}

/// Returns whether a name matches a pattern: it is equal, or begins with the part before a final `*`.
///
/// `*` alone covers every name; any other pattern covers names of its own namespace only: `dev*` does not cover
/// `dev%orders`, `dev%*` does.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some("") => true,
        Some(beginning) => name.starts_with(beginning) && namespace(name) == namespace(pattern),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker::clock::ManualClock;
    use std::fs::{self, Permissions};

    const TEXT: &str = r#"
        [[account]]
        name = "shop"
        secret = "s3cret-of-shop"
        publish = ["orders", "audit-*"]
        consume = ["orders"]
        groups = ["closer*"]

        [[account]]
        name = "operator"
        secret = "another-secret"
        administer = true
    "#;

    struct Rig {
        folder: tempfile::TempDir,
        clock: ManualClock,
    }

    impl Rig {
        fn new() -> Self {
            Self {
                folder: tempfile::tempdir().unwrap(),
                clock: ManualClock::new(0),
            }
        }

        fn write(&self, text: &str, mode: u32) -> PathBuf {
            let file = self.folder.path().join("accounts.toml");
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            file
        }

        fn open(&self, text: &str, mode: u32) -> Result<Accounts, AccountsError> {
            Accounts::open(&self.write(text, mode), Arc::new(self.clock.clone()))
        }
    }

    fn enter(
        accounts: &Accounts,
        credentials: Credentials<'_>,
    ) -> Result<Arc<dyn Account>, Refused> {
        accounts.authenticate(&Caller {
            credentials: Some(credentials),
            local: false,
        })
    }

    #[test]
    fn the_sample_signature_of_rocketmq_is_accepted() {
        let signature = [
            0xB8, 0x96, 0x6B, 0x27, 0xFA, 0x36, 0xA8, 0x97, 0x63, 0x23, 0x66, 0xE2, 0x24, 0x92,
            0xE3, 0x5C, 0xE8, 0xBD, 0x51, 0x50,
        ];
        assert!(has_signed(b"SK", b"20261122T152808Z", &signature));
        assert!(!has_signed(b"SK", b"20261122T152809Z", &signature));
        assert!(!has_signed(b"SL", b"20261122T152808Z", &signature));
        assert!(!has_signed(b"SK", b"20261122T152808Z", &signature[..19]));
    }

    #[test]
    fn accounts_may_do_what_the_file_says() {
        let accounts = Rig::new().open(TEXT, 0o600).unwrap();
        let shop = enter(
            &accounts,
            Credentials::Password {
                name: "shop",
                secret: "s3cret-of-shop",
            },
        )
        .unwrap();
        let publish = |topic| Action::Publish { topic };
        let consume = |topic, group| Action::Consume { topic, group };
        for (action, allowed) in [
            (publish("orders"), true),
            (publish("audit-log"), true),
            (publish("orders2"), false),
            (consume("orders", "closer-1"), true),
            (consume("orders", "other"), false),
            (consume("audit-log", "closer-1"), false),
            (consume("%DLQ%closer-1", "closer-1"), true),
            (consume("%DLQ%other", "closer-1"), false),
            (Action::Route { topic: "orders" }, true),
            (Action::Route { topic: "audit-log" }, true),
            (
                Action::Route {
                    topic: "%DLQ%closer-1",
                },
                true,
            ),
            (
                Action::Route {
                    topic: "%DLQ%other",
                },
                false,
            ),
            (Action::Route { topic: "others" }, false),
            (Action::Join { group: "closer-1" }, true),
            (Action::Join { group: "other" }, false),
            (Action::Administer, false),
        ] {
            assert_eq!(shop.may(action), allowed, "{action:?}");
        }
        let operator = enter(&accounts, Credentials::Token("another-secret")).unwrap();
        assert!(operator.name() == "operator" && operator.may(Action::Administer));
        for wrong in [
            Credentials::Token("s3cret"),
            Credentials::Password {
                name: "shop",
                secret: "another-secret",
            },
            Credentials::Password {
                name: "unknown",
                secret: "there is no such account",
            },
            Credentials::Signature {
                name: "shop",
                signed: b"x",
                signature: b"y",
            },
        ] {
            assert_eq!(enter(&accounts, wrong).unwrap_err(), Refused::Wrong);
        }
    }

    #[test]
    fn patterns_cover_names_of_their_own_namespace() {
        for (pattern, name, covered) in [
            ("*", "dev%orders", true),
            ("orders", "dev%orders", false),
            ("dev%orders", "dev%orders", true),
            ("dev%orders", "orders", false),
            ("dev%*", "dev%orders", true),
            ("dev%*", "prod%orders", false),
            ("dev*", "dev%orders", false),
            ("dev*", "device", true),
            ("audit-*", "audit-log%orders", false),
            ("%DLQ%*", "%DLQ%closer", true),
            ("%DLQ%*", "%DLQ%dev%closer", false),
            ("%DLQ%dev%*", "%DLQ%dev%closer", true),
        ] {
            assert_eq!(matches_pattern(pattern, name), covered, "{pattern} {name}");
        }
    }

    #[test]
    fn readable_and_invalid_files_are_refused() {
        let error = |text: &str, mode| Rig::new().open(text, mode).unwrap_err().to_string();
        assert!(error(TEXT, 0o640).contains("chmod 600"));
        let cases = [
            ("[[account]]\nname = 'a'\nsecret = 'short'", "at least 8"),
            (
                "[[account]]\nname = 'a'\nsecret = '12345678'\n[[account]]\nname = 'a'\nsecret = '12345678'",
                "twice",
            ),
            (
                "[[account]]\nname = 'a/b'\nsecret = '12345678'",
                "must not be empty",
            ),
            (
                "[[account]]\nname = 'a'\nsecret = '12345678'\npublishes = []",
                "publishes",
            ),
            ("[[account]]\nname = 'a'\nsecret = hidden1234", "line 3"),
        ];
        for (text, expected) in cases {
            let error = error(text, 0o600);
            assert!(error.contains(expected), "{error}");
            assert!(
                !error.contains("hidden1234") && !error.contains("12345678"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_changed_file_is_used_at_once() {
        let rig = Rig::new();
        let accounts = rig.open(TEXT, 0o600).unwrap();
        assert!(enter(&accounts, Credentials::Token("new-secret-here")).is_err());
        rig.write(&TEXT.replace("another-secret", "new-secret-here"), 0o600);
        rig.clock.advance(2_000);
        assert!(enter(&accounts, Credentials::Token("new-secret-here")).is_ok());
        assert!(enter(&accounts, Credentials::Token("another-secret")).is_err());
    }

    #[test]
    fn files_of_any_content_are_read_or_refused() {
        let target = fuzz::Target::new(env!("CARGO_MANIFEST_DIR"), "accounts");
        let target = target
            .seed(TEXT)
            .tokens(&[
                "[[account]]",
                "[account]",
                "administer = ",
                "\"\"\"",
                "= [\"*\"]",
            ])
            .heap_bytes(1 << 20)
            .runs(3_000);
        target.check(|input| {
            let text = String::from_utf8_lossy(input);
            if let Ok(accounts) = parse(&text) {
                for account in accounts.by_name.into_values() {
                    account.may(Action::Publish { topic: "orders" });
                }
            }
        });
    }

    #[test]
    fn many_accounts_are_found_by_name_and_by_secret() {
        let account = |number: usize| {
            let secret = number / 2;
            format!("[[account]]\nname = \"a{number}\"\nsecret = \"secret-{secret}\"\n")
        };
        let text: String = (0..ACCOUNTS_MAX).map(account).collect();
        let rig = Rig::new();
        let accounts = rig.open(&text, 0o600).unwrap();
        for number in [0, 1, ACCOUNTS_MAX - 1] {
            let (name, secret) = (format!("a{number}"), format!("secret-{}", number / 2));
            let given = Credentials::Password {
                name: &name,
                secret: &secret,
            };
            assert_eq!(enter(&accounts, given).unwrap().name(), name);
            // Of two with one secret the last one.
            let found = enter(&accounts, Credentials::Token(&secret)).unwrap();
            assert_eq!(found.name(), format!("a{}", number / 2 * 2 + 1));
        }
        assert!(enter(&accounts, Credentials::Token("secret-")).is_err());
    }
}
