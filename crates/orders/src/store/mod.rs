//! Provides the SQLite database: one writer, several readers, the schema brought up to date on opening.

pub(crate) mod attention;
pub(crate) mod audit;
mod believed;
mod checkpoint;
pub(crate) mod coupons;
pub(crate) mod event;
pub(crate) mod followers;
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
mod schema;
pub(crate) mod sql;
pub(crate) mod timers;
mod tx;
pub(crate) mod unmatched;
pub(crate) mod verify;
pub(crate) mod webhooks;
mod writer;

use std::path::Path;
use std::sync::Arc;

use broker::clock::Clock;
use tokio::task::JoinHandle;

use crate::config::{Config, Durability};
use crate::error::Result;
use crate::store::checkpoint::Checkpoints;
use crate::store::followers::Followers;
use crate::store::outbox::OutboxWritten;
use crate::store::sql::{Connection, Readers, Synchronous, query};

pub(crate) use believed::mark as mark_time;
pub(crate) use tx::{Tx, clock_ms};
pub(crate) use writer::Writer;

/// The open database.
#[derive(Clone, Debug)]
pub(crate) struct Db {
    /// Connections that read committed data.
    pub(crate) readers: Readers,
    /// The only way to write.
    pub(crate) writer: Writer,
    /// The same writer, whose requests go ahead of others.
    pub(crate) writer_ahead: Writer,
    /// Who waits for events.
    pub(crate) followers: Followers,
}

/// What [`open`] returns.
pub(crate) struct Opened {
    pub(crate) db: Db,
    /// Ends when the writer has stopped and its connection is closed.
    pub(crate) task: JoinHandle<()>,
    /// Wakes the relay of each topic into whose outbox a commit has put rows.
    pub(crate) outbox_written: Arc<OutboxWritten>,
}

/// Opens the database file, makes it if need be, and brings its schema up to date.
pub(crate) async fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Opened> {
    let synchronous = match config.durability {
        // A confirmed payment survives power loss; group commit pays for it.
        Durability::Fsync => Synchronous::Full,
        Durability::Os => Synchronous::Normal,
    };
    let path = config.database.clone();
    let count = config.readers;
    let opened = tokio::task::spawn_blocking(move || open_files(&path, synchronous, count)).await;
    let (mut connection, checkpoints, readers) = match opened {
        Ok(opened) => opened?,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    };
    let jump_max_ms = config.clock_jump_max_ms;
    let believed = believed::resume(&mut connection, clock.as_ref(), jump_max_ms).await?;

    let outbox_written = Arc::new(OutboxWritten::default());
    let limits = writer::Limits {
        queue: config.writer_queue,
        group_max: config.commit_requests_max,
    };
    let means = writer::Means {
        tx: Tx::new(connection, clock),
        believed,
        checkpoints,
        outbox_written: Arc::clone(&outbox_written),
    };
    let (writer, task) = Writer::start(means, limits)?;
    let writer_ahead = writer.ahead();
    Ok(Opened {
        db: Db {
            readers,
            writer,
            writer_ahead,
            followers: outbox_written.followers().clone(),
        },
        task,
        outbox_written,
    })
}

/// Opens every connection: first the one that writes, which makes the file what the others expect.
fn open_files(
    path: &Path,
    synchronous: Synchronous,
    readers: u32,
) -> Result<(Connection, Checkpoints, Readers)> {
    let mut connection = Connection::open(path, synchronous)?;
    schema::bring_up_to_date(&mut connection)?;
    let checkpoints = Checkpoints::start(Connection::open(path, synchronous)?)?;
    let readers = Readers::open(path, readers)?;
    Ok((connection, checkpoints, readers))
}

/// Fails if the database does not answer.
pub(crate) async fn ping(readers: &Readers) -> Result<()> {
    query("select 1").execute(readers).await?;
    Ok(())
}
