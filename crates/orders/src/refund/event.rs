//! Records the changes of refunds: in the audit trail, and as events.

use edge::instant::Instant;
use serde::Serialize;
use utoipa::ToSchema;

use crate::ids::{OrderId, PaymentId, RefundId};
use crate::messaging::event::{self, NewEvent, shown};
use crate::model::audit::{Actor, NewAudit};
use crate::model::event::EventType;
use crate::model::refund::{Refund, RefundState};
use crate::money::Currency;
use crate::store::Tx;

/// A refund, as the API shows it at the time of the event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RefundData)]
pub(crate) struct RefundData<'a> {
    /// Its id, which the gateway uses too.
    #[schema(value_type = String)]
    id: RefundId,
    /// The merchant's own refund number, or one that the platform generated.
    refund_no: &'a str,
    /// The order.
    #[schema(value_type = String)]
    order_id: OrderId,
    /// The payment.
    #[schema(value_type = String)]
    payment_id: PaymentId,
    /// `requested`, `submitted`, `processing`, `succeeded`, `failed_retryable`, `needs_operator` or `withdrawn`.
    state: &'static str,
    /// Grows with every change.
    version: i64,
    /// `merchant`, or why the platform refunds by itself: `late`, `duplicate`, `wrong_amount` or `wrong_currency`.
    cause: &'static str,
    /// The amount, in minor units.
    amount_minor: i64,
    /// ISO 4217 code.
    #[schema(value_type = String)]
    currency: Currency,
    /// Whether units go back into stock when it has succeeded.
    restock: bool,
    /// What it was settled with by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
    /// Details, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    /// When it was requested.
    #[schema(value_type = String, format = DateTime)]
    created_at: Instant,
    /// When it succeeded or was given up.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Instant>,
}

/// Records the refund's present state: its audit row and its event.
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
    let data = RefundData {
        id: refund.id,
        refund_no: &refund.refund_no,
        order_id: refund.order_id,
        payment_id: refund.payment_id,
        state: refund.state.as_str(),
        version: refund.version,
        cause: refund.cause.as_str(),
        amount_minor: refund.amount_minor,
        currency: refund.currency,
        restock: refund.restock,
        reference: refund.reference.as_deref(),
        detail: refund.detail.as_deref(),
        created_at: shown(tx, refund.created_ms),
        ended_at: refund.final_ms.map(|ms| shown(tx, ms)),
    };
    event::emit(
        tx,
        NewEvent {
            kind: kind_of(refund, from),
            merchant_id: &refund.merchant_id,
            subject: refund.order_id.to_string(),
            data: &data,
        },
    );
}

fn kind_of(refund: &Refund, from: Option<RefundState>) -> EventType {
    match refund.state {
        RefundState::Requested => EventType::RefundRequested,
        RefundState::Submitted if from == Some(RefundState::Succeeded) => EventType::RefundReopened,
        RefundState::Submitted => EventType::RefundSubmitted,
        RefundState::Processing => EventType::RefundProcessing,
        RefundState::FailedRetryable => EventType::RefundFailedRetryable,
        RefundState::Succeeded => EventType::RefundSucceeded,
        RefundState::NeedsOperator => EventType::RefundNeedsOperator,
        RefundState::Withdrawn => EventType::RefundWithdrawn,
    }
}
