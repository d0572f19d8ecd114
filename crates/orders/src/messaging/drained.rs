//! Notes when the broker last had nothing else to deliver: a timer that was due before then has lost its message.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::model::timer::TimerKind;

/// When each kind of timer was last drained, in ms since the Unix epoch.
#[derive(Debug)]
pub(crate) struct Drained {
    at_ms: [AtomicI64; TimerKind::ALL.len()],
}

/// Without consumers there is no backlog: what is overdue is lost.
impl Default for Drained {
    fn default() -> Self {
        Self {
            at_ms: [const { AtomicI64::new(i64::MAX) }; TimerKind::ALL.len()],
        }
    }
}

impl Drained {
    /// Consumers start: they may have a backlog of every kind.
    pub(crate) fn reset(&self) {
        for at_ms in &self.at_ms {
            at_ms.store(0, Ordering::Relaxed);
        }
    }

    /// A receive at `now_ms` brought fewer messages than were asked for.
    pub(crate) fn set(&self, kind: TimerKind, now_ms: i64) {
        if let Some(at_ms) = self.of(kind) {
            at_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    /// When the kind was last drained, in ms since the Unix epoch.
    pub(crate) fn at_ms(&self, kind: TimerKind) -> i64 {
        let at_ms = self.of(kind);
        at_ms.map_or(i64::MAX, |at_ms| at_ms.load(Ordering::Relaxed))
    }

    fn of(&self, kind: TimerKind) -> Option<&AtomicI64> {
        let mut kinds = TimerKind::ALL.iter().zip(&self.at_ms);
        kinds
            .find(|(each, _)| **each == kind)
            .map(|(_, at_ms)| at_ms)
    }
}
