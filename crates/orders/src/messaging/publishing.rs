//! Notes whether messages get out of the outbox, for those who ask before they rely on it.

use std::sync::atomic::{AtomicI64, Ordering};

/// Nothing, in place of an instant.
const NONE: i64 = 0;

/// How the relay gets on.
#[derive(Debug, Default)]
pub(crate) struct Publishing {
    /// Since when the oldest timer message has waited, in ms since the Unix epoch.
    waiting_since_ms: AtomicI64,
    /// Since when rounds have failed, in ms since the Unix epoch.
    failing_since_ms: AtomicI64,
}

impl Publishing {
    /// Sets since when the oldest timer message has waited.
    pub(crate) fn set_waiting_since(&self, since_ms: Option<i64>) {
        let since_ms = since_ms.unwrap_or(NONE);
        self.waiting_since_ms.store(since_ms, Ordering::Relaxed);
    }

    /// For how long the oldest timer message has waited, in ms; 0 unless the last round failed.
    pub(crate) fn waits_ms(&self, now_ms: i64) -> i64 {
        match self.waiting_since_ms.load(Ordering::Relaxed) {
            since_ms if since_ms != NONE && self.is_failing() => {
                std::cmp::max(now_ms - since_ms, 0)
            }
            _ => 0,
        }
    }

    /// A round has ended, with or without failures. The first that fails is logged, and the first that does not.
    pub(crate) fn end_round(&self, failed: bool, now_ms: i64) {
        let since_ms = self.failing_since_ms.load(Ordering::Relaxed);
        if failed && since_ms == NONE {
            self.failing_since_ms.store(now_ms, Ordering::Relaxed);
            tracing::warn!(
                "messages cannot be published; they wait in the outbox and are tried again"
            );
        } else if !failed && since_ms != NONE {
            self.failing_since_ms.store(NONE, Ordering::Relaxed);
            let lasted_ms = now_ms - since_ms;
            tracing::info!(lasted_ms, "messages are published again");
        }
    }

    /// Whether the last round failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.failing_since_ms.load(Ordering::Relaxed) != NONE
    }
}
