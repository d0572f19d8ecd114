//! Handles due timers: closes orders, expires coupons, drives attempts, closings and refunds at the gateways.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::coupon;
use crate::error::{Error, Result};
use crate::ids::OrderId;
use crate::metrics::count_timers;
use crate::model::audit::Actor;
use crate::model::order::CloseReason;
use crate::model::timer::{Rearm, TimerKind, TimerMessage, TimerRow};
use crate::order::close::{self, Cause};
use crate::payment::poll;
use crate::platform::Platform;
use crate::refund::drive;
use crate::store::{Tx, timers};
use crate::timer::{self, REARM_MIN_MS, pause};
use crate::webhook::deliver;

/// How often the shortest wait of a timer that keeps firing early is doubled, at most.
const DOUBLINGS_MAX: i64 = 10;
/// Less than this is a little early, in ms.
const A_LITTLE_MS: i64 = 10_000;
/// A question to a gateway may be asked so much early, in ms: brokers round to seconds.
const ROUNDING_MS: i64 = 2_000;

/// The outcome of a batch of messages, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fired {
    /// Timers that were due.
    pub(crate) due: usize,
    /// Messages that no longer count.
    pub(crate) stale: usize,
    /// Timers that fired too soon and were armed again.
    pub(crate) early: usize,
    /// Timers that wait for a pause to end.
    pub(crate) parked: usize,
}

impl Fired {
    fn count(self, kind: TimerKind) -> Self {
        count_timers("fired", kind, self.due);
        count_timers("stale", kind, self.stale);
        count_timers("early", kind, self.early);
        count_timers("parked", kind, self.parked);
        self
    }
}

/// Fires a batch of timers of one of the kinds that need no gateway, in one transaction.
///
/// Answers the messages that failed, with the error.
pub(crate) async fn fire_batch(
    platform: &Platform,
    kind: TimerKind,
    messages: Vec<TimerMessage>,
) -> Vec<(TimerMessage, Error)> {
    let split = platform
        .writer_ahead()
        .run_split(kind, messages, |tx, (kind, messages)| {
            Box::pin(fire_in(tx, *kind, messages))
        })
        .await;
    for fired in split.done {
        fired.count(kind);
    }
    split.failed
}

/// Fires a timer of one of the kinds that ask a gateway.
pub(crate) async fn fire_one(
    platform: &Platform,
    kind: TimerKind,
    message: TimerMessage,
) -> Result<Fired> {
    let row = match ahead_of_gateway(platform, kind, message).await? {
        Ahead::Due(row) => row,
        Ahead::Handled(fired) => return Ok(fired.count(kind)),
    };
    let counted = match kind {
        TimerKind::OrderClosing => poll::fire_closing(platform, row).await?,
        TimerKind::Attempt => poll::fire_attempt(platform, row).await?,
        TimerKind::Refund => drive::fire(platform, row).await?,
        TimerKind::Webhook => deliver::fire(platform, row).await?,
        TimerKind::OrderDeadline | TimerKind::CouponExpiry => false,
    };
    let fired = Fired {
        due: usize::from(counted),
        stale: usize::from(!counted),
        ..Fired::default()
    };
    Ok(fired.count(kind))
}

/// What there is to do about a timer before its gateway is asked.
enum Ahead {
    /// Nothing: the gateway is to be asked.
    Due(TimerRow),
    /// It was stale, or was armed again or parked.
    Handled(Fired),
}

/// Drops, arms again or parks a timer of a gateway, unless the gateway is to be asked.
///
/// A message that comes too soon is common where the broker rounds, and asking then would shorten every wait.
async fn ahead_of_gateway(
    platform: &Platform,
    kind: TimerKind,
    message: TimerMessage,
) -> Result<Ahead> {
    // A pause is read in the transaction that obeys it, which looks at the clock first: one that has jumped begins a
    // pause. No pause holds a refund.
    if matches!(kind, TimerKind::Refund | TimerKind::Webhook) {
        let row = timers::current(platform.readers(), kind, message).await?;
        let Some(row) = row else {
            return Ok(Ahead::Handled(Fired {
                stale: 1,
                ..Fired::default()
            }));
        };
        if ready_ms(&row) <= platform.now_ms() {
            return Ok(Ahead::Due(row));
        }
    }
    platform
        .writer_ahead()
        .run((kind, message), |tx, (kind, message)| {
            Box::pin(set_aside_one(tx, *kind, *message))
        })
        .await
}

/// Arms the timer again or parks it, unless it is due.
async fn set_aside_one(tx: &mut Tx, kind: TimerKind, message: TimerMessage) -> Result<Ahead> {
    let timers = timers::current_of(tx, kind, &[message]).await?;
    let mut sorted = sort(tx, kind, timers).await?;
    if let Some(row) = sorted.due.pop() {
        return Ok(Ahead::Due(row));
    }
    set_aside(tx, kind, &sorted).await?;
    let mut fired = sorted.counts();
    fired.stale = 1 - fired.early - fired.parked;
    Ok(Ahead::Handled(fired))
}

