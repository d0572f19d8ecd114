//! Records the changes of coupons: in the audit trail, and as events.

use edge::instant::Instant;
use serde::Serialize;
use utoipa::ToSchema;

use crate::ids::{CouponId, CouponRuleId, OrderId};
use crate::messaging::event::{self, NewEvent, shown};
use crate::model::audit::{Actor, NewAudit};
use crate::model::coupon::{Coupon, CouponState};
use crate::model::event::EventType;
use crate::money::Currency;
use crate::store::Tx;

/// A coupon, as the API shows it at the time of the event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CouponData)]
pub(crate) struct CouponData<'a> {
    /// Its id.
    #[schema(value_type = String)]
    id: CouponId,
    /// The rule that issued it.
    #[schema(value_type = String)]
    rule_id: CouponRuleId,
    /// The paid order for which it was issued.
    #[schema(value_type = String)]
    source_order_id: OrderId,
    /// The buyer who may use it.
    buyer_id: &'a str,
    /// The discount, in minor units.
    amount_off_minor: i64,
    /// ISO 4217 code.
    #[schema(value_type = String)]
    currency: Currency,
    /// `free`, `held`, `used`, `expired` or `revoked`.
    state: &'static str,
    /// Grows with every change.
    version: i64,
    /// The order that holds it or has used it.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    held_by: Option<OrderId>,
    /// When it expires.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Instant,
    /// When it was issued.
    #[schema(value_type = String, format = DateTime)]
    created_at: Instant,
}

/// A coupon's change, for its audit trail and its event.
pub(crate) struct Change {
    pub(crate) action: &'static str,
    pub(crate) event: EventType,
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
    let data = CouponData {
        id: coupon.id,
        rule_id: coupon.rule_id,
        source_order_id: coupon.source_order_id,
        buyer_id: &coupon.buyer_id,
        amount_off_minor: coupon.amount_off_minor,
        currency: coupon.currency,
        state: coupon.state.as_str(),
        version: coupon.version,
        held_by: coupon.held_by,
        expires_at: shown(tx, coupon.expires_ms),
        created_at: shown(tx, coupon.created_ms),
    };
    event::emit(
        tx,
        NewEvent {
            kind: change.event,
            merchant_id: &coupon.merchant_id,
            subject: coupon.id.to_string(),
            data: &data,
        },
    );
}
