//! Stores webhook endpoints and their secrets.

pub(crate) mod deliveries;

use crate::error::{Error, Result};
use crate::ids::{MerchantId, WebhookId};
use crate::model::event::EventType;
use crate::model::stored::Stored as _;
use crate::model::webhook::{Webhook, WebhookState};
use crate::store::rows::{column, limit_of, list_json, merchant_column, stored_column};
use crate::store::sql::{Executor, Readers, Row, query, query_scalar};
use crate::store::tx::Tx;
use crate::webhook::signature::Secret;

/// The columns that [`from_row`] reads.
macro_rules! columns {
    () => {
        "id, merchant_id, url, types, state, failing_since_ms, old_secret_until_ms, created_ms"
    };
}

/// Writes a new endpoint; events from now on are delivered to it.
pub(crate) async fn insert(tx: &mut Tx, webhook: &Webhook, secret: &Secret) -> Result<()> {
    query(
        "insert into webhook (id, merchant_id, url, types, state, secret, seen_seq, created_ms)
         values (?1, ?2, ?3, ?4, ?5, ?6,
                 (select coalesce(max(seq), 0) from outbox where topic = 10 and merchant_id = ?2), ?7)",
    )
    .bind(webhook.id)
    .bind(webhook.merchant_id.as_str())
    .bind(&webhook.url)
    .bind(list_json(&webhook.types))
    .bind(webhook.state.stored())
    .bind(secret.bytes())
    .bind(webhook.created_ms)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// How many endpoints the merchant has.
pub(crate) async fn count(tx: &mut Tx, merchant_id: &MerchantId) -> Result<i64> {
    let count = query_scalar("select count(*) from webhook where merchant_id = ? and state <> 4")
        .bind(merchant_id.as_str())
        .fetch_one(tx.conn())
        .await?;
    Ok(count)
}

/// Writes what may change of an endpoint. One that becomes active gets the events from now on.
pub(crate) async fn update(tx: &mut Tx, webhook: &Webhook, woken: bool) -> Result<()> {
    query(
        "update webhook set url = ?1, types = ?2, state = ?3, failing_since_ms = ?4,
                seen_seq = case when ?5 then
                    (select coalesce(max(seq), 0) from outbox where topic = 10 and merchant_id = webhook.merchant_id)
                    else seen_seq end
         where id = ?6",
    )
    .bind(&webhook.url)
    .bind(list_json(&webhook.types))
    .bind(webhook.state.stored())
    .bind(webhook.failing_since_ms)
    .bind(woken)
    .bind(webhook.id)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Gives the endpoint a new secret; the old one signs too until an instant, in ms since the Unix epoch.
pub(crate) async fn set_secret(
    tx: &mut Tx,
    id: WebhookId,
    secret: &Secret,
    old_until_ms: i64,
) -> Result<()> {
    query(
        "update webhook set old_secret = secret, old_secret_until_ms = ?, secret = ? where id = ?",
    )
    .bind(old_until_ms)
    .bind(secret.bytes())
    .bind(id)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Marks the endpoint as deleted and forgets its secrets.
pub(crate) async fn delete(tx: &mut Tx, id: WebhookId) -> Result<()> {
    query(
        "update webhook set state = ?, secret = x'', old_secret = null, old_secret_until_ms = null
         where id = ?",
    )
    .bind(WebhookState::Deleted.stored())
    .bind(id)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// The endpoint, unless it was deleted.
pub(crate) async fn find(
    executor: impl Executor,
    merchant_id: &MerchantId,
    id: WebhookId,
) -> Result<Webhook> {
    let found = get(executor, id).await?;
    let found = found.filter(|webhook| {
        webhook.merchant_id == *merchant_id && webhook.state != WebhookState::Deleted
    });
    found.ok_or_else(|| Error::not_found("webhook", &id))
}

/// The endpoint of any merchant, deleted or not.
pub(crate) async fn get(executor: impl Executor, id: WebhookId) -> Result<Option<Webhook>> {
    let row = query(concat!("select ", columns!(), " from webhook where id = ?"))
        .bind(id)
        .fetch_optional(executor)
        .await?;
    row.as_ref().map(from_row).transpose()
}

/// The merchant's endpoints, oldest first.
pub(crate) async fn of_merchant(
    readers: &Readers,
    merchant_id: &MerchantId,
) -> Result<Vec<Webhook>> {
    let rows = query(concat!(
        "select ",
        columns!(),
        " from webhook where merchant_id = ? and state <> 4 order by id"
    ))
    .bind(merchant_id.as_str())
    .fetch_all(readers)
    .await?;
    rows.iter().map(from_row).collect()
}

/// The secrets that sign the endpoint's webhooks at an instant, in ms since the Unix epoch: the present one first.
pub(crate) async fn secrets(
    executor: impl Executor,
    id: WebhookId,
    now_ms: i64,
) -> Result<Vec<Secret>> {
    let row = query("select secret, old_secret, old_secret_until_ms from webhook where id = ?")
        .bind(id)
        .fetch_one(executor)
        .await?;
    let mut secrets = vec![Secret::from_bytes(column(&row, "secret")?)];
    let old: Option<Vec<u8>> = column(&row, "old_secret")?;
    let until_ms: Option<i64> = column(&row, "old_secret_until_ms")?;
    if let Some(old) = old
        && until_ms.is_some_and(|until_ms| now_ms < until_ms)
    {
        secrets.push(Secret::from_bytes(old));
    }
    Ok(secrets)
}

/// Records that a delivery has succeeded.
pub(crate) async fn set_working(tx: &mut Tx, id: WebhookId) -> Result<()> {
    query(
        "update webhook set failing_since_ms = null where id = ? and failing_since_ms is not null",
    )
    .bind(id)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Records that a delivery has failed; answers since when none has succeeded, in ms since the Unix epoch.
pub(crate) async fn set_failing(tx: &mut Tx, id: WebhookId) -> Result<i64> {
    let now_ms = tx.now_ms();
    let since_ms = query_scalar(
        "update webhook set failing_since_ms = coalesce(failing_since_ms, ?) where id = ?
         returning failing_since_ms",
    )
    .bind(now_ms)
    .bind(id)
    .fetch_one(tx.conn())
    .await?;
    Ok(since_ms)
}

/// Up to `limit` active endpoints of all merchants, those after `after`, each with its place among the events.
pub(crate) async fn active_after(
    readers: &Readers,
    after: Option<WebhookId>,
    limit: usize,
) -> Result<Vec<(Webhook, i64)>> {
    let rows = query(concat!(
        "select ",
        columns!(),
        ", seen_seq from webhook where state = 1 and id > ? order by id limit ?"
    ))
    .bind(after.map_or_else(uuid::Uuid::nil, WebhookId::uuid))
    .bind(limit_of(limit))
    .fetch_all(readers)
    .await?;
    rows.iter().map(with_place).collect()
}

/// The active endpoints of a merchant, each with its place among the events.
pub(crate) async fn active_of(
    readers: &Readers,
    merchant_id: &MerchantId,
) -> Result<Vec<(Webhook, i64)>> {
    let rows = query(concat!(
        "select ",
        columns!(),
        ", seen_seq from webhook where merchant_id = ? and state = 1"
    ))
    .bind(merchant_id.as_str())
    .fetch_all(readers)
    .await?;
    rows.iter().map(with_place).collect()
}

fn with_place(row: &Row) -> Result<(Webhook, i64)> {
    Ok((from_row(row)?, column(row, "seen_seq")?))
}

/// Moves on up to which event the endpoint has been given its deliveries; answers whether this call did.
pub(crate) async fn move_seen(tx: &mut Tx, id: WebhookId, from: i64, to: i64) -> Result<bool> {
    let moved =
        query("update webhook set seen_seq = ? where id = ? and seen_seq = ? and state = 1")
            .bind(to)
            .bind(id)
            .bind(from)
            .execute(tx.conn())
            .await?;
    Ok(moved.rows_affected() > 0)
}

/// Deletes the rows of deleted endpoints that have no delivery left.
pub(crate) async fn delete_empty(tx: &mut Tx) -> Result<()> {
    query(
        "delete from webhook where state = 4
           and not exists (select 1 from webhook_delivery d where d.webhook_id = webhook.id)",
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Reads a row of `columns!()`.
fn from_row(row: &Row) -> Result<Webhook> {
    let types: String = column(row, "types")?;
    let types: Vec<EventType> =
        serde_json::from_str(&types).map_err(|error| Error::Unreadable {
            what: "list of event types",
            detail: error.to_string(),
        })?;
    Ok(Webhook {
        id: column(row, "id")?,
        merchant_id: merchant_column(row)?,
        url: column(row, "url")?,
        types,
        state: stored_column(row, "state")?,
        failing_since_ms: column(row, "failing_since_ms")?,
        old_secret_until_ms: column(row, "old_secret_until_ms")?,
        created_ms: column(row, "created_ms")?,
    })
}
