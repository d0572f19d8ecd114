//! Lets a person decide about a refund that needs an operator: try it again, withdraw it, or settle it by hand.

use crate::error::{Error, Result, check_text};
use crate::ids::{MerchantId, RefundId};
use crate::limits::REFERENCE_CHARS_MAX;
use crate::model::audit::Actor;
use crate::model::refund::{Refund, RefundCause, RefundState};
use crate::platform::Platform;
use crate::refund::event::record;
use crate::refund::{effects, reserve, schedule};
use crate::store::{Tx, refunds};

impl Platform {
    /// Tries a refund again that needed an operator; one that is under way stays as it is.
    pub async fn retry_refund(&self, merchant_id: &MerchantId, id: RefundId) -> Result<Refund> {
        let input = (merchant_id.clone(), id);
        self.writer()
            .run(input, |tx, (merchant_id, id)| {
                Box::pin(retry(tx, merchant_id, *id))
            })
            .await
    }

    /// Withdraws a refund that needs an operator, so that its money can be refunded otherwise.
    ///
    /// A refund of money that was not accepted cannot be withdrawn: that money has to go back.
    pub async fn abandon_refund(&self, merchant_id: &MerchantId, id: RefundId) -> Result<Refund> {
        let input = (merchant_id.clone(), id);
        self.writer()
            .run(input, |tx, (merchant_id, id)| {
                Box::pin(abandon(tx, merchant_id, *id))
            })
            .await
    }

    /// Records that the money of a refund that needs an operator was given back by other means; `reference` names them.
    pub async fn settle_refund(
        &self,
        merchant_id: &MerchantId,
        id: RefundId,
        reference: &str,
    ) -> Result<Refund> {
        check_text("/reference", reference, REFERENCE_CHARS_MAX)?;
        let input = (merchant_id.clone(), id, reference.to_owned());
        self.writer()
            .run(input, |tx, (merchant_id, id, reference)| {
                Box::pin(settle(tx, merchant_id, *id, reference))
            })
            .await
    }
}

async fn retry(tx: &mut Tx, merchant_id: &MerchantId, id: RefundId) -> Result<Refund> {
    let mut refund = refunds::get(tx.conn(), merchant_id, id).await?;
    match refund.state {
        RefundState::NeedsOperator => {}
        RefundState::Succeeded | RefundState::Withdrawn => {
            return Err(refusal(&refund, "tried again"));
        }
        _ => return Ok(refund),
    }
    reserve::require_again(tx, &mut refund).await?;
    let Some(refund) = refunds::take_up(tx, id).await? else {
        return Err(refusal(&refund, "tried again"));
    };
    schedule::arm_or_move(tx, &refund).await?;
    let from = Some(RefundState::NeedsOperator);
    record(tx, &refund, from, Actor::Merchant);
    Ok(refund)
}

async fn abandon(tx: &mut Tx, merchant_id: &MerchantId, id: RefundId) -> Result<Refund> {
    let refund = refunds::get(tx.conn(), merchant_id, id).await?;
    if refund.state == RefundState::Withdrawn {
        return Ok(refund);
    }
    // One that had succeeded and then failed keeps its money aside: its units and coupons went back with it.
    if refund.cause != RefundCause::Merchant || refund.applied {
        return Err(refusal(
            &refund,
            "withdrawn: its money has to go back; try it again or settle it",
        ));
    }
    let states = [RefundState::NeedsOperator, RefundState::Withdrawn];
    let Some(mut refund) = refunds::change(tx, id, states, None).await? else {
        return Err(refusal(&refund, "withdrawn"));
    };
    reserve::release(tx, &mut refund).await?;
    let from = Some(RefundState::NeedsOperator);
    record(tx, &refund, from, Actor::Merchant);
    Ok(refund)
}

async fn settle(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    id: RefundId,
    reference: &str,
) -> Result<Refund> {
    let mut refund = refunds::get(tx.conn(), merchant_id, id).await?;
    if refund.state == RefundState::Succeeded && refund.reference.as_deref() == Some(reference) {
        return Ok(refund);
    }
    if refund.state != RefundState::NeedsOperator {
        return Err(refusal(&refund, "settled"));
    }
    reserve::require_again(tx, &mut refund).await?;
    refunds::set_reference(tx, id, reference).await?;
    let states = [RefundState::NeedsOperator, RefundState::Succeeded];
    let detail = format!("settled by hand: {reference}");
    let Some(mut refund) = refunds::change(tx, id, states, Some(&detail)).await? else {
        return Err(refusal(&refund, "settled"));
    };
    effects::apply(tx, &mut refund).await?;
    let from = Some(RefundState::NeedsOperator);
    record(tx, &refund, from, Actor::Merchant);
    Ok(refund)
}

fn refusal(refund: &Refund, wanted: &'static str) -> Error {
    Error::RefundState {
        id: refund.id,
        state: refund.state,
        wanted,
    }
}
