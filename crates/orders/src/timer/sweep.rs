//! Sweeps the deadline indexes as a safety net, and deletes old rows.
//!
//! What is overdue is handled here and now, by the functions that its messages call: neither the broker nor the outbox is
//! needed. Everything is read outside the writer, a bounded piece at a time. A find is counted only where a timer was
//! lost; a message that waits in the outbox or at the broker is late, but not lost. The target is zero finds.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::sync::watch;
use uuid::Uuid;

use crate::coupon::issue;
use crate::error::Result;
use crate::metrics::{Metric, count_handled};
use crate::model::timer::{TimerKind, TimerMessage, TimerRow};
use crate::platform::Platform;
use crate::store::open::{self, Open, OpenPlace};
use crate::store::timers::{self, TimerPlace};
use crate::store::{Tx, coupons, outbox};
use crate::timer::prune::Pruner;
use crate::timer::{self, fire, pause};

/// Rows that one transaction of the sweeper works on.
const BATCH: i64 = 500;
/// The same, for lists.
const BATCH_LEN: usize = 500;
/// Things of a kind that one sweep looks at for a missing timer; the next sweep goes on after them.
const OPEN_MAX: usize = 5_000;
/// Timers that ask a gateway, for each of the calls that run at once, that one sweep handles.
const CALLS_PER_PLACE: usize = 8;

/// What a sweep found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Orders, attempts, refunds and coupons that are overdue and had no timer; it was written.
    pub missing: usize,
    /// Timers whose message was lost; they were handled. Those just written are among them.
    pub timers: usize,
    /// Paid orders whose coupon had not been decided; it was decided.
    pub coupons: usize,
    /// Timers that were parked although there is no pause; they were released.
    pub parked: usize,
}

/// Sweeps until stopped.
pub(crate) async fn run(platform: Platform, mut stop: watch::Receiver<bool>) {
    let every: Duration = platform.config().sweep_every;
    let mut sweeper = Sweeper::new(platform.clone());
    let mut pruner = Pruner::default();
    loop {
        tokio::select! {
            () = platform.clock().sleep(every) => {}
            _ = stop.changed() => return,
        }
        // It may wait for gateways; what it leaves undone is found again.
        let swept = tokio::select! {
            swept = sweeper.sweep() => swept,
            _ = stop.changed() => return,
        };
        match swept {
            Ok(swept) if swept == Swept::default() => {}
            Ok(swept) => {
                tracing::warn!(
                    missing = swept.missing,
                    timers = swept.timers,
                    coupons = swept.coupons,
                    parked = swept.parked,
                    "the sweeper found something"
                );
            }
            Err(error) => tracing::error!(%error, "sweep"),
        }
        if let Err(error) = pruner.prune(&platform).await {
            tracing::error!(%error, "delete old rows");
        }
    }
}

impl Platform {
    /// Finds what should have happened long ago and makes it happen.
    pub async fn sweep(&self) -> Result<Swept> {
        Sweeper::new(self.clone()).sweep().await
    }
}

/// The sweeps of a process, and where the next one goes on.
pub(crate) struct Sweeper {
    platform: Platform,
    places: [OpenPlace; TimerKind::ALL.len()],
    open_max: usize,
}

impl Sweeper {
    pub(crate) fn new(platform: Platform) -> Self {
        Self {
            platform,
            places: [OpenPlace::default(); TimerKind::ALL.len()],
            open_max: OPEN_MAX,
        }
    }

    /// A sweeper that looks for missing timers at fewer things a sweep.
    #[cfg(test)]
    pub(crate) fn with_open_max(platform: Platform, open_max: usize) -> Self {
        Self {
            open_max,
            ..Self::new(platform)
        }
    }

    /// Finds what should have happened long ago and makes it happen.
    pub(crate) async fn sweep(&mut self) -> Result<Swept> {
        let platform = self.platform.clone();
        let before_ms = platform.now_ms() - platform.config().sweep_grace_ms;
        platform.mark_time().await?;
        Ok(Swept {
            missing: self.sweep_missing(before_ms).await?,
            timers: sweep_timers(&platform, before_ms).await?,
            coupons: sweep_coupons(&platform, before_ms).await?,
            parked: sweep_parked(&platform).await?,
        })
    }

