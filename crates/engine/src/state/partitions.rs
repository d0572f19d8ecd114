//! Provides what is kept in memory of the partitions: what they hold, what pins them, when they are looked at.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{SubscriptionKey, TopicId};
use crate::place::{PartitionId, Place};
use crate::state::topic::Counts;

/// The partitions on disk.
#[derive(Debug, Default)]
pub(crate) struct Partitions {
    ids: BTreeSet<PartitionId>,
    counts: BTreeMap<(PartitionId, TopicId), Counts>,
    /// Retries whose message is in a partition, which must stay until they are done.
    pins: BTreeMap<PartitionId, u64>,
    /// Partitions that are no longer needed, with the epoch that must be durable before they are dropped.
    dropping: BTreeMap<PartitionId, u64>,
    /// How far stragglers have been copied.
    copying: Option<Copying>,
    /// Deleted topics of which a partition may hold rows.
    purges: BTreeSet<(PartitionId, TopicId)>,
    next_round_ms: u64,
    next_identities_ms: u64,
    next_purge_ms: u64,
}

/// How far the messages that alone hold a partition have been copied into their retry rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copying {
    /// The partition.
    pub(crate) partition: PartitionId,
    /// The subscription whose rows are next.
    pub(crate) key: SubscriptionKey,
    /// The last row that was looked at.
    pub(crate) after: Place,
    /// Whether the loss of its retries was reported, of a subscription that is given up.
    pub(crate) is_reported: bool,
}

impl Partitions {
    /// The partitions a store holds. They are looked at as soon as time is known.
    pub(crate) fn found(ids: Vec<PartitionId>) -> Self {
        Self {
            ids: ids.into_iter().collect(),
            next_purge_ms: u64::MAX,
            ..Self::default()
        }
    }

    /// All partitions, in ascending order of their start.
    pub(crate) fn iter(&self) -> impl Iterator<Item = PartitionId> {
        self.ids.iter().copied()
    }

    /// Partitions that hold something of the topic, in ascending order of their start.
    pub(crate) fn holding(&self, topic: TopicId) -> Vec<PartitionId> {
        self.iter()
            .filter(|partition| self.holds(*partition, topic))
            .collect()
    }

    /// Whether a partition holds something of the topic.
    pub(crate) fn holds(&self, partition: PartitionId, topic: TopicId) -> bool {
        self.counts(partition, topic)
            .is_some_and(|counts| counts.messages > 0)
    }

    /// Topics of which a partition holds something.
    pub(crate) fn topics_in(&self, partition: PartitionId) -> impl Iterator<Item = TopicId> {
        let span = (partition, TopicId::MIN)..=(partition, TopicId::MAX);
        let held = self.counts.range(span);
        held.filter(|(_, counts)| counts.messages > 0)
            .map(|((_, topic), _)| *topic)
    }

    /// Topics of which a partition holds or held something, with the number of messages it holds of each.
    pub(crate) fn all_topics_in(
        &self,
        partition: PartitionId,
    ) -> impl Iterator<Item = (TopicId, u64)> {
        let span = (partition, TopicId::MIN)..=(partition, TopicId::MAX);
        let held = self.counts.range(span);
        held.map(|((_, topic), counts)| (*topic, counts.messages))
    }

    /// What a partition holds of a topic.
    pub(crate) fn counts(&self, partition: PartitionId, topic: TopicId) -> Option<&Counts> {
        self.counts.get(&(partition, topic))
    }

    /// What each partition holds of a topic.
    pub(crate) fn counts_of(&self, topic: TopicId) -> impl Iterator<Item = (PartitionId, &Counts)> {
        self.iter()
            .filter_map(move |partition| Some((partition, self.counts(partition, topic)?)))
    }

    /// Adds a partition; returns whether it is new.
    pub(crate) fn add(&mut self, partition: PartitionId) -> bool {
        self.ids.insert(partition)
    }

    /// Counts a message that was written to its partition.
    pub(crate) fn count_appended(&mut self, topic: TopicId, place: Place, bytes: u64) {
        self.keep(place.partition());
        self.counts
            .entry((place.partition(), topic))
            .or_default()
            .add(place, bytes);
    }

    /// Counts a message that was removed from its partition; returns whether the partition is known.
    pub(crate) fn count_removed(&mut self, topic: TopicId, place: Place, bytes: u64) -> bool {
        // What takes it away must be durable before the partition goes.
        self.keep(place.partition());
        let counts = self.counts.get_mut(&(place.partition(), topic));
        counts.is_some_and(|counts| {
            counts.subtract(place, bytes);
            true
        })
    }

    /// Restores what a partition holds of a topic.
    pub(crate) fn restore_counts(
        &mut self,
        partition: PartitionId,
        topic: TopicId,
        counts: Counts,
    ) {
        self.counts.insert((partition, topic), counts);
    }

    /// Keeps a partition for one more retry.
    pub(crate) fn pin(&mut self, partition: PartitionId) {
        *self.pins.entry(partition).or_default() += 1;
    }

    /// A retry no longer needs its partition.
    pub(crate) fn unpin(&mut self, partition: PartitionId) {
        self.keep(partition);
        if let Some(pins) = self.pins.get_mut(&partition) {
            *pins = pins.saturating_sub(1);
            if *pins == 0 {
                self.pins.remove(&partition);
            }
        }
    }

