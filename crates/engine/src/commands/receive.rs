//! Implements receive: checks the request, finds the subscription, delivers retries and new messages.

use crate::delivery::gather::{Gathered, ReceiveLimits};
use crate::engine::Engine;
use crate::error::{Error, within};
use crate::ids::{SubscriptionKey, TopicId, TopicKind};
use crate::limits::{FILTER_TAGS_MAX, INVISIBLE_MS_MAX, RECEIVE_UNITS};
use crate::message::{Delivered, TagFilter};
use crate::place::Place;
use crate::state::alarms::Alarm;
use crate::state::frontier::Line;
use crate::state::spec::{GroupSpec, StartFrom};
use crate::state::subscription::Subscription;
use crate::store::{Store, StoreError};

/// What a consumer asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiveRequest {
    /// The topic.
    pub topic: String,
    /// The consumer group it asks for.
    pub group: String,
    /// Most messages it takes.
    pub messages_max: usize,
    /// How long they stay hidden from the other consumers of the group, in ms.
    pub invisible_ms: u64,
    /// Which messages it wants; others count as consumed.
    pub filter: TagFilter,
    /// Whether a FIFO group gets a run: of each message group as many consecutive messages as there is room for, to be
    /// settled in order, and not only the first. Nothing else of the message group is delivered before all of them are
    /// settled; when one fails, those after it that are not settled come again too.
    pub run: bool,
}

impl<S: Store> Engine<S> {
    /// Delivers what is due, oldest first, retries before new messages; an empty answer if nothing is.
    ///
    /// In a step with a limit it looks at a bounded number of messages: after an empty answer
    /// [`Engine::is_unfinished`] says whether it has come to the end.
    pub fn receive(
        &mut self,
        now_ms: u64,
        request: &ReceiveRequest,
    ) -> Result<Vec<Delivered>, Error> {
        let now_ms = self.stamp(now_ms);
        within(
            "messages_max",
            request.messages_max,
            self.config.limits.batch_max,
        )?;
        if request.invisible_ms > INVISIBLE_MS_MAX {
            let (found, limit) = (request.invisible_ms, INVISIBLE_MS_MAX);
            return Err(Error::OverLimit {
                field: "invisible duration in ms",
                found,
                limit,
            });
        }
        if let TagFilter::AnyOf(tags) = &request.filter {
            within("tags of the filter", tags.len(), FILTER_TAGS_MAX)?;
        }
        self.frontier.advance(now_ms);
        let key = self.subscription_key(now_ms, request)?;
        self.note_filter(now_ms, key, &request.filter);
        let until_ms = now_ms.saturating_add(request.invisible_ms);
        let limits = ReceiveLimits {
            key,
            filter: &request.filter,
            until_ms,
            messages_max: request.messages_max,
            run: request.run,
        };
        let step_limit = self.work.narrow(RECEIVE_UNITS);
        let gathered = self.gather(limits);
        self.work.set_limit(step_limit);
        let delivered = gathered?.messages;
        self.refresh_lease_end(key);
        self.counters.traffic.delivered += delivered.len() as u64;
        if delivered.is_empty() {
            self.ask_for_floor(now_ms, key);
        }
        Ok(delivered)
    }

    /// Whether a receive that came back empty has left off before it had looked at all that is due.
    pub fn is_unfinished(&self, topic: &str, group: &str) -> bool {
        let topic = self.catalog.find_topic(topic);
        let group = self.catalog.find_group(group);
        let Some(key) = group.zip(topic) else {
            return false;
        };
        let timer_ms = self.next_deliverable(key).timer_ms;
        timer_ms.is_some_and(|timer_ms| timer_ms <= self.frontier.reach_ms())
    }

    /// Takes retries, then new messages of one queue after the other.
    fn gather(&mut self, limits: ReceiveLimits<'_>) -> Result<Gathered, Error> {
        let key = limits.key;
        let mut delivered = Gathered::default();
        self.spend(1);
        self.take_retries(limits, &mut delivered)?;
        let fifo = self
            .catalog
            .groups
            .get(&key.0)
            .is_some_and(|group| group.spec.fifo);
        for queue in self.queues_in_turn(key) {
            if self.is_satisfied(limits, &delivered) {
                break;
            }
            if self.is_spent() {
                // The next one goes on here.
                self.begin_with(key, queue);
                break;
            }
            // Shown whether or not a message is left to be read, so that this depends on nothing in memory.
            self.frontier.show(Line::Queue(key.1, queue));
            if fifo {
                self.take_fifo(limits, queue, &mut delivered)?;
            } else {
                self.take_fresh(limits, queue, &mut delivered)?;
            }
        }
        Ok(delivered)
    }

    /// Lets the next receive begin with a queue.
    fn begin_with(&mut self, key: SubscriptionKey, queue: u16) {
        if let Some(subscription) = self.subscriptions.get_mut(&key) {
            subscription.next_queue = usize::from(queue);
        }
    }

