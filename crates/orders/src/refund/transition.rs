//! Moves refunds from state to state, whoever brings the news: a timer's question or a callback.

use crate::error::{Error, Result};
use crate::gateway::RefundStatus;
use crate::ids::{GatewayAccountId, RefundId};
use crate::metrics::Metric;
use crate::platform::Platform;
use crate::refund::request::tell;
use crate::refund::{Refund, RefundState, from_row, refund_columns};
use crate::store::Tx;
use crate::store::audit::Actor;
use crate::timer::{self, TimerKind};

/// Where a refund goes, and why.
#[derive(Clone, Debug)]
pub(crate) struct Move {
    pub(crate) to: RefundState,
    pub(crate) actor: Actor,
    pub(crate) detail: Option<String>,
}

impl Move {
    /// What a gateway's status means; `None` where it says nothing new.
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

pub(crate) async fn find(tx: &mut Tx, id: RefundId) -> Result<Option<Refund>> {
    let row = sqlx::query(concat!(
        "select ",
        refund_columns!(),
        " from refund where id = ?"
    ))
    .bind(id)
    .fetch_optional(tx.conn())
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// Moves the refund unless it is done with; answers where it stands then.
///
/// The gateway's word that the money went back counts even for a refund that was given up.
pub(crate) async fn apply(tx: &mut Tx, id: RefundId, step: &Move) -> Result<Option<RefundState>> {
    let Some(before) = find(tx, id).await? else {
        return Ok(None);
    };
    let late_success =
        before.state == RefundState::NeedsOperator && step.to == RefundState::Succeeded;
    if before.state == step.to || (before.state.is_final() && !late_success) {
        return Ok(Some(before.state));
    }
    let now_ms = tx.now_ms();
    let row = sqlx::query(concat!(
        "update refund set state = ?, version = version + 1, detail = coalesce(?, detail), final_ms = ?
         where id = ? and state = ? returning ",
        refund_columns!()
    ))
    .bind(step.to.stored())
    .bind(&step.detail)
    .bind(step.to.is_final().then_some(now_ms))
    .bind(id)
    .bind(before.state.stored())
    .fetch_optional(tx.conn())
    .await?;
    let Some(row) = row else { return Ok(None) };
    let refund = from_row(&row)?;
    if refund.state.is_final() {
        timer::disarm(tx, TimerKind::Refund, [id.uuid()]).await?;
    }
    if refund.state == RefundState::NeedsOperator {
        tx.record(Metric::NeedsOperator("refund"));
    }
    tell(tx, &refund, Some(before.state), step.actor);
    Ok(Some(refund.state))
}

/// Applies what a callback of the account says of a refund.
pub(crate) async fn note_status(
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
    let owner: Option<GatewayAccountId> = sqlx::query_scalar(
        "select p.account_id from refund r join payment p on p.id = r.payment_id where r.id = ?",
    )
    .bind(id)
    .fetch_optional(tx.conn())
    .await?;
    if owner != Some(account_id) {
        return Err(Error::not_found("refund", &id));
    }
    apply(tx, id, step).await?;
    Ok(())
}
