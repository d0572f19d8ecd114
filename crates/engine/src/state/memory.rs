//! Provides the budget of the memory that readers hold: who holds how much of it, and who used it least recently.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use crate::ids::{SubscriptionKey, TopicId};
use crate::limits::READ_BYTES_MAX;

/// Uses within a step of this length count as made at the same time, in ms.
const USE_STEP_MS: u64 = 128;
/// The part of the budget that one read of the store may fill.
const READ_PART: usize = 16;

/// Something that holds messages in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Holder {
    /// The head of a message queue.
    Head(TopicId, u16),
    /// What a consumer group has read of a message queue: read ahead, or blocked in a FIFO group.
    Reader(SubscriptionKey, u16),
    /// The head of the retry timeline of a consumer group on a topic.
    Retries(SubscriptionKey),
}

/// What one holder takes.
#[derive(Clone, Copy, Debug)]
struct Share {
    bytes: usize,
    /// When it was last used, in steps.
    used: u64,
}

/// The bytes of messages in memory, over all topics.
#[derive(Debug)]
pub(crate) struct Memory {
    bytes_max: usize,
    bytes: usize,
    /// Those who hold something.
    shares: FxHashMap<Holder, Share>,
    /// The same, the least recently used one first.
    order: BTreeSet<(u64, Holder)>,
    /// The present, in steps.
    now: u64,
}

impl Memory {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            shares: FxHashMap::default(),
            order: BTreeSet::new(),
            now: 0,
        }
    }

    /// The bytes of all holders.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_over(&self) -> bool {
        self.bytes > self.bytes_max
    }

    /// Whether so much is held that a read should bring little more than is asked for.
    pub(crate) fn is_tight(&self) -> bool {
        self.bytes > self.bytes_max / 2
    }

    /// Bytes after which one read of the store stops.
    pub(crate) fn read_bytes_max(&self) -> usize {
        (self.bytes_max / READ_PART).clamp(1, READ_BYTES_MAX)
    }

    /// The clock has come to `now_ms`.
    pub(crate) fn advance(&mut self, now_ms: u64) {
        self.now = now_ms / USE_STEP_MS;
    }

    /// A holder holds `bytes` now. One that begins to hold something counts as used.
    pub(crate) fn resize(&mut self, holder: Holder, bytes: usize) {
        let Some(share) = self.shares.get_mut(&holder) else {
            if bytes > 0 {
                let used = self.now;
                self.shares.insert(holder, Share { bytes, used });
                self.order.insert((used, holder));
                self.bytes += bytes;
            }
            return;
        };
        self.bytes = self.bytes - share.bytes + bytes;
        share.bytes = bytes;
        if bytes == 0 {
            let used = share.used;
            self.shares.remove(&holder);
            self.order.remove(&(used, holder));
        }
    }

    /// A holder is used.
    pub(crate) fn touch(&mut self, holder: Holder) {
        let Some(share) = self.shares.get_mut(&holder) else {
            return;
        };
        let before = std::mem::replace(&mut share.used, self.now);
        if before != self.now {
            self.order.remove(&(before, holder));
            self.order.insert((self.now, holder));
        }
    }

    /// The holder that was used least recently, but for those in use.
    pub(crate) fn least_used(&self, in_use: &[Holder]) -> Option<Holder> {
        let mut holders = self.order.iter().map(|(_, holder)| *holder);
        holders.find(|holder| !in_use.contains(holder))
    }

    /// How many hold something.
    #[cfg(test)]
    fn holders(&self) -> usize {
        assert_eq!(self.order.len(), self.shares.len());
        let sum: usize = self.shares.values().map(|share| share.bytes).sum();
        assert_eq!(sum, self.bytes);
        self.shares.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Holder = Holder::Head(1, 0);
    const TWO: Holder = Holder::Reader((1, 1), 0);
    const THREE: Holder = Holder::Retries((1, 1));

    #[test]
    fn the_least_recently_used_holder_comes_first() {
        let mut memory = Memory::new(100);
        for (now_ms, holder) in [(1_000, ONE), (2_000, TWO), (3_000, THREE)] {
            memory.advance(now_ms);
            memory.resize(holder, 40);
        }
        assert!(memory.is_over());
        assert_eq!((memory.bytes(), memory.holders()), (120, 3));
        assert_eq!(memory.least_used(&[]), Some(ONE));
        assert_eq!(memory.least_used(&[ONE]), Some(TWO));
        memory.advance(4_000);
        memory.resize(ONE, 30);
        assert_eq!(memory.least_used(&[]), Some(ONE), "growing is no use");
        memory.touch(ONE);
        assert_eq!(memory.least_used(&[]), Some(TWO));
        memory.resize(TWO, 0);
        memory.touch(TWO);
        assert_eq!((memory.bytes(), memory.holders()), (70, 2));
        assert!(!memory.is_over() && memory.is_tight());
        assert_eq!(memory.least_used(&[ONE, THREE]), None);
    }
}
