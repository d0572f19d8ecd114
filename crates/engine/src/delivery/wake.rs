//! Implements wake-ups: which subscriptions are waited on, and when the driver must call again.

use crate::engine::Engine;
use crate::ids::{SubscriptionKey, TopicId};
use crate::limits::FLOOR_AHEAD_MS;
use crate::state::frontier::{Frontier, Line};
use crate::store::{Store, StoreError};

/// How long before something is due the floor is renewed, in ms: ample for one write to the disk.
const FLOOR_LEAD_MS: u64 = FLOOR_AHEAD_MS / 2;

/// When something may be deliverable to a subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NextDeliverable {
    /// The instant, in ms; not later than what may be read now: at once.
    pub(crate) timer_ms: Option<u64>,
    /// The epoch that has to be durable before something that is due may be read.
    pub(crate) disk_epoch: Option<u64>,
}

impl NextDeliverable {
    /// Something of a line is due at `due_ms`.
    fn add(&mut self, frontier: &Frontier, line: Line, due_ms: u64) {
        let waits_for_disk = due_ms <= frontier.reach_ms() && due_ms > frontier.shown_ms(line);
        let (next, value) = if waits_for_disk {
            (&mut self.disk_epoch, frontier.blocking_epoch(line))
        } else {
            (&mut self.timer_ms, Some(due_ms))
        };
        *next = [*next, value].into_iter().flatten().min();
    }
}

impl<S: Store> Engine<S> {
    /// Registers that a consumer of the group waits for messages of the topic.
    ///
    /// To be called after a receive that came back empty.
    pub fn watch(&mut self, topic: &str, group: &str) {
        let (Some(topic), Some(group)) = (
            self.catalog.find_topic(topic),
            self.catalog.find_group(group),
        ) else {
            return;
        };
        let key = (group, topic);
        self.watch_next(key);
        self.list_watcher(key, true);
    }

    /// Registers that no consumer of the group waits any longer.
    pub fn unwatch(&mut self, topic: &str, group: &str) {
        let (Some(topic), Some(group)) = (
            self.catalog.find_topic(topic),
            self.catalog.find_group(group),
        ) else {
            return;
        };
        self.wakes.unwatch((group, topic));
        self.list_watcher((group, topic), false);
    }

    /// How many pairs of a topic and a group are watched. One whose topic, group or subscription was deleted is not any
    /// longer.
    pub fn watched_count(&self) -> usize {
        self.wakes.watched_count()
    }

    /// Whether the pair is watched.
    pub fn is_watched(&self, topic: &str, group: &str) -> bool {
        let group = self.catalog.find_group(group);
        let key = group.zip(self.catalog.find_topic(topic));
        key.is_some_and(|key| self.wakes.is_watched(key))
    }

    /// Keeps a watched subscription until something may be deliverable.
    fn watch_next(&mut self, key: SubscriptionKey) {
        let next = self.next_deliverable(key);
        // One that has to look into the store has no instant: it takes its turn with those that wake now.
        let reach_ms = self.frontier.reach_ms();
        let timer_ms = next
            .timer_ms
            .map(|timer_ms| std::cmp::max(timer_ms, reach_ms));
        let wake_ms = timer_ms.unwrap_or(u64::MAX);
        self.wakes.watch(key, wake_ms, next.disk_epoch);
    }

    /// Whether [`Engine::take_woken`] has something to give without time passing.
    pub fn has_woken(&self) -> bool {
        let first = self.wakes.first_deliverable();
        first.is_some_and(|(wake_ms, _)| wake_ms <= self.frontier.reach_ms())
    }

