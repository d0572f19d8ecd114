//! Provides the readers: threads with a connection each that read committed data for the tasks of the platform.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};

use crate::error::Result;
use crate::store::sql::{BoxFuture, Connection, DbError, Executor, Query, Row, at_once};

/// Most reads that wait; who comes later waits outside.
const QUEUE: usize = 1_024;

/// Statements that see one state of the database.
type Snapshot<I, T> = for<'t> fn(&'t mut Connection, &'t I) -> BoxFuture<'t, Result<T>>;

/// A read that waits for a connection.
type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A cheap handle to the readers.
#[derive(Clone, Debug)]
pub(crate) struct Readers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// `None` once they are closed. Locked only to copy or to take it.
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    /// Changes for the last time when the last thread has ended.
    ended: watch::Receiver<()>,
}

impl Readers {
    /// Opens `count` connections, each on a thread of its own.
    pub(in crate::store) fn open(path: &Path, count: u32) -> Result<Self, DbError> {
        let (sender, jobs) = mpsc::channel::<Job>(QUEUE);
        // A thread that waits for a job holds it, the others wait for the lock.
        let jobs = Arc::new(Mutex::new(jobs));
        let (ending, ended) = watch::channel(());
        let ending = Arc::new(ending);
        for index in 0..count {
            let mut connection = Connection::open_to_read(path)?;
            let jobs = Arc::clone(&jobs);
            let ending = Arc::clone(&ending);
            let read = move || {
                while let Some(job) = next(&jobs) {
                    job(&mut connection);
                }
                drop(connection);
                drop(ending);
            };
            let thread = std::thread::Builder::new().name(format!("orders-reader-{index}"));
            thread
                .spawn(read)
                .map_err(|error| DbError::no_thread(&error))?;
        }
        let jobs = Mutex::new(Some(sender));
        let shared = Arc::new(Shared { jobs, ended });
        Ok(Self { shared })
    }

    /// Runs the read on the next connection that is free.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Connection) -> T + Send + 'static,
    ) -> Result<T, DbError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            if !reply.is_closed() {
                // A caller that has gone away meanwhile does not want the answer.
                let _ = reply.send(read(connection));
            }
        });
        let jobs = self.jobs().clone();
        let jobs = jobs.ok_or_else(closed)?;
        jobs.send(job).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())
    }

    /// Runs several statements on one state of the database, whatever is written meanwhile.
    pub(crate) async fn snapshot<I, T>(&self, input: I, read: Snapshot<I, T>) -> Result<T>
    where
        I: Send + 'static,
        T: Send + 'static,
    {
        let read = move |connection: &mut Connection| {
            connection.run("begin")?;
            let found = at_once(read(connection, &input));
            connection.run("commit")?;
            found
        };
        self.run(read).await?
    }

    /// Closes the connections once the reads that wait are done; later ones fail.
    pub(crate) async fn close(&self) {
        self.jobs().take();
        let mut ended = self.shared.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    fn jobs(&self) -> std::sync::MutexGuard<'_, Option<mpsc::Sender<Job>>> {
        let jobs = self.shared.jobs.lock();
        jobs.unwrap_or_else(PoisonError::into_inner)
    }
}

fn next(jobs: &Mutex<mpsc::Receiver<Job>>) -> Option<Job> {
    let mut jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
    jobs.blocking_recv()
}

fn closed() -> DbError {
    DbError::unavailable("the database is closed")
}

impl Executor for &Readers {
    async fn execute(self, query: Query) -> Result<u64, DbError> {
        self.run(move |connection| connection.change(&query))
            .await?
    }

    async fn rows(self, query: Query) -> Result<Vec<Row>, DbError> {
        self.run(move |connection| connection.read(&query)).await?
    }
}
