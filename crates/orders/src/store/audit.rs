//! Stores the audit trail: one row per transition, written in the transition's transaction.

use crate::error::Result;
use crate::ids::MerchantId;
use crate::model::audit::{AuditEntry, AuditRow};
use crate::store::rows::{column, list_json};
use crate::store::sql::{Connection, Executor, query, query_scalar};
use crate::store::tx::Tx;

/// Writes the rows that the transaction has collected.
pub(super) async fn flush(tx: &mut Tx) -> Result<()> {
    let (connection, rows) = tx.waiting_audit();
    if rows.is_empty() {
        return Ok(());
    }
    insert(connection, rows).await
}

async fn insert(connection: &mut Connection, rows: &[AuditRow]) -> Result<()> {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let new = &row.new;
            (
                &new.subject,
                &new.merchant_id,
                row.at_ms,
                &new.entity,
                new.actor.as_str(),
                new.action,
                new.from,
                new.to,
                &new.detail,
            )
        })
        .collect();
    query(
        "insert into audit
             (subject, merchant_id, at_ms, entity, actor, action, from_state, to_state, detail)
         select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
                value ->> 7, value ->> 8
         from json_each(?)",
    )
    .bind(list_json(&rows))
    .execute(connection)
    .await?;
    Ok(())
}

/// The entries of a subject, oldest first.
pub(crate) async fn of_subject(
    executor: impl Executor,
    merchant_id: &MerchantId,
    subject: &str,
) -> Result<Vec<AuditEntry>> {
    let rows = query(
        "select at_ms, entity, actor, action, from_state, to_state, detail
         from audit where subject = ? and merchant_id = ? order by seq",
    )
    .bind(subject)
    .bind(merchant_id.as_str())
    .fetch_all(executor)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(AuditEntry {
                at_ms: column(row, "at_ms")?,
                entity: column(row, "entity")?,
                actor: column(row, "actor")?,
                action: column(row, "action")?,
                from_state: column(row, "from_state")?,
                to_state: column(row, "to_state")?,
                detail: column(row, "detail")?,
            })
        })
        .collect()
}

/// The time of the last entry, in ms since the Unix epoch.
pub(super) async fn last_ms(connection: &mut Connection) -> Result<Option<i64>> {
    let last_ms = query_scalar("select at_ms from audit order by seq desc limit 1")
        .fetch_optional(connection)
        .await?;
    Ok(last_ms)
}
