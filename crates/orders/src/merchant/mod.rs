//! Provides merchants, their API keys and their gateway accounts.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::sqlite::SqliteRow;

use crate::error::{Error, Result, check_text};
use crate::ids::{ApiKeyId, GatewayAccountId, MerchantId};
use crate::limits::{NAME_CHARS_MAX, SETTINGS_BYTES_MAX};
use crate::platform::Platform;
use crate::store::idempotency::{Answered, Idempotency, Keyed};
use crate::store::{Tx, column};

/// Bytes of randomness in an API key.
const KEY_BYTES: usize = 32;
/// What an API key begins with, so that a leaked one is recognised.
const KEY_PREFIX: &str = "dtk_";

/// Who sells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merchant {
    /// Its id.
    pub id: MerchantId,
    /// What people call it.
    pub name: String,
    /// When it was made, in ms since the Unix epoch.
    pub created_ms: i64,
}

/// An API key, without the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// Whom it speaks for.
    pub merchant_id: MerchantId,
    /// What people call it.
    pub label: String,
    /// When it was made, in ms since the Unix epoch.
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
    /// Whose it is.
    pub merchant_id: MerchantId,
    /// Which kind of gateway, such as `simulator`.
    pub gateway: String,
    /// What people call it; unique for the merchant.
    pub name: String,
    /// What the gateway's implementation needs, as JSON; may hold secrets.
    pub settings: String,
    /// When it was made, in ms since the Unix epoch.
    pub created_ms: i64,
}

/// A gateway account to make.
#[derive(Clone, Debug)]
pub struct NewGatewayAccount {
    /// Which kind of gateway, such as `simulator`.
    pub gateway: String,
    /// What people call it; unique for the merchant.
    pub name: String,
    /// What the gateway's implementation needs, as JSON.
    pub settings: String,
}

/// Keys that were looked up before. A std lock: held for one look-up, never across an await.
#[derive(Debug, Default)]
pub(crate) struct KnownKeys(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    merchants: HashMap<[u8; 32], MerchantId>,
    /// Rises when a key is revoked: what was read before must not be remembered after.
    revocations: u64,
}

/// Keys remembered at most; beyond it they are looked up again.
const KNOWN_KEYS_MAX: usize = 10_000;

impl KnownKeys {
    fn get(&self, hash: &[u8; 32]) -> (Option<MerchantId>, u64) {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        (known.merchants.get(hash).cloned(), known.revocations)
    }

    fn remember(&self, hash: [u8; 32], merchant_id: MerchantId, revocations: u64) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.revocations != revocations {
            return;
        }
        if known.merchants.len() >= KNOWN_KEYS_MAX {
            known.merchants.clear();
        }
        known.merchants.insert(hash, merchant_id);
    }

    fn forget_all(&self) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.merchants.clear();
        known.revocations += 1;
    }
}

impl Platform {
    /// Makes a merchant.
    pub async fn create_merchant(&self, id: &MerchantId, name: &str) -> Result<Merchant> {
        check_text("/name", name, NAME_CHARS_MAX)?;
        let input = (id.clone(), name.to_owned());
        self.writer()
            .run(input, |tx, (id, name)| {
                Box::pin(create_merchant(tx, id, name))
            })
            .await
    }

    /// The merchant.
    pub async fn merchant(&self, id: &MerchantId) -> Result<Merchant> {
        let row = sqlx::query("select id, name, created_ms from merchant where id = ?")
            .bind(id.as_str())
            .fetch_optional(self.readers())
            .await?;
        merchant_from_row(&row.ok_or_else(|| Error::not_found("merchant", &id))?)
    }

    /// All merchants by their ids.
    pub async fn merchants(&self) -> Result<Vec<Merchant>> {
        let rows = sqlx::query("select id, name, created_ms from merchant order by id")
            .fetch_all(self.readers())
            .await?;
        rows.iter().map(merchant_from_row).collect()
    }

