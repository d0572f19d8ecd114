//! Records money that came, and decides what it is to its order.
//!
//! The unique insert of the payment makes a repeated report harmless. The guarded update of the order decides
//! whether the money pays it; money that does not is refunded by the same transaction.

use crate::coupon;
use crate::error::{Error, Result};
use crate::gateway::Paid;
use crate::ids::{AttemptId, GatewayAccountId, PaymentId};
use crate::metrics::{Metric, lost_race};
use crate::money::Currency;
use crate::order::create::emit;
use crate::order::{self, HoldState, Order, OrderState, order_columns};
use crate::payment::attempt::{self, End};
use crate::payment::{Attempt, AttemptState, Payment, PaymentKind};
use crate::refund;
use crate::store::Tx;
use crate::store::audit::{Actor, NewAudit};
use crate::timer::{self, TimerKind};

/// Money that a gateway says it has taken.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) account_id: GatewayAccountId,
    pub(crate) attempt_id: AttemptId,
    pub(crate) paid: Paid,
}

/// Records the money; answers what it was, or `None` if it had been recorded before.
pub(crate) async fn record(tx: &mut Tx, received: &Received) -> Result<Option<PaymentKind>> {
    let attempt = attempt::find(tx, received.attempt_id).await?;
    let attempt = attempt
        .filter(|attempt| attempt.account_id == received.account_id)
        .ok_or_else(|| Error::not_found("payment attempt", &received.attempt_id))?;
    let mut payment = payment(tx.now_ms(), &attempt, &received.paid)?;
    if !insert(tx, &payment).await? {
        return Ok(None);
    }
    if payment.kind == PaymentKind::Accepted {
        payment.kind = accept(tx, &payment).await?;
    }
    // After the order is paid: else an order that is closing would close with its last live attempt.
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
        refund::give_back(tx, &payment).await?;
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

async fn insert(tx: &mut Tx, payment: &Payment) -> Result<bool> {
    let inserted = sqlx::query(
        "insert into payment (id, merchant_id, order_id, attempt_id, account_id, gateway_txn, kind,
             amount_minor, currency, paid_at_ms, created_ms)
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         on conflict (account_id, gateway_txn) do nothing",
    )
    .bind(payment.id)
    .bind(payment.merchant_id.as_str())
    .bind(payment.order_id)
    .bind(payment.attempt_id)
    .bind(payment.account_id)
    .bind(&payment.gateway_txn)
    .bind(payment.kind.stored())
    .bind(payment.amount_minor)
    .bind(payment.currency.as_str())
    .bind(payment.paid_at_ms)
    .bind(payment.created_ms)
    .execute(tx.conn())
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Pays the order if it is still open; answers what the payment is.
async fn accept(tx: &mut Tx, payment: &Payment) -> Result<PaymentKind> {
    // In the order in which an order goes through them, so that none slips past between the two.
    for from in [OrderState::Pending, OrderState::Closing] {
        let Some(order) = pay(tx, payment, from).await? else {
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

/// Takes the order from a state to PAID; answers it if this call did.
async fn pay(tx: &mut Tx, payment: &Payment, from: OrderState) -> Result<Option<Order>> {
    let row = sqlx::query(concat!(
        "update orders set state = ?, version = version + 1, paid_ms = ?, payment_id = ?, close_reason = null
         where id = ? and state = ? returning ",
        order_columns!()
    ))
    .bind(OrderState::Paid.stored())
    .bind(tx.now_ms())
    .bind(payment.id)
    .bind(payment.order_id)
    .bind(from.stored())
    .fetch_optional(tx.conn())
    .await?;
    row.as_ref().map(order::from_row).transpose()
}

/// Makes what the order, just paid, held its own.
async fn consume(tx: &mut Tx, order: &Order, from: OrderState) -> Result<()> {
    sqlx::query("update hold set state = ? where order_id = ? and state = ?")
        .bind(HoldState::Consumed.stored())
        .bind(order.id)
        .bind(HoldState::Held.stored())
        .execute(tx.conn())
        .await?;
    coupon::use_held(tx, order).await?;
    timer::disarm(tx, TimerKind::OrderDeadline, [order.id.uuid()]).await?;
    if from == OrderState::Closing {
        timer::disarm(tx, TimerKind::OrderClosing, [order.id.uuid()]).await?;
    }
    let now_ms = tx.now_ms();
    sqlx::query("insert into coupon_due (order_id, merchant_id, since_ms) values (?, ?, ?)")
        .bind(order.id)
        .bind(order.merchant_id.as_str())
        .bind(now_ms)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// What money is that came when the order was no longer open.
async fn lost(tx: &mut Tx, payment: &Payment) -> Result<PaymentKind> {
    let order = order::find(tx.conn(), &payment.merchant_id, payment.order_id).await?;
    lost_race("pay", order.state.as_str());
    let kind = match order.state {
        OrderState::Paid => PaymentKind::Duplicate,
        _ => PaymentKind::Late,
    };
    sqlx::query("update payment set kind = ? where id = ?")
        .bind(kind.stored())
        .bind(payment.id)
        .execute(tx.conn())
        .await?;
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
