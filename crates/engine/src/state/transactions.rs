//! Provides the instants at which transactions have to be looked at again.

/// When the producer of an open transaction is to be asked next, and when outcomes are forgotten.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    /// No check is due before this; `None`: the store has to be read.
    next_check_ms: Option<u64>,
    next_forget_ms: u64,
}

impl Transactions {
    /// The first check, in ms, `u64::MAX` without one; `None`: the store has to be read.
    pub(crate) fn next_check_ms(&self) -> Option<u64> {
        self.next_check_ms
    }

    /// Sets the first check that was found in the store; `None`: the store has changed.
    pub(crate) fn set_next_check_ms(&mut self, check_ms: Option<u64>) {
        self.next_check_ms = check_ms;
    }

    /// A check was added.
    pub(crate) fn check_added(&mut self, check_ms: u64) {
        let first = |next_ms| std::cmp::min(next_ms, check_ms);
        self.next_check_ms = self.next_check_ms.map(first);
    }

    /// When outcomes may be forgotten, in ms; `u64::MAX`: there are none.
    pub(crate) fn next_forget_ms(&self) -> u64 {
        self.next_forget_ms
    }

    /// Has outcomes looked at next at `forget_ms`.
    pub(crate) fn forget_at(&mut self, forget_ms: u64) {
        self.next_forget_ms = forget_ms;
    }

    /// Has outcomes looked at by `forget_ms`.
    pub(crate) fn forget_by(&mut self, forget_ms: u64) {
        self.next_forget_ms = std::cmp::min(self.next_forget_ms, forget_ms);
    }
}
