//! Stores refunds and the units that come back with them.

use uuid::Uuid;

use crate::error::{Error, Result};
use crate::ids::{GatewayAccountId, MerchantId, OrderId, RefundId};
use crate::model::refund::{Refund, RefundCause, RefundJob, RefundLine, RefundState};
use crate::model::stored::Stored as _;
use crate::store::rows::{
    column, currency_column, duplicate, limit_of, list_json, merchant_column, stored_column,
};
use crate::store::sql::{Executor, Readers, Row, query, query_scalar};
use crate::store::tx::Tx;

/// The columns that [`from_row`] reads.
macro_rules! columns {
    () => {
        "id, merchant_id, refund_no, order_id, payment_id, state, version, cause, amount_minor, \
         asked_minor, currency, restock, released, applied, reference, detail, created_ms, asked_ms, \
         final_ms"
    };
}

/// Writes a new refund.
pub(crate) async fn insert(tx: &mut Tx, refund: &Refund) -> Result<()> {
    let automatic = refund.cause != RefundCause::Merchant;
    let inserted = query(
        "insert into refund (id, merchant_id, refund_no, order_id, payment_id, auto_payment_id, state,
             version, cause, amount_minor, asked_minor, currency, restock, created_ms, asked_ms)
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
    .bind(refund.asked_minor)
    .bind(refund.currency.as_str())
    .bind(refund.restock)
    .bind(refund.created_ms)
    .bind(refund.asked_ms)
    .execute(tx.conn())
    .await;
    inserted.map_err(|error| duplicate(error, "refund", &refund.refund_no))?;
    Ok(())
}

