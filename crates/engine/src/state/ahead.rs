//! Provides what was read of a queue at once and is looked at one by one.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::message::Message;
use crate::place::Place;

/// Room that is kept when nothing is left.
const ROOM_KEPT: usize = 32;

/// Messages after the cursor, all of them due, in order.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    messages: VecDeque<Arc<Message>>,
    bytes: usize,
}

impl Ahead {
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// The bytes of the messages.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The place of the last message.
    pub(crate) fn last(&self) -> Option<Place> {
        self.messages.back().map(|message| message.place)
    }

    pub(crate) fn push(&mut self, message: Arc<Message>) {
        self.bytes += message.weight();
        self.messages.push_back(message);
    }

    pub(crate) fn pop(&mut self) -> Option<Arc<Message>> {
        let message = self.messages.pop_front()?;
        self.bytes = self.bytes.saturating_sub(message.weight());
        if self.messages.is_empty() && self.messages.capacity() > ROOM_KEPT {
            self.clear();
        }
        Some(message)
    }

    /// Forgets a message that was removed.
    pub(crate) fn remove(&mut self, place: Place) {
        self.messages.retain(|message| message.place != place);
        self.bytes = self.messages.iter().map(|message| message.weight()).sum();
    }

    /// Forgets all; the cursor has not passed them, so they are read again.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
