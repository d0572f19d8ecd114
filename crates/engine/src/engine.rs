//! Provides the engine: the state of a broker, opened from a store and changed by commands.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::{Catalog, GroupSpec, TopicKind, TopicSpec};
use crate::error::{Error, within};
use crate::limits::{FLOOR_AHEAD_MS, Limits};
use crate::message::DelayLevels;
use crate::place::{PartitionId, Place};
use crate::record::{
    GroupId, Head, TopicId, counts_key, counts_span, group_key, groups_span, head_key, open,
    pins_key, pins_span, progress_key, progress_span, topic_key, topics_span, totals_key,
    totals_span,
};
use crate::repeat::RepeatWindow;
use crate::stage::{Frontier, Stage};
use crate::store::{Space, Store, StoreError};
use crate::subscription::{Progress, Subscription};
use crate::topic::{Counts, Totals};

/// A consumer group on a topic.
pub(crate) type SubscriptionKey = (GroupId, TopicId);

/// How a broker is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The limits that may be chosen.
    pub limits: Limits,
    /// The delay table.
    pub levels: DelayLevels,
    /// How long a message is kept past its due time, in ms.
    pub retention_ms: u64,
    /// A group unseen for this long no longer keeps data, in ms.
    pub group_idle_ms: u64,
    /// What a topic is created as when something is sent to it first; `None`: topics are made explicitly.
    pub auto_topic: Option<(TopicKind, u16)>,
    /// Whether a group is created when it first asks.
    pub auto_group: bool,
}

impl Default for Config {
    /// 72 h retention, groups idle after 7 days, topics made explicitly, groups on first use.
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            levels: DelayLevels::default(),
            retention_ms: 72 * 3_600_000,
            group_idle_ms: 7 * 86_400_000,
            auto_topic: None,
            auto_group: true,
        }
    }
}

/// Counters of things that ought not to happen, and of repeated sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tallies {
    /// Retries whose message was not found: always a defect.
    pub missing_bodies: u64,
    /// Repeated sends that were recognised.
    pub repeats: u64,
    /// Groups whose data was let go because they had been unseen for too long.
    pub groups_given_up: u64,
    /// Partitions dropped.
    pub partitions_dropped: u64,
    /// Messages moved to dead-letter topics.
    pub dead_letters: u64,
}

/// A broker as a deterministic state machine over a [`Store`].
///
/// It reads no clock and waits for nothing. Whoever drives it passes `now_ms` of a clock that never goes
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
    pub(crate) partitions: BTreeSet<PartitionId>,
    pub(crate) counts: BTreeMap<(PartitionId, TopicId), Counts>,
    /// Retries whose message lies in a partition, which must stay until they are done.
    pub(crate) pins: BTreeMap<PartitionId, u64>,
    pub(crate) stage: Stage,
    pub(crate) frontier: Frontier,
    pub(crate) repeats: RepeatWindow,
    /// When something may be deliverable to a subscription somebody waits on.
    pub(crate) wakes: BTreeSet<(u64, SubscriptionKey)>,
    /// When leases of a subscription may end.
    pub(crate) checks: BTreeSet<(u64, SubscriptionKey)>,
    /// Bytes all queue heads hold.
    pub(crate) head_bytes: usize,
    pub(crate) free_bytes: u64,
    pub(crate) next_upkeep_ms: u64,
    /// Partitions nobody needs any more, with the epoch that must be durable before they are dropped.
    pub(crate) let_go: BTreeMap<PartitionId, u64>,
    /// The last stamp; `now` never counts as less.
    pub(crate) stamp_ms: u64,
    pub(crate) tallies: Tallies,
}

