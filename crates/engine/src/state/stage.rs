//! Provides the changes that are collected to be applied together.

use std::collections::BTreeSet;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::ids::{GroupId, TopicId};
use crate::place::PartitionId;
use crate::state::transactions::HalfState;
use crate::store::Batch;

/// Changes that go to the store together.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    pub(crate) batch: Batch,
    /// Sequences of rows this stage removes; a look-up in the store still finds them.
    pub(crate) removed: FxHashSet<u64>,
    /// Queues this stage appends to; a read of the store does not find those messages yet.
    pub(crate) appended: FxHashSet<(TopicId, u16)>,
    /// Retry timelines this stage appends to.
    pub(crate) retried: FxHashSet<(GroupId, TopicId)>,
    pub(crate) counts: BTreeSet<(PartitionId, TopicId)>,
    pub(crate) totals: BTreeSet<TopicId>,
    pub(crate) progress: BTreeSet<(GroupId, TopicId, u16)>,
    pub(crate) pins: BTreeSet<PartitionId>,
    /// The state of half messages this stage changes; a look-up in the store still finds the former one.
    pub(crate) halves: FxHashMap<(TopicId, u64), HalfState>,
    /// Whether the head record has to be written although nothing else is.
    pub(crate) head: bool,
}

impl Stage {
    pub(crate) fn is_empty(&self) -> bool {
        self.batch.is_empty() && !self.head && self.progress.is_empty()
    }

    /// Whether a row of a partition is written or removed.
    pub(crate) fn touches(&self, partition: PartitionId) -> bool {
        let span = (partition, TopicId::MIN)..=(partition, TopicId::MAX);
        self.counts.range(span).next().is_some()
    }

    pub(crate) fn clear(&mut self) {
        self.batch.clear();
        self.removed.clear();
        self.appended.clear();
        self.retried.clear();
        self.counts.clear();
        self.totals.clear();
        self.progress.clear();
        self.pins.clear();
        self.halves.clear();
        self.head = false;
    }
}
