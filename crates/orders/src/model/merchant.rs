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

/// An API key, without the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// The merchant it authenticates.
    pub merchant_id: MerchantId,
    /// Its label.
    pub label: String,
    /// When it was created, in ms since the Unix epoch.
    pub created_ms: i64,
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