    /// Takes a watched subscription for which something may be deliverable now: (topic, group) names.
    ///
    /// What is due and waits for the disk wakes its subscription once it is durable.
    pub fn take_woken(&mut self, now_ms: u64) -> Option<(String, String)> {
        let now_ms = self.stamp(now_ms);
        self.frontier.advance(now_ms);
        let reach_ms = self.frontier.reach_ms();
        while let Some((wake_ms, key)) = self.wakes.first_deliverable() {
            if wake_ms > reach_ms {
                break;
            }
            if !self.wakes.has_ended(key) {
                let next = self.next_deliverable(key);
                let is_due = next.timer_ms.is_some_and(|timer_ms| timer_ms <= reach_ms);
                if next.disk_epoch.is_some() && !is_due {
                    self.watch_next(key);
                    continue;
                }
            }
            self.wakes.unwatch(key);
            self.list_watcher(key, false);
            let topic = self
                .catalog
                .topics
                .get(&key.1)
                .map(|topic| topic.spec.name.clone());
            let group = self
                .catalog
                .groups
                .get(&key.0)
                .map(|group| group.spec.name.clone());
            if let Some(woken) = topic.zip(group) {
                return Some(woken);
            }
        }
        None
    }

    /// When [`Engine::tick`] and [`Engine::take_woken`] have work again, in ms; `None`: not before a command.
    pub fn next_event_ms(&self) -> Option<u64> {
        // What the last stamp has reached waits for the disk, not for the clock.
        let ahead = |wake_ms: &u64| *wake_ms > self.stamp_ms && *wake_ms < u64::MAX;
        let first_ms = self.wakes.first_deliverable().map(|(wake_ms, _)| wake_ms);
        let wake_ms = first_ms.filter(ahead);
        // With changes collected, the floor is renewed when they are applied.
        let floor_ms = self
            .first_unpromised_ms()
            .filter(|_| !self.has_staged())
            .map(|wake_ms| wake_ms.saturating_sub(FLOOR_LEAD_MS));
        let lease_end_ms = self.wakes.first_lease_end().map(|(end_ms, _)| end_ms);
        let upkeep_ms = std::cmp::min(
            self.partitions.next_upkeep_ms(),
            self.transactions.next_forget_ms(),
        );
        let upkeep_ms = Some(upkeep_ms).filter(|upkeep_ms| *upkeep_ms < u64::MAX);
        let void_ms = Some(self.stamp_ms).filter(|_| self.has_void_retries());
        [wake_ms, floor_ms, lease_end_ms, upkeep_ms, void_ms]
            .into_iter()
            .flatten()
            .min()
    }

    /// The first instant past the promised floor at which a waiting consumer may get something: a new floor must
    /// be durable before it.
    fn first_unpromised_ms(&self) -> Option<u64> {
        let promised_ms = self.frontier.promised_ms();
        let wake_ms = self.wakes.first_deliverable_after(promised_ms)?;
        Some(wake_ms).filter(|wake_ms| *wake_ms < u64::MAX)
    }

    /// Does what has become due: ends leases, renews the floor, lets go of old partitions.
    ///
    /// May collect changes; the driver applies them as after a command.
    pub fn tick(&mut self, now_ms: u64) -> Result<(), StoreError> {
        let now_ms = self.stamp(now_ms);
        self.frontier.advance(now_ms);
        while let Some((end_ms, key)) = self.wakes.first_lease_end() {
            if end_ms > now_ms || self.is_spent() {
                break;
            }
            self.end_leases(now_ms, key)?;
            self.refresh_lease_end(key);
        }
        if now_ms >= self.partitions.next_upkeep_ms() {
            self.upkeep(now_ms)?;
        }
        if now_ms >= self.transactions.next_forget_ms() {
            self.forget_outcomes(now_ms)?;
        }
        self.remove_void_retries()?;
        let soon_ms = now_ms.saturating_add(FLOOR_LEAD_MS);
        if self
            .first_unpromised_ms()
            .is_some_and(|wake_ms| wake_ms <= soon_ms)
        {
            self.stage.head = true;
        }
        Ok(())
    }

    /// Whether readers are held back because no head record of late is on the disk yet: what is due becomes
    /// readable as soon as one is.
    pub fn awaits_floor(&self, now_ms: u64) -> bool {
        self.frontier.floor_ms() < now_ms
    }

