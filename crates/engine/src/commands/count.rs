//! Implements counting of messages by due time: one by one from their keys while they are few, else by buckets.

use crate::engine::Engine;
use crate::format::keys::{place_of_key, timeline_span};
use crate::ids::{SubscriptionKey, TopicId};
use crate::limits::{EXACT_COUNT_MAX, READ_BYTES_MAX, READY_UNITS};
use crate::place::{InQueue, PartitionId, Place};
use crate::state::progress::{Early, Progress};
use crate::state::topic::Counts;
use crate::state::work::row_units;
use crate::store::{ChangeRef, Space, Store, StoreError};

/// Units of work that opening a read of a partition takes.
const SCAN_UNITS: u64 = 4;
/// Messages in memory that are counted in a unit of work.
const COUNTED_PER_UNIT: u64 = 8;

/// A queue of a subscription.
#[derive(Clone, Copy)]
struct QueueOf<'a> {
    topic: TopicId,
    queue: u16,
    progress: &'a Progress,
}

impl<S: Store> Engine<S> {
    pub(crate) fn stored_count(&self, topic: TopicId) -> u64 {
        self.partitions
            .counts_of(topic)
            .map(|(_, counts)| counts.messages)
            .sum()
    }

    /// Messages of a topic on disk that are due by `now_ms`.
    pub(crate) fn count_due_by(&self, topic: TopicId, now_ms: u64) -> Result<u64, StoreError> {
        let (ahead, _) = self.count_ahead(topic, now_ms)?;
        Ok(self.stored_count(topic).saturating_sub(ahead))
    }

    /// Messages of a topic that are due after `now_ms`, and whether that is exact: those left of the bucket that holds it
    /// are counted one by one if they are few, and else taken as spread evenly over it.
    pub(crate) fn count_ahead(
        &self,
        topic: TopicId,
        now_ms: u64,
    ) -> Result<(u64, bool), StoreError> {
        let (mut ahead, mut exact) = (0, true);
        let mut present = Vec::new();
        for (partition, counts) in self.partitions.counts_of(topic) {
            let width_ms = Counts::bucket_ms(partition);
            let message_bytes = counts.bytes / std::cmp::max(counts.messages, 1);
            for (number, count) in (0_u64..).zip(&counts.buckets) {
                let count = u64::from(*count);
                let from_ms = partition.start_ms() + number * width_ms;
                let to_ms = from_ms + width_ms;
                let share = ahead_of(now_ms, from_ms, width_ms, count);
                if count > 0 && (from_ms..to_ms).contains(&now_ms) {
                    present.push((partition, to_ms, message_bytes, share));
                } else {
                    ahead += share;
                }
            }
        }
        for (partition, to_ms, message_bytes, share) in present {
            let left = self.few_due(topic, partition, [now_ms, to_ms], message_bytes)?;
            exact &= left.is_some();
            ahead += left.map_or(share, |left| left.len() as u64);
        }
        Ok((ahead, exact))
    }

    /// The due times of messages of a partition that are due after the first instant and before the second, of about
    /// `message_bytes` each; `None` if they are too many to be counted one by one.
    pub(crate) fn few_due(
        &self,
        topic: TopicId,
        partition: PartitionId,
        span: [u64; 2],
        message_bytes: u64,
    ) -> Result<Option<Vec<u64>>, StoreError> {
        let most = READ_BYTES_MAX as u64 / std::cmp::max(message_bytes, 1);
        let most = usize::try_from(std::cmp::min(most, EXACT_COUNT_MAX)).unwrap_or(0);
        let mut found = Vec::new();
        self.each_due(topic, partition, span, |due_ms| {
            found.push(due_ms);
            found.len() <= most
        })?;
        Ok(Some(found).filter(|found| found.len() <= most))
    }

