//! Stores the audit trail: one row per transition, written in the transition's transaction.

use crate::error::Result;
use crate::ids::MerchantId;
use crate::model::audit::{AuditEntry, AuditRow, PlacedEntry, Who};
use crate::store::rows::{column, limit_of, list_json};
use crate::store::sql::{Connection, Executor, Row, query, query_scalar};
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
                row.who.as_ref().map(Who::as_str),
                new.action,
                new.from,
                new.to,
                &new.detail,
            )
        })
        .collect();
    query(
        "insert into audit
             (subject, merchant_id, at_ms, entity, actor, who, action, from_state, to_state, detail)
         select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
                value ->> 7, value ->> 8, value ->> 9
         from json_each(?)",
    )
    .bind(list_json(&rows))
    .execute(connection)
    .await?;
    Ok(())
}

/// The columns that [`from_row`] reads.
macro_rules! columns {
    () => {
        "seq, at_ms, entity, actor, who, action, from_state, to_state, detail"
    };
}

/// The entries of a subject, oldest first.
pub(crate) async fn of_subject(
    executor: impl Executor,
    merchant_id: &MerchantId,
    subject: &str,
) -> Result<Vec<AuditEntry>> {
    let rows = query(concat!(
        "select ",
        columns!(),
        " from audit where subject = ? and merchant_id = ? order by seq"
    ))
    .bind(subject)
    .bind(merchant_id.as_str())
    .fetch_all(executor)
    .await?;
    rows.iter().map(|row| Ok(from_row(row)?.entry)).collect()
}

/// Up to `limit` entries of a subject, those after `after_seq`, oldest first.
pub(crate) async fn page(
    executor: impl Executor,
    merchant_id: &MerchantId,
    (subject, after_seq): (&str, i64),
    limit: usize,
) -> Result<Vec<PlacedEntry>> {
    let rows = query(PAGE)
        .bind(subject)
        .bind(merchant_id.as_str())
        .bind(after_seq)
        .bind(limit_of(limit))
        .fetch_all(executor)
        .await?;
    rows.iter().map(from_row).collect()
}

/// A page of a subject's entries.
const PAGE: &str = concat!(
    "select ",
    columns!(),
    " from audit where subject = ? and merchant_id = ? and seq > ? order by seq limit ?"
);

/// Reads a row of `columns!()`.
fn from_row(row: &Row) -> Result<PlacedEntry> {
    let entry = AuditEntry {
        at_ms: column(row, "at_ms")?,
        entity: column(row, "entity")?,
        actor: column(row, "actor")?,
        who: column(row, "who")?,
        action: column(row, "action")?,
        from_state: column(row, "from_state")?,
        to_state: column(row, "to_state")?,
        detail: column(row, "detail")?,
    };
    Ok(PlacedEntry {
        seq: column(row, "seq")?,
        entry,
    })
}

/// The time of the last entry, in ms since the Unix epoch.
pub(super) async fn last_ms(connection: &mut Connection) -> Result<Option<i64>> {
    let last_ms = query_scalar("select at_ms from audit order by seq desc limit 1")
        .fetch_optional(connection)
        .await?;
    Ok(last_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::shop::Shop;

    #[tokio::test]
    async fn a_page_is_found_by_its_subject() {
        let shop = Shop::open().await;
        let plan = shop.plan_of(PAGE).await;
        let [step] = plan.as_slice() else {
            panic!("{plan:?}");
        };
        assert!(
            step.contains("audit_by_subject (subject=? AND rowid>?)"),
            "{step}"
        );
    }
}
