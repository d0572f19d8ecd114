//! Stores idempotency keys: the first answer to a request is kept and given again.
//!
//! The row that claims the key is inserted in the transaction of the effect. A request that loses the
//! unique insert is rolled back and answers what the winner stored; a failure leaves no row.

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result, check_text};
use crate::hex::hex;
use crate::ids::MerchantId;
use crate::limits::REFERENCE_CHARS_MAX;
use crate::store::rows::column;
use crate::store::sql::{BoxFuture, query};
use crate::store::tx::Tx;

/// An idempotency key with a fingerprint of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    key: String,
    fingerprint: String,
}

impl Idempotency {
    /// The key of a request to `operation` (method and path, say) with this body.
    pub fn new(key: &str, operation: &str, body: &[u8]) -> Result<Self> {
        check_text("/idempotency_key", key, REFERENCE_CHARS_MAX)?;
        let mut digest = Sha256::new();
        digest.update(operation.as_bytes());
        // A separator that no operation contains, so that no two pairs run together.
        digest.update([0]);
        digest.update(body);
        let fingerprint = hex(&digest.finalize());
        let key = key.to_owned();
        Ok(Self { key, fingerprint })
    }
}

/// An answer, and whether it was given before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered<T> {
    /// The answer.
    pub value: T,
    /// Whether it is the stored answer of an earlier request with the same key.
    pub replayed: bool,
}

/// A request of a merchant that may carry an idempotency key.
pub(crate) struct Keyed<I, T> {
    pub(crate) merchant_id: MerchantId,
    pub(crate) idempotency: Option<Idempotency>,
    pub(crate) input: I,
    pub(crate) operation: for<'t> fn(&'t mut Tx, &'t MerchantId, &'t I) -> BoxFuture<'t, Result<T>>,
}

/// Runs the operation unless its key has been used; a stored answer comes as [`Error::Replayed`].
pub(crate) async fn run<I, T: Serialize>(tx: &mut Tx, keyed: &Keyed<I, T>) -> Result<T> {
    let worked = (keyed.operation)(tx, &keyed.merchant_id, &keyed.input).await;
    let Some(idempotency) = &keyed.idempotency else {
        return worked;
    };
    let value = match worked {
        Ok(value) => value,
        // A repeated request fails where the first one took the last unit, for instance.
        Err(error) => {
            let before = answered_before(tx, &keyed.merchant_id, idempotency).await?;
            return Err(before.unwrap_or(error));
        }
    };
    if claim(tx, &keyed.merchant_id, idempotency, &value).await? {
        return Ok(value);
    }
    let before = answered_before(tx, &keyed.merchant_id, idempotency).await?;
    Err(before.expect("a row was in the way of the claim, in this transaction"))
}

async fn claim<T: Serialize>(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    idempotency: &Idempotency,
    value: &T,
) -> Result<bool> {
    let response =
        serde_json::to_string(value).expect("answers are plain structs, which are always JSON");
    let now_ms = tx.now_ms();
    let done = query(
        "insert into idempotency (merchant_id, key, fingerprint, response, created_ms)
         values (?, ?, ?, ?, ?) on conflict do nothing",
    )
    .bind(merchant_id.as_str())
    .bind(&idempotency.key)
    .bind(&idempotency.fingerprint)
    .bind(response)
    .bind(now_ms)
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// What to answer because the key is taken; `None` if it is not.
async fn answered_before(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    idempotency: &Idempotency,
) -> Result<Option<Error>> {
    let row =
        query("select fingerprint, response from idempotency where merchant_id = ? and key = ?")
            .bind(merchant_id.as_str())
            .bind(&idempotency.key)
            .fetch_optional(tx.conn())
            .await?;
    let Some(row) = row else { return Ok(None) };
    let fingerprint: String = column(&row, "fingerprint")?;
    if fingerprint != idempotency.fingerprint {
        let key = idempotency.key.clone();
        return Ok(Some(Error::IdempotencyKeyReused { key }));
    }
    Ok(Some(Error::Replayed(column(&row, "response")?)))
}

/// Deletes up to `limit` of the oldest keys that were used before `before_ms`; answers how many.
pub(crate) async fn delete_used(tx: &mut Tx, before_ms: i64, limit: i64) -> Result<u64> {
    let deleted = query(
        "delete from idempotency where rowid in (select rowid from idempotency order by rowid limit ?)
           and created_ms < ?",
    )
    .bind(limit)
    .bind(before_ms)
    .execute(tx.conn())
    .await?;
    Ok(deleted.rows_affected())
}