    /// Writes the timers of overdue things that have none; answers how many. They are handled as overdue ones then.
    async fn sweep_missing(&mut self, before_ms: i64) -> Result<usize> {
        let mut total = 0;
        for (open, place) in open::ALL.iter().zip(&mut self.places) {
            let readers = self.platform.readers();
            let found = open::find(readers, open, before_ms, *place, self.open_max).await?;
            *place = found.next.unwrap_or_default();
            total += write_missing(&self.platform, open, before_ms - 1, &found.missing).await?;
        }
        Ok(total)
    }
}

/// Writes timers that are missing; answers how many.
async fn write_missing(
    platform: &Platform,
    open: &'static Open,
    fire_ms: i64,
    missing: &[Uuid],
) -> Result<usize> {
    let mut total = 0;
    for ids in missing.chunks(BATCH_LEN) {
        let input = (open, fire_ms, ids.to_vec());
        let written = platform.writer().run(input, |tx, (open, fire_ms, ids)| {
            Box::pin(write_some(tx, open, *fire_ms, ids))
        });
        total += written.await?;
    }
    Ok(total)
}

async fn write_some(tx: &mut Tx, open: &Open, fire_ms: i64, ids: &[Uuid]) -> Result<usize> {
    let count = open::insert_missing(tx, open, fire_ms, ids).await?;
    let kind = open.name;
    tx.record(Metric::Swept { kind, count });
    Ok(count)
}

/// Where the messages of overdue timers are.
struct Whereabouts {
    before_ms: i64,
    /// Since when the oldest message of each kind has waited to be published.
    waiting_ms: [Option<i64>; TimerKind::ALL.len()],
}

impl Whereabouts {
    /// Whether messages of the kind have not been published for so long that an overdue one may be among them.
    fn is_stalled(&self, kind: TimerKind) -> bool {
        let mut kinds = TimerKind::ALL.iter().zip(&self.waiting_ms);
        let waiting = kinds.find(|(each, _)| **each == kind);
        waiting.is_some_and(|(_, since_ms)| since_ms.is_some_and(|ms| ms < self.before_ms))
    }

    /// Whether the message was published and will not come, or there never was one.
    fn is_lost(&self, platform: &Platform, timer: &TimerRow) -> bool {
        let drained_ms = platform.drained().at_ms(timer.kind);
        timer.hop == 0 || (!self.is_stalled(timer.kind) && timer.next_fire_ms < drained_ms)
    }
}

/// Handles timers that are overdue; answers how many of them were lost.
async fn sweep_timers(platform: &Platform, before_ms: i64) -> Result<usize> {
    let whereabouts = Whereabouts {
        before_ms,
        waiting_ms: outbox::waiting_since(platform.readers()).await?,
    };
    let calls_max = CALLS_PER_PLACE * platform.config().gateway_calls;
    let mut calls = Vec::new();
    let mut total = 0;
    let mut place = TimerPlace::default();
    loop {
        let page = timers::overdue(platform.readers(), before_ms, &place, BATCH).await?;
        let Some(last) = page.last() else {
            break;
        };
        place = TimerPlace::of(last);
        for kind in [TimerKind::OrderDeadline, TimerKind::CouponExpiry] {
            let of_kind: Vec<_> = page.iter().filter(|timer| timer.kind == kind).collect();
            total += count(platform, &whereabouts, kind, &of_kind);
            fire_batch(platform, kind, &of_kind).await;
        }
        total += publish_webhooks(platform, &whereabouts, &page).await?;
        // A backlog of calls is left to its consumer.
        let undelivered = page.into_iter().filter(|timer| {
            let asks = matches!(
                timer.kind,
                TimerKind::OrderClosing | TimerKind::Attempt | TimerKind::Refund
            );
            asks && (whereabouts.is_stalled(timer.kind) || whereabouts.is_lost(platform, timer))
        });
        calls.extend(undelivered.take(calls_max.saturating_sub(calls.len())));
    }
    for kind in TimerKind::ALL {
        let of_kind: Vec<_> = calls.iter().filter(|timer| timer.kind == kind).collect();
        total += count(platform, &whereabouts, kind, &of_kind);
    }
    // Not on tasks of their own: what ends the sweep must end these too.
    let calls: Vec<_> = calls
        .iter()
        .map(|timer| fire_one(platform, timer))
        .collect();
    stream::iter(calls)
        .buffer_unordered(platform.config().gateway_calls)
        .for_each(|()| std::future::ready(()))
        .await;
    Ok(total)
}

