//! Provides the window in which a repeated send is recognised.

use std::collections::{HashMap, VecDeque};

use crate::limits::Limits;
use crate::record::TopicId;
use crate::send::Sent;

/// Sends whose producer chose the message id, by topic and id, bounded by time and by count.
#[derive(Debug, Default)]
pub(crate) struct RepeatWindow {
    sends: HashMap<(TopicId, String), (u64, Sent)>,
    order: VecDeque<(u64, TopicId, String)>,
}

impl RepeatWindow {
    /// The first send of this id, if it was within the window.
    pub(crate) fn find(
        &self,
        now_ms: u64,
        limits: &Limits,
        topic: TopicId,
        message_id: &str,
    ) -> Option<Sent> {
        // The map is asked with a borrowed pair only when it holds anything at all.
        if self.sends.is_empty() {
            return None;
        }
        let (at_ms, sent) = self.sends.get(&(topic, message_id.to_owned()))?;
        (*at_ms >= oldest_ms(now_ms, limits)).then_some(*sent)
    }

    /// Remembers a send and forgets those the window no longer holds.
    pub(crate) fn remember(&mut self, now_ms: u64, limits: &Limits, message_id: &str, sent: Sent) {
        let topic = sent.handle.topic;
        self.order.push_back((now_ms, topic, message_id.to_owned()));
        self.sends
            .insert((topic, message_id.to_owned()), (now_ms, sent));
        let oldest_ms = oldest_ms(now_ms, limits);
        while let Some((at_ms, _, _)) = self.order.front() {
            if *at_ms >= oldest_ms && self.order.len() <= limits.repeat_window_sends {
                break;
            }
            let Some((at_ms, topic, message_id)) = self.order.pop_front() else {
                break;
            };
            // A later send of the same id, after the window of this one, is remembered for itself.
            let key = (topic, message_id);
            if self
                .sends
                .get(&key)
                .is_some_and(|(of_ms, _)| *of_ms == at_ms)
            {
                self.sends.remove(&key);
            }
        }
    }
}

fn oldest_ms(now_ms: u64, limits: &Limits) -> u64 {
    now_ms.saturating_sub(limits.repeat_window_ms)
}
