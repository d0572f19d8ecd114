//! Provides pauses: the brake of the closer for everything, a merchant, or a gateway account.
//!
//! A pause is a predicate, read in the transaction that would close. Timers that fire meanwhile are parked; when
//! the pause ends they are armed again, so many a second, which paces the closing without anybody polling.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use crate::error::{Error, Result, check_text};
use crate::ids::{GatewayAccountId, MerchantId};
use crate::limits::NAME_CHARS_MAX;
use crate::payment::AttemptState;
use crate::platform::Platform;
use crate::store::audit::{Actor, NewAudit};
use crate::store::{Tx, column, hex_json};
use crate::timer::{self, REARM_MIN_MS, Rearm, TimerKind, TimerRow};

/// What a pause stops.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseScope {
    /// All closing.
    Everything,
    /// Closing the orders of a merchant.
    Merchant(MerchantId),
    /// Closing orders that have a live attempt through a gateway account.
    Account(GatewayAccountId),
}

impl PauseScope {
    fn stored(&self) -> (i64, String) {
        match self {
            Self::Everything => (1, String::new()),
            Self::Merchant(id) => (2, id.to_string()),
            Self::Account(id) => (3, id.to_string()),
        }
    }

    fn from_stored(scope: i64, subject: &str) -> Result<Self> {
        let unreadable = || Error::Unreadable {
            what: "pause",
            detail: format!("scope {scope} of `{subject}`"),
        };
        match scope {
            1 => Ok(Self::Everything),
            2 => subject
                .parse()
                .map(Self::Merchant)
                .map_err(|_| unreadable()),
            3 => subject.parse().map(Self::Account).map_err(|_| unreadable()),
            _ => Err(unreadable()),
        }
    }

    /// Under what its audit rows are found.
    fn audit_subject(&self) -> String {
        match self {
            Self::Everything => "pause".to_owned(),
            Self::Merchant(id) => format!("pause of merchant {id}"),
            Self::Account(id) => format!("pause of account {id}"),
        }
    }
}

/// Where a pause stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseState {
    /// Nothing of its scope is closed.
    Paused,
    /// It has ended; what waited is being let go at a limited rate.
    Resuming,
}

impl PauseState {
    fn stored(self) -> i64 {
        match self {
            Self::Paused => 1,
            Self::Resuming => 2,
        }
    }
}

/// A pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// What it stops.
    pub scope: PauseScope,
    /// Where it stands.
    pub state: PauseState,
    /// Why, for a person.
    pub reason: String,
    /// Since when, in ms since the Unix epoch.
    pub since_ms: i64,
}

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
        let rows = sqlx::query(
            "select scope, subject, state, reason, since_ms from pause order by scope, subject",
        )
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(from_row).collect()
    }
}

fn from_row(row: &SqliteRow) -> Result<Pause> {
    let subject: String = column(row, "subject")?;
    let state: i64 = column(row, "state")?;
    Ok(Pause {
        scope: PauseScope::from_stored(column(row, "scope")?, &subject)?,
        state: if state == PauseState::Paused.stored() {
            PauseState::Paused
        } else {
            PauseState::Resuming
        },
        reason: column(row, "reason")?,
        since_ms: column(row, "since_ms")?,
    })
}

async fn pause(tx: &mut Tx, scope: &PauseScope, reason: &str) -> Result<Pause> {
    let (stored, subject) = scope.stored();
    let now_ms = tx.now_ms();
    let row = sqlx::query(
        "insert into pause (scope, subject, state, reason, since_ms) values (?, ?, ?, ?, ?)
         on conflict (scope, subject) do update set
             since_ms = case when state = excluded.state then since_ms else excluded.since_ms end,
             state = excluded.state, reason = excluded.reason
         returning scope, subject, state, reason, since_ms",
    )
    .bind(stored)
    .bind(subject)
    .bind(PauseState::Paused.stored())
    .bind(reason)
    .bind(now_ms)
    .fetch_one(tx.conn())
    .await?;
    audit(tx, scope, "pause", Some(reason.to_owned())).await?;
    from_row(&row)
}

