//! Dispatches delivered messages to what handles them: timers to `timer::fire`, paid orders to `coupon::issue`.
//!
//! A handled message is to be acknowledged; one that failed is to be handed back.

use serde::Deserialize;

use crate::coupon::issue;
use crate::error::{Error, Result};
use crate::ids::OrderId;
use crate::messaging::Incoming;
use crate::model::outbox::Topic;
use crate::model::timer::{TimerKind, TimerMessage};
use crate::platform::Platform;
use crate::timer::fire;

/// Handles messages of a topic; one result per message, in order.
pub(crate) async fn handle(
    platform: &Platform,
    topic: Topic,
    delivered: &[Incoming],
) -> Vec<Result<()>> {
    match topic {
        Topic::Timers(kind @ (TimerKind::OrderDeadline | TimerKind::CouponExpiry)) => {
            let messages: Vec<_> = delivered.iter().map(|each| timer(kind, each)).collect();
            let present = messages.iter().flatten().copied().collect();
            let failed = fire::fire_batch(platform, kind, present).await;
            results(&messages, failed)
        }
        Topic::Timers(kind) => {
            let mut results = Vec::with_capacity(delivered.len());
            for incoming in delivered {
                results.push(handle_one(platform, kind, incoming).await);
            }
            results
        }
        Topic::Events => {
            let orders: Vec<_> = delivered.iter().map(paid_order).collect();
            let present = orders.iter().flatten().copied().collect();
            let failed = issue::decide(platform, present).await;
            results(&orders, failed)
        }
    }
}

/// Handles a timer that asks a gateway.
pub(crate) async fn handle_one(
    platform: &Platform,
    kind: TimerKind,
    incoming: &Incoming,
) -> Result<()> {
    match timer(kind, incoming) {
        Some(message) => fire::fire_one(platform, kind, message).await.map(drop),
        None => Ok(()),
    }
}

/// The result of each message, given those of them that failed. One without content needs no work.
fn results<T: PartialEq>(messages: &[Option<T>], mut failed: Vec<(T, Error)>) -> Vec<Result<()>> {
    messages
        .iter()
        .map(|message| {
            let is_this = |(failed, _): &(T, Error)| Some(failed) == message.as_ref();
            match failed.iter().position(is_this) {
                Some(place) => Err(failed.swap_remove(place).1),
                None => Ok(()),
            }
        })
        .collect()
}

/// A message of the wrong form is dropped: it will never be of the right one.
fn timer(kind: TimerKind, incoming: &Incoming) -> Option<TimerMessage> {
    let message = TimerMessage::parse(kind, &incoming.body);
    if message.is_none() {
        tracing::warn!(message = %incoming.message_id, "drop a message that is not a timer");
    }
    message
}

#[derive(Deserialize)]
struct PaidEvent {
    #[serde(rename = "type")]
    kind: String,
    subject: String,
}

/// The order of an `order.paid` event.
fn paid_order(incoming: &Incoming) -> Option<OrderId> {
    let event: PaidEvent = serde_json::from_slice(&incoming.body).ok()?;
    (event.kind == "order.paid").then(|| event.subject.parse().ok())?
}
