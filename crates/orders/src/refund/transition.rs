//! Moves refunds from state to state, on the answer to a timer's question or on a callback.

use crate::error::{Error, Result};
use crate::ids::{GatewayAccountId, RefundId};
use crate::metrics::Metric;
use crate::model::audit::Actor;
use crate::model::refund::RefundState;
use crate::model::timer::TimerKind;
use crate::platform::Platform;
use crate::refund::event::record;
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

/// Moves the refund unless it is finished; answers its state then.
///
/// A gateway's report that the money went back counts even for a refund that was given up.
pub(crate) async fn apply(tx: &mut Tx, id: RefundId, step: &Move) -> Result<Option<RefundState>> {
    let Some(before) = refunds::find(tx, id).await? else {
        return Ok(None);
    };
    let late_success =
        before.state == RefundState::NeedsOperator && step.to == RefundState::Succeeded;
    if before.state == step.to || (before.state.is_final() && !late_success) {
        return Ok(Some(before.state));
    }
    let states = [before.state, step.to];
    let Some(refund) = refunds::change(tx, id, states, step.detail.as_deref()).await? else {
        return Ok(None);
    };
    if refund.state.is_final() {
        timer::disarm(tx, TimerKind::Refund, [id.uuid()]).await?;
    }
    if refund.state == RefundState::NeedsOperator {
        tx.record(Metric::NeedsOperator("refund"));
    }
    record(tx, &refund, Some(before.state), step.actor);
    Ok(Some(refund.state))
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
