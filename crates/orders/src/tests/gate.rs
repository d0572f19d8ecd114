//! Gates: places where a test decides which of several tasks goes on, so that a seed names one interleaving.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

/// The gates of one test. Without [`Gates::close`] every task passes.
#[derive(Clone, Default)]
pub(crate) struct Gates {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    idle: Notify,
}

#[derive(Default)]
struct State {
    closed: bool,
    /// Tasks that are neither at a gate nor done.
    active: usize,
    panicked: bool,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Gates {
    fn state(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on a task waits at a gate until [`Self::open`] is called.
    pub(crate) fn close(&self) {
        self.state().closed = true;
    }

    /// From now on every task passes, those that wait too.
    pub(crate) fn open_all(&self) {
        self.state().closed = false;
        while self.waiting() > 0 {
            self.open(0);
        }
    }

    /// Waits at a gate.
    pub(crate) async fn pass(&self) {
        let receiver = {
            let mut state = self.state();
            if !state.closed {
                return;
            }
            let (sender, receiver) = oneshot::channel();
            state.waiting.push(sender);
            state.active -= 1;
            receiver
        };
        self.shared.idle.notify_one();
        // An error means that the test ends: go no further.
        if receiver.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// How many tasks wait at gates.
    pub(crate) fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    /// Opens the gate for one of the waiting tasks.
    pub(crate) fn open(&self, index: usize) {
        let mut state = self.state();
        let sender = state.waiting.swap_remove(index);
        state.active += 1;
        drop(state);
        // A task that was aborted does not count as active.
        if sender.send(()).is_err() {
            self.state().active -= 1;
        }
    }

    /// Starts a task that passes through gates.
    pub(crate) fn spawn(
        &self,
        tasks: &mut JoinSet<()>,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.state().active += 1;
        let gates = self.clone();
        tasks.spawn(async move {
            let witness = Witness(gates.clone());
            task.await;
            drop(witness);
            gates.state().active -= 1;
            gates.shared.idle.notify_one();
        });
    }

    /// Ends once every task is at a gate or done.
    pub(crate) async fn quiesce(&self) {
        loop {
            let (active, panicked) = {
                let state = self.state();
                (state.active, state.panicked)
            };
            assert!(!panicked, "a task has panicked");
            if active == 0 {
                return;
            }
            self.shared.idle.notified().await;
        }
    }

    /// Ends all tasks where they stand.
    pub(crate) async fn abort(&self, tasks: &mut JoinSet<()>) {
        tasks.shutdown().await;
        let mut state = self.state();
        state.waiting.clear();
        state.active = 0;
    }
}

/// Panics if a task has panicked, since its result is not awaited.
struct Witness(Gates);

impl Drop for Witness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.state().panicked = true;
            self.0.shared.idle.notify_one();
        }
    }
}
