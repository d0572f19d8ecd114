//! Notes whether messages get out of the outbox, for those who ask before they rely on it.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::model::outbox::Topic;
use crate::model::timer::TimerKind;

/// Nothing, in place of an instant.
const NONE: i64 = 0;

/// How the relay gets on.
#[derive(Debug, Default)]
pub(crate) struct Publishing {
    topics: [TopicPublishing; Topic::ALL.len()],
}

/// How the relay of a topic gets on: since when, in ms since the Unix epoch.
#[derive(Debug, Default)]
struct TopicPublishing {
    /// The oldest message has waited.
    waiting: AtomicI64,
    /// Rounds have failed.
    failing: AtomicI64,
    /// The broker has been asked to take messages, and has not answered.
    asking: AtomicI64,
}

impl Publishing {
    fn of(&self, topic: Topic) -> Option<&TopicPublishing> {
        self.topics.get(topic.place())
    }

    /// Sets since when the oldest message of the topic has waited.
    pub(crate) fn set_waiting_since(&self, topic: Topic, since_ms: Option<i64>) {
        if let Some(topic) = self.of(topic) {
            let since_ms = since_ms.unwrap_or(NONE);
            topic.waiting.store(since_ms, Ordering::Relaxed);
        }
    }

    /// Sets since when the broker has been asked to take messages of the topic.
    pub(crate) fn set_asking_since(&self, topic: Topic, since_ms: Option<i64>) {
        if let Some(topic) = self.of(topic) {
            let since_ms = since_ms.unwrap_or(NONE);
            topic.asking.store(since_ms, Ordering::Relaxed);
        }
    }

    /// For how long the oldest timer message has waited, those of webhooks apart, in ms; 0 where timers get out.
    ///
    /// A topic whose last round failed counts since its oldest message was written, and one whose broker does not
    /// answer since it was asked. A backlog on its way does not count.
    pub(crate) fn waits_ms(&self, now_ms: i64) -> i64 {
        let timers = Topic::ALL
            .into_iter()
            .filter(|topic| matches!(topic, Topic::Timers(kind) if *kind != TimerKind::Webhook));
        let waits = timers.filter_map(|topic| {
            let topic = self.of(topic)?;
            let waiting_ms = topic.waiting.load(Ordering::Relaxed);
            let asking_ms = topic.asking.load(Ordering::Relaxed);
            let since_ms = match waiting_ms {
                NONE => NONE,
                waiting_ms if topic.is_failing() => waiting_ms,
                _ => asking_ms,
            };
            (since_ms != NONE).then_some(now_ms - since_ms)
        });
        waits.max().map_or(0, |waits_ms| std::cmp::max(waits_ms, 0))
    }

    /// A round of the topic has failed. The first is logged.
    pub(crate) fn set_failing(&self, topic: Topic, now_ms: i64) {
        if let Some(state) = self.of(topic)
            && !state.is_failing()
        {
            state.failing.store(now_ms, Ordering::Relaxed);
            tracing::warn!(
                ?topic,
                "messages cannot be published; they wait in the outbox and are tried again"
            );
        }
    }

    /// A round of the topic went through everything that waits without a failure. The first after failures is logged.
    pub(crate) fn set_working(&self, topic: Topic, now_ms: i64) {
        let Some(state) = self.of(topic) else {
            return;
        };
        let since_ms = state.failing.load(Ordering::Relaxed);
        if since_ms != NONE {
            state.failing.store(NONE, Ordering::Relaxed);
            let lasted_ms = now_ms - since_ms;
            tracing::info!(?topic, lasted_ms, "messages are published again");
        }
    }

    /// Whether the last round of the topic failed.
    pub(crate) fn is_failing(&self, topic: Topic) -> bool {
        self.of(topic).is_some_and(TopicPublishing::is_failing)
    }
}

impl TopicPublishing {
    fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed) != NONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_does_not_answer_is_noticed() {
        let publishing = Publishing::default();
        let topic = Topic::Timers(TimerKind::OrderDeadline);
        publishing.set_waiting_since(topic, Some(1_000));
        assert_eq!(publishing.waits_ms(9_000), 0, "it is on its way");
        publishing.set_asking_since(topic, Some(2_000));
        assert_eq!(publishing.waits_ms(9_000), 7_000);
        publishing.set_asking_since(topic, None);
        publishing.set_failing(topic, 3_000);
        assert_eq!(publishing.waits_ms(9_000), 8_000);
        publishing.set_working(topic, 4_000);
        assert_eq!(publishing.waits_ms(9_000), 0);
    }

    #[test]
    fn events_that_wait_are_no_timers_that_wait() {
        let publishing = Publishing::default();
        publishing.set_waiting_since(Topic::Events, Some(1_000));
        publishing.set_failing(Topic::Events, 1_000);
        assert_eq!(publishing.waits_ms(90_000), 0);
        assert!(publishing.is_failing(Topic::Events));
    }
}
