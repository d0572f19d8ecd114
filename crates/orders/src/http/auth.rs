//! Authenticates the caller: a merchant by its API key, or the operator by its key or by a local connection.

use axum::extract::FromRequestParts;
use edge::caller::Caller as Origin;
use http::header::AUTHORIZATION;
use http::request::Parts;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::ApiState;
use super::admission::MerchantPlace;
use super::problem::{Problem, ProblemKind};
use crate::ids::MerchantId;

/// The hash of the operator's key; the key itself is not kept.
#[derive(Clone)]
pub struct OperatorKey([u8; 32]);

impl OperatorKey {
    /// Hashes the operator's key; requests send the key after `Bearer`.
    pub fn new(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    fn fits(&self, token: &str) -> bool {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        // Hashes of equal length are compared in constant time, so that the delay of the answer reveals nothing about
        // the key.
        bool::from(self.0.ct_eq(&hash))
    }
}

/// The calling merchant, counted among its requests under way.
pub(super) struct Merchant {
    /// The caller.
    pub(super) id: MerchantId,
    _place: MerchantPlace,
}

/// The operator: a caller on this machine without a key, or any caller with the operator's key.
pub(super) struct Operator;

/// A merchant, and whether the caller is the operator; the operator acts for the merchant `default`.
pub(super) struct Caller {
    /// The merchant of the call.
    pub(super) merchant: Merchant,
    /// Whether the caller is the operator.
    pub(super) operator: bool,
}

/// A bearer token, or that the caller is on this machine.
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
    match Origin::of(parts) {
        Origin::Local if state.settings().trust_loopback => Ok(Credentials::ThisMachine),
        Origin::Indirect if state.settings().trust_loopback => Err(unauthenticated(
            "the request was forwarded, or comes from a web page: it needs an Authorization header",
        )),
        _ => Err(unauthenticated("the request has no Authorization header")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_key_fits_itself_alone() {
        let key = OperatorKey::new("s3cret");
        assert!(key.fits("s3cret"));
        assert!(!key.fits("s3cret "));
        assert!(!key.fits(""));
    }
}
