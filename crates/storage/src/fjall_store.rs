//! Implements the engine's `Store` on fjall.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use engine::{Batch, ChangeRef, PartitionId, Rows, Space, Store, StoreError};
use fjall::config::{BlockSizePolicy, FilterPolicy, PartitioningPolicy, PinningPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};

use crate::error::OpenError;
use crate::lock::{FolderLock, check_format};

const META: &str = "meta";
/// Keyspaces flush at this size at the latest, even if the budget would allow more.
const MEMTABLE_BYTES_MAX: u64 = 24 * 1024 * 1024;
/// The store below would stop writers for a tenth of a second at four; new ones wait below that.
const SEALED_MEMTABLES_MAX: usize = 2;
/// Runs a partition may have before they are merged: messages are written once and dropped together, so
/// merging early only costs; fjall slows writers down from 20 on.
const RUNS_BEFORE_MERGE: u8 = 16;
/// About what a row takes in a write buffer beside its key and value.
const ROW_OVERHEAD_BYTES: usize = 48;
/// Smallest bound fjall accepts; it is what is replayed at a start.
const JOURNAL_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What an answer to a client survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// A crash of the process, of the machine, and a power cut: every group of changes is synced to the disk.
    #[default]
    Fsync,
    /// A crash of the process only: changes are handed to the operating system.
    Os,
}

/// How the store uses memory and disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// What an answer survives.
    pub durability: Durability,
    /// Bytes of blocks kept in memory.
    pub cache_bytes: u64,
    /// Bytes not yet written to tables, of all partitions together.
    pub write_buffer_bytes: u64,
}

impl Default for StoreConfig {
    /// fsync, 32 MiB of cache, 96 MiB of write buffer.
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            cache_bytes: 32 * 1024 * 1024,
            write_buffer_bytes: 96 * 1024 * 1024,
        }
    }
}

/// A [`Store`] in a folder on disk.
pub struct FjallStore {
    path: PathBuf,
    database: Database,
    meta: Keyspace,
    partitions: HashMap<PartitionId, Keyspace>,
    /// Bytes written to each keyspace since its last flush was requested.
    unflushed: HashMap<Space, u64>,
    unflushed_bytes: u64,
    config: StoreConfig,
    /// Threads that delete the files of dropped partitions.
    deletions: Vec<JoinHandle<()>>,
    _lock: FolderLock,
}

impl Drop for FjallStore {
    /// Waits for the deletions: the folder must not be opened again before they are done.
    fn drop(&mut self) {
        for deletion in self.deletions.drain(..) {
            // One that panicked leaves files, which are deleted when the folder is opened.
            drop(deletion.join());
        }
    }
}

impl std::fmt::Debug for FjallStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("FjallStore")
            .field("path", &self.path)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Makes durable what was applied to a store; may be used from another thread.
#[derive(Clone)]
pub struct Syncer {
    database: Database,
    durability: Durability,
}

impl std::fmt::Debug for Syncer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Syncer")
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}

impl Syncer {
    /// Returns once everything applied before the call is as durable as the store was set to be.
    ///
    /// After an error nothing more may be written: what the disk holds is unknown.
    pub fn sync(&self) -> Result<(), StoreError> {
        let persist = |mode| {
            let result = self.database.persist(mode);
            result.map_err(failed("synced its journal"))
        };
        if self.durability == Durability::Fsync {
            persist(PersistMode::SyncData)?;
        }
        // fjall looks for a failed flush before it syncs. The system reports a write error to one caller only, so if the
        // flush worker syncs the same file and gets it, this sync succeeds: look once more.
        persist(PersistMode::Buffer)
    }
}

fn failed(action: &'static str) -> impl FnOnce(fjall::Error) -> StoreError {
    move |source| StoreError::Failed {
        action,
        source: Box::new(source),
    }
}

fn keyspace_name(partition: PartitionId) -> String {
    format!("p{:02}-{:010}", partition.level, partition.start_hour)
}

fn partition_of_name(name: &str) -> Option<PartitionId> {
    let (level, start_hour) = name.strip_prefix('p')?.split_once('-')?;
    Some(PartitionId {
        start_hour: start_hour.parse().ok()?,
        level: level.parse().ok()?,
    })
}

fn keyspace_options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(4 * MEMTABLE_BYTES_MAX)
        .manual_journal_persist(true)
        // Rows are read in order, or by a key that is there: filters would only take memory.
        .filter_policy(FilterPolicy::disabled())
        .data_block_size_policy(BlockSizePolicy::all(16 * 1024))
        .index_block_partitioning_policy(PartitioningPolicy::all(true))
        .index_block_pinning_policy(PinningPolicy::all(false))
        .compaction_strategy(Arc::new(
            fjall::compaction::Leveled::default().with_l0_threshold(RUNS_BEFORE_MERGE),
        ))
}

