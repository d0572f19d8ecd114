//! Provides the state of half messages, and the instants at which transactions have to be looked at again.

use crate::format::codec::{Reader, put_varint};
use crate::format::record::seal;

/// How far the checks of a half message are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HalfState {
    /// When it is looked at next, in ms.
    pub(crate) check_ms: u64,
    /// How often a producer was asked about it.
    pub(crate) checks: u32,
    /// When it was given up, in ms; `None`: its producer is asked.
    pub(crate) given_up_ms: Option<u64>,
}

impl HalfState {
    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        seal(buffer, |buffer| {
            put_varint(buffer, self.check_ms);
            put_varint(buffer, u64::from(self.checks));
            put_varint(
                buffer,
                self.given_up_ms.map_or(0, |at_ms| at_ms.saturating_add(1)),
            );
        });
    }

    pub(crate) fn read(reader: &mut Reader) -> Result<Self, &'static str> {
        Ok(Self {
            check_ms: reader.varint()?,
            checks: u32::try_from(reader.varint()?).map_err(|_| "a check count is too large")?,
            given_up_ms: reader.varint()?.checked_sub(1),
        })
    }
}

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