    /// Looks at the due time of each message of a partition that is due after the first instant and before the
    /// second, but for those known to be damaged, until `seen` has seen enough; returns the units of work it took.
    pub(crate) fn each_due(
        &self,
        topic: TopicId,
        partition: PartitionId,
        [after_ms, to_ms]: [u64; 2],
        mut seen: impl FnMut(u64) -> bool,
    ) -> Result<u64, StoreError> {
        let known = self.catalog.topics.get(&topic);
        let queues = known.map_or(0, |topic| topic.spec.queues);
        let space = Space::Partition(partition);
        let damaged: Vec<_> = self.damaged.of_topic(topic).collect();
        let mut units = 0;
        for queue in 0..queues {
            let (from, to) = timeline_span(topic, queue, Place::end_of(after_ms));
            for row in self.store.scan(space, &from, &to)? {
                let (key, value) = row?;
                units += row_units(value.len());
                let place = place_of_key(&key, partition.level);
                match place.filter(|place| place.due_ms < to_ms) {
                    Some(place)
                        if damaged.contains(&place)
                            || self.stage.removed.contains(&place.sequence) => {}
                    Some(place) if seen(place.due_ms) => {}
                    Some(_) => return Ok(units),
                    None => break,
                }
            }
        }
        for (_, place) in self.staged_places(topic) {
            let is_between = place.due_ms > after_ms && place.due_ms < to_ms;
            if is_between && place.partition() == partition && !seen(place.due_ms) {
                break;
            }
        }
        Ok(units)
    }

    /// The places of new messages of a topic that are not in the store yet.
    fn staged_places(&self, topic: TopicId) -> Vec<InQueue> {
        let mut places = Vec::new();
        let queues = self.stage.appended.iter().filter(|(of, _)| *of == topic);
        let spans: Vec<_> = queues
            .map(|(_, queue)| (*queue, timeline_span(topic, *queue, Place::START)))
            .collect();
        if spans.is_empty() {
            return places;
        }
        for change in self.stage.batch.changes() {
            let (ChangeRef::Put { key, .. }, Space::Partition(partition)) =
                (&change, change.space())
            else {
                continue;
            };
            let found = spans
                .iter()
                .find(|(_, (from, to))| *key >= &from[..] && *key < &to[..]);
            let queue = found.map(|(queue, _)| *queue);
            let place = place_of_key(key, partition.level);
            let place = place.filter(|place| !self.stage.removed.contains(&place.sequence));
            places.extend(queue.zip(place));
        }
        places
    }

    /// Messages that are due and were not delivered to a group, and whether that is exact: they are counted one by one
    /// from where the group has come to, up to a bound.
    pub(crate) fn count_ready(
        &self,
        now_ms: u64,
        key: SubscriptionKey,
    ) -> Result<(u64, bool), StoreError> {
        let Some(subscription) = self.subscriptions.get(&key) else {
            return Ok((0, true));
        };
        let fifo = self.catalog.groups.get(&key.0);
        let fifo = fifo.is_some_and(|group| group.spec.fifo);
        let staged = self.staged_places(key.1);
        let (mut blocked, mut counted, mut left) = (0, 0, READY_UNITS);
        for (queue, progress) in (0_u16..).zip(&subscription.queues) {
            if fifo {
                let slots = progress.slots.iter();
                blocked += slots.filter(|slot| slot.is_untried()).count() as u64;
            }
            let of = QueueOf {
                topic: key.1,
                queue,
                progress,
            };
            counted += self.count_unread(of, now_ms, &staged, &mut left)?;
        }
        if left > 0 {
            return Ok((blocked + counted, true));
        }
        let estimate = self.estimate_unread(now_ms, key)?;
        Ok((blocked + std::cmp::max(counted, estimate), false))
    }

