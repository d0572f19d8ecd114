//! Authenticates the caller: a merchant by its API key, or the operator by its key or by a local connection.

use axum::extract::FromRequestParts;
use edge::caller::Caller as Origin;
use http::Method;
use http::header::AUTHORIZATION;
use http::request::Parts;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::ApiState;
use super::admission::MerchantPlace;
use super::problem::{Problem, ProblemKind};
use crate::ids::MerchantId;
use crate::model::audit::Who;
use crate::model::merchant::{KeyHolder, Scope};
use crate::platform::Platform;

/// The header with which the operator names the merchant to act for.
const MERCHANT_HEADER: &str = "duetime-merchant";
/// The header with which an operator gives a name for the audit trail.
const OPERATOR_HEADER: &str = "duetime-operator";
/// The longest name of an operator, in bytes.
const OPERATOR_NAME_MAX: usize = 64;

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
///
/// Its key must have the scope `read` for a GET, `write` otherwise.
pub(super) struct Merchant {
    /// The caller.
    pub(super) id: MerchantId,
    /// The platform, which records what is done as the caller's.
    pub(super) platform: Platform,
    _place: MerchantPlace,
}

/// A merchant whose key has the scope `refund`.
pub(super) struct Refunder(pub(super) Merchant);

/// A merchant whose key has the scope `admin`.
pub(super) struct Admin(pub(super) Merchant);

/// The operator: a caller on this machine without a key, or any caller with the operator's key.
pub(super) struct Operator {
    /// The platform, which records what is done as the operator's.
    pub(super) platform: Platform,
}

/// A merchant, and whether the caller is the operator, who acts for the merchant that the request names, or for `default`.
pub(super) struct Caller {
    /// The merchant of the call.
    pub(super) merchant: Merchant,
    /// Whether the caller is the operator.
    pub(super) operator: bool,
}

/// A caller whose key, if it is a merchant, has the scope `admin`.
pub(super) struct AdminCaller(pub(super) Caller);

/// A bearer token, or that the caller is on this machine.
enum Credentials {
    Token(String),
    ThisMachine,
}

impl Caller {
    /// The caller of the request, if its key has the scope.
    async fn of(parts: &Parts, state: &ApiState, scope: Scope) -> Result<Self, Problem> {
        let named = named_merchant(parts)?;
        let holder = match credentials(parts, state)? {
            Credentials::ThisMachine => None,
            Credentials::Token(token) if state.is_operator(&token) => None,
            Credentials::Token(token) => Some(state.holder_of(&token).await?),
        };
        let (id, who, operator) = match holder {
            Some(holder) => {
                check_scope(&holder, scope)?;
                if named.is_some_and(|named| named != holder.merchant_id) {
                    let detail = "only the operator acts for other merchants";
                    return Err(Problem::new(ProblemKind::Forbidden, detail));
                }
                let who = Who::new(&holder.key_id.to_string());
                (holder.merchant_id, who, false)
            }
            None => (
                state.merchant_acted_for(named).await?,
                operator_of(parts)?,
                true,
            ),
        };
        let place = state.admission().merchant(&id)?;
        let merchant = Merchant {
            id,
            platform: state.platform().acting(&who),
            _place: place,
        };
        Ok(Self { merchant, operator })
    }
}

/// The scope that a request needs if nothing else is said.
fn usual_scope(method: &Method) -> Scope {
    if *method == Method::GET || *method == Method::HEAD {
        Scope::Read
    } else {
        Scope::Write
    }
}

fn check_scope(holder: &KeyHolder, scope: Scope) -> Result<(), Problem> {
    if holder.scopes.contains(scope) {
        return Ok(());
    }
    let has: Vec<_> = holder.scopes.iter().map(Scope::as_str).collect();
    let detail = format!(
        "key {} has no scope `{}`, only {}",
        holder.key_id,
        scope.as_str(),
        has.join(", ")
    );
    Err(Problem::new(ProblemKind::MissingScope, detail))
}

/// The value of a header, if the request has it.
fn header<'a>(parts: &'a Parts, name: &'static str) -> Result<Option<&'a str>, Problem> {
    let Some(value) = parts.headers.get(name) else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(malformed(name, "it has characters that are not ASCII")),
    }
}

fn malformed(header: &str, detail: &str) -> Problem {
    let detail = format!("the header {header} cannot be read: {detail}");
    Problem::new(ProblemKind::MalformedRequest, detail)
}

/// The merchant for whom the operator acts, if the request names one.
fn named_merchant(parts: &Parts) -> Result<Option<MerchantId>, Problem> {
    let Some(text) = header(parts, MERCHANT_HEADER)? else {
        return Ok(None);
    };
    match text.parse() {
        Ok(id) => Ok(Some(id)),
        Err(error) => Err(malformed(MERCHANT_HEADER, &error.to_string())),
    }
}

/// The operator, with the name that the request gives.
fn operator_of(parts: &Parts) -> Result<Who, Problem> {
    let Some(name) = header(parts, OPERATOR_HEADER)? else {
        return Ok(Who::new("operator"));
    };
    let visible = name.bytes().all(|byte| byte.is_ascii_graphic());
    if !visible || !(1..=OPERATOR_NAME_MAX).contains(&name.len()) {
        let detail = format!("a name has 1 to {OPERATOR_NAME_MAX} visible ASCII characters");
        return Err(malformed(OPERATOR_HEADER, &detail));
    }
    Ok(Who::new(&format!("operator {name}")))
}

impl FromRequestParts<ApiState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        Self::of(parts, state, usual_scope(&parts.method)).await
    }
}

impl FromRequestParts<ApiState> for AdminCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let caller = Caller::of(parts, state, Scope::Admin).await?;
        Ok(Self(caller))
    }
}

impl FromRequestParts<ApiState> for Merchant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, state).await?;
        Ok(caller.merchant)
    }
}

impl FromRequestParts<ApiState> for Refunder {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let caller = Caller::of(parts, state, Scope::Refund).await?;
        Ok(Self(caller.merchant))
    }
}

impl FromRequestParts<ApiState> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let caller = Caller::of(parts, state, Scope::Admin).await?;
        Ok(Self(caller.merchant))
    }
}

impl FromRequestParts<ApiState> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, state).await?;
        let Merchant { id, platform, .. } = caller.merchant;
        if caller.operator {
            return Ok(Self { platform });
        }
        let detail = format!("the key is merchant {id}'s, not the operator's");
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

    async fn holder_of(&self, token: &str) -> Result<KeyHolder, Problem> {
        match self.platform().identify(token).await? {
            Some(holder) => Ok(holder),
            None => Err(unauthenticated(
                "the API key is unknown, revoked or expired",
            )),
        }
    }

    /// The merchant that the operator acts for.
    async fn merchant_acted_for(&self, named: Option<MerchantId>) -> Result<MerchantId, Problem> {
        match named {
            None => Ok(MerchantId::fallback()),
            Some(named) => Ok(self.platform().merchant(&named).await?.id),
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
        Origin::Local if state.trusts_this_machine() => Ok(Credentials::ThisMachine),
        Origin::Indirect if state.trusts_this_machine() => Err(unauthenticated(
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
