//! Closes orders over payment attempts that no gateway gives an answer about.

use crate::error::{Error, Result};
use crate::ids::OrderId;
use crate::metrics::{Metric, lost_race};
use crate::model::audit::{Actor, NewAudit};
use crate::model::event::EventType;
use crate::model::order::{CloseReason, Order, OrderState};
use crate::model::payment::AttemptState;
use crate::order::close::{self, Cause};
use crate::order::event::emit_all;
use crate::payment::attempt::{self, End};
use crate::platform::Platform;
use crate::store::{Tx, orders, payments};
use crate::timer;

impl Platform {
    /// Closes the order of any merchant now, whatever its gateway says, and gives its stock back.
    ///
    /// Its open attempts are watched on, and money that still comes is refunded.
    pub async fn force_close_order(&self, id: OrderId) -> Result<Order> {
        self.writer()
            .run(id, |tx, id| Box::pin(force_close(tx, *id)))
            .await
    }
}

async fn force_close(tx: &mut Tx, id: OrderId) -> Result<Order> {
    let before = orders::find_any(tx, id).await?;
    match before.state {
        OrderState::Closed => {}
        OrderState::Paid => {
            lost_race("force_close", before.state.as_str());
            return Err(Error::OrderState {
                id,
                state: before.state,
                wanted: "closed",
            });
        }
        OrderState::Pending | OrderState::Closing => {
            let cause = Cause {
                reason: CloseReason::Merchant,
                actor: Actor::Operator,
                due_before_ms: i64::MAX,
            };
            audit(tx, &before, (Actor::Operator, "force_close"));
            close::close_pending(tx, &[id], cause).await?;
            let detail = "the operator closed the order before the gateway had answered";
            close_over(tx, id, Actor::Operator, detail).await?;
            close::finish_by_force(tx, id).await?;
            timer::hurry_attempts(tx, id, None).await?;
        }
    }
    orders::find_whole(tx, &before.merchant_id, id).await
}

/// Closes an order that is closing over attempts without an answer; each is still watched.
pub(crate) async fn close_over(tx: &mut Tx, id: OrderId, actor: Actor, detail: &str) -> Result<()> {
    let end = End {
        to: AttemptState::Unknown,
        actor,
        detail: Some(detail.to_owned()),
    };
    for attempt in payments::live_attempts(tx.conn(), id).await? {
        attempt::end_open(tx, attempt.id, &end).await?;
    }
    Ok(())
}

/// Raises the alarm, once, about an order that has been closing since `closing_ms` without an end for so long.
pub(crate) async fn alarm(tx: &mut Tx, id: OrderId, closing_ms: i64, watch_ms: i64) -> Result<()> {
    let before_ms = tx.now_ms() - watch_ms;
    if closing_ms > before_ms {
        return Ok(());
    }
    let Some(order) = orders::need_operator(tx, id, before_ms).await? else {
        return Ok(());
    };
    tracing::error!(order = %id, "an order has been closing without an answer of its gateway for too long");
    tx.record(Metric::NeedsOperator("order"));
    audit(tx, &order, (Actor::System, "needs_operator"));
    emit_all(tx, EventType::OrderNeedsOperator, &[order]).await
}

fn audit(tx: &mut Tx, order: &Order, (actor, action): (Actor, &'static str)) {
    tx.audit(NewAudit {
        subject: order.id.to_string(),
        merchant_id: order.merchant_id.clone(),
        entity: order.id.to_string(),
        actor,
        action,
        from: Some(order.state.as_str()),
        to: None,
        detail: None,
    });
}
