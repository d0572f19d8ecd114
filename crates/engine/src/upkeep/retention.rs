//! Implements retention: drops partitions past it, identities of dropped messages, data of unseen groups.

use crate::engine::Engine;
use crate::format::keys::{
    counts_key, identities_gone_ms, identity_ends_span, identity_key, parts_of_timed_key, pins_key,
    timeline_span, topic_spans,
};
use crate::ids::{SubscriptionKey, TopicId};
use crate::limits::{IDENTITIES_PER_ROUND_MAX, UPKEEP_ROUND_MS_MIN};
use crate::place::{PartitionId, Place};
use crate::state::memory::Holder;
use crate::state::progress::Progress;
use crate::state::spec::DEAD_LETTER_PREFIX;
use crate::store::{Space, Store, StoreError};

/// Wait before a partition is dropped that waits for the disk, in ms.
const DROP_MS: u64 = 1_000;
/// Wait before the next round when one has not done all it could, in ms.
const MORE_MS: u64 = 10;
/// Reads of the store in a round that look for messages in partitions of the present.
const VACANCY_SCANS_MAX: usize = 1_024;
/// Rows of deleted topics that are removed in a round.
const PURGED_ROWS_MAX: usize = 512;

impl<S: Store> Engine<S> {
    /// Drops what is no longer needed, and schedules the next round.
    pub(crate) fn upkeep(&mut self, now_ms: u64) -> Result<(), StoreError> {
        if now_ms >= self.partitions.next_identities_ms() {
            self.forget_identities(now_ms)?;
        }
        if now_ms >= self.partitions.next_purge_ms() {
            self.purge_deleted(now_ms)?;
        }
        if now_ms < self.partitions.next_round_ms() {
            return Ok(());
        }
        let mut scans = VACANCY_SCANS_MAX;
        let partitions: Vec<_> = self.partitions.iter().collect();
        let mut copies = false;
        for partition in partitions {
            if self.is_vacant(partition) {
                self.try_drop(now_ms, partition)?;
            } else if self.may_go(now_ms, partition) && self.is_passed(now_ms, partition) {
                // One at a time, and none for a full disk: the copies would take what is left of it.
                let of = self.partitions.copying_of();
                let is_turn = !copies && of.is_none_or(|of| of == partition);
                let is_old = self.config.kept_until_ms(partition) <= now_ms;
                if self.partitions.is_pinned(partition) && is_old && is_turn {
                    copies = true;
                    self.copy_stragglers(now_ms, partition)?;
                }
                self.try_drop(now_ms, partition)?;
            } else if self.config.kept_until_ms(partition) <= now_ms {
                self.partitions.keep(partition);
                self.alarm_held(now_ms, partition);
            } else if self.is_used_up(now_ms, partition, &mut scans)? {
                self.try_drop(now_ms, partition)?;
            } else {
                self.partitions.keep(partition);
            }
        }
        if !copies {
            // The one that was under way needs it no longer.
            self.partitions.copied(None);
        }
        let upkeep_ms = self.next_round_ms(now_ms);
        self.partitions.upkeep_at(upkeep_ms);
        Ok(())
    }

    /// When the next round has something to do, in ms.
    fn next_round_ms(&self, now_ms: u64) -> u64 {
        let kept_until_ms = |id| self.config.kept_until_ms(id);
        let is_held = self.partitions.iter().any(|id| kept_until_ms(id) <= now_ms);
        let ends = self.partitions.iter().map(kept_until_ms);
        let next_end_ms = ends.filter(|end_ms| *end_ms > now_ms).min();
        if self.partitions.is_copying() {
            now_ms.saturating_add(MORE_MS)
        } else if self.partitions.is_dropping() || self.is_short_of_space() {
            now_ms.saturating_add(DROP_MS)
        } else if is_held {
            // It is looked at again soon, for it may have been let go of.
            now_ms.saturating_add(UPKEEP_ROUND_MS_MIN)
        } else {
            let again_ms = now_ms.saturating_add(UPKEEP_ROUND_MS_MIN);
            std::cmp::max(again_ms, next_end_ms.unwrap_or(u64::MAX))
        }
    }

    /// Whether new messages are refused because the disk has too little free space.
    pub(crate) fn is_short_of_space(&self) -> bool {
        self.disk.free_bytes() < self.config.limits.free_bytes_reserve
    }

    /// Whether a partition goes as soon as everyone has passed it: after its retention, or at its end while the disk is full.
    /// Then what may still be wanted stays for its retention all the same.
    fn may_go(&self, now_ms: u64, partition: PartitionId) -> bool {
        self.config.kept_until_ms(partition) <= now_ms
            || (self.is_short_of_space()
                && partition.end_ms() <= now_ms
                && !self.holds_unread(partition))
    }

    /// Whether a partition holds messages whose readers are yet to come: dead letters, and topics that no group reads.
    fn holds_unread(&self, partition: PartitionId) -> bool {
        self.partitions.topics_in(partition).any(|id| {
            let topic = self.catalog.topics.get(&id);
            topic.is_some_and(|topic| {
                topic.readers.is_empty() || topic.spec.name.starts_with(DEAD_LETTER_PREFIX)
            })
        })
    }

