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
    /// Ends a pending order for `reason`, which must be the buyer's or the merchant's.
    ///
    /// The answer is CLOSED, or CLOSING where a gateway must be asked first. An order that is closing already
    /// stays as it is.
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
    let before = orders::find(tx.conn(), merchant_id, id).await?;
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
    close::close_pending(tx, &[id], cause).await?;
    let order = orders::find_whole(tx, merchant_id, id).await?;
    if order.version == before.version && order.state != OrderState::Closing {
        lost_race("cancel", order.state.as_str());
        return Err(Error::OrderState {
            id,
            state: order.state,
            wanted: "cancelled",
        });
    }
    Ok(order)
}