    /// Messages of a queue between the cursor and `now_ms`, as far as `left` goes.
    fn count_unread(
        &self,
        of: QueueOf<'_>,
        now_ms: u64,
        staged: &[InQueue],
        left: &mut u64,
    ) -> Result<u64, StoreError> {
        let end = Place::end_of(now_ms);
        let progress = of.progress;
        let mut from = progress.ahead.last().unwrap_or(progress.cursor);
        let mut count = progress.ahead.len() as u64;
        let topic = self.catalog.topics.get(&of.topic);
        let window = topic.and_then(|topic| topic.queues.get(usize::from(of.queue)));
        if let Some(window) = window.filter(|window| window.covers_after(from)) {
            let known = window.after(from).take_while(|(place, _)| *place <= end);
            count += known.count() as u64;
            from = window.known_to(end);
        }
        *left = left.saturating_sub(1 + count / COUNTED_PER_UNIT);
        if from < end {
            count += self.count_between(of, (from, end), left)?;
            let between = |place: Place| place > from && place <= end;
            let staged = staged.iter().filter(|(queue, _)| *queue == of.queue);
            count += staged.filter(|(_, place)| between(*place)).count() as u64;
        }
        let early = progress.early.range(..=end);
        let acked =
            early.filter(|(place, early)| **place > progress.cursor && **early == Early::Acked);
        Ok(count.saturating_sub(acked.count() as u64))
    }

    /// Rows of a queue after a place up to another one, as far as `left` goes.
    fn count_between(
        &self,
        of: QueueOf<'_>,
        (from, end): (Place, Place),
        left: &mut u64,
    ) -> Result<u64, StoreError> {
        let mut count = 0;
        for partition in self.partitions.holding(of.topic) {
            if partition.end_ms() <= from.due_ms || partition.start_ms() > end.due_ms {
                continue;
            }
            *left = left.saturating_sub(SCAN_UNITS);
            let (key, to) = timeline_span(of.topic, of.queue, from);
            for row in self.store.scan(Space::Partition(partition), &key, &to)? {
                if *left == 0 {
                    return Ok(count);
                }
                let (key, value) = row?;
                *left = left.saturating_sub(row_units(value.len()));
                let Some(place) = place_of_key(&key, partition.level).filter(|at| *at <= end)
                else {
                    break;
                };
                let is_gone = self.stage.removed.contains(&place.sequence)
                    || self.damaged.contains((of.topic, of.queue, place));
                count += u64::from(!is_gone);
            }
        }
        Ok(count)
    }

    /// Messages that are due and were not read by a group, by the counts of what was sent, removed and read.
    fn estimate_unread(&self, now_ms: u64, key: SubscriptionKey) -> Result<u64, StoreError> {
        let subscription = self.subscriptions.get(&key);
        let queues = subscription.into_iter().flat_map(|sub| &sub.queues);
        let read: u64 = queues.map(|progress| progress.read).sum();
        let topic = self.catalog.topics.get(&key.1);
        let unread = topic.map_or(0, |topic| {
            let totals = &topic.totals;
            totals
                .appended
                .saturating_sub(totals.removed)
                .saturating_sub(read)
        });
        let (waiting, _) = self.count_ahead(key.1, now_ms)?;
        let damaged = self.damaged.of_topic(key.1);
        let damaged = damaged.filter(|place| place.due_ms <= now_ms).count() as u64;
        let left = std::cmp::min(unread, self.stored_count(key.1));
        Ok(left.saturating_sub(waiting).saturating_sub(damaged))
    }
}

/// Whether messages of a bucket are counted one by one: they are few, and small together.
pub(crate) fn is_counted_singly(messages: u64, message_bytes: u64) -> bool {
    messages <= EXACT_COUNT_MAX && message_bytes.saturating_mul(messages) <= READ_BYTES_MAX as u64
}

/// How many of a bucket's messages are due after `now_ms`, as if they were spread evenly over it.
pub(crate) fn ahead_of(now_ms: u64, from_ms: u64, width_ms: u64, count: u64) -> u64 {
    if now_ms < from_ms {
        return count;
    }
    let left_ms = (from_ms + width_ms).saturating_sub(now_ms + 1);
    count * left_ms / std::cmp::max(width_ms, 1)
}
