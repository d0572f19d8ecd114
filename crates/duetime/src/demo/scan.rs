//! Runs the usual way on the demo's own data: a loop that polls the order table through an index.

use std::path::Path;

use anyhow::{Context as _, Result};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Row as _};

/// Orders one poll takes at the most.
const POLL_ROWS_MAX: i64 = 500;

/// What the polling loop did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Time between polls, in ms.
    pub(crate) every_ms: u64,
    pub(crate) polls: u64,
    /// Orders it closed.
    pub(crate) closed: u64,
    /// Index entries and rows it looked at.
    pub(crate) rows_read: u64,
}

/// Something that happened to an order: instant, order, and whether it was made (or else settled by somebody).
struct Step {
    at_ms: i64,
    id: i64,
    made_with_deadline_ms: Option<i64>,
}

/// Replays the orders of `source` in a fresh database and closes the unpaid ones by polling.
///
/// The loop has what is fair: an index over exactly the orders that wait, in the order of their deadlines, so
/// that a poll reads the orders that are due and one entry beyond. It polls as often as it must to be as
/// punctual as the platform was: every `lateness_ms`. Time is the demo's, not the machine's, so the loop is
/// never late by itself.
pub(crate) async fn compare(source: &Path, scratch: &Path, lateness_ms: u64) -> Result<Scan> {
    let every_ms = std::cmp::max(lateness_ms, 1);
    let steps = history(source).await?;
    let mut table = open_table(scratch).await?;
    let mut scan = Scan {
        every_ms,
        polls: 0,
        closed: 0,
        rows_read: 0,
    };
    let Some(first) = steps.first() else {
        return Ok(scan);
    };
    let last_ms = steps
        .iter()
        .map(|step| std::cmp::max(step.at_ms, step.made_with_deadline_ms.unwrap_or(0)))
        .max();
    let (mut now_ms, last_ms) = (first.at_ms, last_ms.unwrap_or(first.at_ms));
    let mut steps = steps.into_iter().peekable();
    while now_ms <= last_ms + i64::try_from(every_ms)? {
        while let Some(step) = steps.next_if(|step| step.at_ms <= now_ms) {
            take_step(&mut table, &step).await?;
        }
        let due = sqlx::query("select id from orders where state = 1 and deadline_ms <= ? order by deadline_ms limit ?")
            .bind(now_ms)
            .bind(POLL_ROWS_MAX)
            .fetch_all(&mut table)
            .await?;
        scan.polls += 1;
        scan.rows_read += due.len() as u64 + 1;
        for row in due {
            let id: i64 = row.try_get("id")?;
            let closed = sqlx::query("update orders set state = 4 where id = ? and state = 1")
                .bind(id)
                .execute(&mut table)
                .await?;
            scan.closed += closed.rows_affected();
            scan.rows_read += 1;
        }
        now_ms += i64::try_from(every_ms)?;
    }
    Ok(scan)
}

/// When each order was made, and when it was paid or cancelled.
async fn history(source: &Path) -> Result<Vec<Step>> {
    let mut orders = SqliteConnectOptions::new()
        .filename(source)
        .read_only(true)
        .connect()
        .await
        .context("open the demo's orders")?;
    let rows = sqlx::query(
        "select row_number() over (order by id) as id, created_ms, deadline_ms,
                coalesce(paid_ms, case when close_reason <> 1 then closed_ms end) as settled_ms
         from orders",
    )
    .fetch_all(&mut orders)
    .await
    .context("read the demo's orders")?;
    let mut steps = Vec::with_capacity(2 * rows.len());
    for row in rows {
        let id: i64 = row.try_get("id")?;
        let deadline_ms: i64 = row.try_get("deadline_ms")?;
        steps.push(Step {
            at_ms: row.try_get("created_ms")?,
            id,
            made_with_deadline_ms: Some(deadline_ms),
        });
        if let Some(at_ms) = row.try_get::<Option<i64>, _>("settled_ms")? {
            steps.push(Step {
                at_ms,
                id,
                made_with_deadline_ms: None,
            });
        }
    }
    steps.sort_by_key(|step| step.at_ms);
    Ok(steps)
}

async fn open_table(scratch: &Path) -> Result<SqliteConnection> {
    let mut table = SqliteConnectOptions::new()
        .filename(scratch)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // Durability would only slow the loop down; what counts here is what it reads.
        .synchronous(SqliteSynchronous::Off)
        .connect()
        .await
        .context("open a scratch database")?;
    sqlx::raw_sql(
        "create table orders (id integer primary key, state integer not null, deadline_ms integer not null);
         create index waiting on orders (deadline_ms) where state = 1;",
    )
    .execute(&mut table)
    .await?;
    Ok(table)
}

async fn take_step(table: &mut SqliteConnection, step: &Step) -> Result<()> {
    match step.made_with_deadline_ms {
        Some(deadline_ms) => sqlx::query("insert into orders values (?, 1, ?)")
            .bind(step.id)
            .bind(deadline_ms),
        None => sqlx::query("update orders set state = 3 where id = ?").bind(step.id),
    }
    .execute(table)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_loop_closes_exactly_the_unpaid_orders_and_counts_what_it_reads() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("orders.db");
        let mut orders = SqliteConnectOptions::new()
            .filename(&source)
            .create_if_missing(true)
            .connect()
            .await
            .unwrap();
        sqlx::raw_sql(
            "create table orders (id integer primary key, created_ms, deadline_ms, paid_ms, closed_ms, close_reason);
             insert into orders values (1, 1000, 1100, null, 1100, 1), (2, 1000, 1200, 1050, null, null),
                                       (3, 1000, 1150, null, 1020, 2), (4, 1040, 1140, null, 1140, 1);",
        )
        .execute(&mut orders)
        .await
        .unwrap();
        let scan = compare(&source, &folder.path().join("scan.db"), 10)
            .await
            .unwrap();
        assert_eq!((scan.closed, scan.every_ms), (2, 10));
        assert_eq!(scan.polls, 22);
        assert_eq!(scan.rows_read, scan.polls + 2 * scan.closed);
    }
}
