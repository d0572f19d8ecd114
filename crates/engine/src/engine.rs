//! Provides the engine: the state of a broker, opened from a store and changed by commands.

use std::collections::BTreeMap;

use crate::config::Config;
use crate::format::codec::put_varint;
use crate::format::keys::{counts_key, head_key, pins_key, progress_key, totals_key};
use crate::format::record::{Head, open, seal};
use crate::ids::SubscriptionKey;
use crate::limits::{FLOOR_AHEAD_MS, NOTES_MAX};
use crate::state::alarms::Alarms;
use crate::state::catalog::Catalog;
use crate::state::counters::{Counters, Tallies, Traffic};
use crate::state::damaged::Damaged;
use crate::state::dedup::DedupWindow;
use crate::state::disk::Disk;
use crate::state::frontier::Frontier;
use crate::state::memory::Memory;
use crate::state::notes::Notes;
use crate::state::partitions::Partitions;
use crate::state::stage::Stage;
use crate::state::subscription::Subscription;
use crate::state::transactions::Transactions;
use crate::state::void_retries::VoidRetries;
use crate::state::wakes::Wakes;
use crate::state::work::Work;
use crate::store::{Space, Store, StoreError};

/// Room on the disk, as far as the engine looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes free, as last looked at.
    pub free_bytes: u64,
    /// Bytes below which new sends stop.
    pub reserve_bytes: u64,
}

/// A broker as a deterministic state machine over a [`Store`].
///
/// It reads no clock and waits for nothing. Its driver passes `now_ms` of a clock that never goes
/// back, collects changes by its commands, hands them to the store by [`Engine::apply`], and reports by
/// [`Engine::durable`] when they have reached the disk. An answer may be given to a client once the epoch
/// that [`Engine::pending_epoch`] named after the command is durable; deliveries may go out at once.
#[derive(Debug)]
pub struct Engine<S> {
    pub(crate) store: S,
    pub(crate) config: Config,
    pub(crate) head: Head,
    pub(crate) catalog: Catalog,
    pub(crate) subscriptions: BTreeMap<SubscriptionKey, Subscription>,
    pub(crate) partitions: Partitions,
    pub(crate) stage: Stage,
    pub(crate) frontier: Frontier,
    pub(crate) dedup: DedupWindow,
    pub(crate) wakes: Wakes,
    pub(crate) transactions: Transactions,
    pub(crate) void_retries: VoidRetries,
    pub(crate) memory: Memory,
    pub(crate) notes: Notes,
    pub(crate) disk: Disk,
    pub(crate) damaged: Damaged,
    pub(crate) alarms: Alarms,
    pub(crate) counters: Counters,
    pub(crate) work: Work,
    /// The last stamp; `now` never counts as less.
    pub(crate) stamp_ms: u64,
}

impl<S: Store> Engine<S> {
    /// Opens the broker in `store`, or an empty one.
    ///
    /// Reads topics, groups, positions and counts, never messages: the time it takes does not depend on
    /// how many messages wait.
    pub fn open(store: S, config: Config) -> Result<Self, StoreError> {
        let key = head_key();
        let head = match store.get(Space::Meta, &key)? {
            Some(value) => open(Space::Meta, &key, &value, Head::read)?,
            None => Head {
                next_sequence: 1,
                floor_ms: 0,
                next_topic: 1,
                next_group: 1,
            },
        };
        let mut engine = Self {
            partitions: Partitions::found(store.partitions()),
            store,
            memory: Memory::new(config.limits.held_bytes_max),
            dedup: DedupWindow::after(head.floor_ms.saturating_sub(FLOOR_AHEAD_MS)),
            config,
            head,
            catalog: Catalog::default(),
            subscriptions: BTreeMap::new(),
            stage: Stage::default(),
            frontier: Frontier::new(head.floor_ms),
            wakes: Wakes::default(),
            transactions: Transactions::default(),
            void_retries: VoidRetries::default(),
            notes: Notes::default(),
            disk: Disk::default(),
            damaged: Damaged::default(),
            alarms: Alarms::default(),
            counters: Counters::default(),
            work: Work::default(),
            stamp_ms: 0,
        };
        engine.load_catalog()?;
        engine.load_counts()?;
        engine.load_progress()?;
        engine.load_given_up()?;
        engine.load_void_retries()?;
        engine.disk.set_free_bytes(engine.store.free_bytes()?);
        Ok(engine)
    }

    /// Takes the instant of a command: `now_ms`, or the last stamp if that is later.
    pub(crate) fn stamp(&mut self, now_ms: u64) -> u64 {
        self.stamp_ms = std::cmp::max(self.stamp_ms, now_ms);
        self.memory.advance(self.stamp_ms);
        self.stamp_ms
    }

    /// Begins a step that may spend `limit` units of work, each about a microsecond of the writer. What does not
    /// fit is left for a later step. Without it there is no limit.
    pub fn begin_step(&mut self, limit: u64) {
        self.work.begin(limit);
    }

    /// Lets the step spend `limit` units in all since it began.
    pub fn limit_step(&mut self, limit: u64) {
        self.work.set_limit(limit);
    }

    /// Ends the step, as if its units were spent.
    pub fn end_step(&mut self) {
        self.work.set_limit(0);
    }

    /// Whether the step has spent its units.
    pub fn is_spent(&self) -> bool {
        self.work.is_spent()
    }

    /// Units spent since the step began.
    pub fn spent(&self) -> u64 {
        self.work.spent()
    }

    /// Counts work of the step.
    pub(crate) fn spend(&mut self, units: u64) {
        self.work.spend(units);
    }