    /// Whether nothing in a partition can be asked for: its topics are deleted, or all messages were cancelled or moved.
    fn is_vacant(&self, partition: PartitionId) -> bool {
        let mut topics = self.partitions.all_topics_in(partition).peekable();
        topics.peek().is_some()
            && topics.all(|(id, messages)| messages == 0 || !self.catalog.topics.contains_key(&id))
    }

    /// Whether the disk is full and a partition that still takes messages holds only ones that were read and settled, by
    /// every subscription there is.
    fn is_used_up(
        &self,
        now_ms: u64,
        partition: PartitionId,
        scans: &mut usize,
    ) -> Result<bool, StoreError> {
        let is_present = partition.start_ms() <= now_ms && now_ms < partition.end_ms();
        if !is_present
            || !self.is_short_of_space()
            || self.partitions.is_pinned(partition)
            || self.holds_unread(partition)
        {
            return Ok(false);
        }
        let readers: Vec<_> = self.readers_of(partition).collect();
        for key in readers {
            if self.is_alive(now_ms, key) && !self.has_settled_all(key, partition, scans)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a subscription has read and settled all that a partition holds of its topic. The store is asked where the
    /// memory does not know, as long as `scans` lasts.
    fn has_settled_all(
        &self,
        key: SubscriptionKey,
        partition: PartitionId,
        scans: &mut usize,
    ) -> Result<bool, StoreError> {
        let Some(subscription) = self.subscriptions.get(&key) else {
            return Ok(true);
        };
        let end_ms = partition.end_ms();
        for (queue, progress) in subscription.queues.iter().enumerate() {
            if !progress.slots.is_empty() || !progress.ahead.is_empty() {
                return Ok(false);
            }
            if self.has_nothing_before(end_ms, (key.1, queue), progress.cursor) {
                continue;
            }
            if *scans == 0 {
                return Ok(false);
            }
            *scans -= 1;
            let queue = u16::try_from(queue).unwrap_or(u16::MAX);
            let (from, to) = timeline_span(key.1, queue, progress.cursor);
            let mut rows = self.store.scan(Space::Partition(partition), &from, &to)?;
            if let Some(row) = rows.next() {
                row?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Drops a partition that is passed, once everything that made it so is durable: a copy of a straggler, a
    /// dead letter or a position that was lost in a crash would need it again.
    fn try_drop(&mut self, now_ms: u64, partition: PartitionId) -> Result<(), StoreError> {
        if self.partitions.is_pinned(partition) {
            self.partitions.keep(partition);
            return Ok(());
        }
        let pending = self.pending_epoch();
        let needed = self.partitions.drop_after(partition, pending);
        if needed > self.durable_epoch() || self.stage.touches(partition) {
            return Ok(());
        }
        self.partitions.keep(partition);
        self.counters.tallies.groups_given_up += self.alarm_lost(now_ms, partition);
        self.drop_partition(partition)
    }

    /// Whether every subscription that is alive has come past the partition.
    fn is_passed(&self, now_ms: u64, partition: PartitionId) -> bool {
        self.readers_of(partition)
            .all(|key| self.has_passed(key, partition) || !self.is_alive(now_ms, key))
    }

    /// Subscriptions to the topics of which a partition holds something.
    pub(crate) fn readers_of(
        &self,
        partition: PartitionId,
    ) -> impl Iterator<Item = SubscriptionKey> {
        self.partitions.topics_in(partition).flat_map(|id| {
            let topic = self.catalog.topics.get(&id);
            let readers = topic.into_iter().flat_map(|topic| &topic.readers);
            readers.map(move |group| (*group, id))
        })
    }

    /// Whether a consumer of a subscription was here within the time after which it is given up.
    pub(crate) fn is_alive(&self, now_ms: u64, key: SubscriptionKey) -> bool {
        self.unseen_ms(now_ms, key) < self.config.group_idle_ms
    }

    pub(crate) fn has_passed(&self, key: SubscriptionKey, partition: PartitionId) -> bool {
        let holds = self.partitions.holds(partition, key.1);
        let Some(subscription) = self.subscriptions.get(&key).filter(|_| holds) else {
            return true;
        };
        let end = Place {
            due_ms: partition.end_ms(),
            ..Place::START
        };
        // A queue with nothing left in the partition has passed it, wherever its position is.
        let passed = |(queue, progress): (usize, &Progress)| {
            let nothing_open = progress.slots.front().is_none_or(|slot| slot.place >= end);
            let nothing_left = progress.cursor >= end
                || (progress.ahead.is_empty()
                    && self.has_nothing_before(end.due_ms, (key.1, queue), progress.cursor));
            nothing_open && nothing_left
        };
        subscription.queues.iter().enumerate().all(passed)
    }

    /// Whether a queue is known to hold nothing between the cursor and `end_ms`. The frontier does not matter: it
    /// may lag far while no consumer asks.
    fn has_nothing_before(&self, end_ms: u64, (topic, queue): (u32, usize), cursor: Place) -> bool {
        let topic = self.catalog.topics.get(&topic);
        let window = topic.and_then(|topic| topic.queues.get(queue));
        window.is_some_and(|window| {
            window.covers_after(cursor)
                && window
                    .next_due_ms(cursor)
                    .is_none_or(|due_ms| due_ms >= end_ms)
        })
    }

    fn drop_partition(&mut self, partition: PartitionId) -> Result<(), StoreError> {
        self.store.drop_partition(partition)?;
        self.forget_heads(partition);
        self.damaged.remove_partition(partition);
        self.stage.pins.remove(&partition);
        self.stage.batch.remove(Space::Meta, &pins_key(partition));
        for (topic, counts) in self.partitions.remove(partition) {
            self.stage.counts.remove(&(partition, topic));
            self.note_dropped(topic, counts.messages);
            if let Some(state) = self.catalog.topics.get_mut(&topic) {
                state.totals.dropped += counts.messages;
                state.totals.bytes = state.totals.bytes.saturating_sub(counts.bytes);
                self.stage.totals.insert(topic);
            }
        }
        self.counters.tallies.partitions_dropped += 1;
        Ok(())
    }

    /// Takes what a dropped partition held out of the heads of queues: a group that comes later must not get from memory what
    /// the store does not have.
    fn forget_heads(&mut self, partition: PartitionId) {
        let end = Place {
            due_ms: partition.end_ms(),
            ..Place::START
        };
        let topics: Vec<_> = self.partitions.topics_in(partition).collect();
        for id in topics {
            let Some(topic) = self.catalog.topics.get_mut(&id) else {
                continue;
            };
            for (queue, window) in (0..).zip(&mut topic.queues) {
                let held = window.after(Place::START).map(|(place, _)| place);
                if let Some(last) = held.take_while(|place| *place < end).last() {
                    window.pass(last);
                    self.memory.resize(Holder::Head(id, queue), window.bytes());
                }
            }
        }
    }

    /// Removes rows of deleted topics from partitions that they share with others, some at a time.
    fn purge_deleted(&mut self, now_ms: u64) -> Result<(), StoreError> {
        let mut wait_ms = MORE_MS;
        if let Some((partition, topic)) = self.partitions.next_purge() {
            if self.is_vacant(partition) || self.stage.touches(partition) {
                // It goes as a whole, or what is to be removed is not there yet.
                wait_ms = DROP_MS;
            } else if !self.purge_some(partition, topic)? {
                self.partitions.purged(partition, topic);
            }
        }
        let is_done = self.partitions.next_purge().is_none();
        let next_ms = if is_done {
            u64::MAX
        } else {
            now_ms.saturating_add(wait_ms)
        };
        self.partitions.purge_at(next_ms);
        Ok(())
    }

    /// Removes some rows of a deleted topic, and what is counted of it when none is left; returns whether there were some.
    fn purge_some(&mut self, partition: PartitionId, topic: TopicId) -> Result<bool, StoreError> {
        let space = Space::Partition(partition);
        let mut keys = Vec::new();
        for (from, to) in topic_spans(topic) {
            let rows = self.store.scan(space, &from, &to)?;
            let some = rows.take(PURGED_ROWS_MAX - keys.len());
            let some: Vec<_> = some.collect::<Result<_, _>>()?;
            keys.extend(some.into_iter().map(|(key, _)| key));
        }
        let is_clean = keys.is_empty();
        if is_clean {
            self.partitions.forget_counts(partition, topic);
            keys.push(counts_key(topic).into());
        }
        for key in &keys {
            self.stage.batch.remove(space, key);
        }
        // The partition does not go before this is written.
        self.stage.counts.insert((partition, topic));
        Ok(!is_clean)
    }

    /// Removes identity rows of rescheduled messages whose handles name only what was dropped, a bounded number at
    /// a time, and notes when there will be more of them.
    fn forget_identities(&mut self, now_ms: u64) -> Result<(), StoreError> {
        let (from, to) = identity_ends_span();
        let rows: Vec<_> = self
            .store
            .scan(Space::Meta, &from, &to)?
            .take(IDENTITIES_PER_ROUND_MAX + 1)
            .collect::<Result<_, _>>()?;
        let mut next_ms = u64::MAX;
        for (number, (row_key, _)) in rows.iter().enumerate() {
            let Some((end_hour, topic, identity)) = parts_of_timed_key(row_key) else {
                continue;
            };
            let gone_ms = identities_gone_ms(end_hour);
            if gone_ms > now_ms {
                next_ms = gone_ms;
                break;
            }
            if number == IDENTITIES_PER_ROUND_MAX {
                next_ms = now_ms.saturating_add(MORE_MS);
                break;
            }
            self.stage.batch.remove(Space::Meta, row_key);
            // A later reschedule may have put the end off; then this row is an old one.
            let moved = self.moved_to(topic, identity)?;
            if moved.is_some_and(|moved| moved.end_hour <= end_hour) {
                let key = identity_key(topic, identity);
                self.stage.batch.remove(Space::Meta, &key);
            }
        }
        self.partitions.identities_at(next_ms);
        Ok(())
    }
}
