//! Decides whether a caller without credentials is local: a program on this machine, and no web page or proxy.
//!
//! A connection over loopback does not prove that. A proxy on this machine forwards the requests of others, and a
//! browser on
//! this machine sends the requests of any web page it shows. So a request is local only if none of its headers
//! indicates a proxy or another origin.

use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use http::header::{FORWARDED, HOST, ORIGIN, VIA};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Uri, Version};

/// Headers that proxies and content delivery networks add.
const PROXY_HEADERS: [HeaderName; 13] = [
    FORWARDED,
    VIA,
    HeaderName::from_static("x-forwarded"),
    HeaderName::from_static("forwarded-for"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-client-ip"),
    HeaderName::from_static("client-ip"),
    HeaderName::from_static("x-cluster-client-ip"),
    HeaderName::from_static("x-envoy-external-address"),
    HeaderName::from_static("true-client-ip"),
    HeaderName::from_static("fastly-client-ip"),
    HeaderName::from_static("fly-client-ip"),
    HeaderName::from_static("cdn-loop"),
];
/// Prefixes of the names of further such headers.
const PROXY_PREFIXES: [&str; 3] = ["x-forwarded-", "x-original-", "cf-"];
/// Values of `Sec-Fetch-Site` with which a request may change something.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const OWN_SITES: [&str; 2] = ["same-origin", "none"];

/// What carries the connection of a request; an extension of the request, clear text if it is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// Clear text.
    #[default]
    Clear,
    /// TLS.
    Tls,
}

impl Transport {
    fn scheme(self) -> &'static str {
        match self {
            Self::Clear => "http",
            Self::Tls => "https",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Clear => 80,
            Self::Tls => 443,
        }
    }
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A program on this machine.
    Local,
    /// Over loopback, but through a proxy or from a web page.
    Indirect,
    /// Another machine.
    Remote,
}

impl Caller {
    /// Returns the caller of a request; the server puts the address of the peer into the extensions.
    pub fn of(parts: &Parts) -> Self {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let loopback = peer.is_some_and(|ConnectInfo(peer)| peer.ip().to_canonical().is_loopback());
        if !loopback {
            return Self::Remote;
        }
        let transport = parts.extensions.get().copied().unwrap_or_default();
        // nginx forwards with HTTP/1.0 and no other sign unless it is set up otherwise; no program of today speaks it.
        let direct = parts.version >= Version::HTTP_11
            && !is_proxied(&parts.headers)
            && is_own_site(&parts.method, &parts.headers)
            && is_own_origin(&parts.headers, &parts.uri, transport);
        if direct { Self::Local } else { Self::Indirect }
    }
}

/// Returns whether any header shows that a proxy handled the request.
fn is_proxied(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| {
        PROXY_HEADERS.contains(name)
            || PROXY_PREFIXES
                .iter()
                .any(|prefix| name.as_str().starts_with(prefix))
    })
}

/// Returns whether a browser sends the request from a page of this server, or does not say; a GET changes nothing and
/// may come from
/// anywhere.
fn is_own_site(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::GET
        || headers
            .get_all(FETCH_SITE)
            .iter()
            .all(|value| OWN_SITES.iter().any(|site| value == site))
}

/// Returns whether the requested host is this machine, and the page that made the request, if any, was served by it on
/// the same port.
///
/// The host is checked because any name can be pointed at this machine: a page of that name would be of its own origin.
fn is_own_origin(headers: &HeaderMap, uri: &Uri, transport: Transport) -> bool {
    let authority = uri.authority().map(http::uri::Authority::as_str);
    let mut hosts = Vec::new();
    for host in headers.get_all(HOST) {
        let Ok(host) = host.to_str() else {
            return false;
        };
        hosts.push(host);
    }
    hosts.extend(authority);
    let port = transport.default_port();
    let Some(hosts) = hosts
        .into_iter()
        .map(|host| Host::read(host, port))
        .collect::<Option<Vec<_>>>()
    else {
        return false;
    };
    let own = hosts.first();
    if !hosts
        .iter()
        .all(|host| host.is_loopback() && Some(host) == own)
    {
        return false;
    }
    headers.get_all(ORIGIN).iter().all(|origin| {
        let origin = origin.to_str().ok().and_then(|text| text.split_once("://"));
        origin.is_some_and(|(scheme, host)| {
            scheme.eq_ignore_ascii_case(transport.scheme())
                && own.is_some()
                && Host::read(host, port).as_ref() == own
        })
    })
}

/// A host and its port, as a `Host` header or an origin names it.
#[derive(Debug, PartialEq, Eq)]
struct Host {
    /// In lower case; an IPv6 address without its brackets.
    name: String,
    port: u16,
}

