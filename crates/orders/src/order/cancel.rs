//! Cancels orders: they close as at the deadline, only sooner.

use crate::error::{Error, Result};
use crate::ids::{MerchantId, OrderId};
use crate::metrics::lost_race;
use crate::model::audit::Actor;
use crate::model::order::{CloseReason, Order, OrderState};
use crate::order::close::{self, Cause};
use crate::platform::Platform;
use crate::store::{Tx, orders};

impl Platform {
    /// Ends a pending order, or a paid one that there was nothing to pay for, for `reason`, which must be the buyer's
    /// or the merchant's.
    ///
    /// The answer is CLOSED, or CLOSING where a gateway must be asked first. An order that is closing already, or was
    /// closed for the same reason, stays as it is.
    pub async fn cancel_order(
        &self,
        merchant_id: &MerchantId,
        id: OrderId,
        reason: CloseReason,
    ) -> Result<Order> {
        let input = (merchant_id.clone(), id, reason);
        self.writer()
            .run(input, |tx, (merchant_id, id, reason)| {
                Box::pin(cancel(tx, merchant_id, *id, *reason))
            })
            .await
    }
}

async fn cancel(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    id: OrderId,
    reason: CloseReason,
) -> Result<Order> {
    // Of this merchant, or the answer is that there is none.
    orders::find(tx.conn(), merchant_id, id).await?;
    let cause = Cause {
        reason,
        actor: match reason {
            CloseReason::Buyer => Actor::Buyer,
            CloseReason::Merchant => Actor::Merchant,
            CloseReason::Timeout => {
                return Err(Error::invalid("/reason", "only a deadline times out"));
            }
        },
        due_before_ms: i64::MAX,
    };
    let ended = close::close_pending(tx, &[id], cause).await?;
    let ended = !ended.closed.is_empty() || !ended.closing.is_empty();
    let ended = ended || close::undo_free(tx, id, cause).await?;
    let order = orders::find_whole(tx, merchant_id, id).await?;
    let repeated = order.state == OrderState::Closed && order.close_reason == Some(reason);
    if ended || repeated || order.state == OrderState::Closing {
        return Ok(order);
    }
    lost_race("cancel", order.state.as_str());
    Err(Error::OrderState {
        id,
        state: order.state,
        wanted: "cancelled",
    })
}
