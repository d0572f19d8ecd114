//! Provides what every delivery shares: what a receive may take, what it has gathered, and the delivery itself.

use std::sync::Arc;

use crate::engine::Engine;
use crate::format::handle::ReceiptHandle;
use crate::ids::SubscriptionKey;
use crate::limits::RECEIVE_BYTES_MAX;
use crate::message::{Delivered, Message, TagFilter};
use crate::store::Store;

/// What a delivery needs to know of the request.
#[derive(Clone, Copy)]
pub(crate) struct ReceiveLimits<'a> {
    pub(crate) key: SubscriptionKey,
    pub(crate) filter: &'a TagFilter,
    pub(crate) until_ms: u64,
    pub(crate) messages_max: usize,
    /// Whether a FIFO group may get several messages of a message group.
    pub(crate) run: bool,
}

/// What a receive has gathered so far.
#[derive(Default)]
pub(crate) struct Gathered {
    pub(crate) messages: Vec<Delivered>,
    bytes: usize,
}

impl Gathered {
    pub(crate) fn push(&mut self, delivery: Delivered) {
        self.bytes += delivery.message.weight();
        self.messages.push(delivery);
    }

    pub(crate) fn is_enough(&self, limits: ReceiveLimits<'_>) -> bool {
        self.messages.len() >= limits.messages_max || self.bytes >= RECEIVE_BYTES_MAX
    }
}

impl<S: Store> Engine<S> {
    pub(crate) fn is_satisfied(&self, limits: ReceiveLimits<'_>, taken: &Gathered) -> bool {
        let in_flight = self
            .subscriptions
            .get(&limits.key)
            .map_or(0, |subscription| subscription.in_flight);
        taken.is_enough(limits) || in_flight >= self.config.limits.in_flight_max
    }
}

pub(crate) fn deliver(
    key: SubscriptionKey,
    generation: u32,
    queue: u16,
    message: Arc<Message>,
    (attempt, returned): (u16, u16),
) -> Delivered {
    let place = message.place;
    let handle = ReceiptHandle {
        topic: key.1,
        group: key.0,
        generation,
        queue,
        place,
        attempt,
        returned,
        retry: None,
    };
    Delivered {
        message,
        queue,
        attempt,
        handle,
    }
}
