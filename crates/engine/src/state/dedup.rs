//! Provides deduplication: the window in which a repeated send is recognised.

use std::collections::{BTreeMap, HashMap, VecDeque, hash_map};
use std::ops::Bound;

use crate::format::handle::{MessageHandle, TransactionHandle};
use crate::format::hash::text_hash;
use crate::ids::TopicId;
use crate::limits::Limits;
use crate::message::{CARRIED_PREFIX, Message, NewMessage};
use crate::place::Place;

/// Sends past the window that one further send forgets in its own topic, and in another one.
const EXPIRED_PER_SEND_MAX: usize = 16;
/// The part of the largest topic that makes room for a topic with few sends.
const SHARE_FREED: usize = 8;

type Entry<'a> = hash_map::OccupiedEntry<'a, u64, Seen>;

/// What was stored under a message id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// A message, by the handle it has now.
    Message(MessageHandle),
    /// A half message, and the identity of the message once it is committed.
    Half {
        transaction: TransactionHandle,
        committed: Option<u64>,
    },
}

impl Stored {
    fn is(&self, identity: u64) -> bool {
        match self {
            Self::Message(handle) => handle.identity == identity,
            Self::Half { committed, .. } => *committed == Some(identity),
        }
    }
}

/// A send whose producer chose the message id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// When it was stored, in ms.
    pub(crate) at_ms: u64,
    /// The [`content`] of the message.
    pub(crate) content: u64,
    pub(crate) stored: Stored,
}

/// The sends of one topic.
#[derive(Debug, Default)]
struct Recent {
    /// By the hash of the message id. The hash is not keyed, so the map must be: clients choose the ids.
    seen: HashMap<u64, Seen>,
    /// In the order they came. Sends that are no longer remembered stay here until their turn.
    order: VecDeque<(u64, u64)>,
}

impl Recent {
    /// Forgets the oldest send. A later one of the same id is remembered for itself.
    fn forget_oldest(&mut self) {
        let Some((at_ms, id)) = self.order.pop_front() else {
            return;
        };
        if self.seen.get(&id).is_some_and(|seen| seen.at_ms == at_ms) {
            self.seen.remove(&id);
        }
    }

    /// Forgets some of those before `oldest_ms`; returns how many.
    fn forget_expired(&mut self, oldest_ms: u64) -> usize {
        let before = self.order.len();
        for _ in 0..EXPIRED_PER_SEND_MAX {
            if self.order.front().is_none_or(|send| send.0 >= oldest_ms) {
                break;
            }
            self.forget_oldest();
        }
        before - self.order.len()
    }
}

/// Sends whose producer chose the message id, bounded by time and by count. A topic with many sends makes room for
/// the others.
#[derive(Debug, Default)]
pub(crate) struct DedupWindow {
    topics: BTreeMap<TopicId, Recent>,
    /// Sends in all topics.
    sends: usize,
    /// The topic that was looked at last for sends past the window.
    swept: TopicId,
    /// Sends up to this instant came to an earlier run, in ms; only the store knows of them.
    earlier_ms: u64,
}

impl DedupWindow {
    /// The window after a start, when an earlier run has stored messages up to `earlier_ms`.
    pub(crate) fn after(earlier_ms: u64) -> Self {
        Self {
            earlier_ms,
            ..Self::default()
        }
    }

    /// Whether sends of an earlier run are within the window.
    pub(crate) fn reaches_earlier_run(&self, oldest_ms: u64) -> bool {
        oldest_ms <= self.earlier_ms
    }

    /// The first send of this id, if it was within the window.
    pub(crate) fn find(&self, oldest_ms: u64, topic: TopicId, message_id: &str) -> Option<Seen> {
        let seen = self.topics.get(&topic)?.seen.get(&text_hash(message_id))?;
        (seen.at_ms >= oldest_ms).then_some(*seen)
    }

    /// Remembers a send, and forgets some that the window no longer holds.
    pub(crate) fn remember(
        &mut self,
        oldest_ms: u64,
        limits: &Limits,
        (topic, message_id): (TopicId, &str),
        seen: Seen,
    ) {
        let id = text_hash(message_id);
        let recent = self.topics.entry(topic).or_default();
        recent.seen.insert(id, seen);
        recent.order.push_back((seen.at_ms, id));
        self.sends += 1;
        self.sends -= recent.forget_expired(oldest_ms);
        self.sweep(oldest_ms);
        while self.sends > limits.repeat_window_sends {
            self.make_room(topic, limits.repeat_window_sends);
        }
    }

    /// Forgets expired sends of the next topic in turn, which may have no sends of its own any longer.
    fn sweep(&mut self, oldest_ms: u64) {
        let after = (Bound::Excluded(self.swept), Bound::Unbounded);
        let next = self.topics.range_mut(after).next();
        let Some((topic, recent)) = next else {
            self.swept = TopicId::MIN;
            return;
        };
        let topic = *topic;
        self.sends -= recent.forget_expired(oldest_ms);
        if recent.order.is_empty() {
            self.topics.remove(&topic);
        }
        self.swept = topic;
    }

