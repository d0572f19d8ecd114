//! Drives refunds when their timers fire: sends them, asks about them, and waits longer each time.

use std::sync::Arc;
use std::time::Duration;

use broker::clock::monotonic::timeout;

use crate::error::Result;
use crate::ids::RefundId;
use crate::model::audit::Actor;
use crate::model::refund::{Refund, RefundJob, RefundState};
use crate::model::timer::{TimerKind, TimerRow};
use crate::payment::missing::NO_GATEWAY_DELAY_MS;
use crate::platform::Platform;
use crate::refund::transition::{self, Move};
use crate::store::{Tx, refunds};
use crate::timer::{self, retry_after};
use gateway::{Gateway, Money, RefundOutcome, RefundRequest, RefundStatus};

/// Waits between the steps of a refund, in ms; after the last one a person must look.
const DELAYS_MS: [i64; 12] = [
    10_000,
    30_000,
    60_000,
    5 * 60_000,
    15 * 60_000,
    3_600_000,
    4 * 3_600_000,
    12 * 3_600_000,
    24 * 3_600_000,
    24 * 3_600_000,
    24 * 3_600_000,
    24 * 3_600_000,
];
/// How long a request waits for the first step of its refund.
const AT_ONCE: Duration = Duration::from_secs(2);
/// A wait is drawn out by up to this part of itself, so that refunds of one outage do not come back as one burst.
const JITTER_PART: i64 = 10;

/// Handles a due timer of a refund; answers whether there was something to do.
pub(crate) async fn fire(platform: &Platform, row: TimerRow) -> Result<bool> {
    let job = refunds::job(platform.readers(), RefundId::from_uuid(row.id)).await?;
    let Some(gateway) = platform.gateways().get(&job.account_id.to_string()) else {
        let missing = platform.missing_gateways();
        missing.warn(job.account_id, platform.now_ms());
        let input = (row, platform.config().watch_ms);
        platform
            .writer()
            .run(input, |tx, (row, watch_ms)| {
                Box::pin(wait_for_gateway(tx, row, *watch_ms))
            })
            .await?;
        return Ok(true);
    };
    let step = step(platform, &gateway, &job).await?;
    let after_ms = gateway.capabilities().refund_query_delay_ms;
    let input = AfterStep {
        row,
        step,
        after_ms: i64::try_from(after_ms).unwrap_or(i64::MAX / 2),
        jitter: crate::random::part(),
    };
    platform
        .writer()
        .run(input, |tx, input| Box::pin(after_step(tx, input)))
        .await?;
    Ok(true)
}

/// Takes the first step of a refund without waiting for its timer, for a while; the timer goes on from there.
pub(crate) async fn at_once(platform: &Platform, refund: &Refund) {
    let row = TimerRow {
        kind: TimerKind::Refund,
        id: refund.id.uuid(),
        merchant_id: refund.merchant_id.clone(),
        due_ms: refund.created_ms,
        next_fire_ms: refund.created_ms,
        version: refund.version,
        hop: 1,
        tries: 0,
    };
    match timeout(AT_ONCE, fire(platform, row)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            tracing::warn!(refund = %refund.id, %error, "the first step of the refund failed");
        }
        Err(_) => tracing::debug!(refund = %refund.id, "the gateway answers slowly"),
    }
}

/// Does what comes next at the gateway; `None` where there is nothing new.
async fn step(
    platform: &Platform,
    gateway: &Arc<dyn Gateway>,
    job: &RefundJob,
) -> Result<Option<Move>> {
    match job.refund.state {
        RefundState::Succeeded | RefundState::NeedsOperator | RefundState::Withdrawn => Ok(None),
        RefundState::Requested | RefundState::FailedRetryable => {
            // Durable before it is sent, so that after a crash it is asked about first.
            let submitted = Move {
                to: RefundState::Submitted,
                actor: Actor::System,
                detail: None,
            };
            // Another step may have ended it meanwhile, and a person withdrawn it.
            if apply(platform, job.refund.id, submitted).await? != Some(RefundState::Submitted) {
                return Ok(None);
            }
            Ok(send(gateway, job).await)
        }
        RefundState::Submitted | RefundState::Processing => {
            match gateway.query_refund(&job.refund.id.to_string()).await {
                // The number and the amount are the same, so sending it again is safe.
                RefundStatus::NotFound => Ok(send(gateway, job).await),
                status => Ok(Move::of_status(status)),
            }
        }
    }
}

