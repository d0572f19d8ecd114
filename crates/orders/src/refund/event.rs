//! Records the changes of refunds: in the audit trail, and as events.

use crate::messaging::event::{self, NewEvent};
use crate::model::audit::{Actor, NewAudit};
use crate::model::refund::{Refund, RefundState};
use crate::store::Tx;

/// Records the refund's present state: its audit row, and its event where the state has one.
pub(crate) fn record(tx: &mut Tx, refund: &Refund, from: Option<RefundState>, actor: Actor) {
    tx.audit(NewAudit {
        subject: refund.order_id.to_string(),
        merchant_id: refund.merchant_id.clone(),
        entity: refund.id.to_string(),
        actor,
        action: "refund",
        from: from.map(RefundState::as_str),
        to: Some(refund.state.as_str()),
        detail: refund.detail.clone(),
    });
    let kind = match refund.state {
        RefundState::Requested => "refund.requested",
        RefundState::Succeeded => "refund.succeeded",
        RefundState::NeedsOperator => "refund.needs_operator",
        RefundState::Withdrawn => "refund.withdrawn",
        RefundState::Submitted if from == Some(RefundState::Succeeded) => "refund.reopened",
        RefundState::Submitted | RefundState::Processing | RefundState::FailedRetryable => return,
    };
    event::emit(
        tx,
        NewEvent {
            kind,
            merchant_id: &refund.merchant_id,
            subject: refund.order_id.to_string(),
            data: refund,
        },
    );
}
