//! Reads the headers of a call: authenticates the caller, detects its dialect, reads its deadline.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use grpc_api::v2::{Code, Status};
use tonic::metadata::MetadataMap;

use super::connection::Connection;
use super::limits::CLIENT_ID_BYTES_MAX;
use super::status::Problem;
use crate::access::{Account, Action, Authenticate, Caller, Credentials, Refused};

const CLIENT_ID: &str = "x-mq-client-id";
const LANGUAGE: &str = "x-mq-language";
const CLIENT_VERSION: &str = "x-mq-client-version";
const DATE_TIME: &str = "x-mq-date-time";
const NAMESPACE: &str = "x-mq-namespace";
const AUTHORIZATION: &str = "authorization";
const TIMEOUT: &str = "grpc-timeout";
/// The scheme of an `authorization` header of RocketMQ.
const SCHEME: &str = "MQv2-HMAC-SHA1";

/// Who may call the front end.
#[derive(Clone, Debug)]
pub enum Access {
    /// Every caller may do everything; credentials are not checked.
    Open,
    /// Callers with an account, within its permissions.
    Accounts(Arc<dyn Authenticate>),
}

/// A client: the account it comes with, and the id it gives itself, which another account may use too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClientKey {
    /// A NUL separates account and id: no header holds one.
    text: Arc<str>,
}

impl ClientKey {
    /// The client `id` of an account; the account is empty where there are none.
    pub(crate) fn new(account: &str, id: &str) -> Self {
        Self {
            text: format!("{account}\0{id}").into(),
        }
    }

    /// The id the client gives itself.
    pub(crate) fn id(&self) -> &str {
        self.text.rsplit('\0').next().unwrap_or_default()
    }

    /// Returns whether the client sends no id, so that it cannot be distinguished from others.
    pub(crate) fn is_nameless(&self) -> bool {
        self.text.ends_with('\0')
    }
}

/// The caller of one call.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// The client; without an id if it says none.
    pub(crate) client: ClientKey,
    /// Its address, if that is known.
    pub(crate) remote: Option<SocketAddr>,
    /// The connection of the call, which puts itself into every request.
    pub(crate) connection: Weak<Connection>,
    /// Where the names of its resources are that have no namespace of their own; empty if it says none.
    pub(super) namespace: Box<str>,
    account: Option<Arc<dyn Account>>,
}

impl Peer {
    /// Authenticates the caller.
    pub(crate) fn of<T>(request: &tonic::Request<T>, access: &Access) -> Result<Self, Problem> {
        let metadata = request.metadata();
        let connection = request.extensions().get::<Arc<Connection>>();
        let remote = connection.map(|connection| connection.remote);
        let client_id = text(metadata, CLIENT_ID).unwrap_or_default().trim();
        if client_id.len() > CLIENT_ID_BYTES_MAX {
            let message = format!(
                "the client id has {} bytes; at most {CLIENT_ID_BYTES_MAX} are allowed",
                client_id.len()
            );
            return Err(Problem::new(Code::RequestHeaderFieldsTooLarge, message));
        }
        let account = match access {
            Access::Open => None,
            Access::Accounts(accounts) => Some(authenticate(metadata, accounts.as_ref())?),
        };
        let name = account.as_ref().map_or("", |account| account.name());
        Ok(Self {
            client: ClientKey::new(name, client_id),
            remote,
            connection: connection.map(Arc::downgrade).unwrap_or_default(),
            namespace: text(metadata, NAMESPACE).unwrap_or_default().trim().into(),
            account,
        })
    }

    /// Refuses a client without an id.
    pub(crate) fn identified(&self) -> Result<(), Problem> {
        if self.client.is_nameless() {
            let message = format!("the header {CLIENT_ID} is missing or blank");
            return Err(Problem::new(Code::ClientIdRequired, message));
        }
        Ok(())
    }

    pub(crate) fn may_publish(&self, topic: &str) -> Result<(), Problem> {
        self.may(Action::Publish { topic }, || {
            format!("send to topic {topic:?}")
        })
    }

    pub(crate) fn may_consume(&self, topic: &str, group: &str) -> Result<(), Problem> {
        self.may(Action::Consume { topic, group }, || {
            format!("receive from topic {topic:?} as a member of group {group:?}")
        })
    }

    pub(crate) fn may_route(&self, topic: &str) -> Result<(), Problem> {
        self.may(Action::Route { topic }, || {
            format!("send to topic {topic:?}, nor receive from it")
        })
    }

    pub(crate) fn may_join(&self, group: &str) -> Result<(), Problem> {
        self.may(Action::Join { group }, || {
            format!("be a member of group {group:?}")
        })
    }

    fn may(&self, action: Action<'_>, describe: impl FnOnce() -> String) -> Result<(), Problem> {
        match &self.account {
            Some(account) if !account.may(action) => Err(Problem::new(
                Code::Unauthorized,
                format!("account {:?} may not {}", account.name(), describe()),
            )),
            _ => Ok(()),
        }
    }
}

fn text<'a>(metadata: &'a MetadataMap, name: &str) -> Option<&'a str> {
    metadata.get(name).and_then(|value| value.to_str().ok())
}