impl FjallStore {
    /// Opens the store in `folder`, or makes a new one there.
    pub fn open(folder: &Path, config: StoreConfig) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io {
            action: "make files",
            path: folder.to_owned(),
            source,
        };
        std::fs::create_dir_all(folder).map_err(io)?;
        let lock = FolderLock::take(folder)?;
        check_format(folder)?;
        let damaged = |error: fjall::Error| damaged(folder, &error);
        let builder = Database::builder(folder.join("lsm"))
            .cache_size(config.cache_bytes)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .manual_journal_persist(true)
            // With more, fjall's first worker spins while another one compacts.
            .worker_threads(1);
        let database = builder.open().map_err(damaged)?;
        let meta = database.keyspace(META, keyspace_options).map_err(damaged)?;
        let mut partitions = HashMap::new();
        for name in database.list_keyspace_names() {
            if let Some(partition) = partition_of_name(&name) {
                partitions.insert(
                    partition,
                    database
                        .keyspace(&name, keyspace_options)
                        .map_err(damaged)?,
                );
            }
        }
        Ok(Self {
            path: folder.to_owned(),
            database,
            meta,
            partitions,
            unflushed: HashMap::new(),
            unflushed_bytes: 0,
            config,
            deletions: Vec::new(),
            _lock: lock,
        })
    }

    /// The handle that makes applied changes durable.
    pub fn syncer(&self) -> Syncer {
        Syncer {
            database: self.database.clone(),
            durability: self.config.durability,
        }
    }

    /// Bytes the store takes on disk.
    pub fn disk_bytes(&self) -> Result<u64, StoreError> {
        self.database
            .disk_space()
            .map_err(failed("measured itself"))
    }

    fn keyspace(&mut self, space: Space) -> Result<&Keyspace, StoreError> {
        let Space::Partition(partition) = space else {
            return Ok(&self.meta);
        };
        match self.partitions.entry(partition) {
            std::collections::hash_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let name = keyspace_name(partition);
                let keyspace = self
                    .database
                    .keyspace(&name, keyspace_options)
                    .map_err(failed("created a partition"))?;
                Ok(entry.insert(keyspace))
            }
        }
    }

    fn existing(&self, space: Space) -> Option<&Keyspace> {
        match space {
            Space::Meta => Some(&self.meta),
            Space::Partition(partition) => self.partitions.get(&partition),
        }
    }

    /// Starts flushing the largest write buffers while all together are over the budget.
    ///
    /// Many small partitions are written at once; bounded each for itself they would hold far too much.
    fn keep_to_budget(&mut self) -> Result<(), StoreError> {
        while let Some((&space, &bytes)) = self.unflushed.iter().max_by_key(|(_, bytes)| **bytes) {
            if bytes < MEMTABLE_BYTES_MAX && self.unflushed_bytes < self.config.write_buffer_bytes {
                break;
            }
            let busy =
                |keyspace: &Keyspace| keyspace.sealed_memtable_count() > SEALED_MEMTABLES_MAX;
            if self.existing(space).is_some_and(busy) {
                break;
            }
            self.unflushed.remove(&space);
            self.unflushed_bytes -= bytes;
            if let Some(keyspace) = self.existing(space) {
                keyspace
                    .rotate_memtable()
                    .map_err(failed("began a flush"))?;
            }
        }
        Ok(())
    }
}

impl Store for FjallStore {
    fn apply(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let mut write = OwnedWriteBatch::with_capacity(self.database.clone(), batch.len());
        // In order of their keys: neighbours go to neighbouring places of the write buffer, which is a
        // third cheaper than going there at random.
        let mut changes: Vec<_> = batch.changes().collect();
        changes.sort_by_key(|change| (change.space(), change.key()));
        for changes in changes.chunk_by(|one, next| one.space() == next.space()) {
            let Some(space) = changes.first().map(ChangeRef::space) else {
                continue;
            };
            let keyspace = self.keyspace(space)?;
            let mut bytes = 0;
            for (index, change) in changes.iter().enumerate() {
                let key = change.key();
                let next = changes.get(index + 1);
                if next.is_some_and(|next| next.key() == key) {
                    // The store below gives all rows of a batch one number, so only the last may be written.
                    continue;
                }
                bytes += key.len() + ROW_OVERHEAD_BYTES;
                match change {
                    ChangeRef::Put { value, .. } => {
                        bytes += value.len();
                        write.insert(keyspace, key, *value);
                    }
                    ChangeRef::Remove { .. } => write.remove(keyspace, key),
                }
            }
            *self.unflushed.entry(space).or_default() += bytes as u64;
            self.unflushed_bytes += bytes as u64;
        }
        write.commit().map_err(failed("wrote a batch"))?;
        self.keep_to_budget()
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let Some(keyspace) = self.existing(space) else {
            return Ok(None);
        };
        let value = keyspace.get(key).map_err(failed("read a row"))?;
        Ok(value.map(Bytes::from))
    }

