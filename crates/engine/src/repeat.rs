//! Provides the window in which a repeated send is recognised.

use std::collections::{HashMap, VecDeque};

use crate::limits::Limits;
use crate::record::TopicId;
use crate::send::Sent;

/// Sends whose producer chose the message id, by topic and id, bounded by time and by count.
#[derive(Debug, Default)]
pub(crate) struct RepeatWindow {
    sends: HashMap<(TopicId, String), Sent>,
    order: VecDeque<(u64, TopicId, String)>,
}

impl RepeatWindow {
    /// The first send of this id, if it is still remembered.
    pub(crate) fn find(&self, topic: TopicId, message_id: &str) -> Option<Sent> {
        // The map is asked with a borrowed pair only when it holds anything at all.
        if self.sends.is_empty() {
            return None;
        }
        self.sends.get(&(topic, message_id.to_owned())).copied()
    }

    /// Remembers a send and forgets those the window no longer holds.
    pub(crate) fn remember(&mut self, now_ms: u64, limits: &Limits, message_id: &str, sent: Sent) {
        let topic = sent.handle.topic;
        self.order.push_back((now_ms, topic, message_id.to_owned()));
        self.sends.insert((topic, message_id.to_owned()), sent);
        let oldest_ms = now_ms.saturating_sub(limits.repeat_window_ms);
        while let Some((at_ms, _, _)) = self.order.front() {
            if *at_ms >= oldest_ms && self.order.len() <= limits.repeat_window_sends {
                break;
            }
            if let Some((_, topic, message_id)) = self.order.pop_front() {
                self.sends.remove(&(topic, message_id));
            }
        }
    }
}