/// Publishes the lost messages of overdue deliveries anew; answers how many.
///
/// A delivery is not sent from here: a receiver may take long to answer, and would hold up what closes orders.
async fn publish_webhooks(
    platform: &Platform,
    whereabouts: &Whereabouts,
    page: &[TimerRow],
) -> Result<usize> {
    let kind = TimerKind::Webhook;
    let of_kind = page.iter().filter(|timer| timer.kind == kind);
    let lost: Vec<_> = of_kind
        .filter(|timer| whereabouts.is_lost(platform, timer))
        .collect();
    if lost.is_empty() {
        return Ok(0);
    }
    let rows: Vec<TimerRow> = lost.iter().map(|timer| (*timer).clone()).collect();
    platform
        .writer()
        .run(rows, |tx, rows| Box::pin(publish_again(tx, rows)))
        .await?;
    Ok(count(platform, whereabouts, kind, &lost))
}

async fn publish_again(tx: &mut Tx, rows: &[TimerRow]) -> Result<()> {
    let now_ms = tx.now_ms();
    timer::rearm_all(tx, rows, |_| now_ms).await.map(drop)
}

/// Counts overdue timers of a kind; answers how many were lost.
fn count(
    platform: &Platform,
    whereabouts: &Whereabouts,
    kind: TimerKind,
    timers: &[&TimerRow],
) -> usize {
    let lost = timers
        .iter()
        .filter(|timer| whereabouts.is_lost(platform, timer))
        .count();
    if lost > 0 {
        let (kind, count) = (kind.as_str(), lost);
        Metric::Swept { kind, count }.record();
    }
    count_handled(kind, timers.len() - lost);
    lost
}

async fn fire_batch(platform: &Platform, kind: TimerKind, timers: &[&TimerRow]) {
    if timers.is_empty() {
        return;
    }
    let messages = timers.iter().map(|timer| message_of(timer)).collect();
    for (message, error) in fire::fire_batch(platform, kind, messages).await {
        let id = kind.subject(message.id);
        tracing::error!(%error, %id, "sweep a timer");
    }
}

async fn fire_one(platform: &Platform, timer: &TimerRow) {
    if let Err(error) = fire::fire_one(platform, timer.kind, message_of(timer)).await {
        let id = timer.kind.subject(timer.id);
        tracing::error!(%error, %id, "sweep a timer");
    }
}

fn message_of(timer: &TimerRow) -> TimerMessage {
    TimerMessage {
        id: timer.id,
        version: timer.version,
        hop: timer.hop,
    }
}

/// Decides coupons that should have been decided; answers how many.
async fn sweep_coupons(platform: &Platform, before_ms: i64) -> Result<usize> {
    let ids = coupons::due_before(platform.readers(), before_ms, BATCH).await?;
    if ids.is_empty() {
        return Ok(0);
    }
    let count = ids.len();
    if let Some((_, error)) = issue::decide(platform, ids).await.pop() {
        return Err(error);
    }
    let kind = "coupon_due";
    Metric::Swept { kind, count }.record();
    Ok(count)
}

/// Releases timers that are parked although there is no pause; answers how many.
async fn sweep_parked(platform: &Platform) -> Result<usize> {
    let count = pause::release_forgotten(platform).await?;
    if count > 0 {
        let kind = "parked_timer";
        Metric::Swept { kind, count }.record();
    }
    Ok(count)
}
