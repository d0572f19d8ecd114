//! Requests refunds: automatically for money that was not accepted, or for the merchant.

use crate::coupon;
use crate::error::{Error, Result, check_range, check_text};
use crate::ids::{MerchantId, OrderId, RefundId};
use crate::limits::{AMOUNT_MINOR_MAX, REFERENCE_CHARS_MAX};
use crate::model::audit::Actor;
use crate::model::order::HoldState;
use crate::model::payment::{Payment, PaymentKind};
use crate::model::refund::{Refund, RefundCause, RefundState};
use crate::model::timer::{NewTimer, TimerKind};
use crate::order::close;
use crate::platform::Platform;
use crate::refund::event::record;
use crate::store::idempotency::{Answered, Idempotency, Keyed};
use crate::store::{Tx, orders, payments, refunds};
use crate::timer;

/// Prefix of the numbers of refunds that the platform requests by itself.
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
    /// Requests a refund of a paid order. The money is reserved when this returns; the gateway is asked afterwards.
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

    /// Tries a refund again that needed an operator.
    pub async fn retry_refund(&self, merchant_id: &MerchantId, id: RefundId) -> Result<Refund> {
        let input = (merchant_id.clone(), id);
        self.writer()
            .run(input, |tx, (merchant_id, id)| {
                Box::pin(retry(tx, merchant_id, *id))
            })
            .await
    }
}

/// Requests the refund of a payment that was not accepted; at most once per payment.
pub(crate) async fn refund_unaccepted(tx: &mut Tx, payment: &Payment) -> Result<()> {
    let cause = match payment.kind {
        PaymentKind::Accepted => return Ok(()),
        PaymentKind::Late => RefundCause::Late,
        PaymentKind::Duplicate => RefundCause::Duplicate,
        PaymentKind::WrongAmount => RefundCause::WrongAmount,
        PaymentKind::WrongCurrency => RefundCause::WrongCurrency,
    };
    if !payments::reserve(tx, payment.id, payment.amount_minor).await? {
        return Ok(());
    }
    let refund = new_refund(tx, payment, payment.amount_minor, cause);
    refunds::insert(tx, &refund).await?;
    follow_up(tx, &refund, Actor::System);
    Ok(())
}

async fn request(tx: &mut Tx, merchant_id: &MerchantId, new: &NewRefund) -> Result<Refund> {
    let payment = accepted_payment(tx, merchant_id, new.order_id).await?;
    let left_minor = payment.amount_minor - payment.refunded_minor;
    let amount_minor = new.amount_minor.unwrap_or(left_minor);
    if amount_minor == 0 || !payments::reserve(tx, payment.id, amount_minor).await? {
        return Err(Error::RefundTooLarge {
            id: payment.id,
            left_minor,
            wanted_minor: amount_minor,
        });
    }
    let mut refund = new_refund(tx, &payment, amount_minor, RefundCause::Merchant);
    refund.refund_no.clone_from(&new.refund_no);
    refund.restock = new.restock;
    refunds::insert(tx, &refund).await?;
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
    if let Some(payment) = payments::accepted(tx, merchant_id, order_id).await? {
        return Ok(payment);
    }
    let order = orders::find(tx.conn(), merchant_id, order_id).await?;
    Err(Error::OrderState {
        id: order_id,
        state: order.state,
        wanted: "refunded: no payment was accepted for it",
    })
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
    record(tx, refund, None, actor);
}

async fn retry(tx: &mut Tx, merchant_id: &MerchantId, id: RefundId) -> Result<Refund> {
    if let Some(refund) = refunds::reopen(tx, merchant_id, id).await? {
        follow_up(tx, &refund, Actor::Merchant);
        return Ok(refund);
    }
    let state = refunds::state(tx, merchant_id, id).await?;
    Err(Error::RefundState { id, state })
}
