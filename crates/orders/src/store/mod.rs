//! Provides the SQLite database: one writer, several readers, the schema brought up to date on opening.

pub(crate) mod attention;
pub(crate) mod audit;
pub(crate) mod coupons;
pub(crate) mod history;
pub(crate) mod idempotency;
pub(crate) mod marks;
pub(crate) mod merchants;
pub(crate) mod open;
pub(crate) mod orders;
pub(crate) mod outbox;
pub(crate) mod pauses;
pub(crate) mod payments;
pub(crate) mod products;
pub(crate) mod refunds;
mod rows;
pub(crate) mod sql;
pub(crate) mod timers;
mod tx;
pub(crate) mod unmatched;
pub(crate) mod verify;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use broker::clock::Clock;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection as _, SqlSafeStr as _, SqliteConnection};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::config::{Config, Durability};
use crate::error::{Error, Result};
use crate::store::sql::{Connection, DbError, Readers, query};

pub(crate) use tx::{Tx, clock_ms};
pub(crate) use writer::Writer;

/// Memory for pages of each connection, in KiB.
const CACHE_KIB: &str = "-32768";
/// Pages in the write-ahead log before it is folded into the file: 32 MiB, so that a busy hour folds rarely.
const CHECKPOINT_PAGES: &str = "8000";
/// How long a connection waits for another process that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// A clock that is earlier by more than this was set, in ms.
const BEHIND_MS_MAX: i64 = 1_000;
/// Prepared statements kept per connection: all that the platform has.
const STATEMENTS: usize = 512;

/// The open database.
#[derive(Clone, Debug)]
pub(crate) struct Db {
    /// Connections that read committed data.
    pub(crate) readers: Readers,
    /// The only way to write.
    pub(crate) writer: Writer,
}

/// What [`open`] returns.
pub(crate) struct Opened {
    pub(crate) db: Db,
    /// Ends when the writer has stopped and its connection is closed.
    pub(crate) task: JoinHandle<()>,
    /// Woken by every commit that put rows into the outbox.
    pub(crate) outbox_written: Arc<Notify>,
}

/// The versions of the schema. A released one never changes: the database keeps a checksum of each.
///
/// They are listed here and not collected by `sqlx::migrate!`, which would compile sqlx and SQLite a second time for the
/// compiler's own use.
fn migrations() -> Migrator {
    let start = include_str!("../../migrations/0001_start.sql").into_sql_str();
    let start = Migration::new(1, "start".into(), MigrationType::Simple, start, false);
    Migrator::with_migrations(vec![start])
}

/// Opens the database file, makes it if need be, and brings its schema up to date.
pub(crate) async fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Opened> {
    let synchronous = match config.durability {
        // A confirmed payment survives power loss; group commit pays for it.
        Durability::Fsync => SqliteSynchronous::Full,
        Durability::Os => SqliteSynchronous::Normal,
    };
    let options = SqliteConnectOptions::new()
        .filename(&config.database)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("cache_size", CACHE_KIB)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .statement_cache_capacity(STATEMENTS)
        .disable_statement_logging();

    let connection = SqliteConnection::connect_with(&options).await;
    let mut connection = connection.map_err(DbError::from)?;
    let migrated = migrations().run(&mut connection).await;
    migrated.map_err(|error| Error::Migration {
        detail: error.to_string(),
    })?;
    let mut connection = Connection::new(connection);
    resume_clock(&mut connection, clock.as_ref()).await?;

    let readers = SqlitePoolOptions::new()
        .max_connections(config.readers)
        .connect_with(options.read_only(true))
        .await;
    let readers = Readers::new(readers.map_err(DbError::from)?);

    let outbox_written = Arc::new(Notify::new());
    let tx = Tx::new(connection, clock);
    let limits = writer::Limits {
        queue: config.writer_queue,
        group_max: config.commit_requests_max,
    };
    let (writer, task) = Writer::start(tx, limits, Arc::clone(&outbox_written));
    Ok(Opened {
        db: Db { readers, writer },
        task,
        outbox_written,
    })
}

/// Fails if the database does not answer.
pub(crate) async fn ping(readers: &Readers) -> Result<()> {
    query("select 1").execute(readers).await?;
    Ok(())
}

/// Sets the clock to the time of the last entry of the audit trail, if it shows an earlier one.
///
/// The broker in this process does the same, but its folder may be lost, or end a moment earlier: then a wall clock
/// that was set back would put deadlines ahead again that have been reached.
async fn resume_clock(connection: &mut Connection, clock: &dyn Clock) -> Result<()> {
    let Some(last_ms) = audit::last_ms(connection).await? else {
        return Ok(());
    };
    let behind_ms = last_ms - clock_ms(clock);
    if behind_ms > BEHIND_MS_MAX {
        tracing::warn!(
            behind_ms,
            "the clock is earlier than the last entry of the audit trail and continues from that entry"
        );
    }
    clock.resume_at(u64::try_from(last_ms).unwrap_or(0));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_file_is_listed() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
        let files = std::fs::read_dir(folder).unwrap();
        assert_eq!(files.count(), migrations().iter().count());
    }
}