    /// How many retries need the partition; `None` for none.
    pub(crate) fn pins(&self, partition: PartitionId) -> Option<u64> {
        self.pins.get(&partition).copied()
    }

    /// Whether a retry needs the partition.
    pub(crate) fn is_pinned(&self, partition: PartitionId) -> bool {
        self.pins(partition).is_some_and(|pins| pins > 0)
    }

    /// Restores how many retries need a partition.
    pub(crate) fn restore_pins(&mut self, partition: PartitionId, pins: u64) {
        self.pins.insert(partition, pins);
    }

    /// Decides to drop a partition once `pending` is durable, or the epoch that was pending when this was first
    /// decided; returns that epoch.
    pub(crate) fn drop_after(&mut self, partition: PartitionId, pending: u64) -> u64 {
        *self.dropping.entry(partition).or_insert(pending)
    }

    /// Decides to keep a partition.
    pub(crate) fn keep(&mut self, partition: PartitionId) {
        self.dropping.remove(&partition);
    }

    /// Whether a partition waits to be dropped.
    pub(crate) fn is_dropping(&self) -> bool {
        !self.dropping.is_empty()
    }

    /// How far stragglers of the partition have been copied; `None`: not begun, or another partition is under way.
    pub(crate) fn copying(&self, partition: PartitionId) -> Option<Copying> {
        self.copying
            .filter(|copying| copying.partition == partition)
    }

    /// Notes how far stragglers have been copied; `None`: to the end.
    pub(crate) fn copied(&mut self, copying: Option<Copying>) {
        self.copying = copying;
    }

    /// The partition whose stragglers are being copied.
    pub(crate) fn copying_of(&self) -> Option<PartitionId> {
        self.copying.map(|copying| copying.partition)
    }

    /// Whether stragglers are being copied.
    pub(crate) fn is_copying(&self) -> bool {
        self.copying.is_some()
    }

    /// Has the rows of a deleted topic removed from the partitions it shares with others.
    pub(crate) fn purge(&mut self, topic: TopicId) {
        let purges: Vec<_> = self
            .counts
            .keys()
            .copied()
            .filter(|(_, of)| *of == topic)
            .collect();
        if !purges.is_empty() {
            self.purges.extend(purges);
            self.next_purge_ms = 0;
        }
    }

    /// The deleted topic whose rows are to be removed next, with the partition.
    pub(crate) fn next_purge(&self) -> Option<(PartitionId, TopicId)> {
        self.purges.first().copied()
    }

    /// The partition holds nothing of the deleted topic any longer, or goes as a whole.
    pub(crate) fn purged(&mut self, partition: PartitionId, topic: TopicId) {
        self.purges.remove(&(partition, topic));
    }

    /// Forgets what a partition held of a topic.
    pub(crate) fn forget_counts(&mut self, partition: PartitionId, topic: TopicId) {
        self.counts.remove(&(partition, topic));
    }

    /// Forgets a partition that was dropped; returns what it held of each topic.
    pub(crate) fn remove(&mut self, partition: PartitionId) -> Vec<(TopicId, Counts)> {
        self.ids.remove(&partition);
        self.pins.remove(&partition);
        self.dropping.remove(&partition);
        self.copying = self
            .copying
            .filter(|copying| copying.partition != partition);
        self.purges.retain(|(of, _)| *of != partition);
        let first = (partition, TopicId::MIN);
        let keys = self.counts.range(first..=(partition, TopicId::MAX));
        let topics: Vec<_> = keys.map(|((_, topic), _)| *topic).collect();
        let counts = |topic| Some((topic, self.counts.remove(&(partition, topic))?));
        topics.into_iter().filter_map(counts).collect()
    }

    /// When partitions or identities have to be looked at, in ms; `u64::MAX`: not before one is added.
    pub(crate) fn next_upkeep_ms(&self) -> u64 {
        let chores_ms = std::cmp::min(self.next_identities_ms, self.next_purge_ms);
        std::cmp::min(self.next_round_ms, chores_ms)
    }

    /// When rows of deleted topics have to be removed, in ms.
    pub(crate) fn next_purge_ms(&self) -> u64 {
        self.next_purge_ms
    }

    /// Has rows of deleted topics removed next at `purge_ms`.
    pub(crate) fn purge_at(&mut self, purge_ms: u64) {
        self.next_purge_ms = purge_ms;
    }

    /// When partitions have to be looked at, in ms.
    pub(crate) fn next_round_ms(&self) -> u64 {
        self.next_round_ms
    }

    /// Has partitions looked at by `upkeep_ms`.
    pub(crate) fn upkeep_by(&mut self, upkeep_ms: u64) {
        self.next_round_ms = std::cmp::min(self.next_round_ms, upkeep_ms);
    }

    /// Has partitions looked at next at `upkeep_ms`.
    pub(crate) fn upkeep_at(&mut self, upkeep_ms: u64) {
        self.next_round_ms = upkeep_ms;
    }

    /// When identities of rescheduled messages have to be looked at, in ms.
    pub(crate) fn next_identities_ms(&self) -> u64 {
        self.next_identities_ms
    }

    /// Has identities looked at by `forget_ms`.
    pub(crate) fn identities_by(&mut self, forget_ms: u64) {
        self.next_identities_ms = std::cmp::min(self.next_identities_ms, forget_ms);
    }

    /// Has identities looked at next at `forget_ms`.
    pub(crate) fn identities_at(&mut self, forget_ms: u64) {
        self.next_identities_ms = forget_ms;
    }
}
