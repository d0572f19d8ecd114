//! Implements wake-ups: which subscriptions are waited on, and when the driver must call again.

use crate::engine::Engine;
use crate::ids::{SubscriptionKey, TopicId};
use crate::limits::FLOOR_AHEAD_MS;
use crate::place::Place;
use crate::state::subscription::SlotState;
use crate::store::{Store, StoreError};

/// How long before something is due the floor is renewed, in ms: ample for one write to the disk.
const FLOOR_LEAD_MS: u64 = FLOOR_AHEAD_MS / 2;

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
        let wake_ms = self.next_deliverable_ms(key).unwrap_or(u64::MAX);
        self.set_wake(key, Some(wake_ms));
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
        self.set_wake((group, topic), None);
        self.list_watcher((group, topic), false);
    }

    /// Takes the watched subscriptions for which something may be deliverable now: (topic, group) names.
    pub fn take_woken(&mut self, now_ms: u64) -> Vec<(String, String)> {
        let now_ms = self.stamp(now_ms);
        let shown_ms = self.frontier.advance(now_ms);
        let mut woken = Vec::new();
        while let Some((wake_ms, key)) = self.wakes.first_deliverable() {
            if wake_ms > shown_ms {
                break;
            }
            self.set_wake(key, None);
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
            woken.extend(topic.zip(group));
        }
        woken
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
        [wake_ms, floor_ms, lease_end_ms, upkeep_ms]
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
            if end_ms > now_ms {
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
            self.lower_wake((*group, topic), due_ms);
        }
        if let Some(state) = self.catalog.topics.get_mut(&topic) {
            state.watchers = watchers;
        }
    }

    /// Something of a watched subscription may be deliverable at `wake_ms`.
    pub(crate) fn lower_wake(&mut self, key: SubscriptionKey, wake_ms: u64) {
        let Some(subscription) = self.subscriptions.get(&key) else {
            return;
        };
        if subscription
            .wake_ms
            .is_some_and(|current_ms| current_ms > wake_ms)
        {
            self.set_wake(key, Some(wake_ms));
        }
    }

    fn set_wake(&mut self, key: SubscriptionKey, wake_ms: Option<u64>) {
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return;
        };
        self.wakes
            .set_deliverable(key, &mut subscription.wake_ms, wake_ms);
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

    /// When something may be deliverable to the subscription; 0 if the store has to be asked.
    pub(crate) fn next_deliverable_ms(&self, key: SubscriptionKey) -> Option<u64> {
        let subscription = self.subscriptions.get(&key)?;
        if subscription.in_flight >= self.config.limits.in_flight_max {
            return None;
        }
        let topic = self.catalog.topics.get(&key.1)?;
        let fifo = self
            .catalog
            .groups
            .get(&key.0)
            .is_some_and(|group| group.spec.fifo);
        let mut next_ms = if subscription.retries.covers_after(subscription.retry_cursor) {
            subscription.retries.next_due_ms(subscription.retry_cursor)
        } else {
            Some(0)
        };
        for (progress, window) in subscription.queues.iter().zip(&topic.queues) {
            let full = fifo && progress.slots.len() >= self.config.limits.fifo_window;
            let fresh_ms = if full {
                None
            } else if progress.ahead.is_empty() && window.covers_after(progress.cursor) {
                window.next_due_ms(progress.cursor)
            } else {
                Some(0)
            };
            let reopened_ms = progress.slots.iter().filter_map(|slot| match slot.state {
                // One that is open and was not delivered waits for an earlier one, whose end wakes us.
                SlotState::Open { from_ms } if from_ms > self.frontier.shown_ms() => Some(from_ms),
                _ => None,
            });
            next_ms = [next_ms, fresh_ms]
                .into_iter()
                .flatten()
                .chain(reopened_ms.filter(|_| fifo))
                .min();
        }
        next_ms
    }

    /// The place up to which everything may be read now.
    pub(crate) fn shown_place(&self) -> Place {
        Place::end_of(self.frontier.shown_ms())
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
            let shown_ms = self.frontier.shown_ms();
            self.lower_wake(key, shown_ms);
        }
    }
}
