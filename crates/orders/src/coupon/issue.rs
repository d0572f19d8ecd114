//! Decides, once per paid order, which coupon its buyer gets.

use crate::config::DAY_MS;
use crate::coupon::{Change, Coupon, coupon_columns, from_row, tell};
use crate::error::{Error, Result};
use crate::ids::{CouponId, CouponRuleId, OrderId};
use crate::order::OrderState;
use crate::platform::Platform;
use crate::store::audit::Actor;
use crate::store::{Tx, column};
use crate::timer::{self, NewTimer, TimerKind};

/// What came of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Awarded {
    /// The buyer got this coupon.
    Issued(Box<Coupon>),
    /// No rule fits, or the order was refunded in full.
    Nothing,
    /// It was decided before.
    Before,
}

/// Decides the coupons of these orders, in one transaction if none of them fails; gives back those that do.
pub(crate) async fn decide(platform: &Platform, paid: Vec<OrderId>) -> Vec<(OrderId, Error)> {
    let split = platform
        .writer()
        .run_split((), paid, |tx, ((), paid)| Box::pin(decide_in(tx, paid)));
    split.await.failed
}

async fn decide_in(tx: &mut Tx, paid: &[OrderId]) -> Result<()> {
    for order_id in paid {
        award(tx, *order_id).await?;
    }
    Ok(())
}

/// Decides the coupon of a paid order: the largest amount of the rules that fit.
///
/// Deleting the order's `coupon_due` row is what decides, so that a repeated event changes nothing.
pub(crate) async fn award(tx: &mut Tx, order_id: OrderId) -> Result<Awarded> {
    let decided = sqlx::query("delete from coupon_due where order_id = ?")
        .bind(order_id)
        .execute(tx.conn())
        .await?;
    if decided.rows_affected() == 0 {
        return Ok(Awarded::Before);
    }
    let rule = sqlx::query(
        "select r.id, r.valid_days from orders o
         join payment p on p.id = o.payment_id and p.refunded_minor < p.amount_minor
         join coupon_rule r on r.merchant_id = o.merchant_id and r.currency = o.currency
              and r.min_total_minor <= p.amount_minor and r.active = 1
         where o.id = ? and o.state = ?
         order by r.amount_off_minor desc, r.id limit 1",
    )
    .bind(order_id)
    .bind(OrderState::Paid.stored())
    .fetch_optional(tx.conn())
    .await?;
    let Some(rule) = rule else {
        return Ok(Awarded::Nothing);
    };
    let valid_days: i64 = column(&rule, "valid_days")?;
    let coupon = issue(tx, order_id, column(&rule, "id")?, valid_days * DAY_MS).await?;
    Ok(Awarded::Issued(Box::new(coupon)))
}

async fn issue(
    tx: &mut Tx,
    order_id: OrderId,
    rule_id: CouponRuleId,
    valid_ms: i64,
) -> Result<Coupon> {
    let now_ms = tx.now_ms();
    let row = sqlx::query(concat!(
        "insert into coupon (id, merchant_id, rule_id, source_order_id, buyer_id, amount_off_minor,
             currency, state, version, expires_ms, created_ms)
         select ?, o.merchant_id, r.id, o.id, o.buyer_id, r.amount_off_minor, r.currency, ?, 1, ?, ?
         from orders o join coupon_rule r on r.id = ? where o.id = ?
         returning ",
        coupon_columns!()
    ))
    .bind(CouponId::new(now_ms))
    .bind(super::CouponState::Free.stored())
    .bind(now_ms + valid_ms)
    .bind(now_ms)
    .bind(rule_id)
    .bind(order_id)
    .fetch_one(tx.conn())
    .await?;
    let coupon = from_row(&row)?;
    timer::arm(
        tx,
        NewTimer {
            kind: TimerKind::CouponExpiry,
            id: coupon.id.uuid(),
            merchant_id: coupon.merchant_id.clone(),
            due_ms: coupon.expires_ms,
            fire_ms: coupon.expires_ms,
            version: coupon.version,
        },
    );
    tell(
        tx,
        &coupon,
        &Change {
            action: "issue",
            event: "coupon.issued",
            from: None,
            actor: Actor::System,
        },
    );
    Ok(coupon)
}
