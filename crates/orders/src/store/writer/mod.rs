//! Provides the group-commit writer: one task owns the write connection, requests queue for it.
//!
//! Each request runs in its own savepoint of a shared transaction and is answered only after the commit. If the
//! transaction dies, its requests are run again one by one, so that one bad request costs the others nothing but
//! time. Requests that arrive while a commit is being synced form the next group: groups grow with the load.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::error::{Error, Result};
use crate::store::sql::{DbError, query};
use crate::store::tx::Tx;
use crate::store::{audit, outbox, timers};

/// A boxed future of an operation.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An operation on the open transaction. It may run more than once, but only its last run is committed.
pub(crate) type Operation<I, T> = for<'t> fn(&'t mut Tx, &'t I) -> BoxFuture<'t, Result<T>>;

const BEGIN: &str = "begin immediate; savepoint request";
const NEXT: &str = "release request; savepoint request";
const UNDO: &str = "rollback to request";
const COMMIT: &str = "commit";
const ROLLBACK: &str = "rollback";

/// How much the writer takes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Most requests that wait.
    pub(super) queue: usize,
    /// Most requests of one commit.
    pub(super) group_max: usize,
}

/// The results of items that were worked on together.
pub(crate) struct Split<I, T> {
    /// The result of each transaction.
    pub(crate) done: Vec<T>,
    /// The items that could not be worked on.
    pub(crate) failed: Vec<(I, Error)>,
}

/// A cheap handle to the writer.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    requests: mpsc::Sender<Box<dyn Request>>,
    stop: watch::Sender<bool>,
}

impl Writer {
    /// Starts the writer's task.
    pub(super) fn start(
        tx: Tx,
        limits: Limits,
        outbox_written: Arc<Notify>,
    ) -> (Self, JoinHandle<()>) {
        let (sender, requests) = mpsc::channel(limits.queue);
        let (stop, stopped) = watch::channel(false);
        let worker = Worker {
            tx,
            requests,
            stopped,
            group_max: limits.group_max,
            outbox_written,
        };
        let task = tokio::spawn(worker.run());
        let requests = sender;
        (Self { requests, stop }, task)
    }

    /// Runs the operation and answers once it is durable, or once its failure is certain.
    ///
    /// The operation is carried out even if the caller stops waiting.
    pub(crate) async fn run<I, T>(&self, input: I, operation: Operation<I, T>) -> Result<T>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let request = Box::new(Typed {
            input,
            operation,
            outcome: None,
            reply,
        });
        let queued = self.requests.send(request).await;
        queued.map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)?
    }

    /// Runs the operation on all items in one transaction, each time with the same context.
    ///
    /// A batch that fails is split until the item that fails is alone.
    pub(crate) async fn run_split<C, I, T>(
        &self,
        context: C,
        items: Vec<I>,
        operation: Operation<(C, Arc<Vec<I>>), T>,
    ) -> Split<I, T>
    where
        C: Copy + Send + Sync + 'static,
        I: Copy + Send + Sync + 'static,
        T: Send + 'static,
    {
        let mut split = Split {
            done: Vec::new(),
            failed: Vec::new(),
        };
        let mut batches = vec![items];
        batches.retain(|batch| !batch.is_empty());
        while let Some(batch) = batches.pop() {
            let batch = Arc::new(batch);
            let input = (context, Arc::clone(&batch));
            match (self.run(input, operation).await, batch.as_slice()) {
                (Ok(done), _) => split.done.push(done),
                (Err(error), [alone]) => split.failed.push((*alone, error)),
                (Err(error), several) => {
                    tracing::warn!(%error, items = several.len(), "split a batch");
                    let (left, right) = several.split_at(several.len() / 2);
                    batches.push(left.to_vec());
                    batches.push(right.to_vec());
                }
            }
        }
        split
    }

    /// Runs the operation until it finds nothing; answers how much it found in all.
    pub(crate) async fn run_until_none<I>(
        &self,
        input: I,
        operation: Operation<I, usize>,
    ) -> Result<usize>
    where
        I: Copy + Send + Sync + 'static,
    {
        let mut total = 0;
        loop {
            let found = self.run(input, operation).await?;
            if found == 0 {
                return Ok(total);
            }
            total += found;
        }
    }

    /// Stops taking requests; those that wait are still carried out.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }
}

/// Whether what a request wrote is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Keep,
    Undo,
}

/// A queued request, whatever its types.
trait Request: Send {
    fn run<'t>(&'t mut self, tx: &'t mut Tx) -> BoxFuture<'t, Verdict>;
    /// Gives the caller the result of the last run.
    fn answer(self: Box<Self>);
    /// Gives the caller an error of the transaction as a whole.
    fn fail(self: Box<Self>, error: Error);
}

