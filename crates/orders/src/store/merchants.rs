//! Stores merchants, API keys and gateway accounts.

use crate::error::{Error, Result};
use crate::ids::{ApiKeyId, GatewayAccountId, MerchantId};
use crate::model::merchant::{ApiKey, GatewayAccount, KeyHolder, Merchant, Scopes};
use crate::store::rows::{column, duplicate, merchant_column};
use crate::store::sql::{Readers, Row, query, query_scalar};
use crate::store::tx::Tx;

/// The columns that [`from_row`] reads.
macro_rules! columns {
    () => {
        "id, name, created_ms"
    };
}

/// The columns that [`key_from_row`] reads.
macro_rules! key_columns {
    () => {
        "id, merchant_id, label, scopes, created_ms, expires_at_ms, used_at_ms, revoked_ms"
    };
}

/// The columns that [`account_from_row`] reads.
macro_rules! account_columns {
    () => {
        "id, merchant_id, gateway, name, settings, created_ms"
    };
}

/// The gateway accounts of a merchant.
const ACCOUNTS: &str = concat!(
    "select ",
    account_columns!(),
    " from gateway_account where merchant_id = ? order by id"
);

/// The id of the oldest gateway account of a merchant.
const OLDEST_ACCOUNT: &str =
    "select id from gateway_account where merchant_id = ? order by id limit 1";

/// The API keys of a merchant.
const KEYS: &str = concat!(
    "select ",
    key_columns!(),
    " from api_key where merchant_id = ? order by id"
);

/// Writes a new merchant.
pub(crate) async fn insert(tx: &mut Tx, merchant: &Merchant) -> Result<()> {
    let inserted = query(concat!(
        "insert into merchant (",
        columns!(),
        ") values (?, ?, ?)"
    ))
    .bind(merchant.id.as_str())
    .bind(&merchant.name)
    .bind(merchant.created_ms)
    .execute(tx.conn())
    .await;
    inserted.map_err(|error| duplicate(error, "merchant", merchant.id.as_str()))?;
    Ok(())
}

/// The merchant.
pub(crate) async fn find(readers: &Readers, id: &MerchantId) -> Result<Merchant> {
    let row = query(concat!(
        "select ",
        columns!(),
        " from merchant where id = ?"
    ))
    .bind(id.as_str())
    .fetch_optional(readers)
    .await?;
    from_row(&row.ok_or_else(|| Error::not_found("merchant", &id))?)
}

/// All merchants by their ids.
pub(crate) async fn all(readers: &Readers) -> Result<Vec<Merchant>> {
    let rows = query(concat!("select ", columns!(), " from merchant order by id"))
        .fetch_all(readers)
        .await?;
    rows.iter().map(from_row).collect()
}

