//! Provides the state of half messages, and the instants at which transactions have to be looked at again.

use std::collections::BTreeMap;

use crate::format::codec::{Reader, put_varint};
use crate::format::record::seal;
use crate::ids::TopicId;

/// How far the checks of a half message are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HalfState {
    /// When it is looked at next, in ms.
    pub(crate) check_ms: u64,
    /// How often a producer was asked about it.
    pub(crate) checks: u32,
    /// When it was given up, in ms; `None`: its producer is asked.
    pub(crate) given_up_ms: Option<u64>,
    /// Since when its producer is asked, in ms; 0: since it was stored.
    pub(crate) asked_from_ms: u64,
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
            put_varint(buffer, self.asked_from_ms);
        });
    }

    pub(crate) fn read(reader: &mut Reader) -> Result<Self, &'static str> {
        Ok(Self {
            check_ms: reader.varint()?,
            checks: u32::try_from(reader.varint()?).map_err(|_| "a check count is too large")?,
            given_up_ms: reader.varint()?.checked_sub(1),
            asked_from_ms: if reader.is_empty() {
                0
            } else {
                reader.varint()?
            },
        })
    }
}

/// When the producer of an open transaction is to be asked next, and when outcomes are forgotten.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    /// No check is due before this; `None`: the store has to be read.
    next_check_ms: Option<u64>,
    next_forget_ms: u64,
    /// How many were given up and have not ended.
    given_up: BTreeMap<TopicId, u64>,
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

    /// How many were given up and have not ended.
    pub(crate) fn given_up(&self) -> u64 {
        self.given_up.values().sum()
    }

    /// One more was given up.
    pub(crate) fn add_given_up(&mut self, topic: TopicId) {
        *self.given_up.entry(topic).or_default() += 1;
    }

    /// One that was given up has ended, or is checked again.
    pub(crate) fn remove_given_up(&mut self, topic: TopicId) {
        if let Some(count) = self.given_up.get_mut(&topic) {
            *count = count.saturating_sub(1);
        }
    }

    /// A topic was deleted.
    pub(crate) fn forget_topic(&mut self, topic: TopicId) {
        self.given_up.remove(&topic);
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
