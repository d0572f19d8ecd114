//! Provides the store that fails: it keeps what is durable apart from what is not, and can be broken at any operation.
//!
//! The fault model: a batch is applied whole or not at all, and what survives a crash is a prefix of the
//! batches, at least as long as the last sync that was reported. The batch at which the store failed may
//! survive as well. Dropping a partition is not ordered with batches: it may survive where an earlier batch
//! does not, and be undone where a later one survives. A bit of a message's row may flip at any time.

use std::cell::Cell;
use std::collections::VecDeque;

use bytes::Bytes;
use engine::{Batch, MemoryStore, MessageHandle, PartitionId, Rows, Space, Store, StoreError};

/// A change that is not known to be durable.
#[derive(Clone, Debug)]
enum Pending {
    /// A batch, and the turn of the run in which it was applied.
    Batch(Batch, u64),
    Drop(PartitionId),
}

/// What becomes of dropped partitions in a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drops {
    /// All of them are gone, whatever batches survive.
    AtOnce,
    /// Those that were not synced are there again.
    Undone,
}

/// A store over two plain ones: what readers see, and what the disk is sure to hold.
#[derive(Clone, Debug, Default)]
pub struct FaultStore {
    seen: MemoryStore,
    durable: MemoryStore,
    pending: VecDeque<Pending>,
    operations: u64,
    fail_at: Option<u64>,
    heals: bool,
    failed: bool,
    turn: u64,
    durable_turn: u64,
    /// Rows that were read.
    reads: Cell<u64>,
}

#[derive(Debug, thiserror::Error)]
#[error("the simulated disk is broken")]
struct Broken;

impl FaultStore {
    /// Operations that changed the store so far.
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// Rows read so far.
    pub fn reads(&self) -> u64 {
        self.reads.get()
    }

    fn count_read(&self) {
        self.reads.set(self.reads.get() + 1);
    }

    /// What is applied from now on belongs to a turn of the run.
    pub fn set_turn(&mut self, turn: u64) {
        self.turn = turn;
    }

    /// The turn of the newest batch that is durable.
    pub fn durable_turn(&self) -> u64 {
        self.durable_turn
    }

    /// Makes the store fail at an operation, counted from 1, and ever after.
    pub fn fail_at(&mut self, operation: u64) {
        self.fail_at = Some(operation);
    }

    /// Makes the store fail at the next operation, and at no other.
    pub fn fail_once(&mut self) {
        self.fail_at = Some(self.operations + 1);
        self.heals = true;
    }

    /// Ends the failures of the store.
    pub fn heal(&mut self) {
        self.fail_at = None;
    }

    /// Whether an operation has failed; a broker must stop then, even if the next one would work.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Changes that are not known to be durable.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Dropped partitions among them.
    pub fn pending_drops(&self) -> usize {
        let is_drop = |pending: &&Pending| matches!(pending, Pending::Drop(_));
        self.pending.iter().filter(is_drop).count()
    }

    /// Flips a bit in the row of a message; answers whether readers see such a row.
    pub fn damage(&mut self, handle: &MessageHandle) -> bool {
        self.durable.damage(handle);
        self.seen.damage(handle)
    }

    /// How many bytes the disk pretends to have free.
    pub fn set_free_bytes(&mut self, free_bytes: u64) {
        self.seen.set_free_bytes(free_bytes);
        self.durable.set_free_bytes(free_bytes);
    }

    /// The first `count` pending changes are durable.
    pub fn sync(&mut self, count: usize) -> Result<(), StoreError> {
        self.check()?;
        for _ in 0..count {
            if let Some(pending) = self.pending.pop_front() {
                self.settle(&pending)?;
            }
        }
        Ok(())
    }

    /// What the disk holds after a crash that `kept` pending changes survived.
    pub fn crash(mut self, kept: usize, drops: Drops) -> Result<Self, StoreError> {
        for (index, pending) in std::mem::take(&mut self.pending).iter().enumerate() {
            let survives = match pending {
                Pending::Batch(..) => index < kept,
                Pending::Drop(_) => drops == Drops::AtOnce,
            };
            if survives {
                self.settle(pending)?;
            }
        }
        Ok(Self {
            seen: self.durable.clone(),
            durable: self.durable,
            operations: self.operations,
            durable_turn: self.durable_turn,
            ..Self::default()
        })
    }

    fn settle(&mut self, pending: &Pending) -> Result<(), StoreError> {
        match pending {
            Pending::Batch(batch, turn) => {
                self.durable_turn = *turn;
                self.durable.apply(batch)
            }
            Pending::Drop(partition) => self.durable.drop_partition(*partition),
        }
    }

    fn check(&mut self) -> Result<(), StoreError> {
        self.operations += 1;
        let fails = self
            .fail_at
            .is_some_and(|at| self.operations == at || (!self.heals && self.operations > at));
        self.failed |= fails;
        if fails {
            return Err(StoreError::Failed {
                action: "was tested",
                source: Box::new(Broken),
            });
        }
        Ok(())
    }
}

impl Store for FaultStore {
    fn apply(&mut self, batch: &Batch) -> Result<(), StoreError> {
        // The batch that could not be reported may be on the disk nevertheless.
        self.pending
            .push_back(Pending::Batch(batch.clone(), self.turn));
        self.check()?;
        self.seen.apply(batch)
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.count_read();
        self.seen.get(space, key)
    }

    fn scan(&self, space: Space, from: &[u8], to: &[u8]) -> Result<Rows<'_>, StoreError> {
        let rows = self.seen.scan(space, from, to)?;
        Ok(Box::new(rows.inspect(|_| self.count_read())))
    }

    fn partitions(&self) -> Vec<PartitionId> {
        self.seen.partitions()
    }

    fn drop_partition(&mut self, partition: PartitionId) -> Result<(), StoreError> {
        self.pending.push_back(Pending::Drop(partition));
        self.check()?;
        self.seen.drop_partition(partition)
    }

    fn free_bytes(&self) -> Result<u64, StoreError> {
        self.seen.free_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(key: u8) -> Batch {
        let mut batch = Batch::default();
        batch.put(Space::Meta, &[key], |_| ());
        batch
    }

    fn keys(store: &FaultStore) -> Vec<u8> {
        let rows = store.scan(Space::Meta, &[0], &[255]).unwrap();
        rows.map(|row| row.unwrap().0[0]).collect()
    }

    #[test]
    fn a_prefix_survives() {
        let mut store = FaultStore::default();
        for key in 1..=4 {
            store.apply(&batch(key)).unwrap();
        }
        store.sync(1).unwrap();
        assert_eq!(keys(&store), [1, 2, 3, 4]);
        assert_eq!(keys(&store.clone().crash(0, Drops::AtOnce).unwrap()), [1]);
        assert_eq!(keys(&store.crash(2, Drops::AtOnce).unwrap()), [1, 2, 3]);
    }

    #[test]
    fn a_batch_that_failed_may_survive() {
        let mut store = FaultStore::default();
        store.fail_at(2);
        store.apply(&batch(1)).unwrap();
        store.apply(&batch(2)).unwrap_err();
        store.sync(1).unwrap_err();
        assert_eq!(keys(&store.clone().crash(1, Drops::AtOnce).unwrap()), [1]);
        assert_eq!(keys(&store.crash(2, Drops::AtOnce).unwrap()), [1, 2]);
    }
}
