//! Defines a batch: the deliveries of one answer, and which of them are settled.

use std::sync::Weak;

use broker::ReceiptHandle;

use super::connection::Connection;
use super::limits::{BATCH_COST, BATCH_MAX};
use super::peer::ClientKey;

/// Words of a set of bits with one for each delivery of a batch.
pub(super) const WORDS: usize = BATCH_MAX.div_ceil(64);

/// The deliveries of one answer, as it is given.
#[derive(Debug)]
pub(crate) struct Given<'a> {
    pub(crate) client: &'a ClientKey,
    /// The connection that carries the answer.
    pub(crate) connection: &'a Weak<Connection>,
    /// The id the client chose for the attempt; empty if it chose none.
    pub(crate) attempt_id: &'a str,
    /// The invisible duration, of a delivery that is not renewed, in ms.
    pub(crate) invisible_ms: Option<u64>,
}

/// The deliveries of one answer.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) client: ClientKey,
    pub(super) connection: Weak<Connection>,
    pub(super) attempt_id: Option<Box<str>>,
    pub(super) handles: Box<[ReceiptHandle]>,
    /// A bit for each that is settled.
    pub(super) settled: [u64; WORDS],
    pub(super) open: usize,
    pub(super) stage: Stage,
    /// Whether it is known that the answer arrived.
    pub(super) confirmed: bool,
    /// When it is looked at next, in ms.
    pub(super) at_ms: u64,
    /// The leases are not renewed from this instant on, in ms.
    pub(super) end_ms: u64,
}

/// What becomes of the leases of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// They are renewed.
    Renewed,
    /// They end soon, since the answer seems to be lost.
    Lapsing,
    /// They end when the consumer wished.
    Kept,
}

impl Batch {
    pub(super) fn is_settled(&self, index: usize) -> bool {
        let word = self.settled.get(index / 64).copied().unwrap_or(u64::MAX);
        word & (1 << (index % 64)) != 0
    }

    /// Settles a delivery; returns false if it is settled already.
    pub(super) fn settle(&mut self, index: usize) -> bool {
        if self.is_settled(index) {
            return false;
        }
        if let Some(word) = self.settled.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
        self.open = self.open.saturating_sub(1);
        true
    }

    pub(super) fn open_handles(&self) -> Vec<ReceiptHandle> {
        let all = self.handles.iter().enumerate();
        let open = all.filter(|(index, _)| !self.is_settled(*index));
        open.map(|(_, handle)| *handle).collect()
    }

    pub(super) fn cost(&self) -> usize {
        self.handles.len() + BATCH_COST
    }
}
