//! Sets the money of a payment aside for its refunds, and lets it go again.
//!
//! A refund sets its amount aside when it is requested. It lets the amount go when the gateway has refused it for good
//! or a person has withdrawn it, and sets it aside again when it is taken up again or succeeds after all. A refund
//! without an answer keeps it: the money may be on its way.

use crate::error::{Error, Result};
use crate::model::refund::Refund;
use crate::store::{Tx, payments, refunds};

/// Lets the refund's amount go, so that another refund can have it.
pub(crate) async fn release(tx: &mut Tx, refund: &mut Refund) -> Result<()> {
    if refunds::set_released(tx, refund.id, true).await? {
        payments::release(tx, refund.payment_id, refund.amount_minor).await?;
    }
    refund.released = true;
    Ok(())
}

/// Sets the refund's amount aside again if it was let go; answers whether enough of the payment was left.
pub(crate) async fn reserve_again(tx: &mut Tx, refund: &mut Refund) -> Result<bool> {
    if !refund.released {
        return Ok(true);
    }
    if !payments::reserve(tx, refund.payment_id, refund.amount_minor).await? {
        return Ok(false);
    }
    refunds::set_released(tx, refund.id, false).await?;
    refund.released = false;
    Ok(true)
}

/// Like [`reserve_again`], for a person who can do something about it.
pub(crate) async fn require_again(tx: &mut Tx, refund: &mut Refund) -> Result<()> {
    if reserve_again(tx, refund).await? {
        return Ok(());
    }
    Err(Error::RefundTooLarge {
        id: refund.payment_id,
        left_minor: payments::left_minor(tx, refund.payment_id).await?,
        wanted_minor: refund.amount_minor,
    })
}
