//! Implements the histogram of the future: how many messages of a topic are due when.

use crate::commands::count::{ahead_of, is_counted_singly};
use crate::engine::Engine;
use crate::error::{Error, within};
use crate::ids::TopicId;
use crate::limits::{HISTOGRAM_UNITS, READ_MESSAGES_MAX};
use crate::place::PartitionId;
use crate::state::topic::Counts;
use crate::state::work::row_units;
use crate::store::{Store, StoreError};

/// Messages due within a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Start of the span, in ms.
    pub from_ms: u64,
    /// End of the span, in ms.
    pub to_ms: u64,
    /// Messages due in it.
    pub messages: u64,
    /// 0 if that is exact; else the count takes messages as spread evenly over spans of this length, in ms.
    pub resolution_ms: u64,
}

/// Messages of a topic that are counted together.
#[derive(Clone, Copy)]
struct Counted {
    partition: PartitionId,
    from_ms: u64,
    to_ms: u64,
    messages: u64,
    bytes: u64,
}

/// The spans of a histogram.
struct Bars {
    now_ms: u64,
    step_ms: u64,
    buckets: Vec<Bucket>,
}

impl Bars {
    fn new(now_ms: u64, step_ms: u64, steps: usize) -> Self {
        let edge = |step: usize| now_ms.saturating_add(step_ms.saturating_mul(step as u64));
        let bar = |step: usize| Bucket {
            from_ms: edge(step),
            to_ms: if step + 1 == steps {
                u64::MAX
            } else {
                edge(step + 1)
            },
            messages: 0,
            resolution_ms: 0,
        };
        Self {
            now_ms,
            step_ms,
            buckets: (0..steps).map(bar).collect(),
        }
    }

    /// The number of the span an instant is in; the last one is open-ended.
    fn index(&self, due_ms: u64) -> usize {
        let step = due_ms.saturating_sub(self.now_ms) / self.step_ms;
        let last = self.buckets.len().saturating_sub(1);
        usize::try_from(step).map_or(last, |step| std::cmp::min(step, last))
    }

    fn add(&mut self, due_ms: u64, messages: u64) {
        let index = self.index(due_ms);
        if let Some(bar) = self.buckets.get_mut(index) {
            bar.messages += messages;
        }
    }

    /// Adds messages as spread evenly over the part of `counted` that is ahead; the sum is what is ahead of it.
    fn spread(&mut self, counted: Counted) {
        let width_ms = counted.to_ms - counted.from_ms;
        let start_ms = std::cmp::max(counted.from_ms, self.now_ms);
        let ahead = ahead_of(self.now_ms, counted.from_ms, width_ms, counted.messages);
        let span_ms = std::cmp::max(counted.to_ms.saturating_sub(start_ms), 1);
        let mut given = 0;
        let (first, last) = (self.index(start_ms), self.index(counted.to_ms - 1));
        for bar in self.buckets.iter_mut().take(last + 1).skip(first) {
            let end_ms = std::cmp::min(bar.to_ms, counted.to_ms);
            let share = u128::from(ahead) * u128::from(end_ms - start_ms) / u128::from(span_ms);
            let share = u64::try_from(share).unwrap_or(ahead);
            bar.messages += share - given;
            bar.resolution_ms = std::cmp::max(bar.resolution_ms, width_ms);
            given = share;
        }
    }
}

impl<S: Store> Engine<S> {
    /// The histogram of the future: messages of a topic that are due after `now_ms`, in spans of `step_ms`.
    ///
    /// The last span is open-ended, and the sum is what [`Engine::topic_stats`] gives as waiting. Messages are
    /// counted in buckets of a sixtieth of a partition, a minute for the next hours. What is in a bucket that crosses
    /// a border is counted one by one, up to a bound; beyond it the spans say that they are estimates, and a step
    /// that is finer than such a bucket is refused.
    pub fn histogram(
        &mut self,
        now_ms: u64,
        topic: &str,
        step_ms: u64,
        steps: usize,
    ) -> Result<Vec<Bucket>, Error> {
        let id = self.catalog.topic_id(topic)?;
        if step_ms == 0 || steps == 0 {
            return Err(Error::Invalid {
                field: "step_ms and steps",
                reason: "must be at least 1",
            });
        }
        within("steps", steps, READ_MESSAGES_MAX)?;
        // What is counted has to be in the store to be counted one by one.
        self.apply(now_ms)?;
        let mut bars = Bars::new(now_ms, step_ms, steps);
        let mut crossing = Vec::new();
        for counted in self.counted(id) {
            if counted.to_ms - 1 <= now_ms {
                continue;
            }
            let whole = bars.index(counted.from_ms) == bars.index(counted.to_ms - 1);
            if whole && counted.from_ms > now_ms {
                bars.add(counted.from_ms, counted.messages);
            } else {
                crossing.push(counted);
            }
        }
        // The nearest ones are counted exactly as long as the bound allows.
        crossing.sort_by_key(|counted| counted.from_ms);
        let (mut left, mut too_fine_ms) = (HISTOGRAM_UNITS, 0);
        for counted in crossing {
            if let Some((due, units)) = self.due_singly(id, now_ms, counted, left)? {
                left = left.saturating_sub(units);
                self.spend(units);
                for due_ms in due {
                    bars.add(due_ms, 1);
                }
                continue;
            }
            let width_ms = counted.to_ms - counted.from_ms;
            if step_ms < width_ms {
                too_fine_ms = std::cmp::max(too_fine_ms, width_ms);
            }
            bars.spread(counted);
        }
        if too_fine_ms > 0 {
            return Err(Error::TooFine {
                step_ms,
                resolution_ms: too_fine_ms,
            });
        }
        Ok(bars.buckets)
    }

    /// The due times after `now_ms` of messages that are counted together, and the units of work they take; `None` if
    /// they are too many to be counted one by one.
    fn due_singly(
        &self,
        topic: TopicId,
        now_ms: u64,
        counted: Counted,
        units_max: u64,
    ) -> Result<Option<(Vec<u64>, u64)>, StoreError> {
        let row_bytes = counted.bytes / std::cmp::max(counted.messages, 1);
        let row_units = row_units(usize::try_from(row_bytes).unwrap_or(usize::MAX));
        let after_ms = if counted.from_ms <= now_ms {
            // The present ones are counted as they are for what waits, so that the two agree.
            now_ms
        } else {
            let units = counted.messages.saturating_mul(row_units);
            if units > units_max || !is_counted_singly(counted.messages, row_bytes) {
                return Ok(None);
            }
            counted.from_ms - 1
        };
        let span = [after_ms, counted.to_ms];
        let due = self.few_due(topic, counted.partition, span, row_bytes)?;
        Ok(due.map(|due| {
            let units = due.len() as u64 * row_units;
            (due, units)
        }))
    }

    /// The counts of a topic that are not 0.
    fn counted(&self, topic: TopicId) -> Vec<Counted> {
        let mut all = Vec::new();
        for (partition, counts) in self.partitions.counts_of(topic) {
            let width_ms = Counts::bucket_ms(partition);
            let message_bytes = counts.bytes / std::cmp::max(counts.messages, 1);
            for (number, count) in (0_u64..).zip(&counts.buckets) {
                let messages = u64::from(*count);
                let from_ms = partition.start_ms() + number * width_ms;
                all.extend((messages > 0).then_some(Counted {
                    partition,
                    from_ms,
                    to_ms: from_ms + width_ms,
                    messages,
                    bytes: messages * message_bytes,
                }));
            }
        }
        all
    }
}
