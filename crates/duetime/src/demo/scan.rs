//! Replays the demo's orders for a loop that polls the order table through an index, and counts what it reads.

use std::path::Path;

use anyhow::{Context as _, Result};
use orders::OrderTimes;
use rusqlite::Connection;

/// Most orders of one poll.
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

/// A change of an order: it is created with a deadline, or else paid or cancelled.
struct Step {
    at_ms: i64,
    id: i64,
    created_with_deadline_ms: Option<i64>,
}

/// Replays these orders in a fresh SQLite database and closes the unpaid ones by polling.
///
/// The loop gets a fair index: over exactly the waiting orders, by deadline, so that a poll reads the due orders
/// and one entry more. It polls every `lateness_ms`, as often as it must to be as punctual as the platform was.
/// Its time is simulated, so the loop itself is never late.
pub(crate) async fn compare(
    history: &[OrderTimes],
    scratch: &Path,
    lateness_ms: u64,
) -> Result<Scan> {
    let every_ms = std::cmp::max(lateness_ms, 1);
    let steps = steps(history)?;
    let scratch = scratch.to_owned();
    tokio::task::spawn_blocking(move || replay(steps, &scratch, every_ms)).await?
}

fn replay(steps: Vec<Step>, scratch: &Path, every_ms: u64) -> Result<Scan> {
    let table = open_table(scratch)?;
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
        .map(|step| std::cmp::max(step.at_ms, step.created_with_deadline_ms.unwrap_or(0)))
        .max();
    let (mut now_ms, last_ms) = (first.at_ms, last_ms.unwrap_or(first.at_ms));
    let mut steps = steps.into_iter().peekable();
    while now_ms <= last_ms + i64::try_from(every_ms)? {
        while let Some(step) = steps.next_if(|step| step.at_ms <= now_ms) {
            take_step(&table, &step)?;
        }
        let due = due(&table, now_ms)?;
        scan.polls += 1;
        scan.rows_read += due.len() as u64 + 1;
        let mut close =
            table.prepare_cached("update orders set state = 4 where id = ? and state = 1")?;
        for id in due {
            scan.closed += close.execute([id])? as u64;
            scan.rows_read += 1;
        }
        now_ms += i64::try_from(every_ms)?;
    }
    Ok(scan)
}

/// The unpaid orders whose deadline has come.
fn due(table: &Connection, now_ms: i64) -> Result<Vec<i64>> {
    let mut select = table.prepare_cached(
        "select id from orders where state = 1 and deadline_ms <= ? order by deadline_ms limit ?",
    )?;
    let ids = select.query_map([now_ms, POLL_ROWS_MAX], |row| row.get(0))?;
    Ok(ids.collect::<rusqlite::Result<_>>()?)
}

/// The creation of each order and its payment or cancellation, in the order of time.
fn steps(history: &[OrderTimes]) -> Result<Vec<Step>> {
    let mut steps = Vec::with_capacity(2 * history.len());
    for (index, order) in history.iter().enumerate() {
        let id = i64::try_from(index)?;
        steps.push(Step {
            at_ms: order.created_ms,
            id,
            created_with_deadline_ms: Some(order.deadline_ms),
        });
        steps.extend(order.settled_ms.map(|at_ms| Step {
            at_ms,
            id,
            created_with_deadline_ms: None,
        }));
    }
    steps.sort_by_key(|step| step.at_ms);
    Ok(steps)
}

fn open_table(scratch: &Path) -> Result<Connection> {
    let table = Connection::open(scratch).context("open a scratch database")?;
    table.pragma_update(None, "journal_mode", "wal")?;
    // Durability would only slow the loop down; what counts here is what it reads.
    table.pragma_update(None, "synchronous", "off")?;
    table.execute_batch(
        "create table orders (id integer primary key, state integer not null, deadline_ms integer not null);
         create index waiting on orders (deadline_ms) where state = 1;",
    )?;
    Ok(table)
}

fn take_step(table: &Connection, step: &Step) -> Result<()> {
    match step.created_with_deadline_ms {
        Some(deadline_ms) => table
            .prepare_cached("insert into orders values (?, 1, ?)")?
            .execute([step.id, deadline_ms])?,
        None => table
            .prepare_cached("update orders set state = 3 where id = ?")?
            .execute([step.id])?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_loop_closes_exactly_the_unpaid_orders_and_counts_what_it_reads() {
        let folder = tempfile::tempdir().unwrap();
        let order = |created_ms, deadline_ms, settled_ms| OrderTimes {
            created_ms,
            deadline_ms,
            settled_ms,
        };
        let history = [
            order(1_000, 1_100, None),
            order(1_000, 1_200, Some(1_050)),
            order(1_000, 1_150, Some(1_020)),
            order(1_040, 1_140, None),
        ];
        let scan = compare(&history, &folder.path().join("scan.db"), 10)
            .await
            .unwrap();
        assert_eq!((scan.closed, scan.every_ms), (2, 10));
        assert_eq!(scan.polls, 22);
        assert_eq!(scan.rows_read, scan.polls + 2 * scan.closed);
    }
}
