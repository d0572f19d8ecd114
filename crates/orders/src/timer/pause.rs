//! Pauses closing for everything, a merchant or a gateway account, and resumes it.
//!
//! A pause is a predicate, read in the transaction that would close. Timers that fire meanwhile are parked; when
//! the pause ends they are armed again, so many a second, which paces the closing without polling.
//!
//! A walk over all parked timers releases those that no pause holds, and ends the pauses that were RESUMING when it
//! began. A pause that is resumed during a walk needs another one: the walk has passed some of its timers.

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::watch;
use uuid::Uuid;

use crate::error::{Error, Result, check_text};
use crate::ids::MerchantId;
use crate::limits::NAME_CHARS_MAX;
use crate::model::audit::{Actor, NewAudit};
use crate::model::pause::{Pause, PauseScope, PauseState};
use crate::model::timer::{Rearm, TimerKind, TimerRow};
use crate::platform::Platform;
use crate::store::timers::{self, TimerPlace};
use crate::store::{Tx, marks, merchants, pauses, payments};
use crate::timer::{REARM_MIN_MS, rearm};

/// How long the resumer waits after its first failure; the wait doubles with each further one.
const BACKOFF: Duration = Duration::from_secs(1);
/// How often the wait doubles, at most: the longest is 32 s.
const BACKOFF_DOUBLINGS_MAX: u32 = 5;

impl Platform {
    /// Stops closing within the scope. Orders can still be paid, cancelled and extended.
    pub async fn pause(&self, scope: PauseScope, reason: &str) -> Result<Pause> {
        check_text("/reason", reason, NAME_CHARS_MAX)?;
        if let PauseScope::Account(id) = &scope {
            self.gateway_account(*id).await?;
        }
        if let PauseScope::Merchant(id) = &scope {
            self.merchant(id).await?;
        }
        self.writer()
            .run((scope, reason.to_owned()), |tx, (scope, reason)| {
                Box::pin(pause(tx, scope, reason))
            })
            .await
    }

    /// Ends a pause. What waited is closed at the configured rate. Repeated, it changes nothing.
    pub async fn resume(&self, scope: PauseScope) -> Result<Pause> {
        let resumed = self
            .writer()
            .run(scope, |tx, scope| Box::pin(resume(tx, scope)))
            .await?;
        self.wake_resumer();
        Ok(resumed)
    }

    /// All pauses that have not ended.
    pub async fn pauses(&self) -> Result<Vec<Pause>> {
        pauses::all(self.readers()).await
    }
}

async fn pause(tx: &mut Tx, scope: &PauseScope, reason: &str) -> Result<Pause> {
    let merchant_id = merchant_of(tx, scope).await?;
    let pause = pauses::start(tx, scope, merchant_id.as_ref(), reason).await?;
    audit(tx, scope, merchant_id, "pause", Some(reason.to_owned()));
    Ok(pause)
}

async fn resume(tx: &mut Tx, scope: &PauseScope) -> Result<Pause> {
    let Some(resumed) = pauses::end(tx, scope).await? else {
        let earlier = pauses::find(tx, scope).await?;
        return earlier.ok_or_else(|| Error::not_found("pause", &scope.audit_subject()));
    };
    let merchant_id = merchant_of(tx, scope).await?;
    audit(tx, scope, merchant_id, "resume", None);
    Ok(resumed)
}

/// The merchant whose orders the scope concerns, if not those of all.
async fn merchant_of(tx: &mut Tx, scope: &PauseScope) -> Result<Option<MerchantId>> {
    Ok(match scope {
        PauseScope::Everything => None,
        PauseScope::Merchant(id) => Some(id.clone()),
        PauseScope::Account(id) => Some(merchants::merchant_of_account(tx, *id).await?),
    })
}

