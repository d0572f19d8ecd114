//! Expires coupons when their timers fire.

use uuid::Uuid;

use crate::coupon::{Change, CouponState, coupon_columns, from_row, tell};
use crate::error::Result;
use crate::store::audit::Actor;
use crate::store::{Tx, hex_json};
use crate::timer::{self, TimerKind};

/// Expires those of the coupons that are free and past their validity, and drops the timers of all of them.
///
/// One that is held needs no timer any more: it expires when it comes back. The caller has made sure that the
/// timers are due.
pub(crate) async fn expire(tx: &mut Tx, ids: &[Uuid]) -> Result<usize> {
    if ids.is_empty() {
        return Ok(0);
    }
    let now_ms = tx.now_ms();
    let rows = sqlx::query(concat!(
        "update coupon set state = ?, version = version + 1
         where id in (select unhex(value) from json_each(?)) and state = ? and expires_ms <= ?
         returning ",
        coupon_columns!()
    ))
    .bind(CouponState::Expired.stored())
    .bind(hex_json(ids.iter().copied()))
    .bind(CouponState::Free.stored())
    .bind(now_ms)
    .fetch_all(tx.conn())
    .await?;
    timer::disarm(tx, TimerKind::CouponExpiry, ids.iter().copied()).await?;
    for row in &rows {
        let coupon = from_row(row)?;
        tell(
            tx,
            &coupon,
            &Change {
                action: "expire",
                event: "coupon.expired",
                from: Some(CouponState::Free),
                actor: Actor::System,
            },
        );
    }
    Ok(rows.len())
}