/// The refund of any merchant, if it exists.
pub(crate) async fn find(tx: &mut Tx, id: RefundId) -> Result<Option<Refund>> {
    let row = query(concat!("select ", columns!(), " from refund where id = ?"))
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
    let row = query(concat!(
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

/// Takes a refund that needs an operator back to REQUESTED; answers it if it was there.
pub(crate) async fn take_up(tx: &mut Tx, id: RefundId) -> Result<Option<Refund>> {
    let row = query(concat!(
        "update refund set state = ?, version = version + 1, asked_ms = ?, final_ms = null
         where id = ? and state = ? returning ",
        columns!()
    ))
    .bind(RefundState::Requested.stored())
    .bind(tx.now_ms())
    .bind(id)
    .bind(RefundState::NeedsOperator.stored())
    .fetch_optional(tx.conn())
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// Records what a person settled the refund with.
pub(crate) async fn set_reference(tx: &mut Tx, id: RefundId, reference: &str) -> Result<()> {
    query("update refund set reference = ? where id = ?")
        .bind(reference)
        .bind(id)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Records whether the refund's money can be refunded otherwise; answers whether that is new.
pub(crate) async fn set_released(tx: &mut Tx, id: RefundId, released: bool) -> Result<bool> {
    let changed = query("update refund set released = ?1 where id = ?2 and released <> ?1")
        .bind(released)
        .bind(id)
        .execute(tx.conn())
        .await?;
    Ok(changed.rows_affected() == 1)
}

/// Records that the refund changes stock and coupons; answers whether it had not before.
pub(crate) async fn set_applied(tx: &mut Tx, id: RefundId) -> Result<bool> {
    let changed = query("update refund set applied = 1 where id = ? and applied = 0")
        .bind(id)
        .execute(tx.conn())
        .await?;
    Ok(changed.rows_affected() == 1)
}

/// Whether the whole amount of the refund's payment has been given back.
pub(crate) async fn is_all_given_back(tx: &mut Tx, refund: &Refund) -> Result<bool> {
    let all: bool = query_scalar(
        "select p.amount_minor <=
             (select coalesce(sum(r.amount_minor), 0) from refund r where r.payment_id = p.id and r.state = ?)
         from payment p where p.id = ?",
    )
    .bind(RefundState::Succeeded.stored())
    .bind(refund.payment_id)
    .fetch_one(tx.conn())
    .await?;
    Ok(all)
}

/// Writes the units that come back when the refund has succeeded.
pub(crate) async fn insert_lines(tx: &mut Tx, id: RefundId, lines: &[RefundLine]) -> Result<()> {
    let lines: Vec<_> = lines
        .iter()
        .map(|line| (line.line_no, line.quantity))
        .collect();
    query(
        "insert into refund_line (refund_id, line_no, quantity)
         select ?, value ->> 0, value ->> 1 from json_each(?)",
    )
    .bind(id)
    .bind(list_json(&lines))
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// The units that come back when the refund has succeeded, by line.
pub(crate) async fn lines(tx: &mut Tx, id: RefundId) -> Result<Vec<RefundLine>> {
    let rows =
        query("select line_no, quantity from refund_line where refund_id = ? order by line_no")
            .bind(id)
            .fetch_all(tx.conn())
            .await?;
    rows.iter().map(line_from_row).collect()
}

/// The units of each line of the order that no refund has put back or is to put back, where there are any.
pub(crate) async fn lines_left(tx: &mut Tx, order_id: OrderId) -> Result<Vec<RefundLine>> {
    let rows = query(
        "select line_no, quantity from (
             select h.line_no, h.quantity - h.returned -
                 (select coalesce(sum(l.quantity), 0) from refund r
                  join refund_line l on l.refund_id = r.id and l.line_no = h.line_no
                  where r.order_id = h.order_id and r.applied = 0 and r.released = 0
                    and r.state <> ?2) as quantity
             from hold h where h.order_id = ?1)
         where quantity > 0 order by line_no",
    )
    .bind(order_id)
    .bind(RefundState::Withdrawn.stored())
    .fetch_all(tx.conn())
    .await?;
    rows.iter().map(line_from_row).collect()
}

/// The merchant's refund under this number, if there is one.
pub(crate) async fn of_number(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    refund_no: &str,
) -> Result<Option<Refund>> {
    let row = query(concat!(
        "select ",
        columns!(),
        " from refund where merchant_id = ? and refund_no = ?"
    ))
    .bind(merchant_id.as_str())
    .bind(refund_no)
    .fetch_optional(tx.conn())
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// The gateway account of the refund's payment, if the refund exists.
pub(crate) async fn account(tx: &mut Tx, id: RefundId) -> Result<Option<GatewayAccountId>> {
    let account = query_scalar(
        "select p.account_id from refund r join payment p on p.id = r.payment_id where r.id = ?",
    )
    .bind(id)
    .fetch_optional(tx.conn())
    .await?;
    Ok(account)
}

/// The refund with what its gateway needs to know. It must exist.
pub(crate) async fn job(readers: &Readers, id: RefundId) -> Result<RefundJob> {
    let row = query(concat!(
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
    executor: impl Executor,
    merchant_id: &MerchantId,
    id: RefundId,
) -> Result<Refund> {
    let row = query(concat!(
        "select ",
        columns!(),
        " from refund where id = ? and merchant_id = ?"
    ))
    .bind(id)
    .bind(merchant_id.as_str())
    .fetch_optional(executor)
    .await?;
    from_row(&row.ok_or_else(|| Error::not_found("refund", &id))?)
}

/// The order's refunds, oldest first.
pub(crate) async fn of_order(
    readers: &Readers,
    merchant_id: &MerchantId,
    order_id: OrderId,
) -> Result<Vec<Refund>> {
    let rows = query(concat!(
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

/// Up to `limit` refunds of one state, those after `after` by id.
pub(crate) async fn page(
    readers: &Readers,
    merchant_id: &MerchantId,
    state: RefundState,
    after: Option<RefundId>,
    limit: usize,
) -> Result<Vec<Refund>> {
    let rows = query(concat!(
        "select ",
        columns!(),
        " from refund where merchant_id = ? and state = ? and id > ? order by id limit ?"
    ))
    .bind(merchant_id.as_str())
    .bind(state.stored())
    .bind(after.map_or_else(Uuid::nil, RefundId::uuid))
    .bind(limit_of(limit))
    .fetch_all(readers)
    .await?;
    rows.iter().map(from_row).collect()
}

fn line_from_row(row: &Row) -> Result<RefundLine> {
    Ok(RefundLine {
        line_no: column(row, "line_no")?,
        quantity: column(row, "quantity")?,
    })
}

/// Reads a row of `columns!()`.
fn from_row(row: &Row) -> Result<Refund> {
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
        asked_minor: column(row, "asked_minor")?,
        currency: currency_column(row)?,
        restock: column(row, "restock")?,
        released: column(row, "released")?,
        applied: column(row, "applied")?,
        reference: column(row, "reference")?,
        detail: column(row, "detail")?,
        created_ms: column(row, "created_ms")?,
        asked_ms: column(row, "asked_ms")?,
        final_ms: column(row, "final_ms")?,
    })
}