    /// Whether changes were collected that [`Engine::apply`] has not yet given to the store.
    pub fn has_staged(&self) -> bool {
        !self.stage.is_empty()
    }

    /// Bytes of the changes collected so far.
    pub fn staged_bytes(&self) -> usize {
        self.stage.batch.bytes()
    }

    /// The epoch that must be durable before the last command may be answered.
    pub fn pending_epoch(&self) -> u64 {
        self.frontier.applied_epoch() + u64::from(self.has_staged())
    }

    /// The epoch of the newest changes given to the store.
    pub fn applied_epoch(&self) -> u64 {
        self.frontier.applied_epoch()
    }

    /// The newest epoch known to be durable.
    pub fn durable_epoch(&self) -> u64 {
        self.frontier.durable_epoch()
    }

    /// An error once a write has failed, whichever call failed: the broker must stop then.
    pub fn check_writes(&self) -> Result<(), StoreError> {
        self.disk.check()
    }

    /// Gives the collected changes to the store, with a head record.
    ///
    /// After an error every further call is one.
    pub fn apply(&mut self, now_ms: u64) -> Result<(), StoreError> {
        self.check_writes()?;
        if !self.has_staged() {
            return Ok(());
        }
        let now_ms = self.stamp(now_ms);
        self.stage_derived_rows();
        let reach_ms = std::cmp::max(now_ms, self.frontier.reach_ms());
        self.head.floor_ms = std::cmp::max(reach_ms + FLOOR_AHEAD_MS, self.frontier.promised_ms());
        let head = self.head;
        self.stage
            .batch
            .put(Space::Meta, &head_key(), |buffer| head.encode(buffer));
        self.disk.write(|| self.store.apply(&self.stage.batch))?;
        self.stage.clear();
        self.frontier.applied(head.floor_ms);
        Ok(())
    }

    /// Adds the rows that are written once per group of changes: counts, totals, pins, positions.
    fn stage_derived_rows(&mut self) {
        self.stage_notes();
        let stage = &mut self.stage;
        for (partition, topic) in &stage.counts {
            if let Some(counts) = self.partitions.counts(*partition, *topic) {
                stage.batch.put(
                    Space::Partition(*partition),
                    &counts_key(*topic),
                    |buffer| counts.encode(buffer),
                );
            }
        }
        for topic in &stage.totals {
            if let Some(state) = self.catalog.topics.get(topic) {
                stage.batch.put(Space::Meta, &totals_key(*topic), |buffer| {
                    state.totals.encode(buffer);
                });
            }
        }
        for partition in &stage.pins {
            let key = pins_key(*partition);
            match self.partitions.pins(*partition) {
                Some(pins) => stage.batch.put(Space::Meta, &key, |buffer| {
                    seal(buffer, |buffer| {
                        put_varint(buffer, pins);
                    });
                }),
                None => stage.batch.remove(Space::Meta, &key),
            }
        }
        for (group, topic, queue) in &stage.progress {
            let Some(subscription) = self.subscriptions.get(&(*group, *topic)) else {
                continue;
            };
            let Some(progress) = subscription.queues.get(usize::from(*queue)) else {
                continue;
            };
            stage.batch.put(
                Space::Meta,
                &progress_key(*group, *topic, *queue),
                |buffer| {
                    subscription.encode_progress(*queue, progress, buffer);
                },
            );
        }
    }

    /// Whether something was handed out of which the store does not know yet.
    pub fn has_notes(&self) -> bool {
        !self.notes.is_empty()
    }

    /// Makes the leases of what was handed out a change of its own, for [`Engine::apply`] to write.
    ///
    /// Every [`Engine::apply`] that has something to write takes them along. The driver calls this when nothing else
    /// changes for a while; no delivery waits for it.
    pub fn stage_notes(&mut self) {
        for _ in 0..NOTES_MAX {
            let Some(queue) = self.notes.take() else {
                break;
            };
            self.stage.progress.insert(queue);
        }
    }

    /// Reports that everything applied up to `epoch` has reached the disk.
    pub fn durable(&mut self, epoch: u64) {
        self.frontier.durable(epoch);
        let reach_ms = self.frontier.reach_ms();
        self.wakes.release(epoch, reach_ms);
    }

    /// Looks at the disk's free space again.
    pub fn refresh_free_bytes(&mut self) -> Result<u64, StoreError> {
        let free_bytes = self.store.free_bytes()?;
        let was_short = self.is_short_of_space();
        self.disk.set_free_bytes(free_bytes);
        if self.is_short_of_space() && !was_short {
            self.partitions.upkeep_by(self.stamp_ms);
        }
        Ok(free_bytes)
    }

    /// The store below.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The store below, to sync or to break it.
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// Ends the engine and gives the store back; what was not applied is forgotten.
    pub fn into_store(self) -> S {
        self.store
    }

    /// Where the clock of an earlier run stood at its last commit, in ms; 0 for a new broker.
    ///
    /// A clock that begins before this would hold back what was due already.
    pub fn last_stamp_ms(&self) -> u64 {
        self.head.floor_ms.saturating_sub(FLOOR_AHEAD_MS)
    }

    /// How the broker is set up.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What went in and out since the start.
    pub fn traffic(&self) -> Traffic {
        self.counters.traffic
    }

    /// Room on the disk, as last looked at.
    pub fn room(&self) -> Room {
        Room {
            free_bytes: self.disk.free_bytes(),
            reserve_bytes: self.config.limits.free_bytes_reserve,
        }
    }

    /// Counters since the start.
    pub fn tallies(&self) -> Tallies {
        self.counters.tallies
    }
}