    /// Something of the topic becomes due at `due_ms`.
    pub(crate) fn wake_topic(&mut self, topic: TopicId, due_ms: u64) {
        let Some(state) = self.catalog.topics.get_mut(&topic) else {
            return;
        };
        let watchers = std::mem::take(&mut state.watchers);
        for group in &watchers {
            self.wakes.lower((*group, topic), due_ms);
        }
        if let Some(state) = self.catalog.topics.get_mut(&topic) {
            state.watchers = watchers;
        }
    }

    /// A delivery of a watched subscription ended, or its group was reset: something may be deliverable at `wake_ms`.
    pub(crate) fn lower_wake(&mut self, key: SubscriptionKey, wake_ms: u64) {
        self.wakes.lower_after_end(key, wake_ms);
    }

    /// Keeps the list of those a new message of the topic may wake.
    fn list_watcher(&mut self, key: SubscriptionKey, listed: bool) {
        let Some(topic) = self.catalog.topics.get_mut(&key.1) else {
            return;
        };
        topic.watchers.retain(|group| *group != key.0);
        if listed {
            topic.watchers.push(key.0);
        }
    }

    /// Notes when leases of the subscription may end next.
    pub(crate) fn refresh_lease_end(&mut self, key: SubscriptionKey) {
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return;
        };
        let end_ms = subscription.next_lease_end_ms();
        if subscription.lease_end_ms != end_ms {
            self.wakes
                .set_lease_end(key, &mut subscription.lease_end_ms, end_ms);
        }
    }

    /// When something may be deliverable to the subscription; at 0 if the store has to be asked.
    pub(crate) fn next_deliverable(&self, key: SubscriptionKey) -> NextDeliverable {
        let mut next = NextDeliverable::default();
        let Some(subscription) = self.subscriptions.get(&key) else {
            return next;
        };
        if subscription.in_flight >= self.config.limits.in_flight_max {
            return next;
        }
        let Some(topic) = self.catalog.topics.get(&key.1) else {
            return next;
        };
        let fifo = self
            .catalog
            .groups
            .get(&key.0)
            .is_some_and(|group| group.spec.fifo);
        let retry_ms = if subscription.retries.covers_after(subscription.retry_cursor) {
            subscription.retries.next_due_ms(subscription.retry_cursor)
        } else {
            Some(0)
        };
        if let Some(retry_ms) = retry_ms {
            next.add(&self.frontier, Line::Retries(key), retry_ms);
        }
        let queues = (0_u16..).zip(subscription.queues.iter().zip(&topic.queues));
        for (queue, (progress, window)) in queues {
            let full = fifo && progress.slots.len() >= self.config.limits.fifo_window;
            let fresh_ms = if full {
                None
            } else if progress.ahead.is_empty() && window.covers_after(progress.cursor) {
                window.next_due_ms(progress.cursor)
            } else {
                Some(0)
            };
            if let Some(due_ms) = fresh_ms {
                next.add(&self.frontier, Line::Queue(key.1, queue), due_ms);
            }
            // What was read before waits for no disk. One that is not free waits for an earlier one, whose end wakes.
            let open_ms = progress.next_open_ms().filter(|_| fifo);
            next.timer_ms = [next.timer_ms, open_ms].into_iter().flatten().min();
        }
        next
    }
}

impl<S: Store> Engine<S> {
    /// Something ended: a group that was full or blocked may go on.
    pub(crate) fn wake_after_end(&mut self, key: SubscriptionKey) {
        let Some(subscription) = self.subscriptions.get(&key) else {
            return;
        };
        let fifo = self
            .catalog
            .groups
            .get(&key.0)
            .is_some_and(|group| group.spec.fifo);
        if fifo || subscription.in_flight + 1 >= self.config.limits.in_flight_max {
            let reach_ms = self.frontier.reach_ms();
            self.lower_wake(key, reach_ms);
        }
    }
}
