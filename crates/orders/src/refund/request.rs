//! Requests refunds: automatically for money that was not accepted, or for the merchant.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, check_range, check_text};
use crate::ids::{MerchantId, OrderId, RefundId};
use crate::limits::{AMOUNT_MINOR_MAX, LINES_MAX, QUANTITY_MAX, REFERENCE_CHARS_MAX};
use crate::model::audit::Actor;
use crate::model::payment::{Payment, PaymentKind};
use crate::model::refund::{Refund, RefundCause, RefundLine, RefundState};
use crate::platform::Platform;
use crate::refund::event::record;
use crate::refund::{drive, schedule};
use crate::store::idempotency::{Answered, Idempotency, Keyed};
use crate::store::{Tx, orders, payments, refunds};

/// When the timer of a refund fires first that is asked for at once, in ms after the request.
const FIRST_WAIT_MS: i64 = 10_000;
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
    /// Whether all units of the order that have not come back go into stock when the refund has succeeded. Only with
    /// all the money that is left.
    pub restock: bool,
    /// Units that go into stock when the refund has succeeded, by line.
    pub restock_lines: Vec<RefundLine>,
}

/// A refund to request, and when its timer fires first.
struct Request {
    new: NewRefund,
    wait_ms: i64,
}

/// The refund of a request, and whether an earlier request had made it.
#[derive(Serialize, Deserialize)]
struct Requested {
    refund: Refund,
    repeated: bool,
}

impl Platform {
    /// Requests a refund of a paid order. The money is set aside when this returns; the gateway is asked afterwards.
    ///
    /// A number that was used for the same order, amount and units is the same request: it answers that refund.
    pub async fn create_refund(
        &self,
        merchant_id: &MerchantId,
        new: NewRefund,
        idempotency: Option<Idempotency>,
    ) -> Result<Answered<Refund>> {
        let request = Request { new, wait_ms: 0 };
        self.request_refund(merchant_id, request, idempotency).await
    }

    /// Requests a refund like [`Self::create_refund`], asks the gateway at once and answers what has become of it.
    pub async fn create_refund_and_ask(
        &self,
        merchant_id: &MerchantId,
        new: NewRefund,
        idempotency: Option<Idempotency>,
    ) -> Result<Answered<Refund>> {
        let request = Request {
            new,
            wait_ms: FIRST_WAIT_MS,
        };
        let mut answered = self
            .request_refund(merchant_id, request, idempotency)
            .await?;
        if !answered.replayed {
            drive::at_once(self, &answered.value).await;
        }
        answered.value = self.refund(merchant_id, answered.value.id).await?;
        Ok(answered)
    }

    async fn request_refund(
        &self,
        merchant_id: &MerchantId,
        request: Request,
        idempotency: Option<Idempotency>,
    ) -> Result<Answered<Refund>> {
        check(&request.new)?;
        let answered = self
            .run_keyed(Keyed {
                merchant_id: merchant_id.clone(),
                idempotency,
                input: request,
                operation: |tx, merchant_id, input| Box::pin(request_in(tx, merchant_id, input)),
            })
            .await?;
        Ok(Answered {
            replayed: answered.replayed || answered.value.repeated,
            value: answered.value.refund,
        })
    }
}

fn check(new: &NewRefund) -> Result<()> {
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
    if new.restock && !new.restock_lines.is_empty() {
        return Err(Error::invalid(
            "/restock_lines",
            "`restock` returns all units; leave it out to name lines",
        ));
    }
    if new.restock_lines.len() > LINES_MAX {
        let detail = format!("an order has at most {LINES_MAX} lines");
        return Err(Error::invalid("/restock_lines", detail));
    }
    let mut named = BTreeSet::new();
    for line in &new.restock_lines {
        check_range("/restock_lines/quantity", line.quantity, 1..=QUANTITY_MAX)?;
        if !named.insert(line.line_no) {
            let detail = format!("line {} is named twice", line.line_no);
            return Err(Error::invalid("/restock_lines", detail));
        }
    }
    Ok(())
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
    let now_ms = tx.now_ms();
    schedule::arm(tx, &refund, now_ms);
    record(tx, &refund, None, Actor::System);
    Ok(())
}

async fn request_in(tx: &mut Tx, merchant_id: &MerchantId, input: &Request) -> Result<Requested> {
    let new = &input.new;
    // Before anything is set aside: an answer keeps all that was written.
    if let Some(refund) = refunds::of_number(tx, merchant_id, &new.refund_no).await? {
        return repeated(tx, refund, new).await;
    }
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
    let lines = lines_to_return(tx, new, amount_minor == left_minor).await?;
    let mut refund = new_refund(tx, &payment, amount_minor, RefundCause::Merchant);
    refund.refund_no.clone_from(&new.refund_no);
    refund.asked_minor = new.amount_minor;
    refund.restock = new.restock || !lines.is_empty();
    refunds::insert(tx, &refund).await?;
    if !lines.is_empty() {
        refunds::insert_lines(tx, refund.id, &lines).await?;
    }
    let fire_ms = tx.now_ms() + input.wait_ms;
    schedule::arm(tx, &refund, fire_ms);
    record(tx, &refund, None, Actor::Merchant);
    Ok(Requested {
        refund,
        repeated: false,
    })
}

/// The refund that has the number, if it was requested with the same contents.
async fn repeated(tx: &mut Tx, refund: Refund, new: &NewRefund) -> Result<Requested> {
    let mut named = new.restock_lines.clone();
    named.sort_unstable();
    let same_units = if named.is_empty() {
        refund.restock == new.restock
    } else {
        refunds::lines(tx, refund.id).await? == named
    };
    let same_money = refund.order_id == new.order_id && refund.asked_minor == new.amount_minor;
    if same_money && same_units {
        return Ok(Requested {
            refund,
            repeated: true,
        });
    }
    Err(Error::Duplicate {
        what: "refund",
        number: new.refund_no.clone(),
    })
}

/// The units that the refund is to put back: no more of a line than other refunds leave.
async fn lines_to_return(tx: &mut Tx, new: &NewRefund, is_rest: bool) -> Result<Vec<RefundLine>> {
    if new.restock && !is_rest {
        return Err(Error::invalid(
            "/restock",
            "the refund is not of all the money that is left; name the units that come back with `restock_lines`",
        ));
    }
    if !new.restock && new.restock_lines.is_empty() {
        return Ok(Vec::new());
    }
    let left = refunds::lines_left(tx, new.order_id).await?;
    if new.restock {
        return Ok(left);
    }
    for wanted in &new.restock_lines {
        let line = left.iter().find(|line| line.line_no == wanted.line_no);
        let quantity = line.map_or(0, |line| line.quantity);
        if wanted.quantity > quantity {
            return Err(Error::invalid(
                "/restock_lines",
                format!(
                    "{quantity} units of line {} can come back, {} were asked for",
                    wanted.line_no, wanted.quantity
                ),
            ));
        }
    }
    Ok(new.restock_lines.clone())
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
        asked_minor: Some(amount_minor),
        currency: payment.currency,
        restock: false,
        released: false,
        applied: false,
        reference: None,
        detail: None,
        created_ms: now_ms,
        asked_ms: now_ms,
        final_ms: None,
    }
}
