//! Implements receiving: what is read next, what is delivered, what is skipped, and the leases.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::catalog::{GroupSpec, StartFrom};
use crate::engine::{Engine, SubscriptionKey};
use crate::error::{Error, within};
use crate::handle::ReceiptHandle;
use crate::limits::{FILTER_TAGS_MAX, INVISIBLE_MS_MAX, READ_MESSAGES_MAX};
use crate::message::{Delivered, Message, TagFilter};
use crate::place::{PartitionId, Place};
use crate::record::{open, open_message, place_of_key, retry_span, timeline_key};
use crate::store::{Space, Store, StoreError};
use crate::subscription::{
    Progress, Recovered, RetryLease, RetryRow, Slot, SlotState, Subscription,
};
use crate::timeline::{ReadRange, read};

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
struct Take<'a> {
    key: SubscriptionKey,
    filter: &'a TagFilter,
    until_ms: u64,
    messages_max: usize,
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
        let mut delivered = Vec::new();
        self.take_retries(take, &mut delivered)?;
        let fifo = self
            .catalog
            .groups
            .get(&key.0)
            .is_some_and(|group| group.spec.fifo);
        for queue in self.queues_in_turn(key) {
            if self.is_satisfied(take, delivered.len()) {
                break;
            }
            if fifo {
                self.take_fifo(take, queue, &mut delivered)?;
            } else {
                self.take_fresh(take, queue, &mut delivered)?;
            }
        }
        self.refresh_check(key);
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

    fn is_satisfied(&self, take: Take<'_>, taken: usize) -> bool {
        let in_flight = self
            .subscriptions
            .get(&take.key)
            .map_or(0, |subscription| subscription.in_flight);
        taken >= take.messages_max || in_flight >= self.config.limits.in_flight_max
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
            self.subscribe(key);
        }
        Ok(key)
    }

    fn subscribe(&mut self, key: SubscriptionKey) {
        let Some(topic) = self.catalog.topics.get(&key.1) else {
            return;
        };
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
        let mut subscription = Subscription::new(topic.spec.queues, start);
        let due = if latest { self.due_count(key.1) } else { 0 };
        let passed = topic.totals.dropped + due;
        if let Some(first) = subscription.queues.first_mut() {
            first.passed = passed;
        }
        let queues = topic.spec.queues;
        self.add_subscription(key, subscription);
        self.stage
            .progress
            .extend((0..queues).map(|queue| (key.0, key.1, queue)));
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

    /// Partitions that hold something of the topic, in ascending order of their start.
    pub(crate) fn partitions_of(&self, topic: u32) -> Vec<PartitionId> {
        let holds = |partition: &&PartitionId| {
            self.counts
                .get(&(**partition, topic))
                .is_some_and(|counts| counts.messages > 0)
        };
        self.partitions.iter().filter(holds).copied().collect()
    }

    /// Makes sure that what is due behind the cursor, if anything, lies in `ahead`.
    fn read_ahead(&mut self, key: SubscriptionKey, queue: u16, wanted: usize) -> Result<(), Error> {
        let shown = self.shown_place();
        let Some(topic) = self.catalog.topics.get_mut(&key.1) else {
            return Ok(());
        };
        let Some(window) = topic.queues.get_mut(usize::from(queue)) else {
            return Ok(());
        };
        let Some(progress) = self
            .subscriptions
            .get_mut(&key)
            .and_then(|subscription| subscription.queue(queue))
        else {
            return Ok(());
        };
        if !progress.ahead.is_empty() {
            return Ok(());
        }
        if window.covers_behind(progress.cursor) {
            let due = window
                .behind(progress.cursor)
                .take_while(|(place, _)| *place <= shown)
                .take(wanted);
            progress
                .ahead
                .extend(due.map(|(_, message)| Arc::clone(message)));
            // With one group the entries are no longer needed here; with more, the last one lets go of them.
            if let Some(last) = progress.ahead.back() {
                let place = last.place;
                self.pass_window(key.1, queue, place);
                return Ok(());
            }
            // The stretch may end with a message that was taken out, or was let go of to save memory.
            if !window.ends_by(shown) {
                return Ok(());
            }
        }
        let after = progress.cursor;
        self.read_store(key, queue, after)
    }

    /// Lets the head of a queue go up to `place` if every group that reads there has come so far.
    fn pass_window(&mut self, topic: u32, queue: u16, place: Place) {
        let Some(state) = self.catalog.topics.get_mut(&topic) else {
            return;
        };
        let Some(window) = state.queues.get_mut(usize::from(queue)) else {
            return;
        };
        let mut reached = place;
        for group in &state.readers {
            let subscription = self.subscriptions.get(&(*group, topic));
            let Some(progress) = subscription.and_then(|sub| sub.queues.get(usize::from(queue)))
            else {
                continue;
            };
            let read = progress
                .ahead
                .back()
                .map_or(progress.cursor, |message| message.place);
            if window.covers_behind(read) || read >= place {
                reached = std::cmp::min(reached, read);
            }
        }
        let before = window.bytes();
        window.pass(reached);
        self.head_bytes -= before - window.bytes();
    }

    /// Reads the store behind `after`: what is due goes to `ahead`, the rest becomes the head of the queue.
    fn read_store(&mut self, key: SubscriptionKey, queue: u16, after: Place) -> Result<(), Error> {
        if self.stage.appended.contains(&(key.1, queue)) {
            let now_ms = self.stamp_ms;
            self.apply(now_ms)?;
        }
        let partitions = self.partitions_of(key.1);
        let range = ReadRange {
            topic: key.1,
            queue,
            after,
            messages_max: READ_MESSAGES_MAX,
        };
        let stretch = read(&self.store, &partitions, range)?;
        let shown = self.shown_place();
        let removed = &self.stage.removed;
        let last_read = stretch.messages.last().map(|message| message.place);
        let mut messages: Vec<_> = stretch
            .messages
            .into_iter()
            .filter(|message| !removed.contains(&message.place.sequence))
            .map(Arc::new)
            .collect();
        let future = messages.split_off(messages.partition_point(|message| message.place <= shown));
        let reaches_future = stretch.complete || last_read.is_some_and(|last| last > shown);
        let low = messages.last().map_or(after, |message| message.place);
        if let Some(progress) = self
            .subscriptions
            .get_mut(&key)
            .and_then(|subscription| subscription.queue(queue))
        {
            progress.ahead.extend(messages);
        }
        let Some(window) = self
            .catalog
            .topics
            .get_mut(&key.1)
            .and_then(|topic| topic.queues.get_mut(usize::from(queue)))
        else {
            return Ok(());
        };
        if reaches_future {
            let before = window.bytes();
            let entries = future.into_iter().map(|message| {
                let weight = message.weight();
                (message.place, message, weight)
            });
            window.load(
                low,
                if stretch.complete { None } else { last_read },
                entries.collect(),
            );
            self.head_bytes = self.head_bytes + window.bytes() - before;
        }
        Ok(())
    }

    /// Takes the next message of a queue that is due, and moves the cursor over it.
    fn next_due(
        &mut self,
        key: SubscriptionKey,
        queue: u16,
        wanted: usize,
    ) -> Result<Option<Arc<Message>>, Error> {
        self.read_ahead(key, queue, wanted)?;
        let progress = self
            .subscriptions
            .get_mut(&key)
            .and_then(|subscription| subscription.queue(queue));
        let Some(progress) = progress else {
            return Ok(None);
        };
        let Some(message) = progress.ahead.pop_front() else {
            return Ok(None);
        };
        progress.cursor = message.place;
        Ok(Some(message))
    }

    fn take_fresh(
        &mut self,
        take: Take<'_>,
        queue: u16,
        delivered: &mut Vec<Delivered>,
    ) -> Result<(), Error> {
        while !self.is_satisfied(take, delivered.len()) {
            let wanted = take.messages_max - delivered.len();
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
            if known == Some(Recovered::Done) || !take.filter.passes(message.tag.as_deref()) {
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
        delivered: &mut Vec<Delivered>,
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
            if delivered.len() >= take.messages_max || *in_flight >= in_flight_max {
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
            let skipped =
                known == Some(Recovered::Done) || !take.filter.passes(message.tag.as_deref());
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

    fn take_retries(
        &mut self,
        take: Take<'_>,
        delivered: &mut Vec<Delivered>,
    ) -> Result<(), Error> {
        while !self.is_satisfied(take, delivered.len()) {
            let Some((place, row)) = self.next_retry(take.key)? else {
                break;
            };
            let message = match &row.inline {
                Some(message) => Some(Arc::clone(message)),
                None => self
                    .find_message(take.key.1, row.queue, row.place)?
                    .map(Arc::new),
            };
            let Some(subscription) = self.subscriptions.get_mut(&take.key) else {
                break;
            };
            subscription.retry_cursor = place;
            let Some(message) = message else {
                self.tallies.missing_bodies += 1;
                self.remove_retry(take.key, place, &row);
                continue;
            };
            subscription.parked.remove(&row.place.sequence);
            subscription.retry_check_ms = std::cmp::min(subscription.retry_check_ms, take.until_ms);
            subscription.in_flight += 1;
            let mut delivery = deliver(
                take.key,
                subscription.generation,
                row.queue,
                message,
                row.attempt,
            );
            delivery.handle.retry = Some(place);
            delivered.push(delivery);
            subscription.retry_leases.insert(
                place,
                RetryLease {
                    row,
                    until_ms: take.until_ms,
                },
            );
        }
        Ok(())
    }

    /// The next row of the retry timeline that is due.
    fn next_retry(&mut self, key: SubscriptionKey) -> Result<Option<(Place, RetryRow)>, Error> {
        let shown = self.shown_place();
        let known = |subscription: &Subscription| {
            let (retries, cursor) = (&subscription.retries, subscription.retry_cursor);
            retries.covers_behind(cursor)
                && (retries.behind(cursor).next().is_some() || !retries.ends_by(shown))
        };
        if !self.subscriptions.get(&key).is_some_and(known) {
            self.load_retries(key)?;
        }
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return Ok(None);
        };
        let cursor = subscription.retry_cursor;
        let next = subscription
            .retries
            .behind(cursor)
            .next()
            .map(|(place, row)| (place, row.clone()));
        let Some((place, row)) = next.filter(|(place, _)| *place <= shown) else {
            return Ok(None);
        };
        subscription.retries.pass(place);
        Ok(Some((place, row)))
    }

    fn load_retries(&mut self, key: SubscriptionKey) -> Result<(), Error> {
        if self.stage.retried.contains(&key) {
            let now_ms = self.stamp_ms;
            self.apply(now_ms)?;
        }
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return Ok(());
        };
        let after = subscription.retry_cursor;
        let (from, to) = retry_span(key.0, key.1, after);
        let mut rows = self.store.scan(Space::Meta, &from, &to)?;
        let mut entries = Vec::new();
        let mut last = after;
        let mut complete = false;
        while entries.len() < READ_MESSAGES_MAX {
            let Some(row) = rows.next() else {
                complete = true;
                break;
            };
            let (row_key, value) = row?;
            let Some(place) = place_of_key(&row_key, 0) else {
                continue;
            };
            last = place;
            if !self.stage.removed.contains(&place.sequence) {
                let row = open(Space::Meta, &row_key, &value, RetryRow::read)?;
                let weight = row.weight();
                entries.push((place, row, weight));
            }
        }
        drop(rows);
        subscription
            .retries
            .load(after, if complete { None } else { Some(last) }, entries);
        Ok(())
    }

    /// Reads one message from where it stands.
    pub(crate) fn find_message(
        &self,
        topic: u32,
        queue: u16,
        place: Place,
    ) -> Result<Option<Message>, StoreError> {
        let key = timeline_key(topic, queue, place);
        let value = self.store.get(Space::Partition(place.partition()), &key)?;
        value
            .map(|value| open_message(queue, place, &key, &value))
            .transpose()
    }

    /// Ends leases that have run out, and notes when the next one does.
    pub(crate) fn end_leases(
        &mut self,
        now_ms: u64,
        key: SubscriptionKey,
    ) -> Result<(), StoreError> {
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return Ok(());
        };
        let mut ended = HashMap::<u16, Vec<Place>>::new();
        for (queue, progress) in (0_u16..).zip(&mut subscription.queues) {
            if progress.lease_check_ms <= now_ms {
                let places = end_of_leases(progress, now_ms);
                ended.insert(queue, places);
            }
        }
        let mut retries = Vec::new();
        if subscription.retry_check_ms <= now_ms {
            let leases = &subscription.retry_leases;
            retries.extend(
                leases
                    .iter()
                    .filter(|(_, lease)| lease.until_ms <= now_ms)
                    .map(|(place, _)| *place),
            );
            let open = leases
                .values()
                .map(|lease| lease.until_ms)
                .filter(|until_ms| *until_ms > now_ms);
            subscription.retry_check_ms = open.min().unwrap_or(u64::MAX);
        }
        let mut ended: Vec<_> = ended.into_iter().collect();
        ended.sort_unstable();
        for (queue, places) in ended {
            for place in places {
                self.fail_fresh(now_ms, key, (queue, place), 0)?;
            }
        }
        for place in retries {
            self.fail_retry(now_ms, key, place, 0)?;
        }
        Ok(())
    }
}

/// Finds the leases of a queue that have run out, and notes when the next one does.
fn end_of_leases(progress: &mut Progress, now_ms: u64) -> Vec<Place> {
    let mut places = Vec::new();
    let mut next_ms = u64::MAX;
    for slot in &progress.slots {
        match slot.state {
            SlotState::Leased { until_ms } if until_ms <= now_ms => places.push(slot.place),
            SlotState::Leased { until_ms } => next_ms = std::cmp::min(next_ms, until_ms),
            _ => {}
        }
    }
    progress.lease_check_ms = next_ms;
    places
}

fn deliver(
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
