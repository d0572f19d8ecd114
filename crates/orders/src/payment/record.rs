//! Records money that came, and decides what it is to its order.
//!
//! Money that no payment can hold is kept apart and makes its attempt wait for a person, so that nothing else waits for it.
//! The unique insert of the payment makes a repeated report harmless. The guarded update of the order decides
//! whether the money pays it; money that does not is refunded by the same transaction.

use crate::coupon;
use crate::error::Result;
use crate::ids::{AttemptId, GatewayAccountId, PaymentId};
use crate::limits::{AMOUNT_MINOR_MAX, NAME_CHARS_MAX, REFERENCE_CHARS_MAX};
use crate::metrics::{Metric, lost_race};
use crate::model::audit::{Actor, NewAudit};
use crate::model::event::EventType;
use crate::model::order::{Order, OrderState};
use crate::model::payment::{Attempt, AttemptState, Payment, PaymentKind};
use crate::model::timer::TimerKind;
use crate::model::unmatched::{NewUnmatched, UnmatchedKind};
use crate::money::Currency;
use crate::order::event::emit;
use crate::payment::attempt::{self, End};
use crate::payment::event::emit_payment;
use crate::payment::unmatched;
use crate::refund::request::refund_unaccepted;
use crate::store::{self, Tx, coupons, orders, payments};
use crate::timer;
use gateway::Paid;

/// Money that a gateway reports as taken.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) account_id: GatewayAccountId,
    /// The attempt as the gateway names it.
    pub(crate) attempt: String,
    pub(crate) paid: Paid,
    /// The report as it came.
    pub(crate) raw: String,
}

impl Received {
    /// The answer to a question about an attempt.
    pub(crate) fn asked(attempt: &Attempt, paid: &Paid) -> Self {
        let raw = serde_json::json!({
            "attempt_id": attempt.id,
            "transaction_id": paid.transaction_id,
            "amount": paid.money.amount,
            "currency": paid.money.currency,
            "paid_at_ms": paid.paid_at_ms,
        });
        Self {
            account_id: attempt.account_id,
            attempt: attempt.id.to_string(),
            paid: paid.clone(),
            raw: unmatched::cut_report(raw.to_string().as_bytes()),
        }
    }

    fn key(&self) -> String {
        unmatched::key_of(&self.paid.transaction_id, &self.raw)
    }

    fn unmatched(&self, kind: UnmatchedKind, attempt: Option<&Attempt>) -> NewUnmatched {
        NewUnmatched {
            account_id: self.account_id,
            kind,
            key: self.key(),
            subject: Some(unmatched::cut(&self.attempt, REFERENCE_CHARS_MAX)),
            attempt: attempt.map(|attempt| (attempt.id, attempt.order_id)),
            amount: Some(self.paid.money.amount.to_string()),
            currency: Some(unmatched::cut(&self.paid.money.currency, NAME_CHARS_MAX)),
            raw: self.raw.clone(),
            paid_at_ms: i64::try_from(self.paid.paid_at_ms).ok(),
        }
    }
}

/// Records the money; answers what it was, or `None` if it had been recorded before.
pub(crate) async fn record(tx: &mut Tx, received: &Received) -> Result<Option<PaymentKind>> {
    let Some(attempt) = attempt_of(tx, received).await? else {
        let new = received.unmatched(UnmatchedKind::UnknownAttempt, None);
        unmatched::note(tx, &new).await?;
        return Ok(None);
    };
    let key = received.key();
    let dealt_with = store::unmatched::is_dealt_with(tx, received.account_id, &key).await?;
    let payment = payment(tx.now_ms(), &attempt, &received.paid);
    // What a person has settled or recorded must not be paid back a second time.
    let payment = payment.filter(|_| !dealt_with);
    let Some(payment) = payment else {
        keep_unreadable(tx, received, &attempt).await?;
        return Ok(None);
    };
    take(tx, &attempt, payment, Actor::Gateway).await
}

/// Takes a payment for the attempt, whose word `actor` gives; answers what it was, or `None` if it had been recorded before.
pub(crate) async fn take(
    tx: &mut Tx,
    attempt: &Attempt,
    mut payment: Payment,
    actor: Actor,
) -> Result<Option<PaymentKind>> {
    if !payments::insert_payment(tx, &payment).await? {
        return Ok(None);
    }
    store::unmatched::supersede(tx, &payment).await?;
    if payment.kind == PaymentKind::Accepted {
        payment.kind = accept(tx, &payment, actor).await?;
    }
    // After the order is paid: otherwise an order that is closing would close with its last live attempt.
    if attempt.state != AttemptState::Succeeded {
        let end = End {
            to: AttemptState::Succeeded,
            actor,
            detail: None,
        };
        attempt::change(tx, attempt, &end).await?;
    }
    audit_payment(tx, &payment, actor);
    emit_payment(tx, &payment);
    if payment.kind == PaymentKind::Accepted {
        // Only here: its last change is the end of the attempt.
        let order = orders::find_whole(tx, &payment.merchant_id, payment.order_id).await?;
        emit(tx, EventType::OrderPaid, &order);
    } else {
        tx.record(Metric::NotAccepted(payment.kind));
        refund_unaccepted(tx, &payment).await?;
    }
    Ok(Some(payment.kind))
}

