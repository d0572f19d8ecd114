//! Defines the `Store` the engine writes to and reads from, and the batches that cross it.

use bytes::Bytes;

use crate::place::PartitionId;

/// A key space of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Space {
    /// Topics, groups, progress, retries, the head record.
    Meta,
    /// Messages of one partition, with the small rows that go with them.
    Partition(PartitionId),
}

/// What can go wrong in a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk or the store below failed; nothing more may be written.
    #[error("the store failed while it {action}: {source}")]
    Failed {
        /// What was being done.
        action: &'static str,
        /// What the layer below said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A record does not have the shape this version writes.
    #[error("damaged record in {space:?} at key {key}: {reason}")]
    Damaged {
        /// Its keyspace.
        space: Space,
        /// Its key, in hexadecimal.
        key: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The record was written by a newer version.
    #[error(
        "record in {space:?} at key {key} has format {found}; this version reads up to {supported}"
    )]
    Newer {
        /// Its keyspace.
        space: Space,
        /// Its key, in hexadecimal.
        key: String,
        /// The format it has.
        found: u8,
        /// The newest format this version reads.
        supported: u8,
    },
}

/// Rows of a scan, in ascending order of their keys.
pub type Rows<'a> = Box<dyn Iterator<Item = Result<(Bytes, Bytes), StoreError>> + 'a>;

/// An ordered store of small rows: the seam under which the embedded store, a plain one in memory and
/// the fault-injecting one of the simulator live.
///
/// A batch is applied whole or not at all, and batches survive a crash in the order in which they were
/// applied: what is durable is always a prefix. When a batch becomes durable is not the engine's affair;
/// its driver reports that by [`crate::Engine::durable`].
pub trait Store {
    /// Applies every change of the batch, in order, as one; later reads see it.
    fn apply(&mut self, batch: &Batch) -> Result<(), StoreError>;

    /// The value at a key.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Rows with `from <= key < to`.
    fn scan(&self, space: Space, from: &[u8], to: &[u8]) -> Result<Rows<'_>, StoreError>;

    /// All partitions that exist.
    fn partitions(&self) -> Vec<PartitionId>;

    /// Removes a partition with everything in it.
    fn drop_partition(&mut self, partition: PartitionId) -> Result<(), StoreError>;

    /// Bytes still free on the disk below.
    fn free_bytes(&self) -> Result<u64, StoreError>;
}

/// Changes that are applied as one.
///
/// Keys and values share a single buffer, so a batch of thousands of messages
/// costs no allocation of its own for each.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    buffer: Vec<u8>,
    changes: Vec<Change>,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    space: Space,
    key_start: usize,
    value_start: usize,
    end: usize,
    remove: bool,
}

/// One change of a [`Batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeRef<'a> {
    /// Write `value` at `key`.
    Put {
        /// Where.
        space: Space,
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
    /// Remove the value of `key`.
    Remove {
        /// Where.
        space: Space,
        /// The key.
        key: &'a [u8],
    },
}

impl<'a> ChangeRef<'a> {
    /// Where it happens.
    pub fn space(&self) -> Space {
        match self {
            Self::Put { space, .. } | Self::Remove { space, .. } => *space,
        }
    }

    /// The key it happens at.
    pub fn key(&self) -> &'a [u8] {
        match self {
            Self::Put { key, .. } | Self::Remove { key, .. } => key,
        }
    }
}

impl Batch {
    /// Adds a row whose value `encode` appends to the buffer it is given.
    pub fn put(&mut self, space: Space, key: &[u8], encode: impl FnOnce(&mut Vec<u8>)) {
        let key_start = self.buffer.len();
        self.buffer.extend_from_slice(key);
        let value_start = self.buffer.len();
        encode(&mut self.buffer);
        self.changes.push(Change {
            space,
            key_start,
            value_start,
            end: self.buffer.len(),
            remove: false,
        });
    }

    /// Adds the removal of a row.
    pub fn remove(&mut self, space: Space, key: &[u8]) {
        let key_start = self.buffer.len();
        self.buffer.extend_from_slice(key);
        let end = self.buffer.len();
        self.changes.push(Change {
            space,
            key_start,
            value_start: end,
            end,
            remove: true,
        });
    }

    /// The changes in the order in which they were added.
    pub fn changes(&self) -> impl Iterator<Item = ChangeRef<'_>> {
        self.changes.iter().map(|change| {
            let key = self
                .buffer
                .get(change.key_start..change.value_start)
                .unwrap_or_default();
            let value = self
                .buffer
                .get(change.value_start..change.end)
                .unwrap_or_default();
            if change.remove {
                ChangeRef::Remove {
                    space: change.space,
                    key,
                }
            } else {
                ChangeRef::Put {
                    space: change.space,
                    key,
                    value,
                }
            }
        })
    }

    /// Number of changes.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether there is nothing to apply.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Forgets all changes and keeps the memory.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.changes.clear();
    }
}
