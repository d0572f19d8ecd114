//! Provides the audit trail: one row per transition, written in the transition's transaction.

use serde::Serialize;
use sqlx::SqliteConnection;

use crate::error::Result;
use crate::ids::{MerchantId, OrderId};
use crate::platform::Platform;
use crate::store::column;

/// Who did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The buyer.
    Buyer,
    /// The merchant, through the API.
    Merchant,
    /// The payment gateway, by a callback or an answer.
    Gateway,
    /// The platform itself, driven by a timer or an event.
    System,
}

impl Actor {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Buyer => "buyer",
            Self::Merchant => "merchant",
            Self::Gateway => "gateway",
            Self::System => "system",
        }
    }
}

/// What an operation records.
#[derive(Clone, Debug)]
pub(crate) struct NewAudit {
    /// The order, coupon or pause that the row is found by.
    pub(crate) subject: String,
    pub(crate) merchant_id: MerchantId,
    /// The thing that changed: the subject itself, or an attempt, a refund of it.
    pub(crate) entity: String,
    pub(crate) actor: Actor,
    pub(crate) action: &'static str,
    pub(crate) from: Option<&'static str>,
    pub(crate) to: Option<&'static str>,
    pub(crate) detail: Option<String>,
}

/// A row as it is written.
#[derive(Clone, Debug)]
pub(crate) struct AuditRow {
    pub(crate) at_ms: i64,
    pub(crate) new: NewAudit,
}

/// One entry of an audit trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditEntry {
    /// When, in ms since the Unix epoch.
    pub at_ms: i64,
    /// The id of the thing that changed.
    pub entity: String,
    /// Who changed it.
    pub actor: String,
    /// What was done, such as `close`.
    pub action: String,
    /// The state before, where there was one.
    pub from_state: Option<String>,
    /// The state after, where it has one.
    pub to_state: Option<String>,
    /// More, for a person.
    pub detail: Option<String>,
}

pub(crate) async fn insert(connection: &mut SqliteConnection, rows: &[AuditRow]) -> Result<()> {
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
    let rows = serde_json::to_string(&rows).expect("texts and numbers are always JSON");
    sqlx::query(
        "insert into audit
             (subject, merchant_id, at_ms, entity, actor, action, from_state, to_state, detail)
         select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
                value ->> 7, value ->> 8
         from json_each(?)",
    )
    .bind(rows)
    .execute(connection)
    .await?;
    Ok(())
}

impl Platform {
    /// The audit trail of an order, oldest entry first.
    pub async fn order_audit(
        &self,
        merchant_id: &MerchantId,
        order_id: OrderId,
    ) -> Result<Vec<AuditEntry>> {
        let rows = sqlx::query(
            "select at_ms, entity, actor, action, from_state, to_state, detail
             from audit where subject = ? and merchant_id = ? order by seq",
        )
        .bind(order_id.to_string())
        .bind(merchant_id.as_str())
        .fetch_all(self.readers())
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
}
