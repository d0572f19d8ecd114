//! Defines the topics and the messages that wait in the outbox.

use crate::ids::MerchantId;
use crate::model::stored::Stored;
use crate::model::timer::TimerKind;

/// A topic of the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// The timers of one kind.
    Timers(TimerKind),
    /// The events for other systems.
    Events,
}

/// The number under which the topic of events is stored; timer topics are stored as their kind.
const EVENTS: i64 = 10;

impl Topic {
    /// Every topic.
    pub const ALL: [Self; 7] = [
        Self::Timers(TimerKind::OrderDeadline),
        Self::Timers(TimerKind::OrderClosing),
        Self::Timers(TimerKind::Attempt),
        Self::Timers(TimerKind::Refund),
        Self::Timers(TimerKind::CouponExpiry),
        Self::Timers(TimerKind::Webhook),
        Self::Events,
    ];

    /// Its place in [`Self::ALL`].
    pub(crate) fn place(self) -> usize {
        let mut topics = Self::ALL.iter();
        topics.position(|each| *each == self).unwrap_or(0)
    }

    /// The name at the broker: the configured prefix, a hyphen, the topic's own name.
    pub fn name(self, prefix: &str) -> String {
        let name = match self {
            Self::Timers(TimerKind::OrderDeadline) => "order-deadlines",
            Self::Timers(TimerKind::OrderClosing) => "order-closings",
            Self::Timers(TimerKind::Attempt) => "payment-attempts",
            Self::Timers(TimerKind::Refund) => "refunds",
            Self::Timers(TimerKind::CouponExpiry) => "coupon-expiries",
            Self::Timers(TimerKind::Webhook) => "webhooks",
            Self::Events => "order-events",
        };
        format!("{prefix}-{name}")
    }

    /// The consumer group of the platform that reads it.
    pub fn group(self, prefix: &str) -> String {
        match self {
            Self::Timers(kind) => format!("{prefix}-{}", kind.as_str()),
            Self::Events => format!("{prefix}-coupons"),
        }
    }

    /// Whether it holds the messages of one kind of timer, and of which.
    pub(crate) fn timers(self) -> Option<TimerKind> {
        match self {
            Self::Timers(kind) => Some(kind),
            Self::Events => None,
        }
    }

    /// Its number in the database.
    pub(crate) fn stored(self) -> i64 {
        match self {
            Self::Timers(kind) => kind.stored(),
            Self::Events => EVENTS,
        }
    }

    /// The topic of a number from the database; `None` if the number is unknown.
    pub(crate) fn from_stored(stored: i64) -> Option<Self> {
        if stored == EVENTS {
            return Some(Self::Events);
        }
        TimerKind::from_stored(stored).map(Self::Timers)
    }
}

/// A set of topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TopicSet(u8);

impl TopicSet {
    /// Adds a topic.
    pub(crate) fn insert(&mut self, topic: Topic) {
        self.0 |= 1 << topic.place();
    }

    /// The topics in it, timers first.
    pub(crate) fn topics(self) -> impl Iterator<Item = Topic> {
        let mut topics = Topic::ALL.into_iter();
        std::iter::from_fn(move || topics.find(|topic| self.0 & (1 << topic.place()) != 0))
    }
}

/// Whether a message of the outbox waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboxState {
    /// It is published as soon as the broker takes it.
    Waiting,
    /// The broker refuses it for good; it waits for the operator.
    Parked,
}

impl OutboxState {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Parked => "parked",
        }
    }
}

/// A message in the outbox that has not been published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxMessage {
    /// Its number.
    pub seq: i64,
    /// Whose it is.
    pub merchant_id: MerchantId,
    /// The topic it goes to.
    pub topic: Topic,
    /// Its id at the broker.
    pub message_id: String,
    /// The id of what it is about.
    pub subject: String,
    /// The kind of timer or the type of event.
    pub tag: String,
    /// Whether it waits.
    pub state: OutboxState,
    /// When it may be delivered, in ms since the Unix epoch; at once if none.
    pub deliver_at_ms: Option<i64>,
    /// When it was written, in ms since the Unix epoch.
    pub created_ms: i64,
    /// When it was parked, in ms since the Unix epoch.
    pub parked_ms: Option<i64>,
    /// Why the broker refuses it.
    pub refusal: Option<String>,
}

/// A message to publish.
#[derive(Clone, Debug)]
pub(crate) struct OutboxRow {
    pub(crate) merchant_id: MerchantId,
    pub(crate) topic: Topic,
    /// The same for every publication, so that a broker or a consumer can drop repetitions.
    pub(crate) message_id: String,
    /// The id of what it is about; events of one subject keep their order.
    pub(crate) subject: String,
    pub(crate) tag: &'static str,
    pub(crate) deliver_at_ms: Option<i64>,
    pub(crate) body: String,
    pub(crate) created_ms: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_survives_its_stored_form() {
        for topic in Topic::ALL {
            assert_eq!(Topic::from_stored(topic.stored()).unwrap(), topic);
        }
        assert!(Topic::from_stored(7).is_none());
    }

    #[test]
    fn a_set_holds_the_topics_that_were_put_into_it() {
        let mut set = TopicSet::default();
        assert_eq!(set.topics().count(), 0);
        let refunds = Topic::Timers(TimerKind::Refund);
        for topic in [Topic::Events, refunds, Topic::Events] {
            set.insert(topic);
        }
        assert_eq!(set.topics().collect::<Vec<_>>(), [refunds, Topic::Events]);
    }
}
