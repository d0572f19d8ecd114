//! Implements receiving: what is read next, what is delivered, what is skipped, and the leases.

use std::collections::HashSet;
use std::sync::Arc;

use crate::engine::{Engine, SubscriptionKey};
use crate::error::{Error, within};
use crate::format::handle::ReceiptHandle;
use crate::limits::{FILTER_TAGS_MAX, INVISIBLE_MS_MAX, RECEIVE_BYTES_MAX};
use crate::message::{Delivered, Message, TagFilter};
use crate::place::Place;
use crate::state::catalog::{GroupSpec, StartFrom};
use crate::state::subscription::{Recovered, Slot, SlotState, Subscription};
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
}

/// What a delivery needs to know of the request.
#[derive(Clone, Copy)]
pub(crate) struct Take<'a> {
    pub(crate) key: SubscriptionKey,
    pub(crate) filter: &'a TagFilter,
    pub(crate) until_ms: u64,
    pub(crate) messages_max: usize,
}

/// What a receive has gathered so far.
#[derive(Default)]
pub(crate) struct Gathered {
    messages: Vec<Delivered>,
    bytes: usize,
}

impl Gathered {
    pub(crate) fn push(&mut self, delivery: Delivered) {
        self.bytes += delivery.message.weight();
        self.messages.push(delivery);
    }

    fn is_enough(&self, take: Take<'_>) -> bool {
        self.messages.len() >= take.messages_max || self.bytes >= RECEIVE_BYTES_MAX
    }
}

