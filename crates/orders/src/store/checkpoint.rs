//! Folds the write-ahead log into the database on a thread of its own, so that no commit waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::store::sql::{Connection, DbError};

/// Pages written between two checkpoints: 32 MiB, so that a busy hour folds rarely.
const PAGES: u32 = 8_000;
/// So many checkpoints later a log has to begin anew, which it cannot while each of them ends short of the last commit.
const LONG: u32 = 4;

/// A checkpoint waits for no one: it folds what it can.
const FOLD: &str = "pragma wal_checkpoint(passive)";

/// When the log is folded, as the thread of the commits decides it.
pub(super) struct Checkpoints {
    plan: Plan,
    /// `None` once it is stopped.
    wake: Option<SyncSender<()>>,
    /// Whether the thread has nothing to do.
    idle: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    /// Starts the thread, which folds through this connection.
    pub(super) fn start(connection: Connection) -> Result<Self, DbError> {
        Self::start_with(connection, PAGES)
    }

    /// The same, with so many pages between two checkpoints.
    fn start_with(connection: Connection, every: u32) -> Result<Self, DbError> {
        // One that waits is enough: it folds everything.
        let (wake, woken) = sync_channel(1);
        let idle = Arc::new(AtomicBool::new(true));
        let done = Arc::clone(&idle);
        let work = move || {
            let mut connection = connection;
            while woken.recv().is_ok() {
                fold(&mut connection);
                done.store(true, Ordering::Release);
            }
        };
        let thread = std::thread::Builder::new().name("orders-checkpoint".to_owned());
        let thread = thread.spawn(work);
        let thread = thread.map_err(|error| DbError::no_thread(&error))?;
        Ok(Self {
            plan: Plan::new(every),
            wake: Some(wake),
            idle,
            thread: Some(thread),
        })
    }

    /// Folds the log if it is time; `pages` are in it after a commit of this connection.
    pub(super) fn after_commit(&mut self, connection: &mut Connection, pages: u32) {
        if !self.idle.load(Ordering::Acquire) {
            return;
        }
        match self.plan.after_commit(pages) {
            Step::None => {}
            Step::Fold => {
                self.idle.store(false, Ordering::Release);
                let wake = self.wake.as_ref();
                // The thread is idle, so its channel is empty.
                let _ = wake.map(|wake| wake.try_send(()));
            }
            // The thread has just folded the most of it, so little is left to do here.
            Step::FoldTheRest => fold(connection),
        }
    }

    /// Ends the thread.
    pub(super) fn stop(mut self) {
        self.wake = None;
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("the thread of the checkpoints has failed");
        }
    }
}

fn fold(connection: &mut Connection) {
    if let Err(error) = connection.run(FOLD) {
        tracing::warn!(%error, "fold the log of the database");
    }
}

/// What to do after a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    None,
    /// Fold on the other thread.
    Fold,
    /// Fold what was written since, with no commit in between: then the log begins anew.
    FoldTheRest,
}

/// Decides when to fold from the length of the log.
#[derive(Debug)]
struct Plan {
    /// Pages written between two checkpoints.
    every: u32,
    pages: u32,
    /// The length at which the next checkpoint begins.
    next: u32,
    /// Whether the other thread has just folded a log that has to begin anew.
    long_folded: bool,
}

impl Plan {
    fn new(every: u32) -> Self {
        Self {
            every,
            pages: 0,
            next: every,
            long_folded: false,
        }
    }

    /// The step after a commit. Must not be called while the other thread works.
    fn after_commit(&mut self, pages: u32) -> Step {
        if pages < self.pages {
            // The log has begun anew.
            self.next = self.every;
            self.long_folded = false;
        }
        self.pages = pages;
        if std::mem::take(&mut self.long_folded) {
            return Step::FoldTheRest;
        }
        if pages < self.next {
            return Step::None;
        }
        self.next = pages.saturating_add(self.every);
        self.long_folded = pages >= LONG * self.every;
        Step::Fold
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sql::{Synchronous, query};

    #[test]
    fn a_short_log_is_folded_by_the_other_thread() {
        let mut plan = Plan::new(PAGES);
        assert_eq!(plan.after_commit(PAGES - 1), Step::None);
        assert_eq!(plan.after_commit(PAGES), Step::Fold);
        assert_eq!(plan.after_commit(PAGES + 20), Step::None);
        // It began anew.
        assert_eq!(plan.after_commit(10), Step::None);
        assert_eq!(plan.after_commit(PAGES + 5), Step::Fold);
    }

    #[test]
    fn a_log_that_does_not_begin_anew_is_folded_to_its_end_between_commits() {
        let mut plan = Plan::new(PAGES);
        for round in 1..4 {
            assert_eq!(plan.after_commit(round * PAGES), Step::Fold);
            assert_eq!(plan.after_commit(round * PAGES + 1), Step::None);
        }
        assert_eq!(plan.after_commit(LONG * PAGES), Step::Fold);
        assert_eq!(plan.after_commit(LONG * PAGES + 30), Step::FoldTheRest);
        assert_eq!(plan.after_commit(LONG * PAGES + 31), Step::None);
        // A reader held it; it is tried again after as much as before.
        assert_eq!(plan.after_commit(LONG * PAGES + PAGES), Step::Fold);
    }

    #[test]
    fn the_log_of_a_busy_writer_begins_anew() {
        const EVERY: u32 = 20;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders.db");
        let mut connection = Connection::open(&path, Synchronous::Normal).unwrap();
        connection.watch_log();
        let other = Connection::open(&path, Synchronous::Normal).unwrap();
        let mut checkpoints = Checkpoints::start_with(other, EVERY).unwrap();
        connection
            .run("create table tea (leaf text) strict")
            .unwrap();
        let mut begun_anew = 0;
        let mut before = 0;
        while begun_anew < 3 {
            let insert = query("insert into tea values (?)").bind("leaf".repeat(5_000));
            connection.change(&insert).unwrap();
            let pages = Connection::log_pages();
            assert!(pages > 0 && pages < 100_000, "{pages}");
            begun_anew += u32::from(pages < before);
            before = pages;
            checkpoints.after_commit(&mut connection, pages);
        }
        checkpoints.stop();
        assert!(std::fs::metadata(&path).unwrap().len() > u64::from(EVERY) * 4_096);
    }
}
