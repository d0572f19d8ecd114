//! A message broker in memory, as unpleasant as a real one may be: it repeats deliveries and fails at publishing.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use broker::clock::{Clock, ManualClock};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;

use crate::messaging::{
    Handle, Incoming, Made, Messaging, MessagingError, Outgoing, Subscription, TopicKind,
};
use crate::tests::gate::Gates;

/// How long a delivery stays with one consumer, in ms.
const LEASE_MS: u64 = 30_000;

/// How likely each fault is, 0 to 1.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BrokerFaults {
    /// A publication fails and nothing is stored.
    pub(crate) refuses: f64,
    /// A publication fails although the message is stored.
    pub(crate) loses_answer: f64,
    /// A message is delivered twice.
    pub(crate) repeats: f64,
    /// A message comes this much too early, in ms.
    pub(crate) early_ms: u64,
}

/// The broker. It outlives the platform, as a broker does. Clones are the same broker.
#[derive(Clone)]
pub(crate) struct TestBroker {
    shared: Arc<Shared>,
}

struct Shared {
    clock: ManualClock,
    gates: Gates,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    faults: BrokerFaults,
    random: StdRng,
    next_handle: u64,
    topics: HashMap<String, Topic>,
    /// Topics that were deleted and not made again.
    deleted: HashSet<String>,
    /// Topics that take nothing now.
    full: HashSet<String>,
    /// Keys of messages that are not taken now.
    refused_keys: Vec<String>,
    /// The topic whose messages are refused for good.
    rejects: Option<String>,
}

#[derive(Default)]
struct Topic {
    log: Vec<Outgoing>,
    groups: HashMap<String, Vec<Entry>>,
}

struct Entry {
    message: Outgoing,
    visible_ms: u64,
    attempt: u32,
    handle: String,
}

impl TestBroker {
    pub(crate) fn new(clock: ManualClock, gates: Gates, seed: u64) -> Self {
        let state = State {
            faults: BrokerFaults::default(),
            random: StdRng::seed_from_u64(seed),
            next_handle: 0,
            topics: HashMap::new(),
            deleted: HashSet::new(),
            full: HashSet::new(),
            refused_keys: Vec::new(),
            rejects: None,
        };
        Self {
            shared: Arc::new(Shared {
                clock,
                gates,
                state: Mutex::new(state),
                changed: Notify::new(),
            }),
        }
    }

    pub(crate) fn set_faults(&self, faults: BrokerFaults) {
        self.state().faults = faults;
    }