    /// Forgets the oldest send of a topic that has its share or more, else some of the topic with the most.
    fn make_room(&mut self, topic: TopicId, sends_max: usize) {
        let share = sends_max / std::cmp::max(self.topics.len(), 1);
        let own = self.topics.get_mut(&topic);
        if let Some(own) = own.filter(|own| own.order.len() > share) {
            own.forget_oldest();
            self.sends -= 1;
            return;
        }
        let largest = self.topics.values_mut().max_by_key(|one| one.order.len());
        let Some(largest) = largest else {
            return;
        };
        for _ in 0..largest.order.len().div_ceil(SHARE_FREED) {
            largest.forget_oldest();
            self.sends -= 1;
        }
    }

    /// What is remembered of a message id, if that belongs to the message or half message meant.
    fn of(
        &mut self,
        topic: TopicId,
        message_id: &str,
        is: impl Fn(&Stored) -> bool,
    ) -> Option<Entry<'_>> {
        let recent = self.topics.get_mut(&topic)?;
        match recent.seen.entry(text_hash(message_id)) {
            hash_map::Entry::Occupied(seen) if is(&seen.get().stored) => Some(seen),
            _ => None,
        }
    }

    /// Frees the id of a message that was cancelled.
    pub(crate) fn cancelled(&mut self, topic: TopicId, message: &Message) {
        let is = |stored: &Stored| stored.is(message.identity);
        if let Some(seen) = self.of(topic, &message.message_id, is) {
            seen.remove();
        }
    }

    /// Notes how a transaction ended: committed, as a message of this identity, or rolled back, which frees its id.
    pub(crate) fn ended(
        &mut self,
        handle: TransactionHandle,
        message_id: &str,
        identity: Option<u64>,
    ) {
        let is = |stored: &Stored| matches!(stored, Stored::Half { transaction, .. } if *transaction == handle);
        let Some(mut seen) = self.of(handle.topic, message_id, is) else {
            return;
        };
        if identity.is_none() {
            seen.remove();
            return;
        }
        seen.get_mut().stored = Stored::Half {
            transaction: handle,
            committed: identity,
        };
    }

    /// Notes where a message is now and what it holds.
    pub(crate) fn moved(&mut self, topic: TopicId, message: &Message, place: Place) {
        let is = |stored: &Stored| stored.is(message.identity);
        let Some(mut seen) = self.of(topic, &message.message_id, is) else {
            return;
        };
        let seen = seen.get_mut();
        seen.content = content(message);
        // A half message is named by its transaction, wherever the message is.
        if let Stored::Message(handle) = &mut seen.stored {
            handle.place = place;
        }
    }

    /// Forgets the sends of a topic that was deleted.
    pub(crate) fn forget_topic(&mut self, topic: TopicId) {
        let recent = self.topics.remove(&topic);
        self.sends -= recent.map_or(0, |recent| recent.order.len());
    }
}

/// The parts of a message by which a repeated send is recognised.
pub(crate) struct Content<'a> {
    body: &'a [u8],
    tag: Option<&'a str>,
    keys: &'a [String],
    message_group: Option<&'a str>,
    properties: &'a [(String, String)],
}

impl<'a> From<&'a NewMessage> for Content<'a> {
    fn from(message: &'a NewMessage) -> Self {
        Self {
            body: &message.body,
            tag: message.tag.as_deref(),
            keys: &message.keys,
            message_group: message.message_group.as_deref(),
            properties: &message.properties,
        }
    }
}

impl<'a> From<&'a Message> for Content<'a> {
    fn from(message: &'a Message) -> Self {
        Self {
            body: &message.body,
            tag: message.tag.as_deref(),
            keys: &message.keys,
            message_group: message.message_group.as_deref(),
            properties: &message.properties,
        }
    }
}

/// A digest of what a message holds: CRC-32 of all its parts, and the length of the body.
///
/// Left out is what differs when a client sends the same message again: the due time, which may be given as a delay,
/// and the properties in which a front end carries host, trace and time.
pub(crate) fn content<'a>(message: impl Into<Content<'a>>) -> u64 {
    let message = message.into();
    let mut hasher = crc32fast::Hasher::new();
    let mut add = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    add(message.body);
    for text in [message.tag, message.message_group] {
        // A text that is given is not empty.
        add(text.unwrap_or_default().as_bytes());
    }
    add(&(message.keys.len() as u64).to_le_bytes());
    message.keys.iter().for_each(|key| add(key.as_bytes()));
    let own = |property: &&(String, String)| !property.0.starts_with(CARRIED_PREFIX);
    for (name, value) in message.properties.iter().filter(own) {
        add(name.as_bytes());
        add(value.as_bytes());
    }
    (message.body.len() as u64) << 32 | u64::from(hasher.finalize())
}
