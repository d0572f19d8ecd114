//! Stores pauses.

use crate::error::{Error, Result};
use crate::ids::MerchantId;
use crate::model::pause::{Pause, PauseCause, PauseScope, PauseState};
use crate::model::stored::Stored as _;
use crate::store::rows::{column, stored_column};
use crate::store::sql::{Connection, Executor, Readers, Row, query, query_scalar};
use crate::store::tx::Tx;

/// The columns that [`from_row`] reads.
macro_rules! columns {
    () => {
        "scope, subject, state, cause, reason, since_ms"
    };
}

/// Starts a pause, or gives the one of the scope a new reason. `merchant_id` is whose timers it may park, if not all.
pub(crate) async fn start(
    tx: &mut Tx,
    scope: &PauseScope,
    merchant_id: Option<&MerchantId>,
    reason: &str,
) -> Result<Pause> {
    let (stored, subject) = scope.stored();
    let now_ms = tx.now_ms();
    let row = query(concat!(
        "insert into pause (merchant_id, ",
        columns!(),
        ") values (?, ?, ?, ?, ?, ?, ?)
         on conflict (scope, subject) do update set
             cause = case when state = excluded.state then cause else excluded.cause end,
             since_ms = case when state = excluded.state then since_ms else excluded.since_ms end,
             state = excluded.state, reason = excluded.reason, walk = null
         returning ",
        columns!()
    ))
    .bind(merchant_id.map(MerchantId::as_str))
    .bind(stored)
    .bind(subject)
    .bind(PauseState::Paused.stored())
    .bind(PauseCause::Request.stored())
    .bind(reason)
    .bind(now_ms)
    .fetch_one(tx.conn())
    .await?;
    from_row(&row)
}

/// Starts the pause of everything because the clock may be wrong since `since_ms`, or gives it that cause.
pub(super) async fn start_for_clock(
    connection: &mut Connection,
    reason: &str,
    since_ms: i64,
) -> Result<()> {
    let (scope, subject) = PauseScope::Everything.stored();
    query(
        "insert into pause (scope, subject, state, cause, reason, since_ms) values (?, ?, ?, ?, ?, ?)
         on conflict (scope, subject) do update set
             since_ms = case when state = excluded.state and cause = excluded.cause then since_ms
                        else excluded.since_ms end,
             state = excluded.state, cause = excluded.cause, reason = excluded.reason, walk = null",
    )
    .bind(scope)
    .bind(subject)
    .bind(PauseState::Paused.stored())
    .bind(PauseCause::Clock.stored())
    .bind(reason)
    .bind(since_ms)
    .execute(connection)
    .await?;
    Ok(())
}

/// Since when closing is paused because the clock may be wrong, in ms since the Unix epoch; `None` if it is not.
pub(crate) async fn clock_doubted_since_ms(executor: impl Executor) -> Result<Option<i64>> {
    let since_ms = query_scalar("select since_ms from pause where state = ? and cause = ?")
        .bind(PauseState::Paused.stored())
        .bind(PauseCause::Clock.stored())
        .fetch_optional(executor)
        .await?;
    Ok(since_ms)
}

/// How many pauses of each cause are in force.
pub(crate) async fn count_in_force(readers: &Readers) -> Result<Vec<(PauseCause, i64)>> {
    let causes = query_scalar::<i64>("select cause from pause where state = ?")
        .bind(PauseState::Paused.stored())
        .fetch_all(readers)
        .await?;
    let count = |cause: PauseCause| {
        let of_cause = causes.iter().filter(|stored| **stored == cause.stored());
        (cause, i64::try_from(of_cause.count()).unwrap_or(i64::MAX))
    };
    Ok(vec![count(PauseCause::Request), count(PauseCause::Clock)])
}

/// Takes the pause of the scope from PAUSED to RESUMING; answers it if it was in force.
pub(crate) async fn end(tx: &mut Tx, scope: &PauseScope) -> Result<Option<Pause>> {
    let (stored, subject) = scope.stored();
    let row = query(concat!(
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

/// The pause of the scope, whatever its state, as the open transaction sees it.
pub(crate) async fn find(tx: &mut Tx, scope: &PauseScope) -> Result<Option<Pause>> {
    let (stored, subject) = scope.stored();
    let row = query(concat!(
        "select ",
        columns!(),
        " from pause where scope = ? and subject = ?"
    ))
    .bind(stored)
    .bind(subject)
    .fetch_optional(tx.conn())
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// All pauses that have not ended.
pub(crate) async fn all(readers: &Readers) -> Result<Vec<Pause>> {
    let rows = query(concat!(
        "select ",
        columns!(),
        " from pause where state <> ? order by scope, subject"
    ))
    .bind(PauseState::Ended.stored())
    .fetch_all(readers)
    .await?;
    rows.iter().map(from_row).collect()
}

/// The pauses in force, as the open transaction sees them.
pub(crate) async fn in_force(tx: &mut Tx) -> Result<Vec<Pause>> {
    let rows = query(concat!(
        "select ",
        columns!(),
        " from pause where state = ?"
    ))
    .bind(PauseState::Paused.stored())
    .fetch_all(tx.conn())
    .await?;
    rows.iter().map(from_row).collect()
}

/// Marks the pauses that are RESUMING with a walk that begins now; answers whether there are any.
///
/// A walk that was under way for them no longer ends them.
pub(crate) async fn begin_walk(tx: &mut Tx, walk: i64) -> Result<bool> {
    let marked = query("update pause set walk = ? where state = ?")
        .bind(walk)
        .bind(PauseState::Resuming.stored())
        .execute(tx.conn())
        .await?;
    Ok(marked.rows_affected() > 0)
}

/// Takes the pauses that were RESUMING when the walk began, and still are, to ENDED.
pub(crate) async fn end_walk(tx: &mut Tx, walk: i64) -> Result<()> {
    query("update pause set state = ?, walk = null where state = ? and walk = ?")
        .bind(PauseState::Ended.stored())
        .bind(PauseState::Resuming.stored())
        .bind(walk)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Reads a row of `columns!()`.
fn from_row(row: &Row) -> Result<Pause> {
    let scope: i64 = column(row, "scope")?;
    let subject: String = column(row, "subject")?;
    Ok(Pause {
        scope: PauseScope::from_stored(scope, &subject).ok_or_else(|| Error::Unreadable {
            what: "pause",
            detail: format!("scope {scope} of `{subject}`"),
        })?,
        state: stored_column(row, "state")?,
        cause: stored_column(row, "cause")?,
        reason: column(row, "reason")?,
        since_ms: column(row, "since_ms")?,
    })
}