    /// Makes sure that the merchant `default` exists; answers its first API key if it was made just now.
    pub async fn ensure_default_merchant(&self) -> Result<Option<NewApiKey>> {
        let id = MerchantId::fallback();
        match self.create_merchant(&id, "Default merchant").await {
            Ok(_) => self.create_api_key(&id, "first key").await.map(Some),
            Err(Error::Duplicate { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes an API key for the merchant.
    pub async fn create_api_key(&self, merchant_id: &MerchantId, label: &str) -> Result<NewApiKey> {
        check_text("/label", label, NAME_CHARS_MAX)?;
        self.merchant(merchant_id).await?;
        let random: [u8; KEY_BYTES] = rand::random();
        let secret = format!("{KEY_PREFIX}{}", crate::hex(&random));
        let input = (merchant_id.clone(), label.to_owned(), hash_of(&secret));
        let key = self
            .writer()
            .run(input, |tx, (merchant_id, label, hash)| {
                Box::pin(create_api_key(tx, merchant_id, label, hash))
            })
            .await?;
        Ok(NewApiKey { key, secret })
    }

    /// The merchant's API keys.
    pub async fn api_keys(&self, merchant_id: &MerchantId) -> Result<Vec<ApiKey>> {
        let rows = sqlx::query(
            "select id, merchant_id, label, created_ms, revoked_ms from api_key
             where merchant_id = ? order by id",
        )
        .bind(merchant_id.as_str())
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(api_key_from_row).collect()
    }

    /// Makes an API key useless from now on.
    pub async fn revoke_api_key(&self, merchant_id: &MerchantId, id: ApiKeyId) -> Result<()> {
        let input = (merchant_id.clone(), id);
        let revoked = self
            .writer()
            .run(input, |tx, (merchant_id, id)| {
                Box::pin(revoke(tx, merchant_id, *id))
            })
            .await?;
        self.known_keys().forget_all();
        if revoked {
            return Ok(());
        }
        Err(Error::not_found("API key", &id))
    }

    /// The merchant that an API key speaks for.
    pub async fn authenticate(&self, secret: &str) -> Result<Option<MerchantId>> {
        let hash = hash_of(secret);
        let (known, revocations) = self.known_keys().get(&hash);
        if known.is_some() {
            return Ok(known);
        }
        // The look-up by hash leaks no more than the hash's own bytes by its timing.
        let merchant_id: Option<String> = sqlx::query_scalar(
            "select merchant_id from api_key where key_hash = ? and revoked_ms is null",
        )
        .bind(hash.as_slice())
        .fetch_optional(self.readers())
        .await?;
        let merchant_id = merchant_id.map(MerchantId::from_stored);
        if let Some(merchant_id) = &merchant_id {
            self.known_keys()
                .remember(hash, merchant_id.clone(), revocations);
        }
        Ok(merchant_id)
    }

    /// Makes a gateway account. Its gateway must still be put into the platform's gateways.
    pub async fn create_gateway_account(
        &self,
        merchant_id: &MerchantId,
        new: NewGatewayAccount,
        idempotency: Option<Idempotency>,
    ) -> Result<Answered<GatewayAccount>> {
        check_text("/gateway", &new.gateway, NAME_CHARS_MAX)?;
        check_text("/name", &new.name, NAME_CHARS_MAX)?;
        if new.settings.len() > SETTINGS_BYTES_MAX {
            return Err(Error::invalid(
                "/settings",
                format!(
                    "the settings have {} bytes; at most {SETTINGS_BYTES_MAX} are allowed",
                    new.settings.len()
                ),
            ));
        }
        self.run_keyed(Keyed {
            merchant_id: merchant_id.clone(),
            idempotency,
            input: new,
            operation: |tx, merchant_id, new| Box::pin(create_account(tx, merchant_id, new)),
        })
        .await
    }

    /// The gateway accounts of a merchant, or of all merchants.
    pub async fn gateway_accounts(
        &self,
        merchant_id: Option<&MerchantId>,
    ) -> Result<Vec<GatewayAccount>> {
        let rows = sqlx::query(
            "select id, merchant_id, gateway, name, settings, created_ms from gateway_account
             where ?1 is null or merchant_id = ?1 order by id",
        )
        .bind(merchant_id.map(MerchantId::as_str))
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(account_from_row).collect()
    }

    /// The gateway account, whoever's it is: callbacks name it before anybody is authenticated.
    pub async fn gateway_account(&self, id: GatewayAccountId) -> Result<GatewayAccount> {
        let row = sqlx::query(
            "select id, merchant_id, gateway, name, settings, created_ms from gateway_account
             where id = ?",
        )
        .bind(id)
        .fetch_optional(self.readers())
        .await?;
        account_from_row(&row.ok_or_else(|| Error::not_found("gateway account", &id))?)
    }
}

fn hash_of(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

async fn create_merchant(tx: &mut Tx, id: &MerchantId, name: &str) -> Result<Merchant> {
    let now_ms = tx.now_ms();
    let inserted = sqlx::query("insert into merchant (id, name, created_ms) values (?, ?, ?)")
        .bind(id.as_str())
        .bind(name)
        .bind(now_ms)
        .execute(tx.conn())
        .await;
    inserted.map_err(|error| duplicate(error, "merchant", id.as_str()))?;
    Ok(Merchant {
        id: id.clone(),
        name: name.to_owned(),
        created_ms: now_ms,
    })
}

async fn create_api_key(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    label: &str,
    hash: &[u8; 32],
) -> Result<ApiKey> {
    let now_ms = tx.now_ms();
    let key = ApiKey {
        id: ApiKeyId::new(now_ms),
        merchant_id: merchant_id.clone(),
        label: label.to_owned(),
        created_ms: now_ms,
        revoked_ms: None,
    };
    sqlx::query(
        "insert into api_key (key_hash, id, merchant_id, label, created_ms) values (?, ?, ?, ?, ?)",
    )
    .bind(hash.as_slice())
    .bind(key.id)
    .bind(merchant_id.as_str())
    .bind(label)
    .bind(now_ms)
    .execute(tx.conn())
    .await?;
    Ok(key)
}

async fn revoke(tx: &mut Tx, merchant_id: &MerchantId, id: ApiKeyId) -> Result<bool> {
    let now_ms = tx.now_ms();
    let done = sqlx::query(
        "update api_key set revoked_ms = ? where id = ? and merchant_id = ? and revoked_ms is null",
    )
    .bind(now_ms)
    .bind(id)
    .bind(merchant_id.as_str())
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected() == 1)
}

async fn create_account(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    new: &NewGatewayAccount,
) -> Result<GatewayAccount> {
    let now_ms = tx.now_ms();
    let id = GatewayAccountId::new(now_ms);
    let inserted = sqlx::query(
        "insert into gateway_account (id, merchant_id, gateway, name, settings, created_ms)
         values (?, ?, ?, ?, ?, ?)",
    )
    .bind(id)
    .bind(merchant_id.as_str())
    .bind(&new.gateway)
    .bind(&new.name)
    .bind(&new.settings)
    .bind(now_ms)
    .execute(tx.conn())
    .await;
    inserted.map_err(|error| duplicate(error, "gateway account", &new.name))?;
    Ok(GatewayAccount {
        id,
        merchant_id: merchant_id.clone(),
        gateway: new.gateway.clone(),
        name: new.name.clone(),
        settings: new.settings.clone(),
        created_ms: now_ms,
    })
}

/// What a failed insert means if a UNIQUE constraint refused it.
pub(crate) fn duplicate(error: sqlx::Error, what: &'static str, number: &str) -> Error {
    if Error::is_unique_violation(&error) {
        let number = number.to_owned();
        return Error::Duplicate { what, number };
    }
    error.into()
}

fn merchant_from_row(row: &SqliteRow) -> Result<Merchant> {
    Ok(Merchant {
        id: MerchantId::from_stored(column(row, "id")?),
        name: column(row, "name")?,
        created_ms: column(row, "created_ms")?,
    })
}

fn api_key_from_row(row: &SqliteRow) -> Result<ApiKey> {
    Ok(ApiKey {
        id: column(row, "id")?,
        merchant_id: MerchantId::from_stored(column(row, "merchant_id")?),
        label: column(row, "label")?,
        created_ms: column(row, "created_ms")?,
        revoked_ms: column(row, "revoked_ms")?,
    })
}

fn account_from_row(row: &SqliteRow) -> Result<GatewayAccount> {
    Ok(GatewayAccount {
        id: column(row, "id")?,
        merchant_id: MerchantId::from_stored(column(row, "merchant_id")?),
        gateway: column(row, "gateway")?,
        name: column(row, "name")?,
        settings: column(row, "settings")?,
        created_ms: column(row, "created_ms")?,
    })
}
