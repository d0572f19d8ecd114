//! Provides the group-commit writer: one thread owns the write connection, requests queue for it.
//!
//! The thread runs the statements itself, so an operation waits for nothing but the database and its future ends at
//! the first poll. Each request runs in its own savepoint of a shared transaction and is answered only after the commit. If the
//! transaction dies, its requests are run again one by one, so that one bad request costs the others nothing but
//! time. Requests that arrive while a commit is being synced form the next group: groups grow with the load.
//!
//! Steps that close orders go ahead of other requests.

mod queue;
mod worker;

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::error::{Error, Result};
use crate::model::audit::Who;
use crate::random;
use crate::store::believed::Believed;
use crate::store::checkpoint::Checkpoints;
use crate::store::outbox::OutboxWritten;
use crate::store::sql::{BoxFuture, DbError, at_once};
use crate::store::tx::Tx;
use crate::store::writer::queue::{Control, Queues};
use crate::store::writer::worker::Worker;

/// An operation on the open transaction. It may run more than once, but only its last run is committed.
pub(crate) type Operation<I, T> = for<'t> fn(&'t mut Tx, &'t I) -> BoxFuture<'t, Result<T>>;

/// How much the writer takes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Most requests that wait, of each of the two queues.
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
    /// Where its requests wait.
    requests: mpsc::Sender<Box<dyn Request>>,
    /// Where those wait that go ahead.
    ahead: mpsc::Sender<Box<dyn Request>>,
    /// On whose behalf its requests are made.
    who: Option<Who>,
    control: Arc<Control>,
}

/// What the writer's thread works with.
pub(super) struct Means {
    pub(super) tx: Tx,
    pub(super) believed: Believed,
    pub(super) checkpoints: Checkpoints,
    /// Woken by every commit that put rows into the outbox.
    pub(super) outbox_written: Arc<OutboxWritten>,
}

impl Writer {
    /// Starts the writer's thread; the task ends when the thread has ended and the connection is closed.
    pub(super) fn start(means: Means, limits: Limits) -> Result<(Self, JoinHandle<()>), DbError> {
        let (requests, others) = mpsc::channel(limits.queue);
        let (ahead, first) = mpsc::channel(limits.queue);
        let control = Arc::new(Control::default());
        let queues = Queues::new(first, others, Arc::clone(&control));
        let worker = Worker::new(means, queues, Arc::clone(&control), limits.group_max);
        let randomness = random::source();
        let (ending, ended) = oneshot::channel::<()>();
        let work = move || {
            // Dropped at the end of the thread, whatever its end is.
            let _ending = ending;
            random::use_source(randomness);
            worker.run();
        };
        let thread = std::thread::Builder::new().name("orders-writer".to_owned());
        let thread = thread.spawn(work);
        let thread = thread.map_err(|error| DbError::no_thread(&error))?;
        control.set_thread(thread.thread().clone());
        let task = tokio::spawn(async move {
            // It is never sent, only dropped.
            let _ = ended.await;
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        });
        let writer = Self {
            requests,
            ahead,
            who: None,
            control,
        };
        Ok((writer, task))
    }

    /// The same writer, whose requests go ahead of the others: for what closes orders.
    pub(super) fn ahead(&self) -> Self {
        Self {
            requests: self.ahead.clone(),
            ..self.clone()
        }
    }

    /// The same writer for requests on behalf of `who`.
    pub(crate) fn acting(&self, who: &Who) -> Self {
        Self {
            who: Some(who.clone()),
            ..self.clone()
        }
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
            who: self.who.clone(),
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
        self.control.stop();
    }

    /// Ends the writer as a crash would: what is not committed is rolled back, what waits is not carried out.
    pub(crate) fn abandon(&self) {
        self.control.abandon();
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
    fn run(&mut self, tx: &mut Tx) -> Verdict;
    /// Gives the caller the result of the last run.
    fn answer(self: Box<Self>);
    /// Gives the caller an error of the transaction as a whole.
    fn fail(self: Box<Self>, error: Error);
}

struct Typed<I, T> {
    input: I,
    operation: Operation<I, T>,
    who: Option<Who>,
    outcome: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<I: Send + Sync, T: Send> Request for Typed<I, T> {
    fn run(&mut self, tx: &mut Tx) -> Verdict {
        tx.set_who(self.who.clone());
        let outcome = at_once((self.operation)(tx, &self.input));
        let verdict = match &outcome {
            Ok(_) => Verdict::Keep,
            Err(_) => Verdict::Undo,
        };
        self.outcome = Some(outcome);
        verdict
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
