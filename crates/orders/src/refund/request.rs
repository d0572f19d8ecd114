//! Requests refunds: by itself for money that was not accepted, or for the merchant.

use crate::coupon;
use crate::error::{Error, Result, check_range, check_text};
use crate::ids::{MerchantId, OrderId, RefundId};
use crate::limits::{AMOUNT_MINOR_MAX, REFERENCE_CHARS_MAX};
use crate::merchant::duplicate;
use crate::messaging::event::{self, NewEvent};
use crate::order::{self, HoldState, close};
use crate::payment::{Payment, PaymentKind, payment_columns, payment_from_row};
use crate::platform::Platform;
use crate::refund::{Refund, RefundCause, RefundState, from_row, refund_columns};
use crate::store::Tx;
use crate::store::audit::{Actor, NewAudit};
use crate::store::idempotency::{Answered, Idempotency, Keyed};
use crate::timer::{self, NewTimer, TimerKind};

/// What the numbers of refunds that the platform makes by itself begin with.
const AUTOMATIC_PREFIX: &str = "auto-";

/// A refund to request.
#[derive(Clone, Debug)]
pub struct NewRefund {
    /// The order to refund.
    pub order_id: OrderId,
    /// The merchant's own number, unique for the merchant.
    pub refund_no: String,
    /// How much, in minor units; all that is left if it is not given.
    pub amount_minor: Option<i64>,
    /// Whether the order's units go back into stock.
    pub restock: bool,
}

impl Platform {
    /// Requests a refund of a paid order. The money is reserved when this returns; the gateway is asked after.
    pub async fn create_refund(
        &self,
        merchant_id: &MerchantId,
        new: NewRefund,
        idempotency: Option<Idempotency>,
    ) -> Result<Answered<Refund>> {
        check_text("/refund_no", &new.refund_no, REFERENCE_CHARS_MAX)?;
        if new.refund_no.starts_with(AUTOMATIC_PREFIX) {
            return Err(Error::invalid(
                "/refund_no",
                format!("numbers that begin with {AUTOMATIC_PREFIX} are the platform's own"),
            ));
        }
        if let Some(amount_minor) = new.amount_minor {
            check_range("/amount_minor", amount_minor, 1..=AMOUNT_MINOR_MAX)?;
        }
        self.run_keyed(Keyed {
            merchant_id: merchant_id.clone(),
            idempotency,
            input: new,
            operation: |tx, merchant_id, new| Box::pin(request(tx, merchant_id, new)),
        })
        .await
    }

    /// Takes up a refund again that was given up until a person looked at it.
    pub async fn retry_refund(&self, merchant_id: &MerchantId, id: RefundId) -> Result<Refund> {
        let input = (merchant_id.clone(), id);
        self.writer()
            .run(input, |tx, (merchant_id, id)| {
                Box::pin(retry(tx, merchant_id, *id))
            })
            .await
    }
}

/// Gives a payment back that was not accepted; at most once per payment.
pub(crate) async fn give_back(tx: &mut Tx, payment: &Payment) -> Result<()> {
    let cause = match payment.kind {
        PaymentKind::Accepted => return Ok(()),
        PaymentKind::Late => RefundCause::Late,
        PaymentKind::Duplicate => RefundCause::Duplicate,
        PaymentKind::WrongAmount => RefundCause::WrongAmount,
        PaymentKind::WrongCurrency => RefundCause::WrongCurrency,
    };
    if !reserve(tx, payment, payment.amount_minor).await? {
        return Ok(());
    }
    let refund = new_refund(tx, payment, payment.amount_minor, cause);
    insert(tx, &refund).await?;
    follow_up(tx, &refund, Actor::System);
    Ok(())
}

async fn request(tx: &mut Tx, merchant_id: &MerchantId, new: &NewRefund) -> Result<Refund> {
    let payment = accepted_payment(tx, merchant_id, new.order_id).await?;
    let left_minor = payment.amount_minor - payment.refunded_minor;
    let amount_minor = new.amount_minor.unwrap_or(left_minor);
    if amount_minor == 0 || !reserve(tx, &payment, amount_minor).await? {
        return Err(Error::RefundTooLarge {
            id: payment.id,
            left_minor,
            wanted_minor: amount_minor,
        });
    }
    let mut refund = new_refund(tx, &payment, amount_minor, RefundCause::Merchant);
    refund.refund_no.clone_from(&new.refund_no);
    refund.restock = new.restock;
    insert(tx, &refund).await?;
    if refund.restock {
        let states = [HoldState::Consumed, HoldState::Restocked];
        close::return_units(tx, &[refund.order_id], states).await?;
    }
    if amount_minor == left_minor {
        coupon::revoke(tx, refund.order_id).await?;
    }
    follow_up(tx, &refund, Actor::Merchant);
    Ok(refund)
}

