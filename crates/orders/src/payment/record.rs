//! Records money that came, and decides what it is to its order.
//!
//! The unique insert of the payment makes a repeated report harmless. The guarded update of the order decides
//! whether the money pays it; money that does not is refunded by the same transaction.

use crate::coupon;
use crate::error::{Error, Result};
use crate::ids::{AttemptId, GatewayAccountId, PaymentId};
use crate::metrics::{Metric, lost_race};
use crate::model::audit::{Actor, NewAudit};
use crate::model::order::{Order, OrderState};
use crate::model::payment::{Attempt, AttemptState, Payment, PaymentKind};
use crate::model::timer::TimerKind;
use crate::money::Currency;
use crate::order::event::emit;
use crate::payment::attempt::{self, End};
use crate::refund::request::refund_unaccepted;
use crate::store::{Tx, coupons, orders, payments};
use crate::timer;
use gateway::Paid;

/// Money that a gateway reports as taken.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) account_id: GatewayAccountId,
    pub(crate) attempt_id: AttemptId,
    pub(crate) paid: Paid,
}

/// Records the money; answers what it was, or `None` if it had been recorded before.
pub(crate) async fn record(tx: &mut Tx, received: &Received) -> Result<Option<PaymentKind>> {
    let attempt = payments::find_attempt(tx.conn(), received.attempt_id).await?;
    let attempt = attempt
        .filter(|attempt| attempt.account_id == received.account_id)
        .ok_or_else(|| Error::not_found("payment attempt", &received.attempt_id))?;
    let mut payment = payment(tx.now_ms(), &attempt, &received.paid)?;
    if !payments::insert_payment(tx, &payment).await? {
        return Ok(None);
    }
    if payment.kind == PaymentKind::Accepted {
        payment.kind = accept(tx, &payment).await?;
    }
    // After the order is paid: otherwise an order that is closing would close with its last live attempt.
    if attempt.state != AttemptState::Succeeded {
        let end = End {
            to: AttemptState::Succeeded,
            actor: Actor::Gateway,
            detail: None,
        };
        attempt::change(tx, &attempt, &end).await?;
    }
    audit_payment(tx, &payment);
    if payment.kind != PaymentKind::Accepted {
        tx.record(Metric::NotAccepted(payment.kind));
        refund_unaccepted(tx, &payment).await?;
    }
    Ok(Some(payment.kind))
}

/// The payment as it would be if its order were open.
fn payment(now_ms: i64, attempt: &Attempt, paid: &Paid) -> Result<Payment> {
    let unreadable = |detail| Error::Unreadable {
        what: "gateway's report of a payment",
        detail,
    };
    let code = &paid.money.currency;
    let currency: Currency = code
        .parse()
        .map_err(|_| unreadable(format!("currency {code}")))?;
    if paid.money.amount <= 0 {
        return Err(unreadable(format!("amount {}", paid.money.amount)));
    }
    let kind = if currency != attempt.currency {
        PaymentKind::WrongCurrency
    } else if paid.money.amount != attempt.amount_minor {
        PaymentKind::WrongAmount
    } else {
        PaymentKind::Accepted
    };
    Ok(Payment {
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
async fn accept(tx: &mut Tx, payment: &Payment) -> Result<PaymentKind> {
    // In the order in which an order goes through them, so that an order that moves on meanwhile is not missed.
    for from in [OrderState::Pending, OrderState::Closing] {
        let Some(order) = orders::pay(tx, payment.order_id, payment.id, from).await? else {
            continue;
        };
        consume(tx, &order, from).await?;
        tx.record(Metric::Paid);
        tx.audit(NewAudit {
            subject: order.id.to_string(),
            merchant_id: order.merchant_id.clone(),
            entity: order.id.to_string(),
            actor: Actor::Gateway,
            action: "pay",
            from: Some(from.as_str()),
            to: Some(order.state.as_str()),
            detail: Some(payment.id.to_string()),
        });
        emit(tx, "order.paid", &order);
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

fn audit_payment(tx: &mut Tx, payment: &Payment) {
    tx.audit(NewAudit {
        subject: payment.order_id.to_string(),
        merchant_id: payment.merchant_id.clone(),
        entity: payment.id.to_string(),
        actor: Actor::Gateway,
        action: "payment",
        from: None,
        to: Some(payment.kind.as_str()),
        detail: Some(format!(
            "{} {} by transaction {}",
            payment.amount_minor, payment.currency, payment.gateway_txn
        )),
    });
}
