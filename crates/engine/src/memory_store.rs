//! Provides the plain store in memory: what tests and the simulator's oracle compare with.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use bytes::Bytes;

use crate::format::handle::MessageHandle;
use crate::format::keys::timeline_key;
use crate::place::PartitionId;
use crate::store::{Batch, ChangeRef, Rows, Space, Store, StoreError};

/// A [`Store`] of ordered maps; it forgets everything when it is dropped.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    spaces: BTreeMap<Space, BTreeMap<Vec<u8>, Bytes>>,
    free_bytes: Option<u64>,
}

impl MemoryStore {
    /// Sets how many bytes the disk pretends to have free; unlimited at first.
    pub fn set_free_bytes(&mut self, free_bytes: u64) {
        self.free_bytes = Some(free_bytes);
    }

    /// Flips a bit in the row of a message, as a bad disk would; returns whether there is such a row.
    pub fn damage(&mut self, handle: &MessageHandle) -> bool {
        let key = timeline_key(handle.topic, handle.queue, handle.place);
        let space = Space::Partition(handle.place.partition());
        let row = self
            .spaces
            .get_mut(&space)
            .and_then(|rows| rows.get_mut(key.as_slice()));
        let Some(row) = row else {
            return false;
        };
        let mut value = row.to_vec();
        if let Some(last) = value.last_mut() {
            *last ^= 1;
        }
        *row = value.into();
        true
    }

    /// Number of rows in all spaces.
    pub fn rows(&self) -> usize {
        self.spaces.values().map(BTreeMap::len).sum()
    }
}

impl Store for MemoryStore {
    fn apply(&mut self, batch: &Batch) -> Result<(), StoreError> {
        for change in batch.changes() {
            match change {
                ChangeRef::Put { space, key, value } => {
                    self.spaces
                        .entry(space)
                        .or_default()
                        .insert(key.to_vec(), Bytes::copy_from_slice(value));
                }
                ChangeRef::Remove { space, key } => {
                    if let Entry::Occupied(mut rows) = self.spaces.entry(space) {
                        rows.get_mut().remove(key);
                    }
                }
            }
        }
        Ok(())
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self
            .spaces
            .get(&space)
            .and_then(|rows| rows.get(key))
            .cloned())
    }

    fn scan(&self, space: Space, from: &[u8], to: &[u8]) -> Result<Rows<'_>, StoreError> {
        if from >= to {
            return Ok(Box::new(std::iter::empty()));
        }
        let Some(rows) = self.spaces.get(&space) else {
            return Ok(Box::new(std::iter::empty()));
        };
        let range = rows.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        Ok(Box::new(range.map(|(key, value)| {
            Ok((Bytes::copy_from_slice(key), value.clone()))
        })))
    }

    fn partitions(&self) -> Vec<PartitionId> {
        let partition = |space: &Space| match space {
            Space::Meta => None,
            Space::Partition(partition) => Some(*partition),
        };
        self.spaces.keys().filter_map(partition).collect()
    }

    fn drop_partition(&mut self, partition: PartitionId) -> Result<(), StoreError> {
        self.spaces.remove(&Space::Partition(partition));
        Ok(())
    }

    fn free_bytes(&self) -> Result<u64, StoreError> {
        Ok(self.free_bytes.unwrap_or(u64::MAX))
    }
}