    /// Deletes the topic with its messages.
    pub(crate) fn delete_topic(&self, topic: &str) {
        let mut state = self.state();
        state.topics.remove(topic);
        state.deleted.insert(topic.to_owned());
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// Lets the topic take nothing, or take everything again.
    pub(crate) fn set_full(&self, topic: &str, full: bool) {
        let mut state = self.state();
        if full {
            state.full.insert(topic.to_owned());
        } else {
            state.full.remove(topic);
        }
    }

    /// Lets messages of the topic be refused for good, or be taken again.
    pub(crate) fn set_rejects(&self, topic: Option<&str>) {
        self.state().rejects = topic.map(str::to_owned);
    }

    /// Lets messages with one of these keys not be taken.
    pub(crate) fn set_refused_keys(&self, keys: Vec<String>) {
        self.state().refused_keys = keys;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// When the next message of the group becomes visible, in ms since the Unix epoch.
    pub(crate) fn next_visible_ms(&self, topic: &str, group: &str) -> Option<u64> {
        let mut state = self.state();
        let early_ms = state.faults.early_ms;
        let entries = state.group(topic, group);
        let next_ms = entries.iter().map(|entry| entry.visible_ms).min();
        next_ms.map(|at_ms| at_ms.saturating_sub(early_ms))
    }

    /// The messages that can be delivered to the group now.
    pub(crate) fn take(&self, topic: &str, group: &str, max: usize) -> Vec<Incoming> {
        let now_ms = self.shared.clock.now_ms();
        let mut state = self.state();
        let faults = state.faults;
        let mut busy_groups = Vec::new();
        let mut taken = Vec::new();
        let count = state.group(topic, group).len();
        for index in 0..count {
            let entry = &state.group(topic, group)[index];
            let message_group = entry.message.message_group.clone();
            if let Some(message_group) = &message_group {
                if busy_groups.contains(message_group) {
                    continue;
                }
                busy_groups.push(message_group.clone());
            }
            if entry.visible_ms > now_ms + faults.early_ms || taken.len() == max {
                continue;
            }
            state.next_handle += 1;
            let handle = state.next_handle.to_string();
            let repeats = state.random.random_bool(faults.repeats);
            // The copy of an event comes at once: a later one would hold up its message group.
            let delay_ms = state.random.random_range(0..3_000);
            let again_ms = match message_group {
                Some(_) => now_ms,
                None => now_ms + delay_ms,
            };
            let entries = state.group(topic, group);
            let entry = &mut entries[index];
            entry.attempt += 1;
            entry.visible_ms = now_ms + LEASE_MS;
            entry.handle.clone_from(&handle);
            taken.push(Incoming {
                message_id: entry.message.message_id.clone(),
                tag: entry.message.tag.clone(),
                body: entry.message.body.clone(),
                attempt: entry.attempt,
                handle: Handle(handle),
            });
            if repeats {
                let message = entry.message.clone();
                entries.push(Entry {
                    message,
                    visible_ms: again_ms,
                    attempt: 0,
                    handle: String::new(),
                });
            }
        }
        taken
    }

    /// Removes acknowledged deliveries.
    pub(crate) fn settle(&self, topic: &str, group: &str, handles: &[Handle]) {
        let mut state = self.state();
        let entries = state.group(topic, group);
        entries.retain(|entry| handles.iter().all(|handle| handle.0 != entry.handle));
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// Throws every message away, as if the broker had been lost.
    pub(crate) fn lose_everything(&self) {
        self.state().topics.clear();
    }
}

impl State {
    fn group(&mut self, topic: &str, group: &str) -> &mut Vec<Entry> {
        let topic = self.topics.entry(topic.to_owned()).or_default();
        let log = &topic.log;
        topic
            .groups
            .entry(group.to_owned())
            .or_insert_with(|| log.iter().cloned().map(entry).collect())
    }

    fn store(&mut self, message: Outgoing) {
        let topic = self.topics.entry(message.topic.clone()).or_default();
        for entries in topic.groups.values_mut() {
            entries.push(entry(message.clone()));
        }
        topic.log.push(message);
    }
}

fn entry(message: Outgoing) -> Entry {
    Entry {
        visible_ms: message.deliver_at_ms.unwrap_or(0),
        message,
        attempt: 0,
        handle: String::new(),
    }
}

#[async_trait]
impl Messaging for TestBroker {
    async fn ensure_topic(
        &self,
        topic: &str,
        _: TopicKind,
        _: u16,
    ) -> Result<Made, MessagingError> {
        let was_deleted = self.state().deleted.remove(topic);
        self.shared.changed.notify_waiters();
        Ok(if was_deleted {
            Made::New
        } else {
            Made::Existing
        })
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<(), MessagingError>> {
        self.shared.gates.pass().await;
        let results = {
            let mut state = self.state();
            let faults = state.faults;
            let mut results = Vec::new();
            for message in batch {
                let away = || {
                    Err(MessagingError::Unavailable(
                        "a fault of the test".to_owned(),
                    ))
                };
                if state.deleted.contains(&message.topic) {
                    results.push(Err(MessagingError::Missing(message.topic)));
                    continue;
                }
                if state.rejects.as_ref() == Some(&message.topic) {
                    let reason = "it is too large".to_owned();
                    results.push(Err(MessagingError::Rejected(reason)));
                    continue;
                }
                let sick = state.full.contains(&message.topic)
                    || message
                        .key
                        .as_ref()
                        .is_some_and(|key| state.refused_keys.contains(key));
                if sick || state.random.random_bool(faults.refuses) {
                    results.push(away());
                    continue;
                }
                state.store(message);
                if state.random.random_bool(faults.loses_answer) {
                    results.push(away());
                } else {
                    results.push(Ok(()));
                }
            }
            results
        };
        self.shared.changed.notify_waiters();
        self.shared.gates.pass().await;
        results
    }

    async fn subscribe(
        &self,
        topic: &str,
        group: &str,
    ) -> Result<Box<dyn Subscription>, MessagingError> {
        self.state().group(topic, group);
        Ok(Box::new(Member {
            broker: self.clone(),
            topic: topic.to_owned(),
            group: group.to_owned(),
        }))
    }
}

struct Member {
    broker: TestBroker,
    topic: String,
    group: String,
}

#[async_trait]
impl Subscription for Member {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Incoming>, MessagingError> {
        let shared = &self.broker.shared;
        let wait_ms = u64::try_from(wait.as_millis()).unwrap();
        let until_ms = shared.clock.now_ms() + wait_ms;
        loop {
            let changed = shared.changed.notified();
            if self.broker.state().deleted.contains(&self.topic) {
                return Err(MessagingError::Missing(self.topic.clone()));
            }
            let taken = self.broker.take(&self.topic, &self.group, max);
            if !taken.is_empty() || shared.clock.now_ms() >= until_ms {
                return Ok(taken);
            }
            let next_ms = self.broker.next_visible_ms(&self.topic, &self.group);
            let next_ms = std::cmp::min(next_ms.unwrap_or(until_ms), until_ms);
            // What is blocked by an earlier message of its group is visible and yet not to be had.
            let next_ms = std::cmp::max(next_ms, shared.clock.now_ms() + 1);
            tokio::select! {
                () = changed => {}
                () = shared.clock.sleep_until(next_ms) => {}
            }
        }
    }

    async fn ack(&self, handles: &[Handle]) -> Result<(), MessagingError> {
        self.broker.shared.gates.pass().await;
        self.broker.settle(&self.topic, &self.group, handles);
        Ok(())
    }

    async fn retry_later(&self, handle: &Handle, delay: Duration) -> Result<(), MessagingError> {
        let at_ms = self.broker.shared.clock.now_ms() + u64::try_from(delay.as_millis()).unwrap();
        let mut state = self.broker.state();
        for entry in state.group(&self.topic, &self.group) {
            if entry.handle == handle.0 {
                entry.visible_ms = at_ms;
            }
        }
        Ok(())
    }
}
