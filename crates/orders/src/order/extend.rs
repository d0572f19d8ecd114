//! Extends deadlines: only while the order is pending and its deadline is not yet reached.

use crate::error::{Error, Result};
use crate::ids::{MerchantId, OrderId};
use crate::model::audit::{Actor, NewAudit};
use crate::model::event::EventType;
use crate::model::order::{Order, OrderState};
use crate::model::timer::{NewTimer, TimerKind};
use crate::order;
use crate::order::event::emit;
use crate::platform::Platform;
use crate::store::Tx;
use crate::store::orders::{self, Extension};
use crate::timer;

impl Platform {
    /// Moves the order's deadline to a later instant of the wall clock, in ms since the Unix epoch; a deadline that holds
    /// already is answered with the order as it is.
    pub async fn extend_order(
        &self,
        merchant_id: &MerchantId,
        id: OrderId,
        deadline_at_ms: i64,
    ) -> Result<Order> {
        let input = Extension {
            merchant_id: merchant_id.clone(),
            id,
            deadline_at_ms,
            max_ms: self.config().deadline_max_ms,
        };
        self.writer()
            .run(input, |tx, input| Box::pin(extend(tx, input)))
            .await
    }
}

async fn extend(tx: &mut Tx, input: &Extension) -> Result<Order> {
    let extended = orders::extend(tx, input).await?;
    let order = orders::find_whole(tx, &input.merchant_id, input.id).await?;
    if !extended && order.deadline_at_ms == input.deadline_at_ms {
        return Ok(order);
    }
    if !extended {
        return Err(refusal(&order, input, tx));
    }
    let timer = NewTimer {
        kind: TimerKind::OrderDeadline,
        id: order.id.uuid(),
        merchant_id: order.merchant_id.clone(),
        due_ms: order.deadline_ms,
        fire_ms: order.deadline_ms,
        version: order.version,
    };
    timer::set(tx, timer).await?;
    tx.audit(NewAudit {
        subject: order.id.to_string(),
        merchant_id: order.merchant_id.clone(),
        entity: order.id.to_string(),
        actor: Actor::Merchant,
        action: "extend",
        from: Some(OrderState::Pending.as_str()),
        to: Some(OrderState::Pending.as_str()),
        detail: Some(format!(
            "deadline {} ms since the epoch",
            order.deadline_at_ms
        )),
    });
    emit(tx, EventType::OrderExtended, &order);
    Ok(order)
}

/// Why the guard matched nothing.
fn refusal(order: &Order, input: &Extension, tx: &Tx) -> Error {
    if let Some(error) = order::not_open(order, tx.now_ms(), ["extend", "extended"]) {
        return error;
    }
    if input.deadline_at_ms <= order.deadline_at_ms {
        return Error::invalid(
            "/deadline",
            "the deadline can only be moved to a later instant; cancel the order to end it sooner",
        );
    }
    Error::invalid(
        "/deadline",
        format!(
            "the deadline is {} ms after the order's creation; the most allowed is {} ms",
            (input.deadline_at_ms.saturating_add(tx.ahead_ms())).saturating_sub(order.created_ms),
            input.max_ms
        ),
    )
}
