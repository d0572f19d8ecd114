//! Records the changes of coupons: in the audit trail, and as events.

use crate::messaging::event::{self, NewEvent};
use crate::model::audit::{Actor, NewAudit};
use crate::model::coupon::{Coupon, CouponState};
use crate::store::Tx;

/// A coupon's change, for its audit trail and its event.
pub(crate) struct Change {
    pub(crate) action: &'static str,
    pub(crate) event: &'static str,
    pub(crate) from: Option<CouponState>,
    pub(crate) actor: Actor,
}

/// Records the change that the coupon has just made.
pub(crate) fn record(tx: &mut Tx, coupon: &Coupon, change: &Change) {
    tx.audit(NewAudit {
        subject: coupon.id.to_string(),
        merchant_id: coupon.merchant_id.clone(),
        entity: coupon.id.to_string(),
        actor: change.actor,
        action: change.action,
        from: change.from.map(CouponState::as_str),
        to: Some(coupon.state.as_str()),
        detail: coupon.held_by.map(|order_id| order_id.to_string()),
    });
    event::emit(
        tx,
        NewEvent {
            kind: change.event,
            merchant_id: &coupon.merchant_id,
            subject: coupon.id.to_string(),
            data: coupon,
        },
    );
}
