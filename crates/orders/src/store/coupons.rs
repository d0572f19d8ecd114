//! Stores coupons, the rules that issue them, and the paid orders whose coupon is undecided.

use uuid::Uuid;

use crate::error::{Error, Result};
use crate::ids::{CouponId, CouponRuleId, MerchantId, OrderId};
use crate::model::coupon::{Coupon, CouponRule, CouponState, NewCouponRule, OnFullRefund};
use crate::model::order::{Order, OrderState};
use crate::model::stored::Stored as _;
use crate::store::rows::{
    column, currency_column, duplicate, hex_json, limit_of, merchant_column, stored_column,
};
use crate::store::sql::{Executor, Readers, Row, query, query_scalar};
use crate::store::tx::Tx;

/// The columns that [`from_row`] reads.
macro_rules! columns {
    () => {
        "id, merchant_id, rule_id, source_order_id, buyer_id, amount_off_minor, currency, state, \
         version, held_by, expires_ms, created_ms"
    };
}

/// The columns that [`rule_from_row`] reads.
macro_rules! rule_columns {
    () => {
        "id, merchant_id, name, amount_off_minor, currency, min_total_minor, valid_days, active, \
         on_full_refund, created_ms"
    };
}

/// Orders whose coupon has been undecided since before an instant.
const DUE_BEFORE: &str = "select order_id from coupon_due where since_ms < ? limit ?";

/// The active rule with the largest amount that fits a paid order.
const BEST_RULE: &str = "select r.id, r.valid_days from orders o
     join payment p on p.id = o.payment_id and p.amount_minor >
          (select coalesce(sum(r.amount_minor), 0) from refund r where r.payment_id = p.id and r.state = 4)
     join coupon_rule r on r.merchant_id = o.merchant_id and r.currency = o.currency
          and r.min_total_minor <= p.amount_minor and r.active = 1
     where o.id = ? and o.state = ?
     order by r.amount_off_minor desc, r.id limit 1";

/// Writes a new coupon of the rule for the buyer of the order.
pub(crate) async fn insert(
    tx: &mut Tx,
    order_id: OrderId,
    rule_id: CouponRuleId,
    expires_ms: i64,
) -> Result<Coupon> {
    let now_ms = tx.now_ms();
    let row = query(concat!(
        "insert into coupon (id, merchant_id, rule_id, source_order_id, buyer_id, amount_off_minor,
             currency, state, version, expires_ms, created_ms)
         select ?, o.merchant_id, r.id, o.id, o.buyer_id, r.amount_off_minor, r.currency, ?, 1, ?, ?
         from orders o join coupon_rule r on r.id = ? where o.id = ?
         returning ",
        columns!()
    ))
    .bind(CouponId::new(now_ms))
    .bind(CouponState::Available.stored())
    .bind(expires_ms)
    .bind(now_ms)
    .bind(rule_id)
    .bind(order_id)
    .fetch_one(tx.conn())
    .await?;
    from_row(&row)
}

