//! Provides the state of a topic: queue heads, totals, counts by due time.

use std::sync::Arc;

use crate::format::codec::{Reader, put_varint};
use crate::format::record::seal;
use crate::ids::GroupId;
use crate::message::Message;
use crate::place::{PartitionId, Place};
use crate::state::spec::TopicSpec;
use crate::state::window::Window;

/// Buckets a partition's messages of one topic are counted in.
pub(crate) const COUNT_BUCKETS: usize = 60;

/// A topic and the heads of its message queues.
#[derive(Debug)]
pub(crate) struct TopicState {
    pub(crate) spec: TopicSpec,
    pub(crate) queues: Vec<Window<Arc<Message>>>,
    pub(crate) totals: Totals,
    /// Where the next message without a message group goes.
    pub(crate) next_queue: u16,
    /// Groups with a consumer that waits for a message.
    pub(crate) watchers: Vec<GroupId>,
    /// Groups that have read of it.
    pub(crate) readers: Vec<GroupId>,
}

impl TopicState {
    pub(crate) fn new(spec: TopicSpec) -> Self {
        let queues = (0..spec.queues).map(|_| Window::default()).collect();
        Self {
            spec,
            queues,
            totals: Totals::default(),
            next_queue: 0,
            watchers: Vec::new(),
            readers: Vec::new(),
        }
    }
}

/// Messages of a topic, counted since it was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Written to a timeline.
    pub(crate) appended: u64,
    /// Taken out again by a recall or a reschedule.
    pub(crate) removed: u64,
    /// Gone with their partition.
    pub(crate) dropped: u64,
    /// Bytes of keys and values on disk.
    pub(crate) bytes: u64,
}

impl Totals {
    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        seal(buffer, |buffer| {
            for number in [self.appended, self.removed, self.dropped, self.bytes] {
                put_varint(buffer, number);
            }
        });
    }

    pub(crate) fn read(reader: &mut Reader) -> Result<Self, &'static str> {
        Ok(Self {
            appended: reader.count()?,
            removed: reader.count()?,
            dropped: reader.count()?,
            bytes: reader.count()?,
        })
    }
}

/// Messages of one topic in one partition, by due time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) buckets: Vec<u32>,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            buckets: vec![0; COUNT_BUCKETS],
            messages: 0,
            bytes: 0,
        }
    }
}

impl Counts {
    /// Width of a bucket of the partition, in ms.
    pub(crate) fn bucket_ms(partition: PartitionId) -> u64 {
        partition.width_ms() / COUNT_BUCKETS as u64
    }

    fn bucket(&mut self, place: Place) -> Option<&mut u32> {
        let partition = place.partition();
        let offset_ms = place.due_ms.saturating_sub(partition.start_ms());
        let index = usize::try_from(offset_ms / Self::bucket_ms(partition)).ok()?;
        self.buckets.get_mut(index)
    }

    pub(crate) fn add(&mut self, place: Place, bytes: u64) {
        self.messages += 1;
        self.bytes += bytes;
        if let Some(bucket) = self.bucket(place) {
            *bucket = bucket.saturating_add(1);
        }
    }

    pub(crate) fn subtract(&mut self, place: Place, bytes: u64) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(bucket) = self.bucket(place) {
            *bucket = bucket.saturating_sub(1);
        }
    }

    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        seal(buffer, |buffer| {
            put_varint(buffer, self.messages);
            put_varint(buffer, self.bytes);
            for bucket in &self.buckets {
                put_varint(buffer, u64::from(*bucket));
            }
        });
    }

    pub(crate) fn read(reader: &mut Reader) -> Result<Self, &'static str> {
        let messages = reader.count()?;
        let bytes = reader.count()?;
        let mut buckets = Vec::with_capacity(COUNT_BUCKETS);
        for _ in 0..COUNT_BUCKETS {
            buckets.push(u32::try_from(reader.varint()?).map_err(|_| "a count is too large")?);
        }
        Ok(Self {
            buckets,
            messages,
            bytes,
        })
    }
}
