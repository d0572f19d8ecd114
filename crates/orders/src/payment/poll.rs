//! Asks gateways about attempts: for orders that are closing, and for every attempt until its answer is final.
//!
//! No transaction is open while a gateway is asked. What it answers is applied by conditional updates, so it does
//! not matter who asks twice.

use std::sync::Arc;

use crate::config::UnknownPolicy;
use crate::error::{Error, Result};
use crate::ids::{AttemptId, GatewayAccountId, OrderId};
use crate::model::audit::Actor;
use crate::model::order::{Order, OrderState};
use crate::model::payment::{Attempt, AttemptState};
use crate::model::timer::{TimerKind, TimerRow};
use crate::order::{close, force};
use crate::payment::attempt::{self, End};
use crate::payment::missing::NO_GATEWAY_DELAY_MS;
use crate::payment::record::Received;
use crate::platform::Platform;
use crate::store::{Tx, orders, payments};
use crate::timer::{self, REARM_MIN_MS, retry_after};
use gateway::{CloseOutcome, Gateway, QueryOutcome};

/// Waits between the questions about an attempt, in ms; the last one repeats.
pub(crate) const ATTEMPT_DELAYS_MS: [i64; 6] = [10_000, 30_000, 60_000, 300_000, 600_000, 900_000];
/// Waits between the looks at an order that is closing, in ms; the last one repeats.
const CLOSING_DELAYS_MS: [i64; 7] = [2_000, 5_000, 15_000, 30_000, 60_000, 120_000, 300_000];
/// The same for an order about which the alarm was raised, in ms.
const ALARMED_DELAY_MS: i64 = 300_000;
/// How long after its expiry a gateway that has never heard of an attempt is believed, in ms: a request to open it
/// may have been under way, but is refused after the expiry it carries.
const NEVER_SEEN_MS: i64 = 60_000;

/// The result of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// The attempt has reached a final state.
    Final,
    /// Ask again, no sooner than after this many ms.
    Again { after_ms: i64 },
    /// There is nothing to ask: the account has no gateway in this process.
    NoGateway,
}

/// Whether the gateway is also asked to close the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    Learn,
    Close,
}

impl Platform {
    /// The gateway of the account.
    pub(crate) fn gateway_of(&self, account_id: GatewayAccountId) -> Result<Arc<dyn Gateway>> {
        let gateway = self.gateways().get(&account_id.to_string());
        gateway.ok_or_else(|| Error::not_found("gateway of account", &account_id))
    }
}

/// Handles a due timer of an order that is closing; answers whether there was something to do.
pub(crate) async fn fire_closing(platform: &Platform, row: TimerRow) -> Result<bool> {
    let id = OrderId::from_uuid(row.id);
    let mut input = AfterClosing {
        row,
        after_ms: 0,
        no_gateway: false,
        policy: platform.config().unknown_policy,
        watch_ms: platform.config().watch_ms,
    };
    for attempt in payments::live_attempts(platform.readers(), id).await? {
        match ask(platform, &attempt, Aim::Close).await? {
            Answer::Final => {}
            Answer::Again { after_ms } => {
                input.after_ms = std::cmp::max(input.after_ms, after_ms);
            }
            Answer::NoGateway => input.no_gateway = true,
        }
    }
    platform
        .writer_ahead()
        .run(input, |tx, input| Box::pin(after_closing(tx, input)))
        .await?;
    Ok(true)
}

struct AfterClosing {
    row: TimerRow,
    after_ms: i64,
    /// A gateway that would have to be asked is not in this process.
    no_gateway: bool,
    policy: UnknownPolicy,
    watch_ms: i64,
}

/// Closes the order if it can be, or looks again later.
async fn after_closing(tx: &mut Tx, input: &AfterClosing) -> Result<()> {
    let id = OrderId::from_uuid(input.row.id);
    if close::finish_closing(tx, id, Actor::System)
        .await?
        .is_some()
    {
        return Ok(());
    }
    force::alarm(tx, id, input.row.due_ms, input.watch_ms).await?;
    if input.no_gateway {
        let alarmed = tx.now_ms() - input.row.due_ms >= input.watch_ms;
        let delay_ms = if alarmed {
            ALARMED_DELAY_MS
        } else {
            NO_GATEWAY_DELAY_MS
        };
        return timer::wait_for(tx, &input.row, delay_ms).await;
    }
    let tries = input.row.tries + 1;
    if let UnknownPolicy::CloseAndRefundLate { tries: most } = input.policy
        && tries >= i64::from(most)
    {
        // It stays CLOSING, and needs its timer, if a pause holds it.
        let detail = "the gateway did not answer while the order was closing";
        force::close_over(tx, id, Actor::System, detail).await?;
    }
    let delay_ms = std::cmp::max(delay(&CLOSING_DELAYS_MS, input.row.tries), input.after_ms);
    retry_after(tx, &input.row, delay_ms).await
}

