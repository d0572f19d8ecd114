//! Consumes topics: timers for the closer, events for the coupons.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};

use crate::closer;
use crate::coupon::award::award;
use crate::db::Tx;
use crate::error::Result;
use crate::ids::OrderId;
use crate::messaging::{Handle, Incoming, MessagingError, Subscription};
use crate::platform::Platform;
use crate::timer::{TimerKind, TimerMessage};

/// How long one receive waits for a message.
const WAIT: Duration = Duration::from_secs(20);
/// When a message whose work failed comes again.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// How long a consumer waits after the broker failed.
const BACKOFF: Duration = Duration::from_secs(1);

/// One consumer at work.
pub(crate) struct Consumer {
    pub(crate) platform: Platform,
    pub(crate) subscription: Arc<dyn Subscription>,
    pub(crate) stop: watch::Receiver<bool>,
}

impl Consumer {
    /// The next messages; `None` once told to stop.
    async fn next(&mut self, max: usize) -> Option<Vec<Incoming>> {
        loop {
            if *self.stop.borrow() {
                return None;
            }
            let received = tokio::select! {
                biased;
                _ = self.stop.changed() => return None,
                received = self.subscription.receive(max, WAIT) => received,
            };
            match received {
                Ok(messages) if messages.is_empty() => {}
                Ok(messages) => return Some(messages),
                Err(error) => {
                    tracing::warn!(%error, "receive messages");
                    tokio::select! {
                        () = self.platform.clock().sleep(BACKOFF) => {}
                        _ = self.stop.changed() => return None,
                    }
                }
            }
        }
    }

    /// Answers timers that need no gateway, a batch in one transaction.
    pub(crate) async fn run_batches(mut self, kind: TimerKind) {
        let max = self.platform.config().close_batch;
        while let Some(received) = self.next(max).await {
            let messages: Vec<TimerMessage> = received
                .iter()
                .filter_map(|incoming| parse(kind, incoming))
                .collect();
            let failed = closer::fire_batch(&self.platform, kind, messages).await;
            let mut done = Vec::with_capacity(received.len());
            for incoming in &received {
                let message = parse(kind, incoming);
                let failure = failed.iter().find(|(failed, _)| Some(*failed) == message);
                match failure {
                    None => done.push(incoming.handle.clone()),
                    Some((_, error)) => {
                        tracing::error!(%error, message = %incoming.message_id, "answer a timer");
                        retry_later(self.subscription.as_ref(), &incoming.handle).await;
                    }
                }
            }
            ack(self.subscription.as_ref(), &done).await;
        }
    }

    /// Answers timers that ask a gateway, many at once: the wait is the gateway's.
    pub(crate) async fn run_calls(mut self, kind: TimerKind) {
        let places = Arc::new(Semaphore::new(self.platform.config().gateway_calls));
        let mut calls = JoinSet::new();
        loop {
            // A message is received only when there is a place for it, else its lease would run out in a queue.
            let place = Arc::clone(&places).acquire_owned().await;
            drop(place.expect("the semaphore is never closed"));
            let free = std::cmp::max(places.available_permits(), 1);
            let Some(received) = self.next(free).await else {
                break;
            };
            for incoming in received {
                let place = Arc::clone(&places).acquire_owned().await;
                let place = place.expect("the semaphore is never closed");
                let platform = self.platform.clone();
                let subscription = Arc::clone(&self.subscription);
                calls.spawn(async move {
                    answer_one(&platform, subscription.as_ref(), kind, &incoming).await;
                    drop(place);
                });
            }
            while let Some(joined) = calls.try_join_next() {
                warn_of_panic(joined);
            }
        }
        while let Some(joined) = calls.join_next().await {
            warn_of_panic(joined);
        }
    }

    /// Decides the coupons of paid orders.
    pub(crate) async fn run_awards(mut self) {
        let max = self.platform.config().close_batch;
        while let Some(received) = self.next(max).await {
            let paid: Vec<OrderId> = received.iter().filter_map(paid_order).collect();
            let decided = if paid.is_empty() {
                Ok(())
            } else {
                decide(&self.platform, paid).await
            };
            match decided {
                Ok(()) => {
                    let handles: Vec<Handle> = received
                        .into_iter()
                        .map(|incoming| incoming.handle)
                        .collect();
                    ack(self.subscription.as_ref(), &handles).await;
                }
                Err(error) => {
                    tracing::error!(%error, "decide coupons");
                    for incoming in &received {
                        retry_later(self.subscription.as_ref(), &incoming.handle).await;
                    }
                }
            }
        }
    }
}

/// A message of the wrong form is dropped: it will never be of the right one.
fn parse(kind: TimerKind, incoming: &Incoming) -> Option<TimerMessage> {
    let message = TimerMessage::parse(kind, &incoming.body);
    if message.is_none() {
        tracing::warn!(message = %incoming.message_id, "drop a message that is no timer");
    }
    message
}

async fn answer_one(
    platform: &Platform,
    subscription: &dyn Subscription,
    kind: TimerKind,
    incoming: &Incoming,
) {
    let answered = match parse(kind, incoming) {
        Some(message) => closer::fire_one(platform, kind, message).await.map(drop),
        None => Ok(()),
    };
    match answered {
        Ok(()) => ack(subscription, std::slice::from_ref(&incoming.handle)).await,
        Err(error) => {
            tracing::error!(%error, message = %incoming.message_id, "answer a timer");
            retry_later(subscription, &incoming.handle).await;
        }
    }
}

fn warn_of_panic(joined: std::result::Result<(), JoinError>) {
    if let Err(error) = joined {
        tracing::error!(%error, "answer a timer");
    }
}

#[derive(Deserialize)]
struct PaidEvent {
    #[serde(rename = "type")]
    kind: String,
    subject: String,
}

pub(crate) fn paid_order(incoming: &Incoming) -> Option<OrderId> {
    let event: PaidEvent = serde_json::from_slice(&incoming.body).ok()?;
    (event.kind == "order.paid").then(|| event.subject.parse().ok())?
}

/// Decides the coupons of these orders in one transaction.
pub(crate) async fn decide(platform: &Platform, paid: Vec<OrderId>) -> Result<()> {
    platform
        .writer()
        .run(paid, |tx, paid| Box::pin(decide_in(tx, paid)))
        .await
}

async fn decide_in(tx: &mut Tx, paid: &[OrderId]) -> Result<()> {
    for order_id in paid {
        award(tx, *order_id).await?;
    }
    Ok(())
}

/// A failed acknowledgement costs a redelivery, which changes nothing.
async fn ack(subscription: &dyn Subscription, handles: &[Handle]) {
    if handles.is_empty() {
        return;
    }
    warn_of("acknowledge messages", subscription.ack(handles).await);
}

async fn retry_later(subscription: &dyn Subscription, handle: &Handle) {
    let retried = subscription.retry_later(handle, RETRY_AFTER).await;
    warn_of("hand a message back", retried);
}

fn warn_of(what: &'static str, outcome: Result<(), MessagingError>) {
    if let Err(error) = outcome {
        tracing::warn!(%error, "{what}");
    }
}
