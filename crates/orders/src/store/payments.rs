//! Stores payment attempts and payments.

use uuid::Uuid;

use crate::error::{Error, Result};
use crate::ids::{AttemptId, GatewayAccountId, MerchantId, OrderId, PaymentId};
use crate::model::payment::{Attempt, AttemptState, Payment, PaymentKind, WaitingAttempt};
use crate::model::stored::Stored as _;
use crate::store::rows::{
    column, currency_column, hex_json, limit_of, merchant_column, stored_column,
};
use crate::store::sql::{Executor, Readers, Row, query, query_scalar};
use crate::store::tx::Tx;

/// The columns that [`attempt_from_row`] reads.
macro_rules! attempt_columns {
    () => {
        "id, merchant_id, order_id, account_id, state, version, amount_minor, currency, expires_ms, expires_at_ms, \
         gateway_ref, pay_url, detail, created_ms, final_ms"
    };
}

/// The columns that [`payment_from_row`] reads.
macro_rules! payment_columns {
    () => {
        "id, merchant_id, order_id, attempt_id, account_id, gateway_txn, kind, amount_minor, currency, \
         refunded_minor, paid_at_ms, created_ms"
    };
}

/// Writes a new attempt.
pub(crate) async fn insert_attempt(tx: &mut Tx, attempt: &Attempt) -> Result<()> {
    query(
        "insert into attempt (id, merchant_id, order_id, account_id, state, version, amount_minor,
             currency, expires_ms, expires_at_ms, created_ms)
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(attempt.id)
    .bind(attempt.merchant_id.as_str())
    .bind(attempt.order_id)
    .bind(attempt.account_id)
    .bind(attempt.state.stored())
    .bind(attempt.version)
    .bind(attempt.amount_minor)
    .bind(attempt.currency.as_str())
    .bind(attempt.expires_ms)
    .bind(attempt.expires_at_ms)
    .bind(attempt.created_ms)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Moves the attempt from the state it was seen in; answers whether it still was in it.
pub(crate) async fn change_attempt(
    tx: &mut Tx,
    attempt: &Attempt,
    to: AttemptState,
    detail: Option<&str>,
) -> Result<bool> {
    let now_ms = tx.now_ms();
    let changed = query(
        "update attempt set state = ?, version = version + 1, final_ms = ?,
                detail = coalesce(?, detail)
         where id = ? and state = ?",
    )
    .bind(to.stored())
    .bind((!to.is_open()).then_some(now_ms))
    .bind(detail)
    .bind(attempt.id)
    .bind(attempt.state.stored())
    .execute(tx.conn())
    .await?;
    Ok(changed.rows_affected() > 0)
}

/// Records the gateway's number for the attempt and where the buyer pays.
pub(crate) async fn set_gateway_ref(
    tx: &mut Tx,
    id: AttemptId,
    gateway_ref: Option<&str>,
    pay_url: Option<&str>,
) -> Result<()> {
    query("update attempt set gateway_ref = ?, pay_url = ? where id = ?")
        .bind(gateway_ref)
        .bind(pay_url)
        .bind(id)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Records the last news of the attempt, for a person.
pub(crate) async fn set_detail(tx: &mut Tx, id: AttemptId, detail: &str) -> Result<()> {
    query("update attempt set detail = ? where id = ?")
        .bind(detail)
        .bind(id)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// The attempt of any merchant, if it exists.
pub(crate) async fn find_attempt(
    executor: impl Executor,
    id: AttemptId,
) -> Result<Option<Attempt>> {
    let row = query(concat!(
        "select ",
        attempt_columns!(),
        " from attempt where id = ?"
    ))
    .bind(id)
    .fetch_optional(executor)
    .await?;
    row.as_ref().map(attempt_from_row).transpose()
}

/// The attempt of the merchant.
pub(crate) async fn attempt(
    readers: &Readers,
    merchant_id: &MerchantId,
    id: AttemptId,
) -> Result<Attempt> {
    let row = query(concat!(
        "select ",
        attempt_columns!(),
        " from attempt where id = ? and merchant_id = ?"
    ))
    .bind(id)
    .bind(merchant_id.as_str())
    .fetch_optional(readers)
    .await?;
    attempt_from_row(&row.ok_or_else(|| Error::not_found("payment attempt", &id))?)
}

/// Up to `limit` attempts of the merchant in one of the states that wait, those after `after` by id.
pub(crate) async fn waiting_attempts(
    readers: &Readers,
    merchant_id: &MerchantId,
    state: WaitingAttempt,
    after: Option<AttemptId>,
    limit: usize,
) -> Result<Vec<Attempt>> {
    let statement = match state {
        WaitingAttempt::Unknown => UNKNOWN_PAGE,
        WaitingAttempt::NeedsOperator => NEEDS_OPERATOR_PAGE,
    };
    let rows = query(statement)
        .bind(merchant_id.as_str())
        .bind(after.map_or_else(Uuid::nil, AttemptId::uuid))
        .bind(limit_of(limit))
        .fetch_all(readers)
        .await?;
    rows.iter().map(attempt_from_row).collect()
}

/// A page of attempts in one state, which is written out since only so does SQLite use the index of that state.
macro_rules! attempts_page {
    ($state:literal) => {
        concat!(
            "select ",
            attempt_columns!(),
            " from attempt where merchant_id = ? and state = ",
            $state,
            " and id > ? order by id limit ?"
        )
    };
}

const UNKNOWN_PAGE: &str = attempts_page!("5");
const NEEDS_OPERATOR_PAGE: &str = attempts_page!("6");

/// The attempt of the payment that was recorded under this transaction, if one was.
pub(crate) async fn attempt_of_transaction(
    tx: &mut Tx,
    account_id: GatewayAccountId,
    gateway_txn: &str,
) -> Result<Option<AttemptId>> {
    let attempt =
        query_scalar("select attempt_id from payment where account_id = ? and gateway_txn = ?")
            .bind(account_id)
            .bind(gateway_txn)
            .fetch_optional(tx.conn())
            .await?;
    Ok(attempt)
}

/// The order's attempts, oldest first.
pub(crate) async fn attempts_of_order(
    executor: impl Executor,
    merchant_id: &MerchantId,
    order_id: OrderId,
) -> Result<Vec<Attempt>> {
    let rows = query(concat!(
        "select ",
        attempt_columns!(),
        " from attempt where order_id = ? and merchant_id = ? order by id"
    ))
    .bind(order_id)
    .bind(merchant_id.as_str())
    .fetch_all(executor)
    .await?;
    rows.iter().map(attempt_from_row).collect()
}

/// The order's live attempts, oldest first.
pub(crate) async fn live_attempts(
    executor: impl Executor,
    order_id: OrderId,
) -> Result<Vec<Attempt>> {
    let rows = query(concat!(
        "select ",
        attempt_columns!(),
        " from attempt where order_id = ? and state = ? order by id"
    ))
    .bind(order_id)
    .bind(AttemptState::Submitted.stored())
    .fetch_all(executor)
    .await?;
    rows.iter().map(attempt_from_row).collect()
}

/// Those of the orders that have a live attempt through one of the accounts.
pub(crate) async fn orders_through_accounts(
    tx: &mut Tx,
    order_ids: impl IntoIterator<Item = Uuid>,
    accounts: &[GatewayAccountId],
) -> Result<Vec<Uuid>> {
    let orders = query_scalar(
        "select order_id from attempt where order_id in (select unhex(value) from json_each(?))
           and account_id in (select unhex(value) from json_each(?)) and state = ?",
    )
    .bind(hex_json(order_ids))
    .bind(hex_json(accounts.iter().map(|id| id.uuid())))
    .bind(AttemptState::Submitted.stored())
    .fetch_all(tx.conn())
    .await?;
    Ok(orders)
}

/// Of these attempts, the ids of those that go through one of the accounts.
pub(crate) async fn attempts_through_accounts(
    tx: &mut Tx,
    ids: impl IntoIterator<Item = Uuid>,
    accounts: &[GatewayAccountId],
) -> Result<Vec<Uuid>> {
    let attempts = query_scalar(
        "select id from attempt where id in (select unhex(value) from json_each(?))
           and account_id in (select unhex(value) from json_each(?))",
    )
    .bind(hex_json(ids))
    .bind(hex_json(accounts.iter().map(|id| id.uuid())))
    .fetch_all(tx.conn())
    .await?;
    Ok(attempts)
}

/// Writes a new payment; answers whether its transaction was not recorded before.
pub(crate) async fn insert_payment(tx: &mut Tx, payment: &Payment) -> Result<bool> {
    let inserted = query(
        "insert into payment (id, merchant_id, order_id, attempt_id, account_id, gateway_txn, kind,
             amount_minor, currency, paid_at_ms, created_ms)
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         on conflict (account_id, gateway_txn) do nothing",
    )
    .bind(payment.id)
    .bind(payment.merchant_id.as_str())
    .bind(payment.order_id)
    .bind(payment.attempt_id)
    .bind(payment.account_id)
    .bind(&payment.gateway_txn)
    .bind(payment.kind.stored())
    .bind(payment.amount_minor)
    .bind(payment.currency.as_str())
    .bind(payment.paid_at_ms)
    .bind(payment.created_ms)
    .execute(tx.conn())
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Whether a payment of this transaction is recorded.
pub(crate) async fn is_recorded(
    tx: &mut Tx,
    account_id: GatewayAccountId,
    gateway_txn: &str,
) -> Result<bool> {
    let found = query("select 1 from payment where account_id = ? and gateway_txn = ?")
        .bind(account_id)
        .bind(gateway_txn)
        .fetch_optional(tx.conn())
        .await?;
    Ok(found.is_some())
}

/// Records what the payment was to its order.
pub(crate) async fn set_kind(tx: &mut Tx, id: PaymentId, kind: PaymentKind) -> Result<()> {
    query("update payment set kind = ? where id = ?")
        .bind(kind.stored())
        .bind(id)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Sets money of the payment aside for a refund; answers whether there was enough left.
pub(crate) async fn reserve(tx: &mut Tx, id: PaymentId, amount_minor: i64) -> Result<bool> {
    let reserved = query(
        "update payment set refunded_minor = refunded_minor + ?1
         where id = ?2 and refunded_minor + ?1 <= amount_minor",
    )
    .bind(amount_minor)
    .bind(id)
    .execute(tx.conn())
    .await?;
    Ok(reserved.rows_affected() == 1)
}

/// Takes back what was set aside for a refund.
pub(crate) async fn release(tx: &mut Tx, id: PaymentId, amount_minor: i64) -> Result<()> {
    query(
        "update payment set refunded_minor = refunded_minor - ?1
         where id = ?2 and refunded_minor >= ?1",
    )
    .bind(amount_minor)
    .bind(id)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// What has not been refunded of the payment and is not set aside, in minor units.
pub(crate) async fn left_minor(tx: &mut Tx, id: PaymentId) -> Result<i64> {
    let left = query_scalar("select amount_minor - refunded_minor from payment where id = ?")
        .bind(id)
        .fetch_one(tx.conn())
        .await?;
    Ok(left)
}

/// The payment that the order accepted, if there is one.
pub(crate) async fn accepted(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    order_id: OrderId,
) -> Result<Option<Payment>> {
    let row = query(concat!(
        "select ",
        payment_columns!(),
        " from payment where order_id = ? and merchant_id = ? and kind = ?"
    ))
    .bind(order_id)
    .bind(merchant_id.as_str())
    .bind(PaymentKind::Accepted.stored())
    .fetch_optional(tx.conn())
    .await?;
    row.as_ref().map(payment_from_row).transpose()
}

/// All payments of the order, oldest first.
pub(crate) async fn payments_of_order(
    executor: impl Executor,
    merchant_id: &MerchantId,
    order_id: OrderId,
) -> Result<Vec<Payment>> {
    let rows = query(concat!(
        "select ",
        payment_columns!(),
        " from payment where order_id = ? and merchant_id = ? order by id"
    ))
    .bind(order_id)
    .bind(merchant_id.as_str())
    .fetch_all(executor)
    .await?;
    rows.iter().map(payment_from_row).collect()
}

/// Reads a row of `attempt_columns!()`.
fn attempt_from_row(row: &Row) -> Result<Attempt> {
    Ok(Attempt {
        id: column(row, "id")?,
        merchant_id: merchant_column(row)?,
        order_id: column(row, "order_id")?,
        account_id: column(row, "account_id")?,
        state: stored_column(row, "state")?,
        version: column(row, "version")?,
        amount_minor: column(row, "amount_minor")?,
        currency: currency_column(row)?,
        expires_ms: column(row, "expires_ms")?,
        expires_at_ms: column(row, "expires_at_ms")?,
        gateway_ref: column(row, "gateway_ref")?,
        pay_url: column(row, "pay_url")?,
        detail: column(row, "detail")?,
        created_ms: column(row, "created_ms")?,
        final_ms: column(row, "final_ms")?,
    })
}

/// Reads a row of `payment_columns!()`.
fn payment_from_row(row: &Row) -> Result<Payment> {
    Ok(Payment {
        id: column(row, "id")?,
        merchant_id: merchant_column(row)?,
        order_id: column(row, "order_id")?,
        attempt_id: column(row, "attempt_id")?,
        account_id: column(row, "account_id")?,
        gateway_txn: column(row, "gateway_txn")?,
        kind: stored_column(row, "kind")?,
        amount_minor: column(row, "amount_minor")?,
        currency: currency_column(row)?,
        refunded_minor: column(row, "refunded_minor")?,
        paid_at_ms: column(row, "paid_at_ms")?,
        created_ms: column(row, "created_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::shop::Shop;

    #[tokio::test]
    async fn attempts_that_wait_are_found_by_the_indexes_of_their_states() {
        let shop = Shop::open().await;
        assert_eq!(AttemptState::Unknown.stored(), 5);
        assert_eq!(AttemptState::NeedsOperator.stored(), 6);
        for (statement, index) in [
            (UNKNOWN_PAGE, "attempt_unknown"),
            (NEEDS_OPERATOR_PAGE, "attempt_needs_operator"),
        ] {
            let plan = shop.plan_of(statement).await;
            assert!(plan[0].contains(index), "{plan:?}");
        }
    }
}
