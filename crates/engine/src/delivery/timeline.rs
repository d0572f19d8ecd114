//! Provides reading of a timeline across the partitions that cover it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::Bytes;

use crate::format::keys::{place_of_key, timeline_span};
use crate::format::record::open_message;
use crate::ids::TopicId;
use crate::limits::DAMAGED_MAX;
use crate::message::Message;
use crate::place::{PartitionId, Place};
use crate::state::work::row_units;
use crate::store::{Rows, Space, Store, StoreError};

/// What a read of a timeline found.
pub(crate) struct Stretch {
    /// Messages in order.
    pub(crate) messages: Vec<Message>,
    /// Damaged rows in the stretch; they do not count towards the limits.
    pub(crate) damaged: Vec<(Place, StoreError)>,
    /// What reading it took, in units of work.
    pub(crate) units: u64,
    /// Whether the last one is the last of the queue.
    pub(crate) complete: bool,
}

struct Source<'a> {
    rows: Rows<'a>,
    space: Space,
    level: u8,
    row: Option<(Bytes, Bytes)>,
}

impl Source<'_> {
    /// Moves to the next row and returns its place.
    fn advance(&mut self) -> Result<Option<Place>, StoreError> {
        self.row = self.rows.next().transpose()?;
        let Some((key, _)) = &self.row else {
            return Ok(None);
        };
        place_of_key(key, self.level)
            .map(Some)
            .ok_or_else(|| StoreError::Damaged {
                space: self.space,
                key: format!("{key:02x?}"),
                reason: "its key is too short",
            })
    }
}

/// Which queue to read and how much of it.
#[derive(Clone, Copy)]
pub(crate) struct ReadRange {
    pub(crate) topic: TopicId,
    pub(crate) queue: u16,
    pub(crate) after: Place,
    pub(crate) messages_max: usize,
    pub(crate) bytes_max: usize,
}

/// Reads messages after `range.after` in the order of the timeline.
///
/// `partitions` are those that hold something of the topic, in ascending order of their start. One is
/// opened only when the merge has reached its start, so a read near the present opens few.
pub(crate) fn read_timeline<S: Store>(
    store: &S,
    partitions: &[PartitionId],
    range: ReadRange,
) -> Result<Stretch, StoreError> {
    let mut waiting = partitions
        .iter()
        .copied()
        .filter(|partition| partition.end_ms() > range.after.due_ms)
        .peekable();
    let mut sources: Vec<Source<'_>> = Vec::new();
    let mut heads = BinaryHeap::new();
    let mut messages = Vec::new();
    let mut damaged = Vec::new();
    let (mut bytes, mut units) = (0, 1);
    loop {
        let head_ms = heads
            .peek()
            .map(|Reverse((place, _)): &Reverse<(Place, usize)>| place.due_ms);
        if let Some(partition) =
            waiting.next_if(|next| head_ms.is_none_or(|head_ms| next.start_ms() <= head_ms))
        {
            let space = Space::Partition(partition);
            let (from, to) = timeline_span(range.topic, range.queue, range.after);
            let rows = store.scan(space, &from, &to)?;
            let mut source = Source {
                rows,
                space,
                level: partition.level,
                row: None,
            };
            if let Some(place) = source.advance()? {
                heads.push(Reverse((place, sources.len())));
                sources.push(source);
            }
            continue;
        }
        let Some(Reverse((place, index))) = heads.pop() else {
            return Ok(Stretch {
                messages,
                damaged,
                units,
                complete: true,
            });
        };
        if messages.len() >= range.messages_max || bytes >= range.bytes_max {
            return Ok(Stretch {
                messages,
                damaged,
                units,
                complete: false,
            });
        }
        let Some(source) = sources.get_mut(index) else {
            continue;
        };
        if let Some((key, value)) = source.row.take() {
            units += row_units(value.len());
            match open_message(range.queue, place, &key, &value) {
                Ok(message) => {
                    bytes += value.len();
                    messages.push(message);
                }
                Err(error @ StoreError::Damaged { .. }) if damaged.len() <= DAMAGED_MAX => {
                    damaged.push((place, error));
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(next) = source.advance()? {
            heads.push(Reverse((next, index)));
        }
    }
}