    /// All queues, beginning with another one each time, so that none is starved.
    fn queues_in_turn(&mut self, key: SubscriptionKey) -> impl Iterator<Item = u16> + use<S> {
        let (count, first) = match self.subscriptions.get_mut(&key) {
            Some(subscription) => {
                let first = subscription.next_queue;
                subscription.next_queue = (first + 1) % std::cmp::max(subscription.queues.len(), 1);
                (subscription.queues.len(), first)
            }
            None => (0, 0),
        };
        (first..count)
            .chain(0..std::cmp::min(first, count))
            .filter_map(|queue| u16::try_from(queue).ok())
    }

    /// Renews the floor if that alone keeps something back that is due.
    fn ask_for_floor(&mut self, now_ms: u64, key: SubscriptionKey) {
        let promised_ms = self.frontier.promised_ms();
        if promised_ms < now_ms
            && let Some(due_ms) = self.next_deliverable(key).timer_ms
            && promised_ms < due_ms
            && due_ms <= now_ms
        {
            self.stage.head = true;
        }
    }

    /// Finds the subscription a request names, made on first use.
    fn subscription_key(
        &mut self,
        now_ms: u64,
        request: &ReceiveRequest,
    ) -> Result<SubscriptionKey, Error> {
        let topic = self.catalog.topic_id(&request.topic)?;
        let group = match self.catalog.find_group(&request.group) {
            Some(group) => group,
            None if self.config.auto_group => {
                let spec = GroupSpec {
                    fifo: self.is_ordered(topic),
                    ..GroupSpec::new(&request.group)
                };
                self.create_group(now_ms, spec)?
            }
            None => {
                return Err(Error::GroupNotFound {
                    group: request.group.clone(),
                });
            }
        };
        let key = (group, topic);
        if !self.subscriptions.contains_key(&key) {
            self.subscribe(key)?;
        }
        self.note_seen(now_ms, key);
        if self.is_unordered(key) {
            self.report_unordered(key);
        }
        Ok(key)
    }

    fn is_ordered(&self, topic: TopicId) -> bool {
        let topic = self.catalog.topics.get(&topic);
        topic.is_some_and(|topic| topic.spec.kind == TopicKind::Fifo)
    }

    /// Whether a group that keeps no order reads a topic that is in order.
    fn is_unordered(&self, key: SubscriptionKey) -> bool {
        let group = self.catalog.groups.get(&key.0);
        group.is_some_and(|group| !group.spec.fifo) && self.is_ordered(key.1)
    }

    /// Warns of a subscription that keeps no order, once after a start.
    fn report_unordered(&mut self, key: SubscriptionKey) {
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return;
        };
        if std::mem::replace(&mut subscription.is_reported_unordered, true) {
            return;
        }
        let group = self.catalog.groups.get(&key.0);
        let topic = self.catalog.topics.get(&key.1);
        self.alarms.raise(Alarm::Unordered {
            group: group.map_or_else(String::new, |group| group.spec.name.clone()),
            topic: topic.map_or_else(String::new, |topic| topic.spec.name.clone()),
        });
    }

    /// How many groups that keep no order read topics that are in order.
    pub fn unordered_subscriptions(&self) -> usize {
        let keys = self.subscriptions.keys();
        keys.filter(|key| self.is_unordered(**key)).count()
    }

    /// The generation of a subscription that begins now: no receipt of one before it fits.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it comes round after 49 days, longer than a message may be invisible"
    )]
    pub(crate) fn new_generation(&self) -> u32 {
        self.stamp_ms as u32
    }

    /// Lets a group begin to read a topic.
    pub(crate) fn subscribe(&mut self, key: SubscriptionKey) -> Result<(), StoreError> {
        let latest = self
            .catalog
            .groups
            .get(&key.0)
            .is_some_and(|group| group.spec.start_from == StartFrom::Latest);
        // Nothing is written below the present any longer, so that nothing sent from now on is skipped.
        let before_ms = self.stamp_ms.saturating_sub(1);
        let start = if latest {
            Place::end_of(before_ms)
        } else {
            Place::START
        };
        let due = if latest {
            self.count_due_by(key.1, before_ms)?
        } else {
            0
        };
        let Some(topic) = self.catalog.topics.get(&key.1) else {
            return Ok(());
        };
        let mut subscription = Subscription::new(self.new_generation(), topic.spec.queues, start);
        let passed = topic.totals.dropped + due;
        if let Some(first) = subscription.queues.first_mut() {
            first.read = passed;
        }
        let queues = topic.spec.queues;
        self.add_subscription(key, subscription);
        self.stage
            .progress
            .extend((0..queues).map(|queue| (key.0, key.1, queue)));
        Ok(())
    }
}
