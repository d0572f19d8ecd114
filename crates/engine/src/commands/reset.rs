//! Implements moving a consumer group to an instant.

use crate::engine::Engine;
use crate::error::Error;
use crate::place::Place;
use crate::state::subscription::Subscription;
use crate::store::Store;

impl<S: Store> Engine<S> {
    /// Moves a group on a topic to an instant: what is due from `to_ms` on is delivered again, what was
    /// due before is not. Retries are forgotten, and handles given out before are void.
    pub fn reset_group(
        &mut self,
        now_ms: u64,
        topic: &str,
        group: &str,
        to_ms: u64,
    ) -> Result<(), Error> {
        let now_ms = self.stamp(now_ms);
        let key = (self.catalog.group_id(group)?, self.catalog.topic_id(topic)?);
        let not_found = || Error::GroupNotFound {
            group: group.to_owned(),
        };
        let queues = self
            .catalog
            .topics
            .get(&key.1)
            .map(|topic| topic.spec.queues)
            .ok_or_else(not_found)?;
        self.void_retries(key);
        self.forget_held(key, usize::from(queues));
        let passed = self.count_due_by(key.1, to_ms.saturating_sub(1))?;
        let dropped = self
            .catalog
            .topics
            .get(&key.1)
            .map_or(0, |topic| topic.totals.dropped);
        let start = to_ms.checked_sub(1).map_or(Place::START, Place::end_of);
        let fresh = Subscription::new(self.new_generation(), queues, start);
        if !self.subscriptions.contains_key(&key) {
            self.add_subscription(key, fresh);
        } else if let Some(subscription) = self.subscriptions.get_mut(&key) {
            *subscription = Subscription {
                generation: subscription.generation.wrapping_add(1),
                lease_end_ms: subscription.lease_end_ms,
                seen_ms: subscription.seen_ms,
                stored_seen_ms: subscription.stored_seen_ms,
                ..fresh
            };
        }
        self.note_seen(now_ms, key);
        if let Some(first) = self
            .subscriptions
            .get_mut(&key)
            .and_then(|subscription| subscription.queue(0))
        {
            first.read = passed + dropped;
        }
        self.stage
            .progress
            .extend((0..queues).map(|queue| (key.0, key.1, queue)));
        self.refresh_lease_end(key);
        let reach_ms = self.frontier.reach_ms();
        self.lower_wake(key, reach_ms);
        Ok(())
    }
}
