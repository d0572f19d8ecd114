//! Extends deadlines: only while the order is pending and its deadline is not yet reached.

use crate::error::{Error, Result};
use crate::ids::{MerchantId, OrderId};
use crate::order::{self, Order, OrderState, query};
use crate::platform::Platform;
use crate::store::Tx;
use crate::store::audit::{Actor, NewAudit};
use crate::timer::{self, NewTimer, TimerKind};

struct Input {
    merchant_id: MerchantId,
    id: OrderId,
    deadline_ms: i64,
    /// Farthest deadline after the order's creation.
    max_ms: i64,
}

impl Platform {
    /// Moves the order's deadline to a later instant, in ms since the Unix epoch.
    pub async fn extend_order(
        &self,
        merchant_id: &MerchantId,
        id: OrderId,
        deadline_ms: i64,
    ) -> Result<Order> {
        let input = Input {
            merchant_id: merchant_id.clone(),
            id,
            deadline_ms,
            max_ms: self.config().deadline_max_ms,
        };
        self.writer()
            .run(input, |tx, input| Box::pin(extend(tx, input)))
            .await
    }
}

async fn extend(tx: &mut Tx, input: &Input) -> Result<Order> {
    let now_ms = tx.now_ms();
    let extended = sqlx::query(
        "update orders set deadline_ms = ?1, version = version + 1
         where id = ?2 and merchant_id = ?3 and state = ?4 and deadline_ms > ?5 and deadline_ms < ?1
           and created_ms + ?6 >= ?1",
    )
    .bind(input.deadline_ms)
    .bind(input.id)
    .bind(input.merchant_id.as_str())
    .bind(OrderState::Pending.stored())
    .bind(now_ms)
    .bind(input.max_ms)
    .execute(tx.conn())
    .await?;
    let order = query::find_whole(tx, &input.merchant_id, input.id).await?;
    if extended.rows_affected() == 0 {
        return Err(refusal(&order, input, now_ms));
    }
    let timer = NewTimer {
        kind: TimerKind::OrderDeadline,
        id: order.id.uuid(),
        merchant_id: order.merchant_id.clone(),
        due_ms: order.deadline_ms,
        fire_ms: order.deadline_ms,
        version: order.version,
    };
    if !timer::postpone(tx, &timer).await? {
        // Cannot be while timers are kept with their orders; then the deadline gets its timer now.
        timer::arm(tx, timer);
    }
    tx.audit(NewAudit {
        subject: order.id.to_string(),
        merchant_id: order.merchant_id.clone(),
        entity: order.id.to_string(),
        actor: Actor::Merchant,
        action: "extend",
        from: Some(OrderState::Pending.as_str()),
        to: Some(OrderState::Pending.as_str()),
        detail: Some(format!("deadline {} ms since the epoch", order.deadline_ms)),
    });
    Ok(order)
}

/// Why the guard matched nothing.
fn refusal(order: &Order, input: &Input, now_ms: i64) -> Error {
    if let Some(error) = order::not_open(order, now_ms, ["extend", "extended"]) {
        return error;
    }
    if input.deadline_ms <= order.deadline_ms {
        return Error::invalid(
            "/deadline",
            "the deadline can only be moved to a later instant; cancel the order to end it sooner",
        );
    }
    Error::invalid(
        "/deadline",
        format!(
            "the deadline is {} ms after the order's creation; the most allowed is {} ms",
            input.deadline_ms.saturating_sub(order.created_ms),
            input.max_ms
        ),
    )
}