impl<S: Store> Engine<S> {
    /// Opens the broker that lies in `store`, or an empty one.
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
            partitions: store.partitions().into_iter().collect(),
            store,
            repeats: RepeatWindow::default(),
            config,
            head,
            catalog: Catalog::default(),
            subscriptions: BTreeMap::new(),
            counts: BTreeMap::new(),
            pins: BTreeMap::new(),
            stage: Stage::default(),
            frontier: Frontier::new(head.floor_ms),
            wakes: BTreeSet::new(),
            checks: BTreeSet::new(),
            head_bytes: 0,
            free_bytes: u64::MAX,
            next_upkeep_ms: 0,
            let_go: BTreeMap::new(),
            stamp_ms: 0,
            tallies: Tallies::default(),
        };
        engine.load_catalog()?;
        engine.load_counts()?;
        engine.load_progress()?;
        engine.free_bytes = engine.store.free_bytes()?;
        Ok(engine)
    }

    fn load_catalog(&mut self) -> Result<(), StoreError> {
        let (from, to) = topics_span();
        for row in self.store.scan(Space::Meta, &from, &to)? {
            let (key, value) = row?;
            let spec = open(Space::Meta, &key, &value, TopicSpec::read)?;
            self.catalog.add_topic(id_of_key(&key)?, spec);
        }
        let (from, to) = groups_span();
        for row in self.store.scan(Space::Meta, &from, &to)? {
            let (key, value) = row?;
            let (spec, last_seen_ms) = open(Space::Meta, &key, &value, GroupSpec::read)?;
            self.catalog.add_group(id_of_key(&key)?, spec, last_seen_ms);
        }
        let (from, to) = totals_span();
        for row in self.store.scan(Space::Meta, &from, &to)? {
            let (key, value) = row?;
            let totals = open(Space::Meta, &key, &value, Totals::read)?;
            if let Some(topic) = self.catalog.topics.get_mut(&id_of_key(&key)?) {
                topic.totals = totals;
            }
        }
        Ok(())
    }

    fn load_counts(&mut self) -> Result<(), StoreError> {
        let (from, to) = counts_span();
        for partition in &self.partitions {
            let space = Space::Partition(*partition);
            for row in self.store.scan(space, &from, &to)? {
                let (key, value) = row?;
                let counts = open(space, &key, &value, Counts::read)?;
                self.counts.insert((*partition, id_of_key(&key)?), counts);
            }
        }
        for (id, topic) in &mut self.catalog.topics {
            // What lies on disk tells what has gone with its partition, even if a crash came between.
            let stored = self
                .counts
                .iter()
                .filter(|((_, of_topic), _)| of_topic == id);
            let (messages, bytes) = stored.fold((0, 0), |sum, (_, counts)| {
                (sum.0 + counts.messages, sum.1 + counts.bytes)
            });
            topic.totals.bytes = bytes;
            topic.totals.dropped = topic
                .totals
                .appended
                .saturating_sub(topic.totals.removed)
                .saturating_sub(messages);
        }
        let (from, to) = pins_span();
        for row in self.store.scan(Space::Meta, &from, &to)? {
            let (key, value) = row?;
            let pins = open(Space::Meta, &key, &value, crate::codec::Reader::varint)?;
            let level = key.last().copied().unwrap_or_default();
            let partition = PartitionId {
                start_hour: id_of_key(&key)?,
                level,
            };
            self.pins.insert(partition, pins);
        }
        Ok(())
    }

    fn load_progress(&mut self) -> Result<(), StoreError> {
        let (from, to) = progress_span();
        for row in self.store.scan(Space::Meta, &from, &to)? {
            let (key, value) = row?;
            let (progress, generation, retrying) = open(Space::Meta, &key, &value, |reader| {
                let retrying = reader.varint()?;
                let (progress, generation) = Progress::read(reader)?;
                Ok((progress, generation, retrying))
            })?;
            let number = |at: usize| {
                key.get(at..at + 4)
                    .and_then(|bytes| bytes.try_into().ok())
                    .map(u32::from_be_bytes)
            };
            let (Some(group), Some(topic)) = (number(1), number(5)) else {
                continue;
            };
            let queue = key
                .get(9..11)
                .and_then(|bytes| bytes.try_into().ok())
                .map(u16::from_be_bytes);
            let Some(queues) = self
                .catalog
                .topics
                .get(&topic)
                .map(|topic| topic.spec.queues)
            else {
                continue;
            };
            if !self.catalog.groups.contains_key(&group) {
                continue;
            }
            let subscription = self
                .subscriptions
                .entry((group, topic))
                .or_insert_with(|| Subscription::new(queues, Place::START));
            subscription.generation = generation;
            subscription.retrying += retrying;
            if let Some(slot) = queue.and_then(|queue| subscription.queue(queue)) {
                *slot = progress;
            }
        }
        for (group, topic) in self.subscriptions.keys() {
            if let Some(state) = self.catalog.topics.get_mut(topic) {
                state.readers.push(*group);
            }
        }
        Ok(())
    }

    pub(crate) fn add_subscription(&mut self, key: SubscriptionKey, subscription: Subscription) {
        self.subscriptions.insert(key, subscription);
        if let Some(topic) = self.catalog.topics.get_mut(&key.1) {
            topic.readers.push(key.0);
        }
    }

    /// Creates a topic, or confirms that it exists with the same settings.
    pub fn create_topic(&mut self, spec: TopicSpec) -> Result<TopicId, Error> {
        spec.check()?;
        if let Some(id) = self.catalog.find_topic(&spec.name) {
            let same = self
                .catalog
                .topics
                .get(&id)
                .is_some_and(|topic| topic.spec == spec);
            return if same {
                Ok(id)
            } else {
                Err(Error::Exists {
                    what: "topic",
                    name: spec.name,
                })
            };
        }
        within(
            "topics",
            self.catalog.topics.len() + 1,
            self.config.limits.topics_max,
        )?;
        Ok(self.add_topic(spec))
    }

    pub(crate) fn add_topic(&mut self, spec: TopicSpec) -> TopicId {
        let id = self.head.next_topic;
        self.head.next_topic += 1;
        self.stage
            .batch
            .put(Space::Meta, &topic_key(id), |buffer| spec.encode(buffer));
        self.catalog.add_topic(id, spec);
        id
    }

    /// Creates a consumer group, or confirms that it exists with the same settings.
    pub fn create_group(&mut self, now_ms: u64, spec: GroupSpec) -> Result<GroupId, Error> {
        spec.check()?;
        if let Some(id) = self.catalog.find_group(&spec.name) {
            let same = self
                .catalog
                .groups
                .get(&id)
                .is_some_and(|group| group.spec == spec);
            return if same {
                Ok(id)
            } else {
                Err(Error::Exists {
                    what: "consumer group",
                    name: spec.name,
                })
            };
        }
        within(
            "consumer groups",
            self.catalog.groups.len() + 1,
            self.config.limits.groups_max,
        )?;
        let id = self.head.next_group;
        self.head.next_group += 1;
        self.stage.batch.put(Space::Meta, &group_key(id), |buffer| {
            spec.encode(now_ms, buffer);
        });
        self.catalog.add_group(id, spec, now_ms);
        Ok(id)
    }

    /// Deletes a topic; its messages go with their partitions, its number is never given again.
    pub fn delete_topic(&mut self, name: &str) -> Result<(), Error> {
        let id = self.catalog.topic_id(name)?;
        if let Some(topic) = self.catalog.remove_topic(id) {
            self.head_bytes -= topic
                .queues
                .iter()
                .map(crate::window::Window::bytes)
                .sum::<usize>();
        }
        self.stage.batch.remove(Space::Meta, &topic_key(id));
        self.stage.batch.remove(Space::Meta, &totals_key(id));
        let keys: Vec<_> = self
            .subscriptions
            .keys()
            .filter(|(_, topic)| *topic == id)
            .copied()
            .collect();
        for key in keys {
            self.forget_subscription(key)?;
        }
        Ok(())
    }

    /// Deletes a consumer group with its positions and retries.
    pub fn delete_group(&mut self, name: &str) -> Result<(), Error> {
        let id = self.catalog.group_id(name)?;
        self.catalog.remove_group(id);
        self.stage.batch.remove(Space::Meta, &group_key(id));
        let keys: Vec<_> = self
            .subscriptions
            .keys()
            .filter(|(group, _)| *group == id)
            .copied()
            .collect();
        for key in keys {
            self.forget_subscription(key)?;
        }
        Ok(())
    }

    fn forget_subscription(&mut self, key: SubscriptionKey) -> Result<(), StoreError> {
        self.forget_retries(key)?;
        let Some(subscription) = self.subscriptions.remove(&key) else {
            return Ok(());
        };
        if let Some(topic) = self.catalog.topics.get_mut(&key.1) {
            topic.readers.retain(|group| *group != key.0);
            topic.watchers.retain(|group| *group != key.0);
        }
        for (queue, _) in (0_u16..).zip(&subscription.queues) {
            self.stage.progress.remove(&(key.0, key.1, queue));
            self.stage
                .batch
                .remove(Space::Meta, &progress_key(key.0, key.1, queue));
        }
        if let Some(wake_ms) = subscription.wake_ms {
            self.wakes.remove(&(wake_ms, key));
        }
        if let Some(check_ms) = subscription.check_ms {
            self.checks.remove(&(check_ms, key));
        }
        Ok(())
    }

    /// Takes the instant of a command: `now_ms`, or the last stamp if that is later.
    pub(crate) fn stamp(&mut self, now_ms: u64) -> u64 {
        self.stamp_ms = std::cmp::max(self.stamp_ms, now_ms);
        self.stamp_ms
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

    /// Gives the collected changes to the store, with a head record.
    pub fn apply(&mut self, now_ms: u64) -> Result<(), StoreError> {
        if !self.has_staged() {
            return Ok(());
        }
        let now_ms = self.stamp(now_ms);
        self.stage_derived_rows();
        let shown_ms = std::cmp::max(now_ms, self.frontier.shown_ms());
        self.head.floor_ms = std::cmp::max(shown_ms + FLOOR_AHEAD_MS, self.frontier.promised_ms());
        let head = self.head;
        self.stage
            .batch
            .put(Space::Meta, &head_key(), |buffer| head.encode(buffer));
        self.store.apply(&self.stage.batch)?;
        self.stage.clear();
        self.frontier.applied(head.floor_ms);
        Ok(())
    }

    /// Adds the rows that are written once per group of changes: counts, totals, pins, positions.
    fn stage_derived_rows(&mut self) {
        let stage = &mut self.stage;
        for (partition, topic) in &stage.counts {
            if let Some(counts) = self.counts.get(&(*partition, *topic)) {
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
            match self.pins.get(partition) {
                Some(pins) => stage.batch.put(Space::Meta, &key, |buffer| {
                    crate::record::seal(buffer, |buffer| crate::codec::put_varint(buffer, *pins));
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
            let retrying = if *queue == 0 {
                subscription.retrying
            } else {
                0
            };
            stage.batch.put(
                Space::Meta,
                &progress_key(*group, *topic, *queue),
                |buffer| {
                    progress.encode(retrying, subscription.generation, buffer);
                },
            );
        }
    }

    /// Reports that everything applied up to `epoch` has reached the disk.
    pub fn durable(&mut self, epoch: u64) {
        self.frontier.durable(epoch);
    }

    /// Looks at the disk's free space again.
    pub fn refresh_free_bytes(&mut self) -> Result<u64, StoreError> {
        self.free_bytes = self.store.free_bytes()?;
        Ok(self.free_bytes)
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

    /// How the broker is set up.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Counters since the start.
    pub fn tallies(&self) -> Tallies {
        self.tallies
    }
}

/// Reads the number behind the first byte of a key.
fn id_of_key(key: &[u8]) -> Result<u32, StoreError> {
    let bytes = key.get(1..5).and_then(|bytes| bytes.try_into().ok());
    bytes
        .map(u32::from_be_bytes)
        .ok_or_else(|| StoreError::Damaged {
            space: Space::Meta,
            key: format!("{key:02x?}"),
            reason: "its key is too short",
        })
}
