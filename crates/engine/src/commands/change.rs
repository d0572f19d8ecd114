//! Implements changing the settings of a topic or a consumer group that exists.

use crate::engine::Engine;
use crate::error::Error;
use crate::format::keys::{group_key, topic_key};
use crate::ids::{GroupId, SubscriptionKey, TopicId, TopicKind};
use crate::place::Place;
use crate::state::progress::Progress;
use crate::state::spec::{GroupSpec, TopicSpec};
use crate::state::window::Window;
use crate::store::{Space, Store};

/// Settings of a consumer group to change; `None` leaves one as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupChange {
    /// Deliveries after which a message goes to `%DLQ%<group>`; looked at when a delivery fails.
    pub attempts_max: Option<u16>,
    /// Wait before delivery 2, 3 and so on, in ms; looked at when a delivery fails.
    pub backoff_ms: Option<Vec<u64>>,
    /// Whether messages of one message group are delivered one at a time, in order. It can be changed while the
    /// group has nothing in flight and nothing to be delivered again.
    pub fifo: Option<bool>,
}

/// Settings of a topic to change; `None` leaves one as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicChange {
    /// Number of message queues; it can only grow.
    pub queues: Option<u16>,
    /// Whether messages sent from now on are found by their keys and by an id their producer chose.
    pub indexed: Option<bool>,
    /// Bytes it may hold; `Some(None)` for no bound.
    pub quota_bytes: Option<Option<u64>>,
}

impl<S: Store> Engine<S> {
    /// Changes settings of a consumer group. Its positions are kept.
    pub fn change_group(&mut self, name: &str, change: GroupChange) -> Result<(), Error> {
        let id = self.catalog.group_id(name)?;
        let Some(group) = self.catalog.groups.get(&id) else {
            return Ok(());
        };
        let known = &group.spec;
        let spec = GroupSpec {
            attempts_max: change.attempts_max.unwrap_or(known.attempts_max),
            backoff_ms: change
                .backoff_ms
                .unwrap_or_else(|| known.backoff_ms.clone()),
            fifo: change.fifo.unwrap_or(known.fifo),
            ..known.clone()
        };
        spec.check()?;
        let turned = spec.fifo != known.fifo;
        if turned {
            self.check_idle(id, name)?;
        }
        let Some(group) = self.catalog.groups.get_mut(&id) else {
            return Ok(());
        };
        group.spec = spec;
        self.stage.batch.put(Space::Meta, &group_key(id), |buffer| {
            group.spec.encode(group.stored_seen_ms, buffer);
        });
        if turned {
            for (_, subscription) in self.subscriptions.range_mut((id, 0)..=(id, u32::MAX)) {
                // It is reported again if it keeps no order from now on.
                subscription.is_reported_unordered = false;
                for progress in &mut subscription.queues {
                    progress.look_again();
                }
            }
        }
        Ok(())
    }

    /// Refuses a group that has something in flight, blocked, or to be delivered again.
    fn check_idle(&self, group: GroupId, name: &str) -> Result<(), Error> {
        let (mut open, mut retrying) = (0, 0);
        for (_, subscription) in self.subscriptions.range((group, 0)..=(group, u32::MAX)) {
            let queues = subscription.queues.iter();
            open += queues
                .map(|progress| progress.slots.len() as u64)
                .sum::<u64>();
            retrying += subscription.retrying;
        }
        if open + retrying > 0 {
            return Err(Error::GroupBusy {
                group: name.to_owned(),
                open,
                retrying,
            });
        }
        Ok(())
    }

    /// Changes settings of a topic. Its messages stay where they are.
    pub fn change_topic(&mut self, name: &str, change: &TopicChange) -> Result<(), Error> {
        let id = self.catalog.topic_id(name)?;
        let Some(topic) = self.catalog.topics.get(&id) else {
            return Ok(());
        };
        let known = &topic.spec;
        let spec = TopicSpec {
            queues: change.queues.unwrap_or(known.queues),
            indexed: change.indexed.unwrap_or(known.indexed),
            quota_bytes: change.quota_bytes.unwrap_or(known.quota_bytes),
            ..known.clone()
        };
        spec.check()?;
        self.check_growth(id, known, spec.queues)?;
        let queues = usize::from(spec.queues);
        self.stage
            .batch
            .put(Space::Meta, &topic_key(id), |buffer| spec.encode(buffer));
        let mut readers = Vec::new();
        if let Some(topic) = self.catalog.topics.get_mut(&id) {
            topic.queues.resize_with(queues, Window::default);
            topic.spec = spec;
            readers.clone_from(&topic.readers);
        }
        for group in readers {
            self.grow_subscription((group, id), queues);
        }
        Ok(())
    }

    /// Refuses fewer queues, and more of them where a message group would change its queue.
    fn check_growth(&self, id: TopicId, known: &TopicSpec, queues: u16) -> Result<(), Error> {
        if queues < known.queues {
            return Err(Error::Invalid {
                field: "queues",
                reason: "can only grow",
            });
        }
        let in_order = matches!(known.kind, TopicKind::Fifo | TopicKind::Mixed);
        if queues > known.queues && in_order && self.stored_count(id) > 0 {
            return Err(Error::TopicInOrder {
                topic: known.name.clone(),
                messages: self.stored_count(id),
            });
        }
        Ok(())
    }

    /// Gives a subscription its positions in queues that are new; they are empty.
    fn grow_subscription(&mut self, key: SubscriptionKey, queues: usize) {
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return;
        };
        let first = subscription.queues.len();
        subscription
            .queues
            .resize_with(queues, || Progress::starting_at(Place::START));
        let grown = (first..queues).filter_map(|queue| u16::try_from(queue).ok());
        self.stage
            .progress
            .extend(grown.map(|queue| (key.0, key.1, queue)));
        let reach_ms = self.frontier.reach_ms();
        self.lower_wake(key, reach_ms);
    }
}
