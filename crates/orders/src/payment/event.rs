//! Publishes the events of payment attempts, of payments, and of money that no payment can hold.

use edge::instant::Instant;
use serde::Serialize;
use utoipa::ToSchema;

use crate::ids::{AttemptId, GatewayAccountId, OrderId, PaymentId, UnmatchedPaymentId};
use crate::messaging::event::{self, NewEvent, shown};
use crate::model::event::EventType;
use crate::model::payment::{Attempt, AttemptState, Payment, PaymentKind};
use crate::model::unmatched::UnmatchedPayment;
use crate::money::Currency;
use crate::store::Tx;

/// A payment attempt, as the API shows it at the time of the event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AttemptData)]
pub(crate) struct AttemptData<'a> {
    /// Its id, which the gateway uses too.
    #[schema(value_type = String)]
    id: AttemptId,
    /// The order.
    #[schema(value_type = String)]
    order_id: OrderId,
    /// The gateway account.
    #[schema(value_type = String)]
    account_id: GatewayAccountId,
    /// `submitted`, `closed`, `failed`, `unknown` or `needs_operator`.
    state: &'static str,
    /// Grows with every change of its state.
    version: i64,
    /// The amount to pay, in minor units.
    amount_minor: i64,
    /// ISO 4217 code.
    #[schema(value_type = String)]
    currency: Currency,
    /// From this instant on the gateway does not accept a payment for it.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Instant,
    /// The page where the buyer pays, once the gateway has returned it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pay_url: Option<&'a str>,
    /// The gateway's own id of the attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway_ref: Option<&'a str>,
    /// Details, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    /// When it was started.
    #[schema(value_type = String, format = DateTime)]
    created_at: Instant,
}

/// A payment received by a gateway, as the API shows it at the time of the event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PaymentData)]
pub(crate) struct PaymentData<'a> {
    /// Its id.
    #[schema(value_type = String)]
    id: PaymentId,
    /// The order it was for.
    #[schema(value_type = String)]
    order_id: OrderId,
    /// The attempt that was paid.
    #[schema(value_type = String)]
    attempt_id: AttemptId,
    /// The gateway's own id of the transaction.
    transaction_id: &'a str,
    /// `accepted`, or why it is refunded: `late`, `duplicate`, `wrong_amount` or `wrong_currency`.
    kind: &'static str,
    /// The amount paid, in minor units.
    amount_minor: i64,
    /// The currency it was paid in.
    #[schema(value_type = String)]
    currency: Currency,
    /// How much of it has been refunded or is being refunded, in minor units.
    refunded_minor: i64,
    /// When the gateway received the payment.
    #[schema(value_type = String, format = DateTime)]
    paid_at: Instant,
}

/// Money that a gateway reported and that no payment can hold.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UnmatchedPaymentData)]
pub(crate) struct UnmatchedData<'a> {
    /// Its id.
    #[schema(value_type = String)]
    id: UnmatchedPaymentId,
    /// The gateway account.
    #[schema(value_type = String)]
    account_id: GatewayAccountId,
    /// `unreadable`, `unknown_attempt` or `unknown_refund`.
    kind: &'static str,
    /// `open`.
    state: &'static str,
    /// The gateway's number of the transaction, or a digest of the report where that cannot be used.
    key: &'a str,
    /// The attempt or refund as the gateway named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    /// The attempt, where it is known here.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt_id: Option<AttemptId>,
    /// The amount as the gateway reported it.
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<&'a str>,
    /// The currency as the gateway reported it.
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<&'a str>,
    /// When the gateway took the money.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    paid_at: Option<Instant>,
    /// When it was first reported.
    #[schema(value_type = String, format = DateTime)]
    created_at: Instant,
}

/// Publishes the event of the attempt's present state. Success has none: the payment's event follows it.
pub(crate) fn emit_attempt(tx: &mut Tx, attempt: &Attempt) {
    let kind = match attempt.state {
        AttemptState::Submitted => EventType::PaymentStarted,
        AttemptState::Closed => EventType::PaymentClosed,
        AttemptState::Failed => EventType::PaymentFailed,
        AttemptState::Unknown => EventType::PaymentUnknown,
        AttemptState::NeedsOperator => EventType::PaymentNeedsOperator,
        AttemptState::Succeeded => return,
    };
    let data = AttemptData {
        id: attempt.id,
        order_id: attempt.order_id,
        account_id: attempt.account_id,
        state: attempt.state.as_str(),
        version: attempt.version,
        amount_minor: attempt.amount_minor,
        currency: attempt.currency,
        expires_at: Instant(attempt.expires_at_ms),
        pay_url: attempt.pay_url.as_deref(),
        gateway_ref: attempt.gateway_ref.as_deref(),
        detail: attempt.detail.as_deref(),
        created_at: shown(tx, attempt.created_ms),
    };
    event::emit(
        tx,
        NewEvent {
            kind,
            merchant_id: &attempt.merchant_id,
            subject: attempt.order_id.to_string(),
            data: &data,
        },
    );
}

/// Publishes the event of a payment that has just been recorded.
pub(crate) fn emit_payment(tx: &mut Tx, payment: &Payment) {
    let kind = match payment.kind {
        PaymentKind::Accepted => EventType::PaymentAccepted,
        PaymentKind::Late => EventType::PaymentLate,
        PaymentKind::Duplicate => EventType::PaymentDuplicate,
        PaymentKind::WrongAmount => EventType::PaymentWrongAmount,
        PaymentKind::WrongCurrency => EventType::PaymentWrongCurrency,
    };
    let data = PaymentData {
        id: payment.id,
        order_id: payment.order_id,
        attempt_id: payment.attempt_id,
        transaction_id: &payment.gateway_txn,
        kind: payment.kind.as_str(),
        amount_minor: payment.amount_minor,
        currency: payment.currency,
        refunded_minor: payment.refunded_minor,
        paid_at: Instant(payment.paid_at_ms),
    };
    event::emit(
        tx,
        NewEvent {
            kind,
            merchant_id: &payment.merchant_id,
            subject: payment.order_id.to_string(),
            data: &data,
        },
    );
}

/// Publishes the event of money that no payment can hold; `subject` is its order, or itself where none is known.
pub(crate) fn emit_unmatched(tx: &mut Tx, unmatched: &UnmatchedPayment, subject: String) {
    let data = UnmatchedData {
        id: unmatched.id,
        account_id: unmatched.account_id,
        kind: unmatched.kind.as_str(),
        state: unmatched.state.as_str(),
        key: &unmatched.key,
        subject: unmatched.subject.as_deref(),
        attempt_id: unmatched.attempt_id,
        amount: unmatched.amount.as_deref(),
        currency: unmatched.currency.as_deref(),
        paid_at: unmatched.paid_at_ms.map(Instant),
        created_at: shown(tx, unmatched.created_ms),
    };
    event::emit(
        tx,
        NewEvent {
            kind: EventType::PaymentUnmatched,
            merchant_id: &unmatched.merchant_id,
            subject,
            data: &data,
        },
    );
}
