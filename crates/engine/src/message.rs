//! Defines messages: as producers send them, as timelines hold them, as consumers get them.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::format::handle::{MessageHandle, ReceiptHandle};
use crate::format::hash::text_hash;
use crate::format::message_id::made_message_id;
use crate::place::Place;

/// Prefix of the names of properties that a front end keeps with a message for its own use. They are no part of what
/// the producer sent.
pub const CARRIED_PREFIX: &str = "__dt_";

/// Bytes of a message in memory besides its texts and its body: itself, its entry in a head, what the allocator adds.
const MESSAGE_BYTES: usize = 320;
/// Longer bodies fill a block of the store of their own.
const DETACHED_BYTES_MAX: usize = 32 * 1024;

/// When a message may be delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// At once.
    #[default]
    Now,
    /// After this many ms.
    After {
        /// Delay in ms from the broker's clock.
        delay_ms: u64,
    },
    /// At this instant of the engine clock; a past one means at once.
    At {
        /// Instant in ms.
        due_ms: u64,
    },
    /// At a level of the delay table, counted from 1, as Apache RocketMQ's `DELAY` property.
    ///
    /// Above the last level it means the last one; 0 or less means at once.
    Level(i32),
}

/// A message as a producer hands it in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewMessage {
    /// The payload, at most `body_bytes_max` bytes.
    pub body: Bytes,
    /// Identity chosen by the producer; the broker makes one when it is absent.
    pub message_id: Option<String>,
    /// What consumers may filter by.
    pub tag: Option<String>,
    /// What a person may find the message by.
    pub keys: Vec<String>,
    /// User properties.
    pub properties: Vec<(String, String)>,
    /// Messages of one group are delivered in order, one at a time.
    pub message_group: Option<String>,
    /// When it was made, in ms since the Unix epoch; 0 when unknown.
    pub born_ms: u64,
    /// When it may be delivered.
    pub delivery: Delivery,
}

/// A digest of a body of 16 bytes, such as its MD5, that is computed when it is first needed and kept with the message
/// while that is in memory. It is no part of the message.
#[derive(Clone, Default)]
pub struct BodyDigest(OnceLock<[u8; 16]>);

impl BodyDigest {
    /// Returns the digest; the first caller computes it.
    pub fn get_or_compute(&self, compute: impl FnOnce() -> [u8; 16]) -> [u8; 16] {
        *self.0.get_or_init(compute)
    }
}

impl fmt::Debug for BodyDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("BodyDigest")
    }
}

impl PartialEq for BodyDigest {
    /// Messages are equal whether their digests have been computed or not.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for BodyDigest {}

/// A message of a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its place in the timeline.
    pub place: Place,
    /// The sequence it was first stored under; a reschedule changes the place, never this.
    pub identity: u64,
    /// Identity of the message, chosen by the producer or made by the broker.
    pub message_id: String,
    /// What consumers may filter by.
    pub tag: Option<String>,
    /// What a person may find the message by.
    pub keys: Vec<String>,
    /// User properties.
    pub properties: Vec<(String, String)>,
    /// Messages of one group are delivered in order, one at a time.
    pub message_group: Option<String>,
    /// When it was made, in ms since the Unix epoch; 0 when unknown.
    pub born_ms: u64,
    /// When it was stored, in ms of the engine clock.
    pub stored_ms: u64,
    /// The payload.
    pub body: Bytes,
    /// A digest of the body, once a front end has computed it.
    pub digest: BodyDigest,
}

impl Message {
    /// Bytes this message holds in memory, about.
    pub fn weight(&self) -> usize {
        let properties: usize = self
            .properties
            .iter()
            .map(|(name, value)| name.len() + value.len() + 48)
            .sum();
        let keys: usize = self.keys.iter().map(|key| key.len() + 24).sum();
        let texts = [&self.tag, &self.message_group].into_iter().flatten();
        let texts: usize = texts.map(String::len).sum();
        self.body.len() + self.message_id.len() + properties + keys + texts + MESSAGE_BYTES
    }

    /// The message with a body of its own, if the body may be a small part of a block of the store that it would keep
    /// in memory.
    pub(crate) fn detached(self) -> Self {
        if self.body.len() > DETACHED_BYTES_MAX {
            return self;
        }
        Self {
            body: Bytes::copy_from_slice(&self.body),
            ..self
        }
    }
}

/// One delivery of a message to a consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The message.
    pub message: Arc<Message>,
    /// Its message queue.
    pub queue: u16,
    /// 1 for the first delivery.
    pub attempt: u16,
    /// Names this delivery to acknowledge it, to hand it back, or to keep it longer.
    pub handle: ReceiptHandle,
}

/// Which messages a consumer wants.
#[derive(Clone, Debug, Default)]
pub enum TagFilter {
    /// All of them.
    #[default]
    All,
    /// Those whose tag is one of these; others count as consumed by the group.
    AnyOf(Vec<String>),
    /// Those a rule from outside lets pass, an SQL expression over properties for instance.
    Matching(Arc<dyn MessageFilter>),
}