    fn scan(&self, space: Space, from: &[u8], to: &[u8]) -> Result<Rows<'_>, StoreError> {
        let Some(keyspace) = self.existing(space).filter(|_| from < to) else {
            return Ok(Box::new(std::iter::empty()));
        };
        let rows = keyspace.range(from..to).map(|row| {
            let (key, value) = row.into_inner().map_err(failed("read rows"))?;
            Ok((Bytes::from(key), Bytes::from(value)))
        });
        Ok(Box::new(rows))
    }

    fn partitions(&self) -> Vec<PartitionId> {
        self.partitions.keys().copied().collect()
    }

    fn drop_partition(&mut self, partition: PartitionId) -> Result<(), StoreError> {
        let Some(keyspace) = self.partitions.remove(&partition) else {
            return Ok(());
        };
        if let Some(bytes) = self.unflushed.remove(&Space::Partition(partition)) {
            self.unflushed_bytes -= bytes;
        }
        // The files are deleted with the last handle, which may take seconds: not here, where every command waits.
        let last = keyspace.clone();
        self.database
            .delete_keyspace(keyspace)
            .map_err(failed("dropped a partition"))?;
        self.deletions.retain(|deletion| !deletion.is_finished());
        let deletion = std::thread::Builder::new()
            .name("broker-delete".into())
            .spawn(move || drop(last));
        // Without a thread the handle was dropped, and the files deleted, by the attempt.
        self.deletions.extend(deletion);
        Ok(())
    }

    fn free_bytes(&self) -> Result<u64, StoreError> {
        let stat = rustix::fs::statvfs(&self.path).map_err(|error| StoreError::Failed {
            action: "asked for free space",
            source: Box::new(error),
        })?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

fn damaged(folder: &Path, error: &fjall::Error) -> OpenError {
    match error {
        fjall::Error::Locked => OpenError::InUse {
            path: folder.to_owned(),
            process: "?".to_owned(),
        },
        fjall::Error::InvalidVersion(version) => OpenError::Newer {
            path: folder.to_owned(),
            found: format!("of the store below ({version:?})"),
            supported: crate::lock::FOLDER_FORMAT,
        },
        error => OpenError::Damaged {
            path: folder.to_owned(),
            reason: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> PartitionId {
        PartitionId {
            start_hour: 498_000,
            level: 3,
        }
    }

    fn one_row(value: &[u8]) -> Batch {
        let mut batch = Batch::default();
        batch.put(Space::Partition(partition()), b"key", |buffer| {
            buffer.extend_from_slice(value);
        });
        batch
    }

    #[test]
    fn rows_and_partitions_come_back() {
        let folder = tempfile::tempdir().unwrap();
        {
            let mut store = FjallStore::open(folder.path(), StoreConfig::default()).unwrap();
            store.apply(&one_row(b"value")).unwrap();
            store.syncer().sync().unwrap();
        }
        let mut store = FjallStore::open(folder.path(), StoreConfig::default()).unwrap();
        assert_eq!(store.partitions(), [partition()]);
        let space = Space::Partition(partition());
        assert_eq!(
            store.get(space, b"key").unwrap().as_deref(),
            Some(b"value".as_ref())
        );
        let rows: Vec<_> = store
            .scan(space, b"a", b"z")
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(
            rows,
            [(Bytes::from_static(b"key"), Bytes::from_static(b"value"))]
        );
        store.drop_partition(partition()).unwrap();
        assert!(store.partitions().is_empty() && store.get(space, b"key").unwrap().is_none());
        drop(store);
        let store = FjallStore::open(folder.path(), StoreConfig::default()).unwrap();
        assert!(store.partitions().is_empty());
    }

    /// Entries of the folder that has a folder for each keyspace.
    fn keyspace_folders(folder: &Path) -> usize {
        std::fs::read_dir(folder.join("lsm/keyspaces"))
            .unwrap()
            .count()
    }

    #[test]
    fn the_files_of_a_dropped_partition_are_deleted_on_another_thread() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FjallStore::open(folder.path(), StoreConfig::default()).unwrap();
        let before = keyspace_folders(folder.path());
        store.apply(&one_row(b"value")).unwrap();
        store.syncer().sync().unwrap();
        assert_eq!(keyspace_folders(folder.path()), before + 1);
        store.drop_partition(partition()).unwrap();
        assert_eq!(store.deletions.len(), 1);
        drop(store);
        assert_eq!(keyspace_folders(folder.path()), before);
    }

    #[test]
    fn a_dropped_partition_takes_rows_again_and_has_only_those() {
        let folder = tempfile::tempdir().unwrap();
        let space = Space::Partition(partition());
        let mut other = Batch::default();
        other.put(space, b"other", |buffer| buffer.push(b'2'));
        {
            let mut store = FjallStore::open(folder.path(), StoreConfig::default()).unwrap();
            for _ in 0..3 {
                store.apply(&one_row(b"value")).unwrap();
                store.syncer().sync().unwrap();
                store.drop_partition(partition()).unwrap();
                store.apply(&other).unwrap();
                assert_eq!(store.get(space, b"key").unwrap(), None);
            }
            store.syncer().sync().unwrap();
        }
        let store = FjallStore::open(folder.path(), StoreConfig::default()).unwrap();
        assert_eq!(store.get(space, b"key").unwrap(), None);
        let kept = store.get(space, b"other").unwrap();
        assert_eq!(kept.as_deref(), Some(b"2".as_ref()));
    }

    #[test]
    fn the_last_change_of_a_key_in_a_batch_counts() {
        let folder = tempfile::tempdir().unwrap();
        {
            let mut store = FjallStore::open(folder.path(), StoreConfig::default()).unwrap();
            let mut batch = Batch::default();
            for (key, value) in [
                (b"a", Some(b"1")),
                (b"b", Some(b"1")),
                (b"a", None),
                (b"b", Some(b"2")),
                (b"c", None),
            ] {
                match value {
                    Some(value) => {
                        batch.put(Space::Meta, key, |buffer| buffer.extend_from_slice(value));
                    }
                    None => batch.remove(Space::Meta, key),
                }
            }
            batch.put(Space::Meta, b"c", |buffer| buffer.push(b'3'));
            store.apply(&batch).unwrap();
        }
        let store = FjallStore::open(folder.path(), StoreConfig::default()).unwrap();
        let rows: Vec<_> = store
            .scan(Space::Meta, b"a", b"z")
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(rows, [("b".into(), "2".into()), ("c".into(), "3".into())]);
    }

    #[test]
    fn a_folder_in_use_is_refused_with_the_process_that_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let _held = FjallStore::open(folder.path(), StoreConfig::default()).unwrap();
        let error = FjallStore::open(folder.path(), StoreConfig::default()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&format!("in use by process {}", std::process::id())),
            "{error}"
        );
    }

    #[test]
    fn a_folder_of_a_newer_format_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("duetime.format"), "3\n").unwrap();
        let error = FjallStore::open(folder.path(), StoreConfig::default()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("has format 3; this version reads up to 2"),
            "{error}"
        );
    }

    #[test]
    fn a_folder_of_an_older_format_is_marked_with_the_present_one() {
        let folder = tempfile::tempdir().unwrap();
        let format = folder.path().join("duetime.format");
        std::fs::write(&format, "1\n").unwrap();
        drop(FjallStore::open(folder.path(), StoreConfig::default()).unwrap());
        assert_eq!(std::fs::read_to_string(&format).unwrap(), "2\n");
    }

    #[test]
    fn a_damaged_store_is_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        drop(FjallStore::open(folder.path(), StoreConfig::default()).unwrap());
        std::fs::write(folder.path().join("lsm/version"), b"nonsense").unwrap();
        let error = FjallStore::open(folder.path(), StoreConfig::default()).unwrap_err();
        assert!(error.to_string().contains("data folder"), "{error}");
    }

    #[test]
    fn write_buffers_keep_to_their_budget() {
        let folder = tempfile::tempdir().unwrap();
        let config = StoreConfig {
            write_buffer_bytes: 1024 * 1024,
            ..StoreConfig::default()
        };
        let mut store = FjallStore::open(folder.path(), config).unwrap();
        for number in 0..40_u32 {
            let mut batch = Batch::default();
            let space = Space::Partition(PartitionId {
                start_hour: number % 8,
                level: 0,
            });
            batch.put(space, &number.to_be_bytes(), |buffer| {
                buffer.extend_from_slice(&vec![7; 100_000]);
            });
            store.apply(&batch).unwrap();
            assert!(
                store.unflushed_bytes < 1_300_000,
                "{}",
                store.unflushed_bytes
            );
        }
        for number in 0..40_u32 {
            let space = Space::Partition(PartitionId {
                start_hour: number % 8,
                level: 0,
            });
            assert_eq!(
                store
                    .get(space, &number.to_be_bytes())
                    .unwrap()
                    .map(|value| value.len()),
                Some(100_000)
            );
        }
    }
}
