//! Stores refunds.

use sqlx::SqlitePool;
use sqlx::sqlite::SqliteRow;

use crate::error::{Error, Result};
use crate::ids::{GatewayAccountId, MerchantId, OrderId, RefundId};
use crate::model::refund::{Refund, RefundCause, RefundJob, RefundState};
use crate::model::stored::Stored as _;
use crate::store::rows::{column, currency_column, duplicate, merchant_column, stored_column};
use crate::store::tx::Tx;

/// The columns that [`from_row`] reads.
macro_rules! columns {
    () => {
        "id, merchant_id, refund_no, order_id, payment_id, state, version, cause, amount_minor, \
         currency, restock, detail, created_ms, final_ms"
    };
}

/// Writes a new refund.
pub(crate) async fn insert(tx: &mut Tx, refund: &Refund) -> Result<()> {
    let automatic = refund.cause != RefundCause::Merchant;
    let inserted = sqlx::query(
        "insert into refund (id, merchant_id, refund_no, order_id, payment_id, auto_payment_id, state,
             version, cause, amount_minor, currency, restock, created_ms, asked_ms)
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(refund.id)
    .bind(refund.merchant_id.as_str())
    .bind(&refund.refund_no)
    .bind(refund.order_id)
    .bind(refund.payment_id)
    .bind(automatic.then_some(refund.payment_id))
    .bind(refund.state.stored())
    .bind(refund.version)
    .bind(refund.cause.stored())
    .bind(refund.amount_minor)
    .bind(refund.currency.as_str())
    .bind(refund.restock)
    .bind(refund.created_ms)
    .bind(refund.created_ms)
    .execute(tx.conn())
    .await;
    inserted.map_err(|error| duplicate(error, "refund", &refund.refund_no))?;
    Ok(())
}

/// The refund of any merchant, if it exists.
pub(crate) async fn find(tx: &mut Tx, id: RefundId) -> Result<Option<Refund>> {
    let row = sqlx::query(concat!("select ", columns!(), " from refund where id = ?"))
        .bind(id)
        .fetch_optional(tx.conn())
        .await?;
    row.as_ref().map(from_row).transpose()
}

/// Moves the refund from one state to another; answers it if it still was in the first.
pub(crate) async fn change(
    tx: &mut Tx,
    id: RefundId,
    [from, to]: [RefundState; 2],
    detail: Option<&str>,
) -> Result<Option<Refund>> {
    let now_ms = tx.now_ms();
    let row = sqlx::query(concat!(
        "update refund set state = ?, version = version + 1, detail = coalesce(?, detail), final_ms = ?
         where id = ? and state = ? returning ",
        columns!()
    ))
    .bind(to.stored())
    .bind(detail)
    .bind(to.is_final().then_some(now_ms))
    .bind(id)
    .bind(from.stored())
    .fetch_optional(tx.conn())
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// Takes the merchant's refund that needs an operator back to REQUESTED; answers it if it was there.
pub(crate) async fn reopen(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    id: RefundId,
) -> Result<Option<Refund>> {
    let row = sqlx::query(concat!(
        "update refund set state = ?, version = version + 1, final_ms = null
         where id = ? and merchant_id = ? and state = ? returning ",
        columns!()
    ))
    .bind(RefundState::Requested.stored())
    .bind(id)
    .bind(merchant_id.as_str())
    .bind(RefundState::NeedsOperator.stored())
    .fetch_optional(tx.conn())
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// The state of the merchant's refund.
pub(crate) async fn state(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    id: RefundId,
) -> Result<RefundState> {
    let row = sqlx::query("select state from refund where id = ? and merchant_id = ?")
        .bind(id)
        .bind(merchant_id.as_str())
        .fetch_optional(tx.conn())
        .await?;
    let row = row.ok_or_else(|| Error::not_found("refund", &id))?;
    stored_column(&row, "state")
}

/// The gateway account of the refund's payment, if the refund exists.
pub(crate) async fn account(tx: &mut Tx, id: RefundId) -> Result<Option<GatewayAccountId>> {
    let account = sqlx::query_scalar(
        "select p.account_id from refund r join payment p on p.id = r.payment_id where r.id = ?",
    )
    .bind(id)
    .fetch_optional(tx.conn())
    .await?;
    Ok(account)
}

/// The refund with what its gateway needs to know. It must exist.
pub(crate) async fn job(readers: &SqlitePool, id: RefundId) -> Result<RefundJob> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        ", account_id, attempt_id, gateway_txn
         from (select r.*, p.account_id, p.attempt_id, p.gateway_txn
               from refund r join payment p on p.id = r.payment_id where r.id = ?)"
    ))
    .bind(id)
    .fetch_one(readers)
    .await?;
    Ok(RefundJob {
        refund: from_row(&row)?,
        account_id: column(&row, "account_id")?,
        attempt_id: column(&row, "attempt_id")?,
        gateway_txn: column(&row, "gateway_txn")?,
    })
}

/// The merchant's refund.
pub(crate) async fn get(
    readers: &SqlitePool,
    merchant_id: &MerchantId,
    id: RefundId,
) -> Result<Refund> {
    let row = sqlx::query(concat!(
        "select ",
        columns!(),
        " from refund where id = ? and merchant_id = ?"
    ))
    .bind(id)
    .bind(merchant_id.as_str())
    .fetch_optional(readers)
    .await?;
    from_row(&row.ok_or_else(|| Error::not_found("refund", &id))?)
}

/// The order's refunds, oldest first.
pub(crate) async fn of_order(
    readers: &SqlitePool,
    merchant_id: &MerchantId,
    order_id: OrderId,
) -> Result<Vec<Refund>> {
    let rows = sqlx::query(concat!(
        "select ",
        columns!(),
        " from refund where order_id = ? and merchant_id = ? order by id"
    ))
    .bind(order_id)
    .bind(merchant_id.as_str())
    .fetch_all(readers)
    .await?;
    rows.iter().map(from_row).collect()
}

/// Reads a row of `columns!()`.
fn from_row(row: &SqliteRow) -> Result<Refund> {
    Ok(Refund {
        id: column(row, "id")?,
        merchant_id: merchant_column(row)?,
        refund_no: column(row, "refund_no")?,
        order_id: column(row, "order_id")?,
        payment_id: column(row, "payment_id")?,
        state: stored_column(row, "state")?,
        version: column(row, "version")?,
        cause: stored_column(row, "cause")?,
        amount_minor: column(row, "amount_minor")?,
        currency: currency_column(row)?,
        restock: column(row, "restock")?,
        detail: column(row, "detail")?,
        created_ms: column(row, "created_ms")?,
        final_ms: column(row, "final_ms")?,
    })
}