/// Handles a due timer of an attempt; answers whether there was something to do.
pub(crate) async fn fire_attempt(platform: &Platform, row: TimerRow) -> Result<bool> {
    let Some((attempt, order)) = with_order(platform, AttemptId::from_uuid(row.id)).await? else {
        let disarmed = platform.writer_ahead().run(row.id, |tx, id| {
            Box::pin(timer::disarm(tx, TimerKind::Attempt, [*id]))
        });
        disarmed.await?;
        return Ok(false);
    };
    let now_ms = platform.now_ms();
    let aim = if order.state == OrderState::Pending && now_ms < attempt.expires_ms {
        Aim::Learn
    } else {
        Aim::Close
    };
    let answer = ask(platform, &attempt, aim).await?;
    if answer == Answer::Final {
        return Ok(true);
    }
    let ended_ms = order.closed_ms.or(order.paid_ms);
    if ended_ms.is_some_and(|ended_ms| now_ms - ended_ms >= platform.config().watch_ms) {
        let end = End {
            to: AttemptState::NeedsOperator,
            actor: Actor::System,
            detail: Some("the gateway gave no final answer in time".to_owned()),
        };
        end_attempt(platform, attempt.id, end).await?;
        return Ok(true);
    }
    let Answer::Again { after_ms } = answer else {
        let waits = platform.writer_ahead().run(row, |tx, row| {
            Box::pin(timer::wait_for(tx, row, NO_GATEWAY_DELAY_MS))
        });
        waits.await?;
        return Ok(true);
    };
    let mut delay_ms = std::cmp::max(delay(&ATTEMPT_DELAYS_MS, row.tries + 1), after_ms);
    // Its expiry makes an answer likely, so it is not slept through.
    let to_expiry_ms = attempt.expires_ms - now_ms + REARM_MIN_MS;
    if to_expiry_ms > REARM_MIN_MS {
        delay_ms = std::cmp::min(delay_ms, to_expiry_ms);
    }
    platform
        .writer_ahead()
        .run((row, delay_ms), |tx, (row, delay_ms)| {
            Box::pin(retry_after(tx, row, *delay_ms))
        })
        .await?;
    Ok(true)
}

/// The attempt, if it is still open, and its order.
async fn with_order(platform: &Platform, id: AttemptId) -> Result<Option<(Attempt, Order)>> {
    let attempt = payments::find_attempt(platform.readers(), id).await?;
    let Some(attempt) = attempt.filter(|attempt| attempt.state.is_open()) else {
        return Ok(None);
    };
    let order = orders::get(platform.readers(), attempt.order_id).await?;
    Ok(Some((attempt, order)))
}

/// Asks the gateway about the attempt and applies the answer.
///
/// An error that is this attempt's own must not keep the others of its order from being asked, nor its timer from
/// counting the try.
async fn ask(platform: &Platform, attempt: &Attempt, aim: Aim) -> Result<Answer> {
    match ask_gateway(platform, attempt, aim).await {
        Err(error @ (Error::Stopped | Error::Database(_))) => Err(error),
        Err(error) => {
            tracing::error!(attempt = %attempt.id, %error, "ask about an attempt");
            Ok(Answer::Again { after_ms: 0 })
        }
        Ok(answer) => Ok(answer),
    }
}

async fn ask_gateway(platform: &Platform, attempt: &Attempt, aim: Aim) -> Result<Answer> {
    let Some(gateway) = platform.gateways().get(&attempt.account_id.to_string()) else {
        let missing = platform.missing_gateways();
        missing.warn(attempt.account_id, platform.now_ms());
        return Ok(Answer::NoGateway);
    };
    let id = attempt.id.to_string();
    let queried = gateway.query(&id).await;
    if let Some(answer) = apply(platform, attempt, &queried).await? {
        return Ok(answer);
    }
    if aim == Aim::Learn || !gateway.capabilities().can_close {
        return Ok(Answer::Again { after_ms: 0 });
    }
    match gateway.close(&id).await {
        CloseOutcome::Closed => {
            let answer = apply(platform, attempt, &QueryOutcome::Closed).await?;
            Ok(answer.unwrap_or(Answer::Final))
        }
        CloseOutcome::AlreadyPaid => {
            let queried = gateway.query(&id).await;
            let answer = apply(platform, attempt, &queried).await?;
            Ok(answer.unwrap_or(Answer::Again { after_ms: 0 }))
        }
        CloseOutcome::NotClosable { retry_after_ms } => Ok(Answer::Again {
            after_ms: i64::try_from(retry_after_ms).unwrap_or(i64::MAX / 2),
        }),
        CloseOutcome::Unknown { reason } => {
            tracing::debug!(attempt = %attempt.id, %reason, "close an attempt without an answer");
            Ok(Answer::Again { after_ms: 0 })
        }
    }
}

/// Applies the answer to a query; `None` if it is not final.
async fn apply(
    platform: &Platform,
    attempt: &Attempt,
    queried: &QueryOutcome,
) -> Result<Option<Answer>> {
    let end = match queried {
        QueryOutcome::Paid(paid) => {
            platform
                .record_money(Received::asked(attempt, paid))
                .await?;
            return Ok(Some(Answer::Final));
        }
        QueryOutcome::Closed => End {
            to: AttemptState::Closed,
            actor: Actor::Gateway,
            detail: None,
        },
        // Not found is not closed, until no request that opens it can succeed any longer.
        QueryOutcome::NotFound if platform.now_ms() >= attempt.expires_ms + NEVER_SEEN_MS => End {
            to: AttemptState::Failed,
            actor: Actor::Gateway,
            detail: Some("the gateway has never seen the attempt".to_owned()),
        },
        QueryOutcome::NotFound
        | QueryOutcome::Pending
        | QueryOutcome::Processing
        | QueryOutcome::Unknown { .. } => return Ok(None),
    };
    end_attempt(platform, attempt.id, end).await?;
    Ok(Some(Answer::Final))
}

async fn end_attempt(platform: &Platform, id: AttemptId, end: End) -> Result<()> {
    platform
        .writer_ahead()
        .run((id, end), |tx, (id, end)| {
            Box::pin(attempt::end_open(tx, *id, end))
        })
        .await?;
    Ok(())
}

/// The wait after this many tries; the last one of the list repeats.
fn delay(delays_ms: &[i64], tries: i64) -> i64 {
    let index = usize::try_from(tries).unwrap_or(usize::MAX);
    let last = delays_ms.last().copied().unwrap_or(REARM_MIN_MS);
    delays_ms.get(index).copied().unwrap_or(last)
}
