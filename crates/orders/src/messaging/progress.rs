//! Keeps how far the relay of each topic has come, and the shards that this process has leased.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::outbox::Topic;

/// How far the relay has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    passes: [Pass; Topic::ALL.len()],
    shards: Arc<[i64]>,
    /// Until when the shards are leased, in ms since the Unix epoch.
    until_ms: i64,
}

/// A pass over the rows of a topic that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pass {
    /// The last row that was passed by; 0 at the beginning.
    pub(crate) after_seq: i64,
    /// Whether the broker did not take a row of this pass.
    pub(crate) failed: bool,
}

impl Progress {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pass that the topic's relay is in.
    pub(crate) fn pass(&self, topic: Topic) -> Pass {
        let state = self.state();
        state.passes.get(topic.place()).copied().unwrap_or_default()
    }

    /// Sets the pass that the topic's relay is in.
    pub(crate) fn set_pass(&self, topic: Topic, pass: Pass) {
        if let Some(present) = self.state().passes.get_mut(topic.place()) {
            *present = pass;
        }
    }

    /// The shards that are leased until after `until_ms` (ms since the Unix epoch).
    pub(crate) fn held_shards(&self, until_ms: i64) -> Option<Arc<[i64]>> {
        let state = self.state();
        (state.until_ms > until_ms).then(|| Arc::clone(&state.shards))
    }

    /// Sets the shards that are leased, and until when (ms since the Unix epoch).
    pub(crate) fn set_held_shards(&self, shards: Arc<[i64]>, until_ms: i64) {
        let mut state = self.state();
        state.shards = shards;
        state.until_ms = until_ms;
    }
}