fn audit(
    tx: &mut Tx,
    scope: &PauseScope,
    merchant_id: Option<MerchantId>,
    action: &'static str,
    detail: Option<String>,
) {
    tx.audit(NewAudit {
        subject: scope.audit_subject(),
        merchant_id: merchant_id.unwrap_or_else(MerchantId::fallback),
        entity: scope.audit_subject(),
        actor: Actor::Merchant,
        action,
        from: None,
        to: None,
        detail,
    });
}

/// Of these timers, the ids of those that a pause holds: what they are for must not be done now.
///
/// A refund is held by none. The expiry of a coupon is held only where everything is paused.
pub(crate) async fn paused_of(tx: &mut Tx, timers: &[TimerRow]) -> Result<HashSet<Uuid>> {
    let mut paused = HashSet::new();
    let mut accounts = Vec::new();
    for pause in pauses::in_force(tx).await? {
        match pause.scope {
            PauseScope::Everything => {
                let held = timers.iter().filter(|timer| timer.kind.obeys_pauses());
                paused.extend(held.map(|timer| timer.id));
            }
            PauseScope::Merchant(id) => {
                let held = of_order(timers).filter(|timer| timer.merchant_id == id);
                paused.extend(held.map(|timer| timer.id));
            }
            PauseScope::Account(id) => accounts.push(id),
        }
    }
    if !accounts.is_empty() {
        let ids = |kinds: &'static [TimerKind]| {
            let held = timers.iter().filter(|timer| kinds.contains(&timer.kind));
            held.map(|timer| timer.id)
        };
        let orders = ids(&[TimerKind::OrderDeadline, TimerKind::OrderClosing]);
        paused.extend(payments::orders_through_accounts(tx, orders, &accounts).await?);
        let attempts = ids(&[TimerKind::Attempt]);
        paused.extend(payments::attempts_through_accounts(tx, attempts, &accounts).await?);
    }
    Ok(paused)
}

/// The timers of orders and of their attempts.
fn of_order(timers: &[TimerRow]) -> impl Iterator<Item = &TimerRow> {
    let kinds = [
        TimerKind::OrderDeadline,
        TimerKind::OrderClosing,
        TimerKind::Attempt,
    ];
    timers
        .iter()
        .filter(move |timer| kinds.contains(&timer.kind))
}

/// A walk over the parked timers, and how far it has come.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// Its number; the pauses that it ends carry it.
    number: i64,
    after: TimerPlace,
}

/// Begins a walk for the pauses that are RESUMING; `None` if there are none.
pub(crate) async fn begin_walk(platform: &Platform) -> Result<Option<Walk>> {
    // Asked of the readers, so that a wake-up with nothing to do writes nothing.
    let pauses = platform.pauses().await?;
    if pauses.iter().all(|pause| pause.state == PauseState::Paused) {
        return Ok(None);
    }
    platform
        .writer()
        .run((), |tx, ()| Box::pin(begin(tx)))
        .await
}

async fn begin(tx: &mut Tx) -> Result<Option<Walk>> {
    let number = next_number(tx).await?;
    let marked = pauses::begin_walk(tx, number).await?;
    let after = TimerPlace::default();
    Ok(marked.then_some(Walk { number, after }))
}

/// No two walks have the same number, so none can end the pauses of another.
async fn next_number(tx: &mut Tx) -> Result<i64> {
    let number = marks::get(tx.conn(), marks::LAST_WALK).await?.unwrap_or(0) + 1;
    marks::set(tx.conn(), marks::LAST_WALK, number).await?;
    Ok(number)
}

/// Releases the next timers that no pause holds; answers how many, and the walk if it goes on.
pub(crate) async fn walk_on(platform: &Platform, walk: Walk) -> Result<(usize, Option<Walk>)> {
    let per_second = platform.config().resume_per_second;
    platform
        .writer()
        .run((walk, per_second), |tx, (walk, per_second)| {
            Box::pin(release(tx, *walk, *per_second))
        })
        .await
}

