//! Stores unmatched payments: money that a gateway reported and that no payment can hold.

use uuid::Uuid;

use crate::error::{Error, Result};
use crate::ids::{GatewayAccountId, UnmatchedPaymentId};
use crate::model::payment::Payment;
use crate::model::stored::Stored as _;
use crate::model::unmatched::{NewUnmatched, UnmatchedPayment, UnmatchedState};
use crate::store::rows::{column, limit_of, merchant_column, stored_column};
use crate::store::sql::{Readers, Row, query};
use crate::store::tx::Tx;

/// The columns that [`from_row`] reads.
macro_rules! columns {
    () => {
        "id, merchant_id, account_id, kind, state, key, subject, attempt_id, amount, currency, raw, \
         paid_at_ms, reports, created_ms, settled_ms, settled_by, reference, note"
    };
}

/// Writes the money down, or counts one more report of it; answers it as it is then.
pub(crate) async fn note(tx: &mut Tx, new: &NewUnmatched) -> Result<UnmatchedPayment> {
    let now_ms = tx.now_ms();
    let row = query(concat!(
        "insert into unmatched_payment (id, merchant_id, account_id, kind, state, key, subject, attempt_id,
             amount, currency, raw, paid_at_ms, created_ms)
         select ?, merchant_id, id, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? from gateway_account where id = ?
         on conflict (account_id, key) do update set reports = reports + 1
         returning ",
        columns!()
    ))
    .bind(UnmatchedPaymentId::new(now_ms))
    .bind(new.kind.stored())
    .bind(UnmatchedState::Open.stored())
    .bind(&new.key)
    .bind(&new.subject)
    .bind(new.attempt.map(|(attempt_id, _)| attempt_id))
    .bind(&new.amount)
    .bind(&new.currency)
    .bind(&new.raw)
    .bind(new.paid_at_ms)
    .bind(now_ms)
    .bind(new.account_id)
    .fetch_optional(tx.conn())
    .await?;
    from_row(&row.ok_or_else(|| Error::not_found("gateway account", &new.account_id))?)
}

/// Whether a person has settled the money that was noted under the key, or recorded it as a payment.
pub(crate) async fn is_dealt_with(
    tx: &mut Tx,
    account_id: GatewayAccountId,
    key: &str,
) -> Result<bool> {
    let found = query(
        "select 1 from unmatched_payment
         where account_id = ? and key = ? and (state = ? or (state = ? and reference is not null))",
    )
    .bind(account_id)
    .bind(key)
    .bind(UnmatchedState::Settled.stored())
    .bind(UnmatchedState::Superseded.stored())
    .fetch_optional(tx.conn())
    .await?;
    Ok(found.is_some())
}