async fn send(gateway: &Arc<dyn Gateway>, job: &RefundJob) -> Option<Move> {
    let request = RefundRequest {
        refund_id: job.refund.id.to_string(),
        attempt_id: job.attempt_id.to_string(),
        transaction_id: job.gateway_txn.clone(),
        money: Money {
            amount: job.refund.amount_minor,
            currency: job.refund.currency.to_string(),
        },
    };
    let (to, detail) = match gateway.refund(&request).await {
        RefundOutcome::Accepted => (RefundState::Processing, None),
        RefundOutcome::Succeeded { .. } => (RefundState::Succeeded, None),
        RefundOutcome::Retryable { reason } => (RefundState::FailedRetryable, Some(reason)),
        RefundOutcome::Rejected { reason } => (RefundState::NeedsOperator, Some(reason)),
        RefundOutcome::Unknown { .. } => return None,
    };
    let actor = Actor::Gateway;
    Some(Move { to, actor, detail })
}

async fn apply(platform: &Platform, id: RefundId, step: Move) -> Result<Option<RefundState>> {
    platform
        .writer()
        .run((id, step), |tx, (id, step)| {
            Box::pin(transition::apply(tx, *id, step))
        })
        .await
}

struct AfterStep {
    row: TimerRow,
    step: Option<Move>,
    after_ms: i64,
    /// 0 to 1.
    jitter: f64,
}

/// Waits for the gateway of an account that has none, which costs no try; after `watch_ms` a person must look.
async fn wait_for_gateway(tx: &mut Tx, row: &TimerRow, watch_ms: i64) -> Result<()> {
    let id = RefundId::from_uuid(row.id);
    let Some(refund) = refunds::find(tx, id).await? else {
        return timer::disarm(tx, TimerKind::Refund, [row.id]).await;
    };
    if refund.state.is_final() {
        return timer::disarm(tx, TimerKind::Refund, [row.id]).await;
    }
    if tx.now_ms() - refund.asked_ms < watch_ms {
        return timer::wait_for(tx, row, NO_GATEWAY_DELAY_MS).await;
    }
    let step = Move {
        to: RefundState::NeedsOperator,
        actor: Actor::System,
        detail: Some("its account has had no gateway for too long".to_owned()),
    };
    transition::apply(tx, id, &step).await?;
    Ok(())
}

/// Applies the step and arms the next one, or gives the refund up.
async fn after_step(tx: &mut Tx, input: &AfterStep) -> Result<()> {
    let id = RefundId::from_uuid(input.row.id);
    let state = match &input.step {
        Some(step) => transition::apply(tx, id, step).await?,
        None => refunds::find(tx, id).await?.map(|refund| refund.state),
    };
    if state.is_none_or(RefundState::is_final) {
        return timer::disarm(tx, TimerKind::Refund, [input.row.id]).await;
    }
    let tries = usize::try_from(input.row.tries).unwrap_or(usize::MAX);
    let Some(delay_ms) = DELAYS_MS.get(tries).copied() else {
        let step = Move {
            to: RefundState::NeedsOperator,
            actor: Actor::System,
            detail: Some("the gateway did not finish it in time".to_owned()),
        };
        transition::apply(tx, id, &step).await?;
        return Ok(());
    };
    let delay_ms = delay_ms + drawn(delay_ms / JITTER_PART, input.jitter);
    retry_after(tx, &input.row, std::cmp::max(delay_ms, input.after_ms)).await
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a tenth of at most a day in ms, times 0 to 1"
)]
fn drawn(most_ms: i64, part: f64) -> i64 {
    (most_ms as f64 * part) as i64
}
