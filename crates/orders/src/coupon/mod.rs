//! Moves coupons between their states.
//!
//! A coupon is AVAILABLE, HELD by a pending order, USED by a paid one, EXPIRED or REVOKED. Transferring, holding and
//! expiring require AVAILABLE; transferring and holding also require that it has not expired, whether its timer has
//! fired or not.

pub(crate) mod event;
pub(crate) mod expiry;
pub(crate) mod issue;
pub(crate) mod rule;
pub(crate) mod transfer;

use crate::coupon::event::{Change, record};
use crate::error::{Error, Result};
use crate::ids::{CouponId, OrderId};
use crate::model::audit::Actor;
use crate::model::coupon::{Coupon, CouponState};
use crate::model::event::EventType;
use crate::model::order::Order;
use crate::model::timer::TimerKind;
use crate::store::{Tx, coupons};
use crate::timer;

/// Holds the coupon for an order about to be inserted; answers what it takes off, in minor units.
pub(crate) async fn hold(tx: &mut Tx, id: CouponId, order: &Order) -> Result<i64> {
    let Some(coupon) = coupons::hold(tx, id, order).await? else {
        return Err(hold_refusal(tx, id, order).await?);
    };
    record(
        tx,
        &coupon,
        &Change {
            action: "hold",
            event: EventType::CouponHeld,
            from: Some(CouponState::Available),
            actor: Actor::Buyer,
        },
    );
    Ok(coupon.amount_off_minor)
}

async fn hold_refusal(tx: &mut Tx, id: CouponId, order: &Order) -> Result<Error> {
    let coupon = coupons::find(tx.conn(), &order.merchant_id, id).await?;
    let reason = if coupon.buyer_id != order.buyer_id {
        "it belongs to another buyer"
    } else if coupon.currency != order.currency {
        "it is in another currency"
    } else {
        unavailable_reason(&coupon)
    };
    Ok(Error::CouponUnusable { id, reason })
}

/// Why a coupon of the right buyer cannot be held or transferred.
fn unavailable_reason(coupon: &Coupon) -> &'static str {
    match coupon.state {
        CouponState::Held => "another order holds it",
        CouponState::Used => "it was used",
        CouponState::Revoked => "it was revoked",
        CouponState::Available | CouponState::Expired => "it has expired",
    }
}

/// Uses up the coupon that the order, just paid, holds.
pub(crate) async fn use_held(tx: &mut Tx, order: &Order) -> Result<()> {
    let Some(id) = order.coupon_id else {
        return Ok(());
    };
    let Some(coupon) = coupons::use_held(tx, id, order.id).await? else {
        return Ok(());
    };
    timer::disarm(tx, TimerKind::CouponExpiry, [id.uuid()]).await?;
    record(
        tx,
        &coupon,
        &Change {
            action: "use",
            event: EventType::CouponUsed,
            from: Some(CouponState::Held),
            actor: Actor::System,
        },
    );
    Ok(())
}

/// Returns the coupons of orders that have just closed.
pub(crate) async fn return_held(tx: &mut Tx, ids: Vec<CouponId>) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    for coupon in coupons::return_held(tx, &ids).await? {
        if coupon.state != CouponState::Available {
            timer::disarm(tx, TimerKind::CouponExpiry, [coupon.id.uuid()]).await?;
        }
        record_return(tx, &coupon, CouponState::Held);
    }
    Ok(())
}

/// Returns the coupon that the order used: the order is undone.
pub(crate) async fn return_used(tx: &mut Tx, order_id: OrderId) -> Result<()> {
    let returned = coupons::return_used(tx, order_id).await?;
    follow_return(tx, returned).await
}

/// Returns the coupon that a fully refunded order used, if the coupon's rule has it so.
pub(crate) async fn return_used_by_rule(tx: &mut Tx, order_id: OrderId) -> Result<()> {
    if coupons::comes_back_on_full_refund(tx, order_id).await? {
        return_used(tx, order_id).await?;
    }
    Ok(())
}

async fn follow_return(tx: &mut Tx, returned: Option<Coupon>) -> Result<()> {
    let Some(coupon) = returned else {
        return Ok(());
    };
    if coupon.state == CouponState::Available {
        timer::set(tx, issue::expiry(&coupon)).await?;
    }
    record_return(tx, &coupon, CouponState::Used);
    Ok(())
}

fn record_return(tx: &mut Tx, coupon: &Coupon, from: CouponState) {
    let event = match coupon.state {
        CouponState::Expired => EventType::CouponExpired,
        CouponState::Revoked => EventType::CouponRevoked,
        _ => EventType::CouponReturned,
    };
    let change = Change {
        action: "return",
        event,
        from: Some(from),
        actor: Actor::System,
    };
    record(tx, coupon, &change);
}

/// Revokes the coupon that a fully refunded order earned: at once if available, else once it is returned.
pub(crate) async fn revoke(tx: &mut Tx, source_order_id: OrderId) -> Result<()> {
    for coupon in coupons::revoke_available(tx, source_order_id).await? {
        timer::disarm(tx, TimerKind::CouponExpiry, [coupon.id.uuid()]).await?;
        record(
            tx,
            &coupon,
            &Change {
                action: "revoke",
                event: EventType::CouponRevoked,
                from: Some(CouponState::Available),
                actor: Actor::System,
            },
        );
    }
    coupons::revoke_on_return(tx, source_order_id).await
}
