//! Defines the configuration of a client: endpoints, TLS, credentials.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use grpc_api::v2::{Address, AddressScheme, Endpoints};

use crate::error::Error;
use crate::tls::Tls;

/// The port of an endpoint that names none.
const PORT: u16 = 8081;
/// Default time limit of a call.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// The server's endpoints, and how a client connects to them.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) addresses: Vec<HostPort>,
    pub(crate) tls: Tls,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) namespace: String,
    pub(crate) request_timeout: Duration,
}

impl Config {
    /// A configuration for one or several endpoints, such as `127.0.0.1:8081` or `a.example:8081;b.example:8081`.
    ///
    /// The default port is 8081; an IPv6 address is written in brackets. Several endpoints belong to the same server:
    /// the next is tried when one does not respond. The prefix `https://` turns TLS on for all of them, with
    /// [`Tls::System`] unless [`Config::with_tls`] says otherwise; without it connections are in clear text.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the text is no list of endpoints.
    pub fn new(endpoints: &str) -> Result<Self, Error> {
        let (tls, endpoints) = match endpoints.split_once("://") {
            Some(("https", rest)) => (Tls::System, rest),
            Some(("http", rest)) => (Tls::Off, rest),
            Some((scheme, _)) => {
                return Err(Error::Invalid(format!(
                    "an endpoint begins with http:// or https://, not with {scheme}://"
                )));
            }
            None => (Tls::Off, endpoints),
        };
        let addresses = endpoints
            .split([';', ','])
            .map(|address| address.trim().parse())
            .collect::<Result<_, _>>()?;
        Ok(Self {
            addresses,
            tls,
            credentials: None,
            namespace: String::new(),
            request_timeout: REQUEST_TIMEOUT,
        })
    }

    /// Sets TLS, whatever prefix the endpoints have.
    #[must_use]
    pub fn with_tls(self, tls: Tls) -> Self {
        Self { tls, ..self }
    }

    /// Sets the account: its access key and its secret key.
    #[must_use]
    pub fn with_credentials(self, access_key: &str, secret_key: &str) -> Self {
        Self {
            credentials: Some(Credentials {
                access_key: access_key.to_owned(),
                secret_key: secret_key.to_owned(),
            }),
            ..self
        }
    }

    /// Sets the namespace; the default is the empty one, the only one Duetime has.
    #[must_use]
    pub fn with_namespace(self, namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            ..self
        }
    }

    /// Sets the time limit of a call, 3 s by default; the long-polling time of a receive is added to it.
    #[must_use]
    pub fn with_request_timeout(self, request_timeout: Duration) -> Self {
        Self {
            request_timeout,
            ..self
        }
    }
}

/// Name and secret of an account.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Credentials")
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HostPort {
    /// A name or an address, an IPv6 address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for HostPort {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Invalid(format!("{text:?} is no endpoint, such as 127.0.0.1:8081"));
        let port_of = |text: &str| text.parse().map_err(|_| wrong());
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => match rest.split_once(']').ok_or_else(wrong)? {
                (host, "") => (host, PORT),
                (host, rest) => (host, port_of(rest.strip_prefix(':').ok_or_else(wrong)?)?),
            },
            None => match text.split_once(':') {
                Some((host, port)) => (host, port_of(port)?),
                None => (text, PORT),
            },
        };
        if host.is_empty() || host.contains(['/', ' ', '[', '@']) {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

/// The protocol form of addresses.
pub(crate) fn endpoints(addresses: &[HostPort]) -> Endpoints {
    let scheme = match addresses.first().map(|address| address.host.parse()) {
        Some(Ok(std::net::IpAddr::V4(_))) => AddressScheme::IPv4,
        Some(Ok(std::net::IpAddr::V6(_))) => AddressScheme::IPv6,
        _ => AddressScheme::DomainName,
    };
    let address = |address: &HostPort| Address {
        host: address.host.clone(),
        port: i32::from(address.port),
    };
    Endpoints {
        scheme: scheme.into(),
        addresses: addresses.iter().map(address).collect(),
    }
}

/// The addresses in the protocol form; invalid ones are left out.
pub(crate) fn addresses(endpoints: &Endpoints) -> Vec<HostPort> {
    let address = |address: &Address| {
        let port = u16::try_from(address.port).ok().filter(|port| *port > 0)?;
        (!address.host.is_empty()).then(|| HostPort {
            host: address.host.clone(),
            port,
        })
    };
    endpoints.addresses.iter().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_go_there_and_back() {
        for (text, expected) in [
            ("127.0.0.1:8081", &["127.0.0.1:8081"][..]),
            ("a.example;b.example:1", &["a.example:8081", "b.example:1"]),
            ("[::1]:7,[::1]", &["[::1]:7", "[::1]:8081"]),
        ] {
            let config = Config::new(text).unwrap();
            let texts: Vec<_> = config.addresses.iter().map(ToString::to_string).collect();
            assert_eq!(texts, expected);
            assert_eq!(addresses(&endpoints(&config.addresses)), config.addresses);
            assert!(matches!(config.tls, Tls::Off));
        }
        assert!(matches!(Config::new("https://a").unwrap().tls, Tls::System));
        for text in ["", "a:b", ":1", "ftp://a", "a:70000", "[::1", "a;", "a/b"] {
            assert!(
                matches!(Config::new(text), Err(Error::Invalid(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let config = Config::new("a").unwrap().with_credentials("me", "hidden");
        let shown = format!("{config:?}");
        assert!(shown.contains("me") && !shown.contains("hidden"));
    }
}