/// Decides which messages a consumer wants.
pub trait MessageFilter: std::fmt::Debug + Send + Sync {
    /// Whether the consumer wants this message. It must always say the same of the same message.
    fn passes(&self, message: &Message) -> bool;

    /// A number that two rules have in common if they are the same; `None`: it is not known.
    fn fingerprint(&self) -> Option<u64> {
        None
    }
}

impl PartialEq for TagFilter {
    /// Two rules from outside are equal if they are the same one.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, Self::All) => true,
            (Self::AnyOf(tags), Self::AnyOf(others)) => tags == others,
            (Self::Matching(rule), Self::Matching(other)) => Arc::ptr_eq(rule, other),
            _ => false,
        }
    }
}

impl Eq for TagFilter {}

impl TagFilter {
    /// Whether a message passes.
    pub fn passes(&self, message: &Message) -> bool {
        match self {
            Self::Matching(rule) => rule.passes(message),
            _ => self.passes_tag(message.tag.as_deref()),
        }
    }

    /// A number that two filters have in common if they are the same; `None`: it is not known.
    pub(crate) fn fingerprint(&self) -> Option<u64> {
        match self {
            Self::All => Some(0),
            // Their order does not matter.
            Self::AnyOf(tags) => {
                let tags: BTreeSet<_> = tags.iter().collect();
                let hashes = tags.into_iter().map(|tag| text_hash(tag));
                Some(hashes.fold(1, |hash, tag| hash.rotate_left(5) ^ tag))
            }
            Self::Matching(rule) => rule.fingerprint(),
        }
    }

    fn passes_tag(&self, tag: Option<&str>) -> bool {
        match self {
            Self::All | Self::Matching(_) => true,
            Self::AnyOf(tags) => tag.is_some_and(|tag| tags.iter().any(|wanted| wanted == tag)),
        }
    }

    /// Reads RocketMQ's form: `*` or empty for all, else tags parted by `||`.
    pub fn parse(expression: &str) -> Self {
        let expression = expression.trim();
        if expression.is_empty() || expression == "*" {
            return Self::All;
        }
        Self::AnyOf(
            expression
                .split("||")
                .map(|tag| tag.trim().to_owned())
                .filter(|tag| !tag.is_empty())
                .collect(),
        )
    }
}

/// The delay table: how long each level waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelayLevels {
    /// Delay of level 1, 2 and so on, in ms.
    pub delays_ms: Vec<u64>,
}

impl Default for DelayLevels {
    /// The default table of Apache RocketMQ: 1s 5s 10s 30s 1m .. 10m 20m 30m 1h 2h.
    fn default() -> Self {
        const SECOND: u64 = 1_000;
        const MINUTE: u64 = 60 * SECOND;
        let mut delays_ms = vec![SECOND, 5 * SECOND, 10 * SECOND, 30 * SECOND];
        delays_ms.extend((1..=10).map(|minutes| minutes * MINUTE));
        delays_ms.extend([20 * MINUTE, 30 * MINUTE, 60 * MINUTE, 120 * MINUTE]);
        Self { delays_ms }
    }
}

impl DelayLevels {
    /// Delay of a level in ms: clamped to the last level above it, 0 for 0 or less.
    pub fn delay_ms(&self, level: i32) -> u64 {
        let Ok(level) = usize::try_from(level) else {
            return 0;
        };
        if level == 0 {
            return 0;
        }
        let index = std::cmp::min(level, self.delays_ms.len());
        index
            .checked_sub(1)
            .and_then(|index| self.delays_ms.get(index))
            .copied()
            .unwrap_or(0)
    }
}

/// The answer to a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Names the message, to recall or reschedule it.
    pub handle: MessageHandle,
    /// Whether it was stored before, by an earlier send with the same message id.
    pub repeated: bool,
}

impl Sent {
    /// When it may be delivered, in ms of the engine clock.
    pub fn due_ms(&self) -> u64 {
        self.handle.place.due_ms
    }

    /// The id the broker gives the message when its producer gave none.
    pub fn made_message_id(&self) -> String {
        made_message_id(self.handle.queue, self.handle.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_levels_are_those_of_rocketmq() {
        let levels = DelayLevels::default();
        for (level, delay_ms) in [
            (1, 1_000),
            (4, 30_000),
            (5, 60_000),
            (14, 600_000),
            (16, 1_800_000),
            (18, 7_200_000),
            (19, 7_200_000),
            (0, 0),
            (-3, 0),
        ] {
            assert_eq!(levels.delay_ms(level), delay_ms, "level {level}");
        }
        assert_eq!(levels.delays_ms.len(), 18);
    }

    #[test]
    fn tag_filters_take_the_form_of_rocketmq() {
        assert_eq!(TagFilter::parse(" * "), TagFilter::All);
        let filter = TagFilter::parse("paid || closed");
        assert!(filter.passes_tag(Some("paid")) && filter.passes_tag(Some("closed")));
        assert!(!filter.passes_tag(Some("created")) && !filter.passes_tag(None));
    }
}
