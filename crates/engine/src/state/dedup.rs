//! Provides deduplication: the window in which a repeated send is recognised.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::ids::TopicId;
use crate::limits::Limits;
use crate::message::Sent;

/// Sends whose producer chose the message id, by topic and id, bounded by time and by count.
#[derive(Debug, Default)]
pub(crate) struct DedupWindow {
    sends: HashMap<TopicId, HashMap<Arc<str>, (u64, Sent)>>,
    /// In the order they came; each shares its id with the map.
    order: VecDeque<(u64, TopicId, Arc<str>)>,
}

impl DedupWindow {
    /// The first send of this id, if it was within the window.
    pub(crate) fn find(
        &self,
        now_ms: u64,
        limits: &Limits,
        topic: TopicId,
        message_id: &str,
    ) -> Option<Sent> {
        let (at_ms, sent) = self.sends.get(&topic)?.get(message_id)?;
        (*at_ms >= oldest_ms(now_ms, limits)).then_some(*sent)
    }

    /// Remembers a send and forgets those the window no longer holds.
    pub(crate) fn remember(&mut self, now_ms: u64, limits: &Limits, message_id: &str, sent: Sent) {
        let topic = sent.handle.topic;
        let message_id: Arc<str> = message_id.into();
        self.order
            .push_back((now_ms, topic, Arc::clone(&message_id)));
        let of_topic = self.sends.entry(topic).or_default();
        of_topic.insert(message_id, (now_ms, sent));
        let oldest_ms = oldest_ms(now_ms, limits);
        while let Some((at_ms, _, _)) = self.order.front() {
            if *at_ms >= oldest_ms && self.order.len() <= limits.repeat_window_sends {
                break;
            }
            let Some((at_ms, topic, message_id)) = self.order.pop_front() else {
                break;
            };
            self.forget(at_ms, topic, &message_id);
        }
    }

    /// Forgets a send. A later one of the same id, after the window of this one, is remembered for itself.
    fn forget(&mut self, at_ms: u64, topic: TopicId, message_id: &str) {
        let Entry::Occupied(mut of_topic) = self.sends.entry(topic) else {
            return;
        };
        let known = of_topic.get().get(message_id);
        if known.is_some_and(|(of_ms, _)| *of_ms == at_ms) {
            of_topic.get_mut().remove(message_id);
        }
        if of_topic.get().is_empty() {
            of_topic.remove();
        }
    }
}

fn oldest_ms(now_ms: u64, limits: &Limits) -> u64 {
    now_ms.saturating_sub(limits.repeat_window_ms)
}
