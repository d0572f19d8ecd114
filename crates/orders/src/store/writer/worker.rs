//! Runs the requests of the writer on its thread, some in each commit.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::store::believed::Believed;
use crate::store::checkpoint::Checkpoints;
use crate::store::outbox::{OutboxWritten, Written};
use crate::store::sql::{Connection, DbError, at_once};
use crate::store::tx::Tx;
use crate::store::writer::queue::{Control, Queues};
use crate::store::writer::{Means, Request, Verdict};
use crate::store::{audit, outbox, timers};

const BEGIN: &str = "begin immediate";
const SAVE: &str = "savepoint request";
const KEEP: &str = "release request";
const UNDO: &str = "rollback to request";
const COMMIT: &str = "commit";
const ROLLBACK: &str = "rollback";

/// After how long a group takes no more requests, in ms: those that are done wait for its commit.
const GROUP_MS_MAX: i64 = 4;

/// What the thread works on.
pub(super) struct Worker {
    tx: Tx,
    believed: Believed,
    queues: Queues,
    control: Arc<Control>,
    checkpoints: Checkpoints,
    group_max: usize,
    outbox_written: Arc<OutboxWritten>,
}

impl Worker {
    pub(super) fn new(
        means: Means,
        queues: Queues,
        control: Arc<Control>,
        group_max: usize,
    ) -> Self {
        Self {
            tx: means.tx,
            believed: means.believed,
            queues,
            control,
            checkpoints: means.checkpoints,
            group_max,
            outbox_written: means.outbox_written,
        }
    }

    /// Carries out requests until the end.
    pub(super) fn run(mut self) {
        self.tx.conn().watch_log();
        while let Some(first) = self.queues.wait() {
            let mut group = vec![first];
            match self.commit(&mut group, self.group_max) {
                Ok(()) => {
                    for request in group {
                        request.answer();
                    }
                }
                Err(_) if self.control.is_abandoned() => break,
                Err(error) if group.len() == 1 => {
                    for request in group {
                        request.fail(error_of(&error));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, requests = group.len(), "run the requests of a failed commit one by one");
                    self.commit_one_by_one(group);
                }
            }
            let pages = Connection::log_pages();
            self.checkpoints.after_commit(self.tx.conn(), pages);
        }
        self.checkpoints.stop();
        // The file stays valid without it.
        if let Err(error) = self.tx.connection.close() {
            tracing::warn!(%error, "close the database");
        }
    }

    fn commit_one_by_one(&mut self, group: Vec<Box<dyn Request>>) {
        for request in group {
            let mut alone = vec![request];
            let committed = self.commit(&mut alone, 1);
            for request in alone {
                match &committed {
                    Ok(()) => request.answer(),
                    Err(error) => request.fail(error_of(error)),
                }
            }
        }
    }

    /// Runs the requests, and up to `group_max` with those that wait, in one transaction.
    fn commit(&mut self, group: &mut Vec<Box<dyn Request>>, group_max: usize) -> Result<()> {
        let committed = self.fill_and_commit(group, group_max);
        if committed.is_err() {
            // It fails where SQLite has already rolled back by itself, which has the same effect.
            let _ = self.tx.conn().run(ROLLBACK);
        } else {
            self.tx.record_metrics();
        }
        self.tx.clear();
        self.outbox_written.wake(&committed?);
        metrics::histogram!("duetime_sql_commit_requests").record(f64_of(group.len()));
        Ok(())
    }

    fn fill_and_commit(
        &mut self,
        group: &mut Vec<Box<dyn Request>>,
        group_max: usize,
    ) -> Result<Written> {
        let tx = &mut self.tx;
        tx.conn().run(BEGIN)?;
        // Outside of the requests, since one that fails would take the pause back.
        let looked_ms = at_once(self.believed.look(tx))?;
        tx.conn().run(SAVE)?;
        let mut next = 0;
        let mut undone = false;
        let mut begun_ms = None;
        while let Some(request) = group.get_mut(next) {
            if self.control.is_abandoned() {
                return Err(Error::Stopped);
            }
            // After an undo the savepoint is still set.
            if next > 0 && !undone {
                tx.conn().run(KEEP)?;
                tx.conn().run(SAVE)?;
            }
            let mark = tx.begin_request();
            let begun_ms = *begun_ms.get_or_insert_with(|| tx.now_ms());
            undone = request.run(tx) == Verdict::Undo;
            if undone {
                tx.conn().run(UNDO)?;
                tx.return_to(mark);
            }
            next += 1;
            if group.len() < group_max
                && tx.clock_ms() - begun_ms < GROUP_MS_MAX
                && let Some(request) = self.queues.try_next()
            {
                group.push(request);
            }
        }
        let wrote = flush(tx)?;
        if self.control.is_abandoned() {
            return Err(Error::Stopped);
        }
        tx.conn().run(COMMIT)?;
        self.believed.committed(looked_ms);
        Ok(wrote)
    }
}

/// Writes the rows that the requests have collected; answers whom those in the outbox are for.
fn flush(tx: &mut Tx) -> Result<Written> {
    at_once(async {
        timers::flush(tx).await?;
        audit::flush(tx).await?;
        outbox::flush(tx).await
    })
}

/// An error of the whole transaction as one more value: it cannot be cloned.
fn error_of(error: &Error) -> Error {
    match error {
        Error::Database(error) => Error::Database(error.clone()),
        other => Error::Database(DbError::other(other.to_string())),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a group has far fewer than 2^52 requests"
)]
fn f64_of(count: usize) -> f64 {
    count as f64
}
