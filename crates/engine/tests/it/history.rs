//! A store in memory that can go back to what it held after an earlier batch.

use engine::{Batch, MemoryStore, PartitionId, Rows, Space, Store, StoreError};

/// A store that remembers what it held after each batch, for a crash to go back to.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) now: MemoryStore,
    pub(crate) before: Vec<MemoryStore>,
}

impl Store for History {
    fn apply(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.before.push(self.now.clone());
        self.now.apply(batch)
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<bytes::Bytes>, StoreError> {
        self.now.get(space, key)
    }

    fn scan(&self, space: Space, from: &[u8], to: &[u8]) -> Result<Rows<'_>, StoreError> {
        self.now.scan(space, from, to)
    }

    fn partitions(&self) -> Vec<PartitionId> {
        self.now.partitions()
    }

    fn drop_partition(&mut self, partition: PartitionId) -> Result<(), StoreError> {
        self.now.drop_partition(partition)
    }

    fn free_bytes(&self) -> Result<u64, StoreError> {
        self.now.free_bytes()
    }
}