async fn fire_in(tx: &mut Tx, kind: TimerKind, messages: &[TimerMessage]) -> Result<Fired> {
    let timers = timers::current_of(tx, kind, messages).await?;
    let sorted = sort(tx, kind, timers).await?;
    set_aside(tx, kind, &sorted).await?;
    let mut fired = sorted.counts();
    fired.stale = messages.len() - sorted.due.len() - fired.early - fired.parked;
    match kind {
        TimerKind::OrderDeadline => close_due(tx, &sorted.due).await?,
        TimerKind::CouponExpiry => {
            let ids: Vec<Uuid> = sorted.due.iter().map(|timer| timer.id).collect();
            coupon::expiry::expire(tx, &ids).await?;
        }
        TimerKind::OrderClosing | TimerKind::Attempt | TimerKind::Refund | TimerKind::Webhook => {}
    }
    fired.due = sorted.due.len();
    Ok(fired)
}

/// Timers by what is to be done about them.
#[derive(Default)]
struct Sorted {
    due: Vec<TimerRow>,
    early: Vec<Rearm>,
    paused: Vec<Uuid>,
}

impl Sorted {
    fn counts(&self) -> Fired {
        Fired {
            early: self.early.len(),
            parked: self.paused.len(),
            ..Fired::default()
        }
    }
}

/// Sorts timers whose messages have come. The message is only a hint: what counts is the row and the clock.
async fn sort(tx: &mut Tx, kind: TimerKind, timers: Vec<TimerRow>) -> Result<Sorted> {
    let now_ms = tx.now_ms();
    let mut sorted = Sorted::default();
    for timer in timers {
        if ready_ms(&timer) <= now_ms {
            sorted.due.push(timer);
        } else {
            sorted.early.push(rearm_early(&timer, now_ms));
        }
    }
    if kind.obeys_pauses() && !sorted.due.is_empty() {
        let paused = pause::paused_of(tx, &sorted.due).await?;
        sorted.due.retain(|timer| !paused.contains(&timer.id));
        sorted.paused = paused.into_iter().collect();
    }
    Ok(sorted)
}

/// From when on a timer may do what it is for, in ms since the Unix epoch.
///
/// A deadline and an expiry are kept to the millisecond: what counts is the instant itself, not when the message was
/// asked for. A question to a gateway may be asked a little early, or a broker that rounds would put it off for ever.
fn ready_ms(timer: &TimerRow) -> i64 {
    match timer.kind {
        TimerKind::OrderDeadline | TimerKind::CouponExpiry => timer.due_ms,
        TimerKind::OrderClosing | TimerKind::Attempt | TimerKind::Refund | TimerKind::Webhook => {
            timer.next_fire_ms - ROUNDING_MS
        }
    }
}

/// A second ahead at least, and twice as much each further time: a broker that is always a little early cannot make
/// it spin. A message that comes much too early was cut to the broker's longest delay and counts no try.
fn rearm_early(timer: &TimerRow, now_ms: i64) -> Rearm {
    let keeps_instant = matches!(
        timer.kind,
        TimerKind::OrderDeadline | TimerKind::CouponExpiry
    );
    if !keeps_instant {
        return Rearm {
            id: timer.id,
            hop: timer.hop,
            fire_ms: timer.next_fire_ms,
            // Its tries count the answers of a gateway.
            tries: 0,
        };
    }
    let least_ms = REARM_MIN_MS << timer.tries.clamp(0, DOUBLINGS_MAX);
    Rearm {
        id: timer.id,
        hop: timer.hop,
        fire_ms: std::cmp::max(timer.due_ms, now_ms + least_ms),
        tries: i64::from(timer.due_ms - now_ms < A_LITTLE_MS),
    }
}

async fn set_aside(tx: &mut Tx, kind: TimerKind, sorted: &Sorted) -> Result<()> {
    timer::rearm(tx, kind, &sorted.early).await?;
    timer::park(tx, kind, &sorted.paused).await
}

async fn close_due(tx: &mut Tx, due: &[TimerRow]) -> Result<()> {
    if due.is_empty() {
        return Ok(());
    }
    let cause = Cause {
        reason: CloseReason::Timeout,
        actor: Actor::System,
        due_before_ms: tx.now_ms(),
    };
    let ids: Vec<OrderId> = due
        .iter()
        .map(|timer| OrderId::from_uuid(timer.id))
        .collect();
    let ended = close::close_pending(tx, &ids, cause).await?;
    // A timer without an order to close has nothing more to do. It is never left by the transitions themselves.
    let mut left: BTreeMap<Uuid, &TimerRow> = due.iter().map(|timer| (timer.id, timer)).collect();
    for order in ended.closed.iter().chain(&ended.closing) {
        left.remove(&order.id.uuid());
    }
    if !left.is_empty() {
        tracing::warn!(
            timers = left.len(),
            "drop deadlines of orders that are not pending"
        );
        timer::disarm(tx, TimerKind::OrderDeadline, left.into_keys()).await?;
    }
    Ok(())
}
