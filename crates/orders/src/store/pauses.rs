//! Stores pauses.

use sqlx::SqlitePool;
use sqlx::sqlite::SqliteRow;

use crate::error::{Error, Result};
use crate::model::pause::{Pause, PauseScope, PauseState};
use crate::model::stored::Stored as _;
use crate::store::rows::{column, stored_column};
use crate::store::tx::Tx;

/// The columns that [`from_row`] reads.
macro_rules! columns {
    () => {
        "scope, subject, state, reason, since_ms"
    };
}

/// Starts a pause, or gives the one of the scope a new reason.
pub(crate) async fn start(tx: &mut Tx, scope: &PauseScope, reason: &str) -> Result<Pause> {
    let (stored, subject) = scope.stored();
    let now_ms = tx.now_ms();
    let row = sqlx::query(concat!(
        "insert into pause (",
        columns!(),
        ") values (?, ?, ?, ?, ?)
         on conflict (scope, subject) do update set
             since_ms = case when state = excluded.state then since_ms else excluded.since_ms end,
             state = excluded.state, reason = excluded.reason
         returning ",
        columns!()
    ))
    .bind(stored)
    .bind(subject)
    .bind(PauseState::Paused.stored())
    .bind(reason)
    .bind(now_ms)
    .fetch_one(tx.conn())
    .await?;
    from_row(&row)
}

/// Takes the pause of the scope to RESUMING; answers it if it was there.
pub(crate) async fn end(tx: &mut Tx, scope: &PauseScope) -> Result<Option<Pause>> {
    let (stored, subject) = scope.stored();
    let row = sqlx::query(concat!(
        "update pause set state = ? where scope = ? and subject = ? and state = ? returning ",
        columns!()
    ))
    .bind(PauseState::Resuming.stored())
    .bind(stored)
    .bind(subject)
    .bind(PauseState::Paused.stored())
    .fetch_optional(tx.conn())
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// All pauses, those that are ending too.
pub(crate) async fn all(readers: &SqlitePool) -> Result<Vec<Pause>> {
    let rows = sqlx::query(concat!(
        "select ",
        columns!(),
        " from pause order by scope, subject"
    ))
    .fetch_all(readers)
    .await?;
    rows.iter().map(from_row).collect()
}

/// The pauses in force, as the open transaction sees them.
pub(crate) async fn in_force(tx: &mut Tx) -> Result<Vec<Pause>> {
    let rows = sqlx::query(concat!(
        "select ",
        columns!(),
        " from pause where state = ?"
    ))
    .bind(PauseState::Paused.stored())
    .fetch_all(tx.conn())
    .await?;
    rows.iter().map(from_row).collect()
}

/// Deletes the pauses that are ending.
pub(crate) async fn delete_ended(tx: &mut Tx) -> Result<()> {
    sqlx::query("delete from pause where state = ?")
        .bind(PauseState::Resuming.stored())
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Reads a row of `columns!()`.
fn from_row(row: &SqliteRow) -> Result<Pause> {
    let scope: i64 = column(row, "scope")?;
    let subject: String = column(row, "subject")?;
    Ok(Pause {
        scope: PauseScope::from_stored(scope, &subject).ok_or_else(|| Error::Unreadable {
            what: "pause",
            detail: format!("scope {scope} of `{subject}`"),
        })?,
        state: stored_column(row, "state")?,
        reason: column(row, "reason")?,
        since_ms: column(row, "since_ms")?,
    })
}