/// Holds the coupon for an order if it fits the order and is available; answers it if it does.
pub(crate) async fn hold(tx: &mut Tx, id: CouponId, order: &Order) -> Result<Option<Coupon>> {
    let now_ms = tx.now_ms();
    let row = query(concat!(
        "update coupon set state = ?, held_by = ?, version = version + 1
         where id = ? and merchant_id = ? and buyer_id = ? and currency = ? and state = ?
           and expires_ms > ? returning ",
        columns!()
    ))
    .bind(CouponState::Held.stored())
    .bind(order.id)
    .bind(id)
    .bind(order.merchant_id.as_str())
    .bind(&order.buyer_id)
    .bind(order.currency.as_str())
    .bind(CouponState::Available.stored())
    .bind(now_ms)
    .fetch_optional(tx.conn())
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// Uses the coupon up if the order holds it; answers it if it does.
pub(crate) async fn use_held(
    tx: &mut Tx,
    id: CouponId,
    order_id: OrderId,
) -> Result<Option<Coupon>> {
    let row = query(concat!(
        "update coupon set state = ?, version = version + 1
         where id = ? and held_by = ? and state = ? returning ",
        columns!()
    ))
    .bind(CouponState::Used.stored())
    .bind(id)
    .bind(order_id)
    .bind(CouponState::Held.stored())
    .fetch_optional(tx.conn())
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// Makes held coupons available again, or expired or revoked where they are so meanwhile; answers them.
pub(crate) async fn return_held(tx: &mut Tx, ids: &[CouponId]) -> Result<Vec<Coupon>> {
    let now_ms = tx.now_ms();
    let rows = query(concat!(
        "update coupon set held_by = null, version = version + 1,
                state = case when revoke_on_return = 1 then ? when expires_ms <= ? then ? else ? end
         where id in (select unhex(value) from json_each(?)) and state = ? returning ",
        columns!()
    ))
    .bind(CouponState::Revoked.stored())
    .bind(now_ms)
    .bind(CouponState::Expired.stored())
    .bind(CouponState::Available.stored())
    .bind(hex_json(ids.iter().map(|id| id.uuid())))
    .bind(CouponState::Held.stored())
    .fetch_all(tx.conn())
    .await?;
    rows.iter().map(from_row).collect()
}

/// Makes the coupon that the order used available again, or expired or revoked where it is so meanwhile; answers it.
pub(crate) async fn return_used(tx: &mut Tx, order_id: OrderId) -> Result<Option<Coupon>> {
    let now_ms = tx.now_ms();
    let row = query(concat!(
        "update coupon set held_by = null, version = version + 1,
                state = case when revoke_on_return = 1 then ? when expires_ms <= ? then ? else ? end
         where id = (select coupon_id from orders where id = ?) and held_by = ? and state = ? returning ",
        columns!()
    ))
    .bind(CouponState::Revoked.stored())
    .bind(now_ms)
    .bind(CouponState::Expired.stored())
    .bind(CouponState::Available.stored())
    .bind(order_id)
    .bind(order_id)
    .bind(CouponState::Used.stored())
    .fetch_optional(tx.conn())
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// Whether the coupon of the order comes back when the order is refunded in full.
pub(crate) async fn comes_back_on_full_refund(tx: &mut Tx, order_id: OrderId) -> Result<bool> {
    let comes_back: Option<bool> = query_scalar(
        "select r.on_full_refund = ? from orders o join coupon c on c.id = o.coupon_id
         join coupon_rule r on r.id = c.rule_id where o.id = ?",
    )
    .bind(OnFullRefund::Return.stored())
    .bind(order_id)
    .fetch_optional(tx.conn())
    .await?;
    Ok(comes_back.unwrap_or(false))
}

/// Revokes the available coupons that the order was issued; answers them.
pub(crate) async fn revoke_available(tx: &mut Tx, source_order_id: OrderId) -> Result<Vec<Coupon>> {
    let rows = query(concat!(
        "update coupon set state = ?, version = version + 1
         where source_order_id = ? and state = ? returning ",
        columns!()
    ))
    .bind(CouponState::Revoked.stored())
    .bind(source_order_id)
    .bind(CouponState::Available.stored())
    .fetch_all(tx.conn())
    .await?;
    rows.iter().map(from_row).collect()
}

/// Marks the held and used coupons that the order was issued as revoked once they are returned.
pub(crate) async fn revoke_on_return(tx: &mut Tx, source_order_id: OrderId) -> Result<()> {
    query(
        "update coupon set revoke_on_return = 1, version = version + 1
         where source_order_id = ? and state in (?, ?)",
    )
    .bind(source_order_id)
    .bind(CouponState::Held.stored())
    .bind(CouponState::Used.stored())
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Expires those of the coupons that are available and past their validity; answers them.
pub(crate) async fn expire(tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<Coupon>> {
    let now_ms = tx.now_ms();
    let rows = query(concat!(
        "update coupon set state = ?, version = version + 1
         where id in (select unhex(value) from json_each(?)) and state = ? and expires_ms <= ?
         returning ",
        columns!()
    ))
    .bind(CouponState::Expired.stored())
    .bind(hex_json(ids.iter().copied()))
    .bind(CouponState::Available.stored())
    .bind(now_ms)
    .fetch_all(tx.conn())
    .await?;
    rows.iter().map(from_row).collect()
}

/// Gives an available coupon to another buyer; answers it if it was available.
pub(crate) async fn transfer(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    id: CouponId,
    buyer_id: &str,
) -> Result<Option<Coupon>> {
    let now_ms = tx.now_ms();
    let row = query(concat!(
        "update coupon set buyer_id = ?, version = version + 1
         where id = ? and merchant_id = ? and state = ? and expires_ms > ? returning ",
        columns!()
    ))
    .bind(buyer_id)
    .bind(id)
    .bind(merchant_id.as_str())
    .bind(CouponState::Available.stored())
    .bind(now_ms)
    .fetch_optional(tx.conn())
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// The merchant's coupon.
pub(crate) async fn find(
    executor: impl Executor,
    merchant_id: &MerchantId,
    id: CouponId,
) -> Result<Coupon> {
    let row = query(concat!(
        "select ",
        columns!(),
        " from coupon where id = ? and merchant_id = ?"
    ))
    .bind(id)
    .bind(merchant_id.as_str())
    .fetch_optional(executor)
    .await?;
    from_row(&row.ok_or_else(|| Error::not_found("coupon", &id))?)
}

/// Up to `limit` coupons of a buyer, those after `after` by id.
pub(crate) async fn of_buyer(
    readers: &Readers,
    merchant_id: &MerchantId,
    buyer_id: &str,
    after: Option<CouponId>,
    limit: usize,
) -> Result<Vec<Coupon>> {
    let rows = query(concat!(
        "select ",
        columns!(),
        " from coupon where merchant_id = ? and buyer_id = ? and id > ? order by id limit ?"
    ))
    .bind(merchant_id.as_str())
    .bind(buyer_id)
    .bind(after.map_or_else(Uuid::nil, CouponId::uuid))
    .bind(limit_of(limit))
    .fetch_all(readers)
    .await?;
    rows.iter().map(from_row).collect()
}

/// Records that the coupon of a paid order is to be decided.
pub(crate) async fn insert_due(tx: &mut Tx, order: &Order) -> Result<()> {
    let now_ms = tx.now_ms();
    query("insert into coupon_due (order_id, merchant_id, since_ms) values (?, ?, ?)")
        .bind(order.id)
        .bind(order.merchant_id.as_str())
        .bind(now_ms)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Records that the coupon of a paid order is decided; answers whether it was undecided.
pub(crate) async fn delete_due(tx: &mut Tx, order_id: OrderId) -> Result<bool> {
    let deleted = query("delete from coupon_due where order_id = ?")
        .bind(order_id)
        .execute(tx.conn())
        .await?;
    Ok(deleted.rows_affected() > 0)
}

/// Up to `limit` orders whose coupon has been undecided since before `before_ms`.
pub(crate) async fn due_before(
    readers: &Readers,
    before_ms: i64,
    limit: i64,
) -> Result<Vec<OrderId>> {
    let ids = query_scalar(DUE_BEFORE)
        .bind(before_ms)
        .bind(limit)
        .fetch_all(readers)
        .await?;
    Ok(ids)
}

/// The rule with the largest amount that fits a paid order, with the days its coupons are valid.
///
/// None fits an order that was refunded in full.
pub(crate) async fn best_rule(
    tx: &mut Tx,
    order_id: OrderId,
) -> Result<Option<(CouponRuleId, i64)>> {
    let row = query(BEST_RULE)
        .bind(order_id)
        .bind(OrderState::Paid.stored())
        .fetch_optional(tx.conn())
        .await?;
    row.map(|row| Ok((column(&row, "id")?, column(&row, "valid_days")?)))
        .transpose()
}

/// Writes a new rule, which is active.
pub(crate) async fn insert_rule(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    new: &NewCouponRule,
) -> Result<CouponRule> {
    let now_ms = tx.now_ms();
    let inserted = query(concat!(
        "insert into coupon_rule (",
        rule_columns!(),
        ") values (?, ?, ?, ?, ?, ?, ?, 1, ?, ?) returning ",
        rule_columns!()
    ))
    .bind(CouponRuleId::new(now_ms))
    .bind(merchant_id.as_str())
    .bind(&new.name)
    .bind(new.amount_off_minor)
    .bind(new.currency.as_str())
    .bind(new.min_total_minor)
    .bind(new.valid_days)
    .bind(new.on_full_refund.stored())
    .bind(now_ms)
    .fetch_one(tx.conn())
    .await;
    rule_from_row(&inserted.map_err(|error| duplicate(error, "coupon rule", &new.name))?)
}

/// Switches a rule on or off.
pub(crate) async fn set_rule_active(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    id: CouponRuleId,
    active: bool,
) -> Result<CouponRule> {
    let row = query(concat!(
        "update coupon_rule set active = ? where id = ? and merchant_id = ? returning ",
        rule_columns!()
    ))
    .bind(active)
    .bind(id)
    .bind(merchant_id.as_str())
    .fetch_optional(tx.conn())
    .await?;
    rule_from_row(&row.ok_or_else(|| Error::not_found("coupon rule", &id))?)
}

/// The merchant's rules, oldest first.
pub(crate) async fn rules(readers: &Readers, merchant_id: &MerchantId) -> Result<Vec<CouponRule>> {
    let rows = query(concat!(
        "select ",
        rule_columns!(),
        " from coupon_rule where merchant_id = ? order by id"
    ))
    .bind(merchant_id.as_str())
    .fetch_all(readers)
    .await?;
    rows.iter().map(rule_from_row).collect()
}

/// Reads a row of `columns!()`.
fn from_row(row: &Row) -> Result<Coupon> {
    Ok(Coupon {
        id: column(row, "id")?,
        merchant_id: merchant_column(row)?,
        rule_id: column(row, "rule_id")?,
        source_order_id: column(row, "source_order_id")?,
        buyer_id: column(row, "buyer_id")?,
        amount_off_minor: column(row, "amount_off_minor")?,
        currency: currency_column(row)?,
        state: stored_column(row, "state")?,
        version: column(row, "version")?,
        held_by: column(row, "held_by")?,
        expires_ms: column(row, "expires_ms")?,
        created_ms: column(row, "created_ms")?,
    })
}

/// Reads a row of `rule_columns!()`.
fn rule_from_row(row: &Row) -> Result<CouponRule> {
    Ok(CouponRule {
        id: column(row, "id")?,
        merchant_id: merchant_column(row)?,
        name: column(row, "name")?,
        amount_off_minor: column(row, "amount_off_minor")?,
        currency: currency_column(row)?,
        min_total_minor: column(row, "min_total_minor")?,
        valid_days: column(row, "valid_days")?,
        active: column(row, "active")?,
        on_full_refund: stored_column(row, "on_full_refund")?,
        created_ms: column(row, "created_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::shop::Shop;

    #[tokio::test]
    async fn what_decides_coupons_is_found_by_an_index() {
        let shop = Shop::open().await;
        for (statement, index) in [
            (DUE_BEFORE, "coupon_due_since"),
            (BEST_RULE, "coupon_rule_active"),
        ] {
            let plan = shop.plan_of(statement).await;
            let by_index = plan.iter().any(|step| step.contains(index));
            let scans = plan.iter().any(|step| step.starts_with("SCAN"));
            assert!(by_index && !scans, "{statement}\n{plan:?}");
        }
    }
}