async fn accepted_payment(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    order_id: OrderId,
) -> Result<Payment> {
    let row = sqlx::query(concat!(
        "select ",
        payment_columns!(),
        " from payment where order_id = ? and merchant_id = ? and kind = ?"
    ))
    .bind(order_id)
    .bind(merchant_id.as_str())
    .bind(PaymentKind::Accepted.stored())
    .fetch_optional(tx.conn())
    .await?;
    if let Some(row) = row {
        return payment_from_row(&row);
    }
    let order = order::find(tx.conn(), merchant_id, order_id).await?;
    Err(Error::OrderState {
        id: order_id,
        state: order.state,
        wanted: "refunded: no payment was accepted for it",
    })
}

/// Sets money of the payment aside for a refund; answers whether there was enough left.
async fn reserve(tx: &mut Tx, payment: &Payment, amount_minor: i64) -> Result<bool> {
    let reserved = sqlx::query(
        "update payment set refunded_minor = refunded_minor + ?1
         where id = ?2 and refunded_minor + ?1 <= amount_minor",
    )
    .bind(amount_minor)
    .bind(payment.id)
    .execute(tx.conn())
    .await?;
    Ok(reserved.rows_affected() == 1)
}

fn new_refund(tx: &Tx, payment: &Payment, amount_minor: i64, cause: RefundCause) -> Refund {
    let now_ms = tx.now_ms();
    Refund {
        id: RefundId::new(now_ms),
        merchant_id: payment.merchant_id.clone(),
        refund_no: format!("{AUTOMATIC_PREFIX}{}", payment.id),
        order_id: payment.order_id,
        payment_id: payment.id,
        state: RefundState::Requested,
        version: 1,
        cause,
        amount_minor,
        currency: payment.currency,
        restock: false,
        detail: None,
        created_ms: now_ms,
        final_ms: None,
    }
}

async fn insert(tx: &mut Tx, refund: &Refund) -> Result<()> {
    let automatic = refund.cause != RefundCause::Merchant;
    let inserted = sqlx::query(
        "insert into refund (id, merchant_id, refund_no, order_id, payment_id, auto_payment_id, state,
             version, cause, amount_minor, currency, restock, created_ms)
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(refund.id)
    .bind(refund.merchant_id.as_str())
    .bind(&refund.refund_no)
    .bind(refund.order_id)
    .bind(refund.payment_id)
    .bind(automatic.then_some(refund.payment_id))
    .bind(refund.state.stored())
    .bind(refund.version)
    .bind(refund.cause.stored())
    .bind(refund.amount_minor)
    .bind(refund.currency.as_str())
    .bind(refund.restock)
    .bind(refund.created_ms)
    .execute(tx.conn())
    .await;
    inserted.map_err(|error| duplicate(error, "refund", &refund.refund_no))?;
    Ok(())
}

/// Sets what goes with a refund that is to be worked on: its timer, its audit row, its event.
fn follow_up(tx: &mut Tx, refund: &Refund, actor: Actor) {
    let now_ms = tx.now_ms();
    timer::arm(
        tx,
        NewTimer {
            kind: TimerKind::Refund,
            id: refund.id.uuid(),
            merchant_id: refund.merchant_id.clone(),
            due_ms: now_ms,
            fire_ms: now_ms,
            version: refund.version,
        },
    );
    tell(tx, refund, None, actor);
}

/// Records where the refund stands now.
pub(super) fn tell(tx: &mut Tx, refund: &Refund, from: Option<RefundState>, actor: Actor) {
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

async fn retry(tx: &mut Tx, merchant_id: &MerchantId, id: RefundId) -> Result<Refund> {
    let row = sqlx::query(concat!(
        "update refund set state = ?, version = version + 1, final_ms = null
         where id = ? and merchant_id = ? and state = ? returning ",
        refund_columns!()
    ))
    .bind(RefundState::Requested.stored())
    .bind(id)
    .bind(merchant_id.as_str())
    .bind(RefundState::NeedsOperator.stored())
    .fetch_optional(tx.conn())
    .await?;
    if let Some(row) = row {
        let refund = from_row(&row)?;
        follow_up(tx, &refund, Actor::Merchant);
        return Ok(refund);
    }
    let state: Option<i64> =
        sqlx::query_scalar("select state from refund where id = ? and merchant_id = ?")
            .bind(id)
            .bind(merchant_id.as_str())
            .fetch_optional(tx.conn())
            .await?;
    let state = state.ok_or_else(|| Error::not_found("refund", &id))?;
    let state = RefundState::from_stored(state)?;
    Err(Error::RefundState { id, state })
}
