//! Moves refunds from state to state, on the answer to a timer's question or on a callback.

use crate::error::{Error, Result};
use crate::ids::{GatewayAccountId, RefundId};
use crate::metrics::Metric;
use crate::model::audit::Actor;
use crate::model::refund::{Refund, RefundCause, RefundState};
use crate::model::timer::TimerKind;
use crate::platform::Platform;
use crate::refund::event::record;
use crate::refund::{effects, reserve, schedule};
use crate::store::{Tx, refunds};
use crate::timer;
use gateway::RefundStatus;

/// The next state of a refund, and why.
#[derive(Clone, Debug)]
pub(crate) struct Move {
    pub(crate) to: RefundState,
    pub(crate) actor: Actor,
    pub(crate) detail: Option<String>,
}

impl Move {
    /// The move that a gateway's status asks for; `None` where it is nothing new.
    pub(crate) fn of_status(status: RefundStatus) -> Option<Self> {
        let (to, detail) = match status {
            RefundStatus::Succeeded { .. } => (RefundState::Succeeded, None),
            RefundStatus::Processing => (RefundState::Processing, None),
            RefundStatus::Retryable { reason } => (RefundState::FailedRetryable, Some(reason)),
            RefundStatus::Failed { reason } => (RefundState::NeedsOperator, Some(reason)),
            RefundStatus::NotFound | RefundStatus::Unknown { .. } => return None,
        };
        let actor = Actor::Gateway;
        Some(Self { to, actor, detail })
    }
}

/// Moves the refund where the step leads from its present state; answers its state then.
pub(crate) async fn apply(tx: &mut Tx, id: RefundId, step: &Move) -> Result<Option<RefundState>> {
    let Some(before) = refunds::find(tx, id).await? else {
        return Ok(None);
    };
    let Some(to) = next(&before, step) else {
        return Ok(Some(before.state));
    };
    let detail = detail(&before, to, step);
    let states = [before.state, to];
    let Some(mut refund) = refunds::change(tx, id, states, detail.as_deref()).await? else {
        let now = refunds::find(tx, id).await?;
        return Ok(now.map(|refund| refund.state));
    };
    follow(tx, &mut refund, step.actor).await?;
    if before.state == RefundState::Succeeded {
        schedule::arm_or_move(tx, &refund).await?;
    } else if to.is_final() {
        timer::disarm(tx, TimerKind::Refund, [id.uuid()]).await?;
    }
    record(tx, &refund, Some(before.state), step.actor);
    Ok(Some(refund.state))
}

/// The state that the step leads to; `None` where it is nothing new or too late.
///
/// A gateway's report that the money went back counts even for a refund that was given up. Its report that a refund
/// failed which had succeeded is a question to ask it: the report may be older than the success.
fn next(before: &Refund, step: &Move) -> Option<RefundState> {
    let failed = matches!(
        step.to,
        RefundState::NeedsOperator | RefundState::FailedRetryable
    );
    match before.state {
        state if state == step.to => None,
        RefundState::Succeeded => {
            let by_hand = before.reference.is_some();
            (failed && !by_hand).then_some(RefundState::Submitted)
        }
        RefundState::NeedsOperator | RefundState::Withdrawn => {
            (step.to == RefundState::Succeeded).then_some(step.to)
        }
        _ => Some(step.to),
    }
}

/// What a person is to know about the step.
fn detail(before: &Refund, to: RefundState, step: &Move) -> Option<String> {
    let reason = step.detail.as_deref().unwrap_or("no reason given");
    if before.state == RefundState::Succeeded {
        return Some(format!(
            "it had succeeded, then the gateway reported: {reason}"
        ));
    }
    if to == RefundState::NeedsOperator && before.applied {
        return Some(format!(
            "{reason}; it had succeeded before, so its units and coupons went back"
        ));
    }
    step.detail.clone()
}

/// Does what goes with the refund's new state: its money, and what it changes elsewhere.
async fn follow(tx: &mut Tx, refund: &mut Refund, actor: Actor) -> Result<()> {
    match refund.state {
        RefundState::Succeeded => {
            if !reserve::reserve_again(tx, refund).await? {
                tracing::error!(
                    refund = %refund.id,
                    payment = %refund.payment_id,
                    "more money went back than the payment had"
                );
            }
            effects::apply(tx, refund).await
        }
        RefundState::NeedsOperator => {
            tx.record(Metric::NeedsOperator("refund"));
            // Refused for good. Without an answer the money may be on its way, so it stays set aside.
            let refused = actor == Actor::Gateway && refund.cause == RefundCause::Merchant;
            if refused && !refund.applied {
                reserve::release(tx, refund).await?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Applies the status of a refund from a callback of the account.
pub(crate) async fn apply_status(
    platform: &Platform,
    account_id: GatewayAccountId,
    id: RefundId,
    status: RefundStatus,
) -> Result<()> {
    let Some(step) = Move::of_status(status) else {
        return Ok(());
    };
    platform
        .writer()
        .run((account_id, id, step), |tx, (account_id, id, step)| {
            Box::pin(apply_of_account(tx, *account_id, *id, step))
        })
        .await
}

async fn apply_of_account(
    tx: &mut Tx,
    account_id: GatewayAccountId,
    id: RefundId,
    step: &Move,
) -> Result<()> {
    if refunds::account(tx, id).await? != Some(account_id) {
        return Err(Error::not_found("refund", &id));
    }
    apply(tx, id, step).await?;
    Ok(())
}