impl Host {
    /// Reads `name`, `name:port`, `[address]` or `[address]:port`.
    fn read(text: &str, default_port: u16) -> Option<Self> {
        let (name, port) = if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']')?;
            let address: std::net::Ipv6Addr = address.parse().ok()?;
            (address.to_string(), port)
        } else {
            let end = text.find(':').unwrap_or(text.len());
            let (name, port) = text.split_at(end);
            (name.to_ascii_lowercase(), port)
        };
        let port = match port.strip_prefix(':') {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok()?
            }
            None if port.is_empty() => default_port,
            _ => return None,
        };
        (!name.is_empty()).then_some(Self { name, port })
    }

    /// Whether it names the loopback interface.
    fn is_loopback(&self) -> bool {
        let address = self.name.parse::<IpAddr>();
        self.name == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    const HERE: &str = "127.0.0.1:40000";

    fn caller(peer: &str, method: Method, headers: &[(&'static str, &str)]) -> Caller {
        caller_on(Transport::Clear, peer, method, headers)
    }

    fn caller_on(
        transport: Transport,
        peer: &str,
        method: Method,
        headers: &[(&'static str, &str)],
    ) -> Caller {
        let mut request = Request::builder().method(method).uri("/v1/orders");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let peer: SocketAddr = peer.parse().unwrap();
        parts.extensions.insert(ConnectInfo(peer));
        parts.extensions.insert(transport);
        Caller::of(&parts)
    }

    fn post(headers: &[(&'static str, &str)]) -> Caller {
        caller(HERE, Method::POST, headers)
    }

    #[test]
    fn only_a_peer_on_loopback_is_local() {
        for (peer, expected) in [
            (HERE, Caller::Local),
            ("127.9.9.9:1", Caller::Local),
            ("[::1]:1", Caller::Local),
            ("[::ffff:127.0.0.1]:1", Caller::Local),
            ("192.0.2.7:1", Caller::Remote),
            ("[2001:db8::1]:1", Caller::Remote),
        ] {
            let found = caller(peer, Method::POST, &[("host", "localhost")]);
            assert_eq!(found, expected, "{peer}");
        }
    }

    #[test]
    fn a_request_of_an_old_version_comes_from_a_proxy() {
        let request = Request::builder().version(Version::HTTP_10);
        let (mut parts, ()) = request
            .header("host", "localhost")
            .body(())
            .unwrap()
            .into_parts();
        parts
            .extensions
            .insert(ConnectInfo::<SocketAddr>(HERE.parse().unwrap()));
        assert_eq!(Caller::of(&parts), Caller::Indirect);
        parts.version = Version::HTTP_11;
        assert_eq!(Caller::of(&parts), Caller::Local);
    }

    #[test]
    fn a_request_without_a_peer_is_remote() {
        let (parts, ()) = Request::new(()).into_parts();
        assert_eq!(Caller::of(&parts), Caller::Remote);
    }

    #[test]
    fn the_host_has_to_be_this_machine() {
        for host in [
            "127.0.0.1:8080",
            "localhost",
            "LOCALHOST:1",
            "[::1]:80",
            "[::1]",
            "127.9.9.9",
        ] {
            assert_eq!(post(&[("host", host)]), Caller::Local, "{host}");
        }
        for host in [
            "shop.example",
            "127.0.0.1.example:80",
            "localhost.",
            "10.0.0.1",
            "[::2]:80",
            "[::1",
            "::1",
            "localhost:",
            "localhost:+80",
            "localhost:99999",
            "user@localhost",
            "",
        ] {
            assert_eq!(post(&[("host", host)]), Caller::Indirect, "{host}");
        }
        // HTTP/1.0 has no Host, and no browser speaks it.
        assert_eq!(post(&[]), Caller::Local);
        let two = [("host", "localhost"), ("host", "shop.example")];
        assert_eq!(post(&two), Caller::Indirect);
    }

    #[test]
    fn the_authority_of_http_2_is_checked_like_the_host() {
        for (uri, host, expected) in [
            ("http://localhost:8080/", None, Caller::Local),
            (
                "http://localhost:8080/",
                Some("localhost:8080"),
                Caller::Local,
            ),
            ("http://shop.example/", None, Caller::Indirect),
            (
                "http://localhost:8080/",
                Some("localhost:8081"),
                Caller::Indirect,
            ),
            ("http://shop.example/", Some("localhost"), Caller::Indirect),
        ] {
            let mut request = Request::builder().uri(uri);
            if let Some(host) = host {
                request = request.header(HOST, host);
            }
            let (mut parts, ()) = request.body(()).unwrap().into_parts();
            let peer: SocketAddr = HERE.parse().unwrap();
            parts.extensions.insert(ConnectInfo(peer));
            assert_eq!(Caller::of(&parts), expected, "{uri} {host:?}");
        }
    }

    #[test]
    fn an_origin_has_to_be_that_of_the_host() {
        let own = [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("LOCALHOST:8080", "HTTP://localhost:8080"),
            ("localhost", "http://localhost"),
            ("localhost", "http://localhost:80"),
            ("[::1]:8080", "http://[::1]:8080"),
        ];
        let other = [
            // Another port is another server on this machine.
            ("127.0.0.1:8080", "http://localhost:3000"),
            ("localhost:8080", "http://localhost:3000"),
            ("localhost:8080", "http://localhost"),
            // Another name is another origin.
            ("127.0.0.1:8080", "http://localhost:8080"),
            // The scheme is that of the connection.
            ("localhost:8080", "https://localhost:8080"),
            ("localhost", "chrome-extension://localhost"),
            ("127.0.0.1:8080", "https://shop.example"),
            ("127.0.0.1:8080", "http://shop.example"),
            ("localhost:8080", "http://localhost:8080/"),
            ("localhost:8080", "null"),
            ("localhost:8080", ""),
        ];
        for (pairs, expected) in [(&own[..], Caller::Local), (&other[..], Caller::Indirect)] {
            for (host, origin) in pairs {
                for method in [Method::GET, Method::POST] {
                    let found = caller(HERE, method, &[("host", host), ("origin", origin)]);
                    assert_eq!(found, expected, "{host} {origin}");
                }
            }
        }
        let alone = post(&[("origin", "http://localhost")]);
        assert_eq!(alone, Caller::Indirect, "no Host to compare it with");
        let twice = [
            ("origin", "http://localhost"),
            ("origin", "http://a.example"),
        ];
        let host = ("host", "localhost");
        assert_eq!(post(&[host, twice[0], twice[1]]), Caller::Indirect);
    }

    #[test]
    fn an_origin_inside_tls_is_https() {
        for (host, origin, expected) in [
            ("localhost", "https://localhost:443", Caller::Local),
            ("localhost:8080", "https://localhost:8080", Caller::Local),
            ("localhost:8080", "http://localhost:8080", Caller::Indirect),
            ("localhost", "https://localhost:80", Caller::Indirect),
        ] {
            let headers = [("host", host), ("origin", origin)];
            let found = caller_on(Transport::Tls, HERE, Method::POST, &headers);
            assert_eq!(found, expected, "{host} {origin}");
        }
    }

    #[test]
    fn another_site_may_only_get() {
        for (site, of_get, of_others) in [
            ("same-origin", Caller::Local, Caller::Local),
            ("none", Caller::Local, Caller::Local),
            ("same-site", Caller::Local, Caller::Indirect),
            ("cross-site", Caller::Local, Caller::Indirect),
            ("", Caller::Local, Caller::Indirect),
            ("new-value", Caller::Local, Caller::Indirect),
        ] {
            let headers = [("host", "localhost"), ("sec-fetch-site", site)];
            assert_eq!(caller(HERE, Method::GET, &headers), of_get, "{site}");
            for method in [
                Method::HEAD,
                Method::POST,
                Method::PUT,
                Method::DELETE,
                Method::PATCH,
            ] {
                let found = caller(HERE, method.clone(), &headers);
                assert_eq!(found, of_others, "{method} {site}");
            }
        }
    }

    #[test]
    fn a_request_through_a_proxy_is_never_local() {
        for name in [
            "forwarded",
            "via",
            "x-forwarded",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-forwarded-anything",
            "x-original-host",
            "x-original-url",
            "x-real-ip",
            "x-client-ip",
            "true-client-ip",
            "cf-connecting-ip",
        ] {
            for method in [Method::GET, Method::POST] {
                let headers = [("host", "localhost"), (name, "127.0.0.1")];
                assert_eq!(caller(HERE, method, &headers), Caller::Indirect, "{name}");
            }
        }
    }

    #[test]
    fn hosts_of_any_content_are_read_or_refused() {
        let target = fuzz::Target::new(env!("CARGO_MANIFEST_DIR"), "host");
        let target = target.seed("localhost:8080").seed("[::1]:443").tokens(&[
            "[::ffff:127.0.0.1]",
            "]:",
            ":65536",
        ]);
        target.check(|input| {
            if let Ok(text) = std::str::from_utf8(input) {
                let _ = Host::read(text, 80).map(|host| host.is_loopback());
            }
        });
    }
}