/// Writes a new API key, with the hash of its secret.
pub(crate) async fn insert_key(tx: &mut Tx, key: &ApiKey, hash: &[u8; 32]) -> Result<()> {
    query(concat!(
        "insert into api_key (key_hash, ",
        key_columns!(),
        ") values (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    ))
    .bind(hash.as_slice())
    .bind(key.id)
    .bind(key.merchant_id.as_str())
    .bind(&key.label)
    .bind(key.scopes.stored())
    .bind(key.created_ms)
    .bind(key.expires_at_ms)
    .bind(key.used_at_ms)
    .bind(key.revoked_ms)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// The merchant's API keys, oldest first.
pub(crate) async fn keys(readers: &Readers, merchant_id: &MerchantId) -> Result<Vec<ApiKey>> {
    let rows = query(KEYS)
        .bind(merchant_id.as_str())
        .fetch_all(readers)
        .await?;
    rows.iter().map(key_from_row).collect()
}

/// Revokes an API key; answers whether it was valid.
pub(crate) async fn revoke_key(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    id: ApiKeyId,
) -> Result<bool> {
    let now_ms = tx.now_ms();
    let revoked = query(
        "update api_key set revoked_ms = ? where id = ? and merchant_id = ? and revoked_ms is null",
    )
    .bind(now_ms)
    .bind(id)
    .bind(merchant_id.as_str())
    .execute(tx.conn())
    .await?;
    Ok(revoked.rows_affected() == 1)
}

/// Whom the API key with this hash authenticates, unless it was revoked.
pub(crate) async fn holder_of_key(readers: &Readers, hash: &[u8; 32]) -> Result<Option<KeyHolder>> {
    // The look-up by hash leaks no more than the hash's own bytes by its timing.
    let row = query(
        "select id, merchant_id, scopes, expires_at_ms from api_key
         where key_hash = ? and revoked_ms is null",
    )
    .bind(hash.as_slice())
    .fetch_optional(readers)
    .await?;
    let holder = |row: Row| {
        Ok(KeyHolder {
            key_id: column(&row, "id")?,
            merchant_id: merchant_column(&row)?,
            scopes: Scopes::from_stored(column(&row, "scopes")?),
            expires_at_ms: column(&row, "expires_at_ms")?,
        })
    };
    row.map(holder).transpose()
}

/// Records when API keys were last used.
pub(crate) async fn set_used(tx: &mut Tx, used: &[(ApiKeyId, i64)]) -> Result<()> {
    for (id, used_at_ms) in used {
        query("update api_key set used_at_ms = max(coalesce(used_at_ms, 0), ?) where id = ?")
            .bind(*used_at_ms)
            .bind(*id)
            .execute(tx.conn())
            .await?;
    }
    Ok(())
}

/// Writes a new gateway account.
pub(crate) async fn insert_account(tx: &mut Tx, account: &GatewayAccount) -> Result<()> {
    let inserted = query(concat!(
        "insert into gateway_account (",
        account_columns!(),
        ") values (?, ?, ?, ?, ?, ?)"
    ))
    .bind(account.id)
    .bind(account.merchant_id.as_str())
    .bind(&account.gateway)
    .bind(&account.name)
    .bind(&account.settings)
    .bind(account.created_ms)
    .execute(tx.conn())
    .await;
    inserted.map_err(|error| duplicate(error, "gateway account", &account.name))?;
    Ok(())
}

/// The gateway accounts of all merchants, oldest first.
pub(crate) async fn all_accounts(readers: &Readers) -> Result<Vec<GatewayAccount>> {
    let rows = query(concat!(
        "select ",
        account_columns!(),
        " from gateway_account order by id"
    ))
    .fetch_all(readers)
    .await?;
    rows.iter().map(account_from_row).collect()
}

/// The merchant's gateway accounts, oldest first.
pub(crate) async fn accounts(
    readers: &Readers,
    merchant_id: &MerchantId,
) -> Result<Vec<GatewayAccount>> {
    let rows = query(ACCOUNTS)
        .bind(merchant_id.as_str())
        .fetch_all(readers)
        .await?;
    rows.iter().map(account_from_row).collect()
}

/// The merchant's oldest gateway account, if it has one.
pub(crate) async fn oldest_account(
    readers: &Readers,
    merchant_id: &MerchantId,
) -> Result<Option<GatewayAccountId>> {
    let id = query_scalar(OLDEST_ACCOUNT)
        .bind(merchant_id.as_str())
        .fetch_optional(readers)
        .await?;
    Ok(id)
}

/// The gateway account, of any merchant.
pub(crate) async fn account(readers: &Readers, id: GatewayAccountId) -> Result<GatewayAccount> {
    let row = query(concat!(
        "select ",
        account_columns!(),
        " from gateway_account where id = ?"
    ))
    .bind(id)
    .fetch_optional(readers)
    .await?;
    account_from_row(&row.ok_or_else(|| Error::not_found("gateway account", &id))?)
}

/// The merchant of a gateway account, which must exist.
pub(crate) async fn merchant_of_account(tx: &mut Tx, id: GatewayAccountId) -> Result<MerchantId> {
    let merchant_id: String = query_scalar("select merchant_id from gateway_account where id = ?")
        .bind(id)
        .fetch_one(tx.conn())
        .await?;
    Ok(MerchantId::from_stored(merchant_id))
}

/// Reads a row of `columns!()`.
fn from_row(row: &Row) -> Result<Merchant> {
    Ok(Merchant {
        id: MerchantId::from_stored(column(row, "id")?),
        name: column(row, "name")?,
        created_ms: column(row, "created_ms")?,
    })
}

/// Reads a row of `key_columns!()`.
fn key_from_row(row: &Row) -> Result<ApiKey> {
    Ok(ApiKey {
        id: column(row, "id")?,
        merchant_id: merchant_column(row)?,
        label: column(row, "label")?,
        scopes: Scopes::from_stored(column(row, "scopes")?),
        expires_at_ms: column(row, "expires_at_ms")?,
        used_at_ms: column(row, "used_at_ms")?,
        created_ms: column(row, "created_ms")?,
        revoked_ms: column(row, "revoked_ms")?,
    })
}

/// Reads a row of `account_columns!()`.
fn account_from_row(row: &Row) -> Result<GatewayAccount> {
    Ok(GatewayAccount {
        id: column(row, "id")?,
        merchant_id: merchant_column(row)?,
        gateway: column(row, "gateway")?,
        name: column(row, "name")?,
        settings: column(row, "settings")?,
        created_ms: column(row, "created_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::shop::Shop;

    #[tokio::test]
    async fn what_a_merchant_has_is_found_by_an_index() {
        let shop = Shop::open().await;
        for (statement, index) in [
            (ACCOUNTS, "gateway_account_by_merchant"),
            (OLDEST_ACCOUNT, "gateway_account_by_merchant"),
            (KEYS, "api_key_by_merchant"),
        ] {
            let plan = shop.plan_of(statement).await;
            let [step] = plan.as_slice() else {
                panic!("{statement}\n{plan:?}");
            };
            assert!(step.contains(index), "{statement}\n{step}");
        }
    }
}