fn authenticate(
    metadata: &MetadataMap,
    accounts: &dyn Authenticate,
) -> Result<Arc<dyn Account>, Problem> {
    let refused = |refused: Refused| Problem::new(Code::Unauthorized, refused.to_string());
    let header = text(metadata, AUTHORIZATION).and_then(Authorization::read);
    let signed = metadata
        .get(DATE_TIME)
        .map(tonic::metadata::MetadataValue::as_encoded_bytes);
    let credentials = match (&header, signed) {
        (Some(header), Some(signed)) if !header.name.is_empty() => Some(Credentials::Signature {
            name: header.name,
            signed,
            signature: &header.signature,
        }),
        _ => None,
    };
    let caller = Caller {
        credentials,
        local: false,
    };
    accounts.authenticate(&caller).map_err(refused)
}

/// An `authorization` header of RocketMQ.
#[derive(Debug, PartialEq, Eq)]
struct Authorization<'a> {
    name: &'a str,
    signature: Vec<u8>,
}

impl<'a> Authorization<'a> {
    /// `MQv2-HMAC-SHA1 Credential=NAME[/...], SignedHeaders=x-mq-date-time, Signature=HEX`
    fn read(header: &'a str) -> Option<Self> {
        let (scheme, fields) = header.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return None;
        }
        let field = |wanted: &str| {
            fields
                .split(',')
                .filter_map(|field| field.trim().split_once('='))
                .find_map(|(name, value)| (name == wanted).then_some(value))
        };
        let name = field("Credential")?.split('/').next()?;
        Some(Self {
            name,
            signature: from_hex(field("Signature")?)?,
        })
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|digit| {
            digit
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        })
        .collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    let pairs = digits.chunks_exact(2);
    Some(
        pairs
            .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
            .collect(),
    )
}

/// What a client supports: one released client panics at a code it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Current,
    /// The crate `rocketmq` 5.0.0.
    Rust500,
}

impl Dialect {
    pub(crate) fn of(metadata: &MetadataMap) -> Self {
        let is = |name, value: &str| text(metadata, name) == Some(value);
        if is(LANGUAGE, "RUST") && is(CLIENT_VERSION, "5.0.0") {
            Self::Rust500
        } else {
            Self::Current
        }
    }

    /// Converts a problem to a status with a code that the client knows.
    pub(crate) fn status(self, problem: Problem) -> Status {
        let code = match (self, problem.code) {
            (
                Self::Rust500,
                Code::IllegalOffset
                | Code::IllegalLiteTopic
                | Code::InvalidClientProperties
                | Code::MessageBodyEmpty,
            ) => Code::BadRequest,
            (_, code) => code,
        };
        Status {
            code: code.into(),
            message: problem.message,
        }
    }
}

/// Returns how long the client waits for the answer, if it sends that.
pub(crate) fn deadline(metadata: &MetadataMap) -> Option<Duration> {
    read_timeout(text(metadata, TIMEOUT)?)
}

/// Reads a text as each of the headers with a format of their own.
#[cfg(test)]
pub(super) fn read_any(text: &str) {
    let _ = (Authorization::read(text), read_timeout(text));
}

/// At most eight digits and a unit.
fn read_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3_600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorizations_of_all_clients_are_read() {
        for (header, name) in [
            (
                "MQv2-HMAC-SHA1 Credential=AK, SignedHeaders=x-mq-date-time, Signature=0aFF",
                "AK",
            ),
            (
                "MQv2-HMAC-SHA1 Credential=AK//Rocketmq, SignedHeaders=x-mq-date-time, Signature=0AFf",
                "AK",
            ),
            ("MQv2-HMAC-SHA1 Credential=,Signature=0aff", ""),
        ] {
            let read = Authorization::read(header).expect(header);
            assert_eq!((read.name, read.signature), (name, vec![0x0a, 0xff]));
        }
        for header in [
            "",
            "Basic abc",
            "MQv2-HMAC-SHA1 Credential=AK",
            "MQv2-HMAC-SHA1 Credential=AK,Signature=0",
            "MQv2-HMAC-SHA1 Credential=AK,Signature=zz",
        ] {
            assert_eq!(Authorization::read(header), None, "{header}");
        }
    }

    #[test]
    fn timeouts_are_read_in_every_unit() {
        for (text, wait) in [
            ("3S", Some(Duration::from_secs(3))),
            ("23000m", Some(Duration::from_secs(23))),
            ("99999999H", Some(Duration::from_hours(99_999_999))),
            ("5000000u", Some(Duration::from_secs(5))),
            ("1n", Some(Duration::from_nanos(1))),
            ("", None),
            ("S", None),
            ("-1S", None),
            ("123456789S", None),
            ("1\u{e9}", None),
        ] {
            assert_eq!(read_timeout(text), wait, "{text}");
        }
    }

    #[test]
    fn the_client_that_panics_at_new_codes_gets_old_ones() {
        let problem = Problem::new(Code::MessageBodyEmpty, "the body is empty");
        assert_eq!(Dialect::Current.status(problem.clone()).code, 41302);
        assert_eq!(Dialect::Rust500.status(problem).code, 40000);
    }
}
