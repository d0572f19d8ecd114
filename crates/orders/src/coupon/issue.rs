//! Decides, once per paid order, which coupon its buyer gets.

use crate::config::DAY_MS;
use crate::coupon::event::{Change, record};
use crate::error::{Error, Result};
use crate::ids::{CouponRuleId, OrderId};
use crate::model::audit::Actor;
use crate::model::coupon::Coupon;
use crate::model::event::EventType;
use crate::model::timer::{NewTimer, TimerKind};
use crate::platform::Platform;
use crate::store::{Tx, coupons};
use crate::timer;

/// The coupon that was decided for an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The buyer got this coupon.
    Issued(Box<Coupon>),
    /// No rule fits, or the order was refunded in full.
    Nothing,
    /// It was decided before.
    Repeated,
}

/// Decides the coupons of these orders, in one transaction if none of them fails; answers those that do.
pub(crate) async fn decide(platform: &Platform, paid: Vec<OrderId>) -> Vec<(OrderId, Error)> {
    let split = platform
        .writer()
        .run_split((), paid, |tx, ((), paid)| Box::pin(decide_in(tx, paid)));
    split.await.failed
}

async fn decide_in(tx: &mut Tx, paid: &[OrderId]) -> Result<()> {
    for order_id in paid {
        decide_one(tx, *order_id).await?;
    }
    Ok(())
}

/// Decides the coupon of a paid order: the largest amount of the rules that fit.
///
/// Deleting the order's `coupon_due` row is what decides, so that a repeated event changes nothing.
pub(crate) async fn decide_one(tx: &mut Tx, order_id: OrderId) -> Result<Decision> {
    if !coupons::delete_due(tx, order_id).await? {
        return Ok(Decision::Repeated);
    }
    let Some((rule_id, valid_days)) = coupons::best_rule(tx, order_id).await? else {
        return Ok(Decision::Nothing);
    };
    let coupon = issue(tx, order_id, rule_id, valid_days * DAY_MS).await?;
    Ok(Decision::Issued(Box::new(coupon)))
}

/// The timer of an available coupon.
pub(crate) fn expiry(coupon: &Coupon) -> NewTimer {
    NewTimer {
        kind: TimerKind::CouponExpiry,
        id: coupon.id.uuid(),
        merchant_id: coupon.merchant_id.clone(),
        due_ms: coupon.expires_ms,
        fire_ms: coupon.expires_ms,
        version: coupon.version,
    }
}

async fn issue(
    tx: &mut Tx,
    order_id: OrderId,
    rule_id: CouponRuleId,
    valid_ms: i64,
) -> Result<Coupon> {
    let expires_ms = tx.now_ms() + valid_ms;
    let coupon = coupons::insert(tx, order_id, rule_id, expires_ms).await?;
    timer::arm(tx, expiry(&coupon));
    record(
        tx,
        &coupon,
        &Change {
            action: "issue",
            event: EventType::CouponIssued,
            from: None,
            actor: Actor::System,
        },
    );
    Ok(coupon)
}