/// Records that the payment holds the money that was noted under its transaction, if that is open.
pub(crate) async fn supersede(tx: &mut Tx, payment: &Payment) -> Result<()> {
    let now_ms = tx.now_ms();
    query(
        "update unmatched_payment set state = ?, settled_ms = ?, settled_by = 'gateway'
         where account_id = ? and key = ? and state = ?",
    )
    .bind(UnmatchedState::Superseded.stored())
    .bind(now_ms)
    .bind(payment.account_id)
    .bind(&payment.gateway_txn)
    .bind(UnmatchedState::Open.stored())
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Records that the payment which a person has written down holds the money.
pub(crate) async fn set_payment(
    tx: &mut Tx,
    id: UnmatchedPaymentId,
    payment: &Payment,
) -> Result<()> {
    let settled_by = tx.who().unwrap_or("operator").to_owned();
    let now_ms = tx.now_ms();
    query(
        "update unmatched_payment set state = ?, settled_ms = ?, settled_by = ?, attempt_id = ?, reference = ?
         where id = ?",
    )
    .bind(UnmatchedState::Superseded.stored())
    .bind(now_ms)
    .bind(settled_by)
    .bind(payment.attempt_id)
    .bind(payment.id.to_string())
    .bind(id)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// What a person has settled, and how.
#[derive(Clone, Debug)]
pub(crate) struct Settlement {
    pub(crate) id: UnmatchedPaymentId,
    pub(crate) reference: String,
    pub(crate) note: Option<String>,
}

/// Settles the money if it is open; answers it if this call did.
pub(crate) async fn settle(
    tx: &mut Tx,
    settlement: &Settlement,
) -> Result<Option<UnmatchedPayment>> {
    let settled_by = tx.who().unwrap_or("operator").to_owned();
    let now_ms = tx.now_ms();
    let row = query(concat!(
        "update unmatched_payment set state = ?, settled_ms = ?, settled_by = ?, reference = ?,
             note = ?
         where id = ? and state = ? returning ",
        columns!()
    ))
    .bind(UnmatchedState::Settled.stored())
    .bind(now_ms)
    .bind(settled_by)
    .bind(&settlement.reference)
    .bind(&settlement.note)
    .bind(settlement.id)
    .bind(UnmatchedState::Open.stored())
    .fetch_optional(tx.conn())
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// The unmatched payment, of any merchant, as the open transaction sees it.
pub(crate) async fn get(tx: &mut Tx, id: UnmatchedPaymentId) -> Result<UnmatchedPayment> {
    let row = query(BY_ID).bind(id).fetch_optional(tx.conn()).await?;
    from_row(&row.ok_or_else(|| Error::not_found("unmatched payment", &id))?)
}

/// The unmatched payment, of any merchant.
pub(crate) async fn find(readers: &Readers, id: UnmatchedPaymentId) -> Result<UnmatchedPayment> {
    let row = query(BY_ID).bind(id).fetch_optional(readers).await?;
    from_row(&row.ok_or_else(|| Error::not_found("unmatched payment", &id))?)
}

/// Up to `limit` unmatched payments of all merchants, those after `after` by id; only open ones if asked.
pub(crate) async fn page(
    readers: &Readers,
    open: bool,
    after: Option<UnmatchedPaymentId>,
    limit: usize,
) -> Result<Vec<UnmatchedPayment>> {
    let statement = if open { OPEN_PAGE } else { PAGE };
    let rows = query(statement)
        .bind(after.map_or_else(Uuid::nil, UnmatchedPaymentId::uuid))
        .bind(limit_of(limit))
        .fetch_all(readers)
        .await?;
    rows.iter().map(from_row).collect()
}

/// One unmatched payment.
const BY_ID: &str = concat!(
    "select ",
    columns!(),
    " from unmatched_payment where id = ?"
);

/// A page of all.
const PAGE: &str = concat!(
    "select ",
    columns!(),
    " from unmatched_payment where id > ? order by id limit ?"
);

/// A page of the open ones. The state is written out since only so does SQLite use the index of what is open.
const OPEN_PAGE: &str = concat!(
    "select ",
    columns!(),
    " from unmatched_payment where state = 1 and id > ? order by id limit ?"
);

/// Reads a row of `columns!()`.
fn from_row(row: &Row) -> Result<UnmatchedPayment> {
    Ok(UnmatchedPayment {
        id: column(row, "id")?,
        merchant_id: merchant_column(row)?,
        account_id: column(row, "account_id")?,
        kind: stored_column(row, "kind")?,
        state: stored_column(row, "state")?,
        key: column(row, "key")?,
        subject: column(row, "subject")?,
        attempt_id: column(row, "attempt_id")?,
        amount: column(row, "amount")?,
        currency: column(row, "currency")?,
        raw: column(row, "raw")?,
        paid_at_ms: column(row, "paid_at_ms")?,
        reports: column(row, "reports")?,
        created_ms: column(row, "created_ms")?,
        settled_ms: column(row, "settled_ms")?,
        settled_by: column(row, "settled_by")?,
        reference: column(row, "reference")?,
        note: column(row, "note")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::shop::Shop;

    #[tokio::test]
    async fn open_ones_are_found_by_the_index_of_what_is_open() {
        let shop = Shop::open().await;
        assert_eq!(UnmatchedState::Open.stored(), 1);
        let plan = shop.plan_of(OPEN_PAGE).await;
        assert!(plan[0].contains("unmatched_payment_open"), "{plan:?}");
        let plan = shop.plan_of(PAGE).await;
        assert!(plan[0].contains("PRIMARY KEY"), "{plan:?}");
    }
}