/// Releases all parked timers that no pause holds, and ends the pauses that are RESUMING.
pub(crate) async fn release_all(platform: &Platform) -> Result<()> {
    // Until none is RESUMING: one that was resumed during a walk has timers which that walk had passed.
    while let Some(begun) = begin_walk(platform).await? {
        let mut walk = Some(begun);
        while let Some(at) = walk {
            (_, walk) = walk_on(platform, at).await?;
        }
    }
    Ok(())
}

/// Releases timers that are parked although there is no pause; answers how many.
pub(crate) async fn release_forgotten(platform: &Platform) -> Result<usize> {
    let forgotten = timers::is_parked(platform.readers()).await?;
    if !forgotten || !platform.pauses().await?.is_empty() {
        return Ok(0);
    }
    let begun = platform.writer().run((), |tx, ()| {
        Box::pin(async move {
            let number = next_number(tx).await?;
            let after = TimerPlace::default();
            Ok(Walk { number, after })
        })
    });
    let mut walk = Some(begun.await?);
    let mut total = 0;
    while let Some(at) = walk {
        let (released, next) = walk_on(platform, at).await?;
        total += released;
        walk = next;
    }
    Ok(total)
}

/// Releases parked timers whenever a pause has ended, also one that ended before the last stop.
pub(crate) async fn run(platform: Platform, mut stop: watch::Receiver<bool>) {
    let mut failures = 0;
    loop {
        let failed = match release_all(&platform).await {
            Ok(()) => false,
            Err(error) => {
                tracing::error!(%error, "release parked timers");
                true
            }
        };
        let backoff = BACKOFF * (1 << std::cmp::min(failures, BACKOFF_DOUBLINGS_MAX));
        failures = if failed { failures + 1 } else { 0 };
        tokio::select! {
            () = platform.resumed() => {}
            // What was released is not parked, so the next walk may begin at the first timer again.
            () = platform.clock().sleep(backoff), if failed => {}
            _ = stop.changed() => return,
        }
    }
}

/// Releases the timers among the next `limit` parked ones that no pause holds; answers how many, and where to go on.
///
/// At the end of the walk its pauses have ended.
async fn release(tx: &mut Tx, walk: Walk, limit: u32) -> Result<(usize, Option<Walk>)> {
    let timers = timers::parked_after(tx, &walk.after, limit).await?;
    let Some(last) = timers.last() else {
        pauses::end_walk(tx, walk.number).await?;
        return Ok((0, None));
    };
    let after = TimerPlace::of(last);
    let paused = paused_of(tx, &timers).await?;
    let released = timers.iter().filter(|timer| !paused.contains(&timer.id));
    let count = rearm_paced(tx, released.collect(), limit).await?;
    Ok((count, Some(Walk { after, ..walk })))
}

/// Arms the timers again, `per_second` of them each second after those that were released before; answers how many.
async fn rearm_paced(tx: &mut Tx, timers: Vec<&TimerRow>, per_second: u32) -> Result<usize> {
    let paced_ms = marks::get(tx.conn(), marks::PACED_UNTIL_MS).await?;
    let soonest_ms = tx.now_ms() + REARM_MIN_MS;
    let first_ms = std::cmp::max(soonest_ms, paced_ms.unwrap_or(0));
    let at_ms = |place: i64| first_ms + place * 1_000 / i64::from(per_second);
    let mut count = 0;
    for kind in TimerKind::ALL {
        let of_kind = timers
            .iter()
            .zip(0_i64..)
            .filter(|(timer, _)| timer.kind == kind);
        let rearms: Vec<Rearm> = of_kind
            .map(|(timer, place)| Rearm {
                id: timer.id,
                hop: timer.hop,
                fire_ms: at_ms(place),
                tries: 0,
            })
            .collect();
        count += rearm(tx, kind, &rearms).await?;
    }
    if count > 0 {
        let until_ms = at_ms(i64::try_from(timers.len()).unwrap_or(i64::MAX));
        marks::set(tx.conn(), marks::PACED_UNTIL_MS, until_ms).await?;
    }
    Ok(count)
}