impl<S: Store> Engine<S> {
    /// Delivers what is due, oldest first, retries before new messages; an empty answer if nothing is.
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
        let until_ms = now_ms.saturating_add(request.invisible_ms);
        let take = Take {
            key,
            filter: &request.filter,
            until_ms,
            messages_max: request.messages_max,
        };
        let mut delivered = Gathered::default();
        self.take_retries(take, &mut delivered)?;
        let fifo = self
            .catalog
            .groups
            .get(&key.0)
            .is_some_and(|group| group.spec.fifo);
        for queue in self.queues_in_turn(key) {
            if self.is_satisfied(take, &delivered) {
                break;
            }
            if fifo {
                self.take_fifo(take, queue, &mut delivered)?;
            } else {
                self.take_fresh(take, queue, &mut delivered)?;
            }
        }
        self.refresh_check(key);
        let delivered = delivered.messages;
        self.traffic.delivered += delivered.len() as u64;
        if delivered.is_empty() {
            self.ask_for_floor(now_ms, key);
        }
        Ok(delivered)
    }

    /// Renews the floor if that alone keeps something back that is due.
    fn ask_for_floor(&mut self, now_ms: u64, key: SubscriptionKey) {
        let promised_ms = self.frontier.promised_ms();
        if promised_ms < now_ms
            && let Some(due_ms) = self.next_deliverable_ms(key)
            && promised_ms < due_ms
            && due_ms <= now_ms
        {
            self.stage.head = true;
        }
    }

    pub(crate) fn is_satisfied(&self, take: Take<'_>, taken: &Gathered) -> bool {
        let in_flight = self
            .subscriptions
            .get(&take.key)
            .map_or(0, |subscription| subscription.in_flight);
        taken.is_enough(take) || in_flight >= self.config.limits.in_flight_max
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
                self.create_group(now_ms, GroupSpec::new(&request.group))?
            }
            None => {
                return Err(Error::GroupNotFound {
                    group: request.group.clone(),
                });
            }
        };
        self.note_seen(now_ms, group);
        let key = (group, topic);
        if !self.subscriptions.contains_key(&key) {
            self.subscribe(key)?;
        }
        Ok(key)
    }

    /// Lets a group begin to read a topic.
    pub(crate) fn subscribe(&mut self, key: SubscriptionKey) -> Result<(), StoreError> {
        let latest = self
            .catalog
            .groups
            .get(&key.0)
            .is_some_and(|group| group.spec.start_from == StartFrom::Latest);
        let start = if latest {
            self.shown_place()
        } else {
            Place::START
        };
        let due = if latest { self.due_count(key.1)? } else { 0 };
        let Some(topic) = self.catalog.topics.get(&key.1) else {
            return Ok(());
        };
        let mut subscription = Subscription::new(topic.spec.queues, start);
        let passed = topic.totals.dropped + due;
        if let Some(first) = subscription.queues.first_mut() {
            first.passed = passed;
        }
        let queues = topic.spec.queues;
        self.add_subscription(key, subscription);
        self.stage
            .progress
            .extend((0..queues).map(|queue| (key.0, key.1, queue)));
        Ok(())
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

    fn take_fresh(
        &mut self,
        take: Take<'_>,
        queue: u16,
        delivered: &mut Gathered,
    ) -> Result<(), Error> {
        while !self.is_satisfied(take, delivered) {
            let wanted = take.messages_max - delivered.messages.len();
            let Some(message) = self.next_due(take.key, queue, wanted)? else {
                break;
            };
            let Some(subscription) = self.subscriptions.get_mut(&take.key) else {
                break;
            };
            let generation = subscription.generation;
            let Some(progress) = subscription.queue(queue) else {
                break;
            };
            let place = message.place;
            let known = progress.recovered.remove(&place);
            if known == Some(Recovered::Done) || !take.filter.passes(&message) {
                progress.slots.push_back(Slot {
                    place,
                    state: SlotState::Done,
                    attempts: 0,
                    message: None,
                });
                progress.settle();
                self.stage.progress.insert((take.key.0, take.key.1, queue));
                continue;
            }
            let state = SlotState::Leased {
                until_ms: take.until_ms,
            };
            progress.slots.push_back(Slot {
                place,
                state,
                attempts: 1,
                message: None,
            });
            progress.lease_check_ms = std::cmp::min(progress.lease_check_ms, take.until_ms);
            let crowded = progress.is_crowded();
            subscription.in_flight += 1;
            delivered.push(deliver(take.key, generation, queue, message, 1));
            if crowded {
                self.park_front(take.key, queue);
            }
        }
        Ok(())
    }

    fn take_fifo(
        &mut self,
        take: Take<'_>,
        queue: u16,
        delivered: &mut Gathered,
    ) -> Result<(), Error> {
        self.fill_fifo(take, queue)?;
        let shown_ms = self.frontier.shown_ms();
        let in_flight_max = self.config.limits.in_flight_max;
        let Some(subscription) = self.subscriptions.get_mut(&take.key) else {
            return Ok(());
        };
        let generation = subscription.generation;
        let Subscription {
            queues, in_flight, ..
        } = subscription;
        let Some(progress) = queues.get_mut(usize::from(queue)) else {
            return Ok(());
        };
        let mut blocked = HashSet::new();
        for slot in &mut progress.slots {
            if delivered.is_enough(take) || *in_flight >= in_flight_max {
                break;
            }
            let Some(message) = slot
                .message
                .clone()
                .filter(|_| slot.state != SlotState::Done)
            else {
                continue;
            };
            let free = match &message.message_group {
                Some(group) => blocked.insert(group.clone()),
                None => true,
            };
            let SlotState::Open { from_ms } = slot.state else {
                continue;
            };
            if free && from_ms <= shown_ms {
                slot.state = SlotState::Leased {
                    until_ms: take.until_ms,
                };
                slot.attempts += 1;
                progress.lease_check_ms = std::cmp::min(progress.lease_check_ms, take.until_ms);
                *in_flight += 1;
                delivered.push(deliver(take.key, generation, queue, message, slot.attempts));
            }
        }
        Ok(())
    }

    /// Reads messages into the window a FIFO reader chooses from.
    fn fill_fifo(&mut self, take: Take<'_>, queue: u16) -> Result<(), Error> {
        let room = |engine: &Self| {
            let progress = engine
                .subscriptions
                .get(&take.key)?
                .queues
                .get(usize::from(queue))?;
            engine
                .config
                .limits
                .fifo_window
                .checked_sub(progress.slots.len())
                .filter(|room| *room > 0)
        };
        while let Some(wanted) = room(self) {
            let Some(message) = self.next_due(take.key, queue, wanted)? else {
                break;
            };
            let Some(progress) = self
                .subscriptions
                .get_mut(&take.key)
                .and_then(|subscription| subscription.queue(queue))
            else {
                break;
            };
            let place = message.place;
            let known = progress.recovered.remove(&place);
            let skipped = known == Some(Recovered::Done) || !take.filter.passes(&message);
            let (state, attempts) = match known {
                _ if skipped => (SlotState::Done, 0),
                Some(Recovered::Failed { attempts, from_ms }) => {
                    (SlotState::Open { from_ms }, attempts)
                }
                _ => (SlotState::Open { from_ms: 0 }, 0),
            };
            progress.slots.push_back(Slot {
                place,
                state,
                attempts,
                message: (!skipped).then_some(message),
            });
            if skipped {
                progress.settle();
                self.stage.progress.insert((take.key.0, take.key.1, queue));
            }
        }
        Ok(())
    }
}

pub(crate) fn deliver(
    key: SubscriptionKey,
    generation: u32,
    queue: u16,
    message: Arc<Message>,
    attempt: u16,
) -> Delivered {
    let place = message.place;
    let handle = ReceiptHandle {
        topic: key.1,
        group: key.0,
        generation,
        queue,
        place,
        attempt,
        retry: None,
    };
    Delivered {
        message,
        queue,
        attempt,
        handle,
    }
}
