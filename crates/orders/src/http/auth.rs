//! Provides who calls: a merchant by its API key, or the operator from the machine itself.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts};
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Uri};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::ApiState;
use super::admission::MerchantPlace;
use super::problem::{Problem, ProblemKind};
use crate::ids::MerchantId;

/// Headers by which a proxy says that the caller is somebody else.
const FORWARDED: [HeaderName; 3] = [
    http::header::FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-real-ip"),
];

/// The hash of the operator's key; the key itself is not kept.
#[derive(Clone)]
pub struct OperatorKey([u8; 32]);

impl OperatorKey {
    /// The operator's key, as it will come after `Bearer`.
    pub fn new(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    fn fits(&self, token: &str) -> bool {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        // Hashes of equal length, compared in constant time: the answer's delay tells nothing of the key.
        bool::from(self.0.ct_eq(&hash))
    }
}

/// The merchant that calls, with its place among the requests under way.
pub(super) struct Merchant {
    /// Who calls.
    pub(super) id: MerchantId,
    _place: MerchantPlace,
}

/// The operator: somebody on this machine without a key, or with the operator's key.
pub(super) struct Operator;

/// A merchant, and whether it is the operator who calls; the operator acts for the merchant `default`.
pub(super) struct Caller {
    /// Whom the call is for.
    pub(super) merchant: Merchant,
    /// Whether the operator calls.
    pub(super) operator: bool,
}

/// A bearer token, or the proof that the caller is on this machine.
enum Credentials {
    Token(String),
    ThisMachine,
}

impl FromRequestParts<ApiState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let (id, operator) = match credentials(parts, state)? {
            Credentials::ThisMachine => (MerchantId::fallback(), true),
            Credentials::Token(token) if state.is_operator(&token) => {
                (MerchantId::fallback(), true)
            }
            Credentials::Token(token) => (state.merchant_of(&token).await?, false),
        };
        let place = state.admission().merchant(&id)?;
        let merchant = Merchant { id, _place: place };
        Ok(Self { merchant, operator })
    }
}

impl FromRequestParts<ApiState> for Merchant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, state).await?;
        Ok(caller.merchant)
    }
}

impl FromRequestParts<ApiState> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, state).await?;
        if caller.operator {
            return Ok(Self);
        }
        let merchant = caller.merchant.id;
        let detail = format!("the key is merchant {merchant}'s, not the operator's");
        Err(Problem::new(ProblemKind::Forbidden, detail))
    }
}

impl ApiState {
    fn is_operator(&self, token: &str) -> bool {
        self.settings()
            .operator_key
            .as_ref()
            .is_some_and(|key| key.fits(token))
    }

    async fn merchant_of(&self, token: &str) -> Result<MerchantId, Problem> {
        match self.platform().authenticate(token).await? {
            Some(merchant) => Ok(merchant),
            None => Err(unauthenticated("the API key is unknown or revoked")),
        }
    }
}

fn unauthenticated(detail: &str) -> Problem {
    Problem::new(ProblemKind::Unauthenticated, detail)
}

fn credentials(parts: &Parts, state: &ApiState) -> Result<Credentials, Problem> {
    if let Some(value) = parts.headers.get(AUTHORIZATION) {
        let text = value.to_str().unwrap_or_default();
        let token = text
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim());
        return match token {
            Some(token) if !token.is_empty() => Ok(Credentials::Token(token.to_owned())),
            _ => Err(unauthenticated(
                "the Authorization header is not `Bearer KEY`",
            )),
        };
    }
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let local = peer.is_some_and(|ConnectInfo(peer)| peer.ip().to_canonical().is_loopback());
    if !state.settings().trust_loopback || !local {
        return Err(unauthenticated("the request has no Authorization header"));
    }
    if is_from_elsewhere(&parts.headers, &parts.uri) {
        let detail =
            "the request was forwarded, or comes from a web page: it needs an Authorization header";
        return Err(unauthenticated(detail));
    }
    Ok(Credentials::ThisMachine)
}

/// Whether a request over loopback was really made by somebody else: through a proxy, or by a web page that a
/// browser on this machine shows (its Origin is foreign, or its Host is a name that was pointed here).
fn is_from_elsewhere(headers: &HeaderMap, uri: &Uri) -> bool {
    if FORWARDED.iter().any(|name| headers.contains_key(name)) {
        return true;
    }
    let host = match headers.get(HOST) {
        Some(value) => value.to_str().unwrap_or("?").to_owned(),
        None => uri
            .authority()
            .map_or_else(String::new, ToString::to_string),
    };
    if !host.is_empty() && !is_this_machine(&host) {
        return true;
    }
    headers.get(ORIGIN).is_some_and(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        let host = origin.split_once("://").map(|(_, host)| host);
        !host.is_some_and(is_this_machine)
    })
}

/// Whether `host`, with or without a port, names the loopback interface.
fn is_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let loopback = address
        .parse::<std::net::IpAddr>()
        .is_ok_and(|address| address.is_loopback());
    loopback || name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elsewhere(headers: &[(&'static str, &'static str)]) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        is_from_elsewhere(&headers, &Uri::from_static("/v1/orders"))
    }

    #[test]
    fn web_pages_and_proxies_are_told_from_local_callers() {
        for local in [
            "127.0.0.1:8080",
            "localhost",
            "LOCALHOST:1",
            "[::1]:80",
            "127.9.9.9",
        ] {
            assert!(!elsewhere(&[("host", local)]), "{local}");
        }
        for foreign in [
            "shop.example",
            "127.0.0.1.example:80",
            "10.0.0.1",
            "[::2]:80",
        ] {
            assert!(elsewhere(&[("host", foreign)]), "{foreign}");
        }
        let host = ("host", "127.0.0.1:8080");
        assert!(!elsewhere(&[host, ("origin", "http://localhost:3000")]));
        assert!(elsewhere(&[host, ("origin", "https://shop.example")]));
        assert!(elsewhere(&[host, ("origin", "null")]));
        assert!(elsewhere(&[host, ("x-forwarded-for", "9.9.9.9")]));
        assert!(elsewhere(&[host, ("forwarded", "for=9.9.9.9")]));
    }

    #[test]
    fn the_operators_key_fits_itself_alone() {
        let key = OperatorKey::new("s3cret");
        assert!(key.fits("s3cret"));
        assert!(!key.fits("s3cret "));
        assert!(!key.fits(""));
    }
}
