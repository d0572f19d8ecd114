//! Pauses closing for everything, a merchant or a gateway account, and resumes it.
//!
//! A pause is a predicate, read in the transaction that would close. Timers that fire meanwhile are parked; when
//! the pause ends they are armed again, so many a second, which paces the closing without polling.

use std::collections::HashSet;

use tokio::sync::watch;
use uuid::Uuid;

use crate::error::{Error, Result, check_text};
use crate::ids::MerchantId;
use crate::limits::NAME_CHARS_MAX;
use crate::model::audit::{Actor, NewAudit};
use crate::model::pause::{Pause, PauseScope, PauseState};
use crate::model::timer::{Rearm, TimerKind, TimerRow};
use crate::platform::Platform;
use crate::store::timers::{self, ParkedPlace};
use crate::store::{Tx, merchants, pauses, payments};
use crate::timer::{REARM_MIN_MS, rearm};

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

    /// Ends a pause. What waited is closed at the configured rate.
    pub async fn resume(&self, scope: PauseScope) -> Result<Pause> {
        let resumed = self
            .writer()
            .run(scope, |tx, scope| Box::pin(resume(tx, scope)))
            .await?;
        self.wake_resumer();
        Ok(resumed)
    }

    /// All pauses, those that are ending too.
    pub async fn pauses(&self) -> Result<Vec<Pause>> {
        pauses::all(self.readers()).await
    }
}

async fn pause(tx: &mut Tx, scope: &PauseScope, reason: &str) -> Result<Pause> {
    let pause = pauses::start(tx, scope, reason).await?;
    audit(tx, scope, "pause", Some(reason.to_owned())).await?;
    Ok(pause)
}

async fn resume(tx: &mut Tx, scope: &PauseScope) -> Result<Pause> {
    let ended = pauses::end(tx, scope).await?;
    let pause = ended.ok_or_else(|| Error::not_found("pause", &scope.audit_subject()))?;
    audit(tx, scope, "resume", None).await?;
    Ok(pause)
}

async fn audit(
    tx: &mut Tx,
    scope: &PauseScope,
    action: &'static str,
    detail: Option<String>,
) -> Result<()> {
    let merchant_id = match scope {
        PauseScope::Everything => MerchantId::fallback(),
        PauseScope::Merchant(id) => id.clone(),
        PauseScope::Account(id) => merchants::merchant_of_account(tx, *id).await?,
    };
    tx.audit(NewAudit {
        subject: scope.audit_subject(),
        merchant_id,
        entity: scope.audit_subject(),
        actor: Actor::Merchant,
        action,
        from: None,
        to: None,
        detail,
    });
    Ok(())
}

/// Of these timers of orders, the ids of those whose orders must not be closed now.
pub(crate) async fn paused_of(tx: &mut Tx, timers: &[TimerRow]) -> Result<HashSet<Uuid>> {
    let mut paused = HashSet::new();
    let mut accounts = Vec::new();
    for pause in pauses::in_force(tx).await? {
        match pause.scope {
            PauseScope::Everything => paused.extend(timers.iter().map(|timer| timer.id)),
            PauseScope::Merchant(id) => {
                let of_merchant = timers.iter().filter(|timer| timer.merchant_id == id);
                paused.extend(of_merchant.map(|timer| timer.id));
            }
            PauseScope::Account(id) => accounts.push(id),
        }
    }
    if !accounts.is_empty() {
        let ids = timers.iter().map(|timer| timer.id);
        paused.extend(payments::orders_through_accounts(tx, ids, &accounts).await?);
    }
    Ok(paused)
}

/// Releases parked timers whenever a pause has ended, also one that ended before the last stop.
pub(crate) async fn run(platform: Platform, mut stop: watch::Receiver<bool>) {
    loop {
        if let Err(error) = release_all(&platform).await {
            tracing::error!(%error, "release parked timers");
        }
        tokio::select! {
            () = platform.resumed() => {}
            _ = stop.changed() => return,
        }
    }
}

/// Releases all parked timers that no pause holds.
pub(crate) async fn release_all(platform: &Platform) -> Result<()> {
    let ending = platform.pauses().await?;
    if ending.iter().all(|pause| pause.state == PauseState::Paused) {
        return Ok(());
    }
    let per_second = platform.config().resume_per_second;
    let mut cursor = Some(Cursor::default());
    while let Some(at) = cursor {
        cursor = platform
            .writer()
            .run((at, per_second), |tx, (at, per_second)| {
                Box::pin(release(tx, at, *per_second))
            })
            .await?;
    }
    Ok(())
}

/// How far the release of parked timers has come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor {
    after: ParkedPlace,
    /// How many seconds ahead the next ones are armed.
    seconds: i64,
}

/// Releases the next `limit` parked timers that no pause holds; answers where to continue, or `None` at the end.
pub(crate) async fn release(tx: &mut Tx, cursor: &Cursor, limit: u32) -> Result<Option<Cursor>> {
    let timers = timers::parked_after(tx, &cursor.after, limit).await?;
    let Some(last) = timers.last() else {
        pauses::delete_ended(tx).await?;
        return Ok(None);
    };
    let next = Cursor {
        after: ParkedPlace::of(last),
        seconds: cursor.seconds + 1,
    };
    let paused = paused_of(tx, &timers).await?;
    let first_ms = tx.now_ms() + REARM_MIN_MS + cursor.seconds * 1_000;
    for kind in TimerKind::ALL {
        let released = timers
            .iter()
            .filter(|timer| timer.kind == kind && !paused.contains(&timer.id));
        let rearms: Vec<Rearm> = released
            .zip(0_i64..)
            .map(|(timer, place)| Rearm {
                id: timer.id,
                hop: timer.hop,
                // Spread over the second.
                fire_ms: first_ms + place * 1_000 / i64::from(limit),
                tries: 0,
            })
            .collect();
        rearm(tx, kind, &rearms).await?;
    }
    Ok(Some(next))
}
