//! Expires coupons when their timers fire.

use uuid::Uuid;

use crate::coupon::event::{Change, record};
use crate::error::Result;
use crate::model::audit::Actor;
use crate::model::coupon::CouponState;
use crate::model::event::EventType;
use crate::model::timer::TimerKind;
use crate::store::{Tx, coupons};
use crate::timer;

/// Expires those of the coupons that are available and past their validity, and drops the timers of all of them.
///
/// A held coupon needs no timer: it expires when it is returned. The caller has made sure that the timers are due.
pub(crate) async fn expire(tx: &mut Tx, ids: &[Uuid]) -> Result<usize> {
    if ids.is_empty() {
        return Ok(0);
    }
    let expired = coupons::expire(tx, ids).await?;
    timer::disarm(tx, TimerKind::CouponExpiry, ids.iter().copied()).await?;
    for coupon in &expired {
        record(
            tx,
            coupon,
            &Change {
                action: "expire",
                event: EventType::CouponExpired,
                from: Some(CouponState::Available),
                actor: Actor::System,
            },
        );
    }
    Ok(expired.len())
}