struct Typed<I, T> {
    input: I,
    operation: Operation<I, T>,
    outcome: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<I: Send + Sync, T: Send> Request for Typed<I, T> {
    fn run<'t>(&'t mut self, tx: &'t mut Tx) -> BoxFuture<'t, Verdict> {
        Box::pin(async move {
            let outcome = (self.operation)(tx, &self.input).await;
            let verdict = match &outcome {
                Ok(_) => Verdict::Keep,
                Err(_) => Verdict::Undo,
            };
            self.outcome = Some(outcome);
            verdict
        })
    }

    fn answer(self: Box<Self>) {
        if let Some(outcome) = self.outcome {
            // A caller that went away does not want the answer.
            let _ = self.reply.send(outcome);
        }
    }

    fn fail(self: Box<Self>, error: Error) {
        let _ = self.reply.send(Err(error));
    }
}

struct Worker {
    tx: Tx,
    requests: mpsc::Receiver<Box<dyn Request>>,
    stopped: watch::Receiver<bool>,
    group_max: usize,
    outbox_written: Arc<Notify>,
}

impl Worker {
    async fn run(mut self) {
        while let Some(first) = self.next().await {
            let mut group = vec![first];
            match self.commit(&mut group, self.group_max).await {
                Ok(()) => {
                    for request in group {
                        request.answer();
                    }
                }
                Err(error) if group.len() == 1 => {
                    for request in group {
                        request.fail(error_of(&error));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, requests = group.len(), "run the requests of a failed commit one by one");
                    self.commit_one_by_one(group).await;
                }
            }
        }
        // The file stays valid without it; closing folds the log into it.
        if let Err(error) = self.tx.connection.close().await {
            tracing::warn!(%error, "close the database");
        }
    }

    async fn next(&mut self) -> Option<Box<dyn Request>> {
        if !*self.stopped.borrow() {
            tokio::select! {
                biased;
                request = self.requests.recv() => return request,
                _ = self.stopped.changed() => {}
            }
        }
        self.requests.close();
        self.requests.recv().await
    }

    async fn commit_one_by_one(&mut self, group: Vec<Box<dyn Request>>) {
        for request in group {
            let mut alone = vec![request];
            let committed = self.commit(&mut alone, 1).await;
            for request in alone {
                match &committed {
                    Ok(()) => request.answer(),
                    Err(error) => request.fail(error_of(error)),
                }
            }
        }
    }

    /// Runs the requests, and up to `group_max` with those that wait, in one transaction.
    async fn commit(&mut self, group: &mut Vec<Box<dyn Request>>, group_max: usize) -> Result<()> {
        let committed = self.fill_and_commit(group, group_max).await;
        if committed.is_err() {
            // It fails where SQLite has already rolled back by itself, which has the same effect.
            let _ = query(ROLLBACK).execute(self.tx.conn()).await;
        } else {
            self.tx.record_metrics();
        }
        self.tx.clear();
        if committed? {
            self.outbox_written.notify_one();
        }
        metrics::histogram!("duetime_sql_commit_requests").record(f64_of(group.len()));
        Ok(())
    }

    async fn fill_and_commit(
        &mut self,
        group: &mut Vec<Box<dyn Request>>,
        group_max: usize,
    ) -> Result<bool> {
        let tx = &mut self.tx;
        query(BEGIN).execute(tx.conn()).await?;
        let mut next = 0;
        let mut undone = false;
        while let Some(request) = group.get_mut(next) {
            // After an undo the savepoint is still set.
            if next > 0 && !undone {
                query(NEXT).execute(tx.conn()).await?;
            }
            let mark = tx.begin_request();
            undone = request.run(tx).await == Verdict::Undo;
            if undone {
                query(UNDO).execute(tx.conn()).await?;
                tx.return_to(mark);
            }
            next += 1;
            if group.len() < group_max
                && let Ok(request) = self.requests.try_recv()
            {
                group.push(request);
            }
        }
        timers::flush(tx).await?;
        audit::flush(tx).await?;
        let wrote = outbox::flush(tx).await?;
        query(COMMIT).execute(tx.conn()).await?;
        Ok(wrote)
    }
}

/// An error of the whole transaction as one more value: it cannot be cloned.
fn error_of(error: &Error) -> Error {
    Error::Database(DbError::other(error.to_string()))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a group has far fewer than 2^52 requests"
)]
fn f64_of(count: usize) -> f64 {
    count as f64
}
