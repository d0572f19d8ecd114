//! Defines merchants, their API keys and their gateway accounts.

use serde::{Deserialize, Serialize};

use crate::ids::{ApiKeyId, GatewayAccountId, MerchantId};

/// A merchant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merchant {
    /// Its id.
    pub id: MerchantId,
    /// Its name.
    pub name: String,
    /// When it was created, in ms since the Unix epoch.
    pub created_ms: i64,
}

/// What an API key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Read everything of the merchant.
    Read,
    /// Create and change products, orders, payment attempts and coupons.
    Write,
    /// Give money back.
    Refund,
    /// Make coupon rules and gateway accounts, pause, and settle payment attempts by hand.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Refund, Self::Admin];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Refund => "refund",
            Self::Admin => "admin",
        }
    }

    fn bit(self) -> i64 {
        match self {
            Self::Read => 1,
            Self::Write => 2,
            Self::Refund => 4,
            Self::Admin => 8,
        }
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scopes(i64);

impl Scopes {
    /// All scopes.
    pub const ALL: Self = Self(15);

    /// The set of these scopes.
    pub fn of(scopes: &[Scope]) -> Self {
        let bits = scopes.iter().map(|scope| scope.bit());
        Self(bits.fold(0, |set, bit| set | bit))
    }

    /// Whether the scope is in the set.
    pub fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The scopes in the set.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        let all = Scope::ALL.into_iter();
        all.filter(move |scope| self.contains(*scope))
    }

    /// Its number in the database.
    pub(crate) fn stored(self) -> i64 {
        self.0
    }

    /// The set of a number from the database.
    pub(crate) fn from_stored(stored: i64) -> Self {
        Self(stored)
    }
}

/// What a new API key is for, and for how long.
#[derive(Clone, Debug)]
pub struct KeyTerms {
    /// Its label.
    pub label: String,
    /// What it may do.
    pub scopes: Scopes,
    /// From when on it is not accepted, in ms since the Unix epoch on the wall clock.
    pub expires_at_ms: Option<i64>,
}

/// Whom an API key authenticates, and what it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyHolder {
    /// The key.
    pub key_id: ApiKeyId,
    /// Its merchant.
    pub merchant_id: MerchantId,
    /// What it may do.
    pub scopes: Scopes,
    /// From when on it is not accepted, in ms since the Unix epoch on the wall clock.
    pub expires_at_ms: Option<i64>,
}

/// An API key, without the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// The merchant it authenticates.
    pub merchant_id: MerchantId,
    /// Its label.
    pub label: String,
    /// What it may do.
    pub scopes: Scopes,
    /// When it was created, in ms since the Unix epoch.
    pub created_ms: i64,
    /// From when on it is not accepted, in ms since the Unix epoch on the wall clock.
    pub expires_at_ms: Option<i64>,
    /// When it was last used, in ms since the Unix epoch on the wall clock; to the minute.
    pub used_at_ms: Option<i64>,
    /// When it was revoked, in ms since the Unix epoch.
    pub revoked_ms: Option<i64>,
}

/// A new API key; the secret is not stored and cannot be shown again.
#[derive(Clone)]
pub struct NewApiKey {
    /// What is stored of it.
    pub key: ApiKey,
    /// The key itself.
    pub secret: String,
}

/// An account at a payment gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayAccount {
    /// Its id.
    pub id: GatewayAccountId,
    /// The merchant it belongs to.
    pub merchant_id: MerchantId,
    /// The kind of gateway, such as `simulator`.
    pub gateway: String,
    /// Its name; unique for the merchant.
    pub name: String,
    /// What the gateway's implementation needs, as JSON; may hold secrets.
    pub settings: String,
    /// When it was created, in ms since the Unix epoch.
    pub created_ms: i64,
}

/// A gateway account to create.
#[derive(Clone, Debug)]
pub struct NewGatewayAccount {
    /// The kind of gateway, such as `simulator`.
    pub gateway: String,
    /// Its name; unique for the merchant.
    pub name: String,
    /// What the gateway's implementation needs, as JSON.
    pub settings: String,
}
