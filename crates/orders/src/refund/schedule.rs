//! Arms the timers of refunds.

use crate::error::Result;
use crate::model::refund::Refund;
use crate::model::timer::{NewTimer, TimerKind};
use crate::store::Tx;
use crate::timer;

/// Arms the timer of a refund that is to be worked on.
pub(crate) fn arm(tx: &mut Tx, refund: &Refund, fire_ms: i64) {
    timer::arm(tx, new_timer(refund, fire_ms));
}

/// Lets the timer of a refund that is to be worked on fire now, whether it has one or not.
pub(crate) async fn arm_or_move(tx: &mut Tx, refund: &Refund) -> Result<()> {
    let now_ms = tx.now_ms();
    timer::set(tx, new_timer(refund, now_ms)).await
}

fn new_timer(refund: &Refund, fire_ms: i64) -> NewTimer {
    NewTimer {
        kind: TimerKind::Refund,
        id: refund.id.uuid(),
        merchant_id: refund.merchant_id.clone(),
        due_ms: fire_ms,
        fire_ms,
        version: refund.version,
    }
}