async fn resume(tx: &mut Tx, scope: &PauseScope) -> Result<Pause> {
    let (stored, subject) = scope.stored();
    let row = sqlx::query(
        "update pause set state = ? where scope = ? and subject = ? and state = ?
         returning scope, subject, state, reason, since_ms",
    )
    .bind(PauseState::Resuming.stored())
    .bind(stored)
    .bind(subject)
    .bind(PauseState::Paused.stored())
    .fetch_optional(tx.conn())
    .await?;
    let row = row.ok_or_else(|| Error::not_found("pause", &scope.audit_subject()))?;
    audit(tx, scope, "resume", None).await?;
    from_row(&row)
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
        PauseScope::Account(id) => {
            let owner: String =
                sqlx::query_scalar("select merchant_id from gateway_account where id = ?")
                    .bind(*id)
                    .fetch_one(tx.conn())
                    .await?;
            MerchantId::from_stored(owner)
        }
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
    let rows =
        sqlx::query("select scope, subject, state, reason, since_ms from pause where state = ?")
            .bind(PauseState::Paused.stored())
            .fetch_all(tx.conn())
            .await?;
    let mut paused = HashSet::new();
    let mut accounts = Vec::new();
    for row in &rows {
        match from_row(row)?.scope {
            PauseScope::Everything => paused.extend(timers.iter().map(|timer| timer.id)),
            PauseScope::Merchant(id) => {
                let of_merchant = timers.iter().filter(|timer| timer.merchant_id == id);
                paused.extend(of_merchant.map(|timer| timer.id));
            }
            PauseScope::Account(id) => accounts.push(id.uuid()),
        }
    }
    if !accounts.is_empty() {
        let rows = sqlx::query(
            "select order_id from attempt where order_id in (select unhex(value) from json_each(?))
               and account_id in (select unhex(value) from json_each(?)) and state = ?",
        )
        .bind(hex_json(timers.iter().map(|timer| timer.id)))
        .bind(hex_json(accounts))
        .bind(AttemptState::Submitted.stored())
        .fetch_all(tx.conn())
        .await?;
        for row in &rows {
            paused.insert(column(row, "order_id")?);
        }
    }
    Ok(paused)
}

/// Where a walk over the parked timers stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cursor {
    next_fire_ms: i64,
    kind: i64,
    id: Uuid,
    /// How many seconds ahead the next ones are armed.
    seconds: i64,
}

/// Lets the next `limit` parked timers go that no pause holds; answers where to go on, or `None` at the end.
pub(crate) async fn release(tx: &mut Tx, cursor: &Cursor, limit: u32) -> Result<Option<Cursor>> {
    tx.settle_timers().await?;
    let rows = sqlx::query(
        "select kind, id, merchant_id, due_ms, next_fire_ms, version, hop, tries from timer
         where parked = 1 and (next_fire_ms, kind, id) > (?, ?, ?)
         order by next_fire_ms, kind, id limit ?",
    )
    .bind(cursor.next_fire_ms)
    .bind(cursor.kind)
    .bind(cursor.id)
    .bind(limit)
    .fetch_all(tx.conn())
    .await?;
    let timers: Vec<TimerRow> = rows.iter().map(timer::from_row).collect::<Result<_>>()?;
    let Some(last) = timers.last() else {
        sqlx::query("delete from pause where state = ?")
            .bind(PauseState::Resuming.stored())
            .execute(tx.conn())
            .await?;
        return Ok(None);
    };
    let next = Cursor {
        next_fire_ms: last.next_fire_ms,
        kind: last.kind.stored(),
        id: last.id,
        seconds: cursor.seconds + 1,
    };
    let paused = paused_of(tx, &timers).await?;
    let first_ms = tx.now_ms() + REARM_MIN_MS + cursor.seconds * 1_000;
    for kind in TimerKind::ALL {
        let free = timers
            .iter()
            .filter(|timer| timer.kind == kind && !paused.contains(&timer.id));
        let rearms: Vec<Rearm> = free
            .zip(0_i64..)
            .map(|(timer, place)| Rearm {
                id: timer.id,
                hop: timer.hop,
                // Spread over the second.
                fire_ms: first_ms + place * 1_000 / i64::from(limit),
                tries: 0,
            })
            .collect();
        timer::rearm(tx, kind, &rearms).await?;
    }
    Ok(Some(next))
}