/// The attempt that the money came for, if it is one of the account's.
async fn attempt_of(tx: &mut Tx, received: &Received) -> Result<Option<Attempt>> {
    let Ok(id) = received.attempt.parse::<AttemptId>() else {
        return Ok(None);
    };
    let attempt = payments::find_attempt(tx.conn(), id).await?;
    Ok(attempt.filter(|attempt| attempt.account_id == received.account_id))
}

/// Keeps money that cannot be understood for a person, and makes its attempt wait for one instead of being asked about
/// for ever.
async fn keep_unreadable(tx: &mut Tx, received: &Received, attempt: &Attempt) -> Result<()> {
    let money = &received.paid.money;
    if payments::is_recorded(tx, received.account_id, &received.key()).await? {
        return Ok(());
    }
    let new = received.unmatched(UnmatchedKind::Unreadable, Some(attempt));
    unmatched::note(tx, &new).await?;
    if !attempt.state.is_open() {
        return Ok(());
    }
    let end = End {
        to: AttemptState::NeedsOperator,
        actor: Actor::Gateway,
        detail: Some(format!(
            "the gateway reported money that cannot be understood: {} {:?}",
            money.amount,
            unmatched::cut(&money.currency, NAME_CHARS_MAX)
        )),
    };
    attempt::change(tx, attempt, &end).await?;
    Ok(())
}

/// The payment as it would be if its order were open; `None` if the report cannot be understood.
pub(crate) fn payment(now_ms: i64, attempt: &Attempt, paid: &Paid) -> Option<Payment> {
    let currency: Currency = paid.money.currency.parse().ok()?;
    if !(1..=AMOUNT_MINOR_MAX).contains(&paid.money.amount)
        || !unmatched::is_usable(&paid.transaction_id)
    {
        return None;
    }
    let kind = if currency != attempt.currency {
        PaymentKind::WrongCurrency
    } else if paid.money.amount != attempt.amount_minor {
        PaymentKind::WrongAmount
    } else {
        PaymentKind::Accepted
    };
    Some(Payment {
        id: PaymentId::new(now_ms),
        merchant_id: attempt.merchant_id.clone(),
        order_id: attempt.order_id,
        attempt_id: attempt.id,
        account_id: attempt.account_id,
        gateway_txn: paid.transaction_id.clone(),
        kind,
        amount_minor: paid.money.amount,
        currency,
        refunded_minor: 0,
        paid_at_ms: i64::try_from(paid.paid_at_ms).unwrap_or(i64::MAX),
        created_ms: now_ms,
    })
}

/// Pays the order if it is still open; answers what the payment is.
async fn accept(tx: &mut Tx, payment: &Payment, actor: Actor) -> Result<PaymentKind> {
    // In the order in which an order goes through them, so that an order that moves on meanwhile is not missed.
    for from in [OrderState::Pending, OrderState::Closing] {
        let Some(order) = orders::pay(tx, payment.order_id, payment.id, from).await? else {
            continue;
        };
        consume(tx, &order, from).await?;
        // A buyer must not be charged by the order's other attempts, nor wait until their timers come.
        timer::hurry_attempts(tx, order.id, Some(payment.attempt_id)).await?;
        tx.record(Metric::Paid);
        tx.audit(NewAudit {
            subject: order.id.to_string(),
            merchant_id: order.merchant_id.clone(),
            entity: order.id.to_string(),
            actor,
            action: "pay",
            from: Some(from.as_str()),
            to: Some(order.state.as_str()),
            detail: Some(payment.id.to_string()),
        });
        return Ok(PaymentKind::Accepted);
    }
    lost(tx, payment).await
}

/// Records as sold what the order, just paid, held.
async fn consume(tx: &mut Tx, order: &Order, from: OrderState) -> Result<()> {
    orders::consume_holds(tx, order.id).await?;
    coupon::use_held(tx, order).await?;
    timer::disarm(tx, TimerKind::OrderDeadline, [order.id.uuid()]).await?;
    if from == OrderState::Closing {
        timer::disarm(tx, TimerKind::OrderClosing, [order.id.uuid()]).await?;
    }
    coupons::insert_due(tx, order).await
}

/// Decides what money is that came when the order was no longer open.
async fn lost(tx: &mut Tx, payment: &Payment) -> Result<PaymentKind> {
    let order = orders::find(tx.conn(), &payment.merchant_id, payment.order_id).await?;
    lost_race("pay", order.state.as_str());
    let kind = match order.state {
        OrderState::Paid => PaymentKind::Duplicate,
        _ => PaymentKind::Late,
    };
    payments::set_kind(tx, payment.id, kind).await?;
    Ok(kind)
}

fn audit_payment(tx: &mut Tx, payment: &Payment, actor: Actor) {
    tx.audit(NewAudit {
        subject: payment.order_id.to_string(),
        merchant_id: payment.merchant_id.clone(),
        entity: payment.id.to_string(),
        actor,
        action: "payment",
        from: None,
        to: Some(payment.kind.as_str()),
        detail: Some(format!(
            "{} {} by transaction {}",
            payment.amount_minor, payment.currency, payment.gateway_txn
        )),
    });
}
