//! Creates and reads merchants, their API keys and their gateway accounts.

pub(crate) mod known_keys;
mod simulator;

use std::fmt::Display;

use sha2::{Digest, Sha256};

use gateway::simulator::GATEWAY_NAME;

use crate::error::{Error, Result, check_text};
use crate::hex::hex;
use crate::ids::{ApiKeyId, GatewayAccountId, MerchantId};
use crate::limits::{NAME_CHARS_MAX, SETTINGS_BYTES_MAX};
use crate::merchant::known_keys::ForgetAtEnd;
use crate::model::audit::{Actor, NewAudit};
use crate::model::merchant::{
    ApiKey, GatewayAccount, KeyHolder, KeyTerms, Merchant, NewApiKey, NewGatewayAccount, Scope,
    Scopes,
};
use crate::platform::Platform;
use crate::store::idempotency::{Answered, Idempotency, Keyed};
use crate::store::{Tx, merchants};

/// Bytes of randomness in an API key.
const KEY_BYTES: usize = 32;
/// Prefix of API keys, so that a leaked one is recognised.
const KEY_PREFIX: &str = "dtk_";

impl Platform {
    /// Creates a merchant.
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
        merchants::find(self.readers(), id).await
    }

    /// All merchants by their ids.
    pub async fn merchants(&self) -> Result<Vec<Merchant>> {
        merchants::all(self.readers()).await
    }

    /// Makes sure that the merchant `default` exists; answers its first API key if it was created just now.
    pub async fn ensure_default_merchant(&self) -> Result<Option<NewApiKey>> {
        let id = MerchantId::fallback();
        match self.create_merchant(&id, "Default merchant").await {
            Ok(_) => self.create_api_key(&id, "first key").await.map(Some),
            Err(Error::Duplicate { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates an API key for the merchant that may do everything and does not expire.
    pub async fn create_api_key(&self, merchant_id: &MerchantId, label: &str) -> Result<NewApiKey> {
        let terms = KeyTerms {
            label: label.to_owned(),
            scopes: Scopes::ALL,
            expires_at_ms: None,
        };
        self.create_limited_api_key(merchant_id, terms).await
    }

    /// Creates an API key for the merchant.
    pub async fn create_limited_api_key(
        &self,
        merchant_id: &MerchantId,
        terms: KeyTerms,
    ) -> Result<NewApiKey> {
        check_text("/label", &terms.label, NAME_CHARS_MAX)?;
        if terms.scopes.is_empty() {
            return Err(Error::invalid("/scopes", "name one scope at least"));
        }
        if terms
            .expires_at_ms
            .is_some_and(|at_ms| at_ms <= self.wall_now_ms())
        {
            return Err(Error::invalid("/expires_at", "the instant has passed"));
        }
        self.merchant(merchant_id).await?;
        let random: [u8; KEY_BYTES] = rand::random();
        let secret = format!("{KEY_PREFIX}{}", hex(&random));
        let input = (merchant_id.clone(), terms, hash_of(&secret));
        let key = self
            .writer()
            .run(input, |tx, (merchant_id, terms, hash)| {
                Box::pin(create_api_key(tx, merchant_id, terms, hash))
            })
            .await?;
        Ok(NewApiKey { key, secret })
    }

    fn wall_now_ms(&self) -> i64 {
        i64::try_from(self.clock().wall_now_ms()).unwrap_or(i64::MAX)
    }

    /// The merchant's API keys.
    pub async fn api_keys(&self, merchant_id: &MerchantId) -> Result<Vec<ApiKey>> {
        let mut keys = merchants::keys(self.readers(), merchant_id).await?;
        for key in &mut keys {
            let used_at_ms = self.known_keys().used_at_ms(key.id);
            key.used_at_ms = std::cmp::max(key.used_at_ms, used_at_ms);
        }
        Ok(keys)
    }

    /// Revokes an API key.
    pub async fn revoke_api_key(&self, merchant_id: &MerchantId, id: ApiKeyId) -> Result<()> {
        let (platform, merchant_id) = (self.clone(), merchant_id.clone());
        // On a task of its own: what the writer has been given is carried out even if the caller stops waiting, and the
        // key must be forgotten after that.
        let revoking = tokio::spawn(async move {
            let _forget = ForgetAtEnd(platform.known_keys());
            platform
                .writer()
                .run((merchant_id, id), |tx, (merchant_id, id)| {
                    Box::pin(revoke_api_key(tx, merchant_id, *id))
                })
                .await
        });
        if revoking.await.map_err(|_| Error::Stopped)?? {
            return Ok(());
        }
        Err(Error::not_found("API key", &id))
    }

    /// The merchant that an API key authenticates.
    pub async fn authenticate(&self, secret: &str) -> Result<Option<MerchantId>> {
        let holder = self.identify(secret).await?;
        Ok(holder.map(|holder| holder.merchant_id))
    }

    /// Whom an API key authenticates, and what it may do; `None` if it is unknown, revoked or expired.
    pub async fn identify(&self, secret: &str) -> Result<Option<KeyHolder>> {
        let hash = hash_of(secret);
        let (known, revocations) = self.known_keys().get(&hash);
        let holder = if let Some(known) = known {
            known
        } else {
            let Some(holder) = merchants::holder_of_key(self.readers(), &hash).await? else {
                return Ok(None);
            };
            self.known_keys()
                .remember(hash, holder.clone(), revocations);
            holder
        };
        let now_ms = self.wall_now_ms();
        if holder.expires_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            return Ok(None);
        }
        self.known_keys().note_use(holder.key_id, now_ms);
        Ok(Some(holder))
    }

    /// Creates a gateway account. Its gateway must still be put into the platform's gateways.
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
        if new.gateway != GATEWAY_NAME {
            // Before it exists: from then on there is money to lose.
            self.note_real_gateway();
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
        match merchant_id {
            Some(merchant_id) => merchants::accounts(self.readers(), merchant_id).await,
            None => merchants::all_accounts(self.readers()).await,
        }
    }

    /// The gateway account of any merchant: callbacks name it before they are authenticated.
    pub async fn gateway_account(&self, id: GatewayAccountId) -> Result<GatewayAccount> {
        merchants::account(self.readers(), id).await
    }
}

fn hash_of(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

async fn create_merchant(tx: &mut Tx, id: &MerchantId, name: &str) -> Result<Merchant> {
    let merchant = Merchant {
        id: id.clone(),
        name: name.to_owned(),
        created_ms: tx.now_ms(),
    };
    merchants::insert(tx, &merchant).await?;
    audit(
        tx,
        &merchant.id,
        &merchant.id,
        (Actor::Operator, "create", Some(name.to_owned())),
    );
    Ok(merchant)
}

/// Records what was done to a merchant or to something that it has.
fn audit(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    entity: &dyn Display,
    (asking, action, detail): (Actor, &'static str, Option<String>),
) {
    let actor = tx.actor(asking);
    tx.audit(NewAudit {
        subject: merchant_id.to_string(),
        merchant_id: merchant_id.clone(),
        entity: entity.to_string(),
        actor,
        action,
        from: None,
        to: None,
        detail,
    });
}

async fn create_api_key(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    terms: &KeyTerms,
    hash: &[u8; 32],
) -> Result<ApiKey> {
    let now_ms = tx.now_ms();
    let key = ApiKey {
        id: ApiKeyId::new(now_ms),
        merchant_id: merchant_id.clone(),
        label: terms.label.clone(),
        scopes: terms.scopes,
        created_ms: now_ms,
        expires_at_ms: terms.expires_at_ms,
        used_at_ms: None,
        revoked_ms: None,
    };
    merchants::insert_key(tx, &key, hash).await?;
    let scopes: Vec<_> = key.scopes.iter().map(Scope::as_str).collect();
    let detail = format!("{}: {}", key.label, scopes.join(", "));
    audit(
        tx,
        merchant_id,
        &key.id,
        (Actor::Operator, "create_key", Some(detail)),
    );
    Ok(key)
}

async fn revoke_api_key(tx: &mut Tx, merchant_id: &MerchantId, id: ApiKeyId) -> Result<bool> {
    let revoked = merchants::revoke_key(tx, merchant_id, id).await?;
    if revoked {
        audit(tx, merchant_id, &id, (Actor::Operator, "revoke_key", None));
    }
    Ok(revoked)
}

async fn create_account(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    new: &NewGatewayAccount,
) -> Result<GatewayAccount> {
    let now_ms = tx.now_ms();
    let account = GatewayAccount {
        id: GatewayAccountId::new(now_ms),
        merchant_id: merchant_id.clone(),
        gateway: new.gateway.clone(),
        name: new.name.clone(),
        settings: new.settings.clone(),
        created_ms: now_ms,
    };
    merchants::insert_account(tx, &account).await?;
    let detail = format!("{} at {}", account.name, account.gateway);
    audit(
        tx,
        merchant_id,
        &account.id,
        (Actor::Merchant, "create_account", Some(detail)),
    );
    Ok(account)
}
