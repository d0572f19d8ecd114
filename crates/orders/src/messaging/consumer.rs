//! Consumes topics: timers, and the events that issue coupons.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};

use crate::error::{Error, Result};
use crate::limits::WEBHOOK_CALLS_MAX;
use crate::messaging::{
    Handle, Incoming, Messaging, MessagingError, Subscription, dispatch, topics,
};
use crate::model::outbox::Topic;
use crate::model::timer::TimerKind;
use crate::platform::Platform;

/// How long one receive waits for a message.
const WAIT: Duration = Duration::from_secs(20);
/// When a message that failed is delivered again.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// How long a consumer waits after the broker failed.
const BACKOFF: Duration = Duration::from_secs(1);

/// One consumer at work.
pub(crate) struct Consumer {
    pub(crate) platform: Platform,
    pub(crate) topic: Topic,
    pub(crate) messaging: Arc<dyn Messaging>,
    /// The consumer group.
    pub(crate) group: String,
    pub(crate) subscription: Arc<dyn Subscription>,
    pub(crate) stop: watch::Receiver<bool>,
}

impl Consumer {
    /// The next messages; `None` once stopped.
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
            if let (Topic::Timers(kind), Ok(messages)) = (self.topic, &received)
                && messages.len() < max
            {
                self.platform.drained().set(kind, self.platform.now_ms());
            }
            match received {
                Ok(messages) if messages.is_empty() => {}
                Ok(messages) => return Some(messages),
                Err(error) => {
                    tracing::warn!(%error, "receive messages");
                    tokio::select! {
                        () = self.platform.clock().sleep(BACKOFF) => {}
                        _ = self.stop.changed() => return None,
                    }
                    if matches!(error, MessagingError::Missing(_)) {
                        self.join_again().await;
                    }
                }
            }
        }
    }

    /// Makes the topic and the consumer group again. A failure shows at the next receive.
    ///
    /// Only after the wait: who has deleted the topic to make it anew with other settings comes first.
    async fn join_again(&mut self) {
        match self.try_join().await {
            Ok(subscription) => self.subscription = subscription,
            Err(error) => tracing::warn!(%error, "join a consumer group again"),
        }
    }

    async fn try_join(&self) -> Result<Arc<dyn Subscription>> {
        topics::ensure(&self.platform, self.messaging.as_ref(), self.topic).await?;
        let name = self.topic.name(&self.platform.config().prefix);
        let subscription = self.messaging.subscribe(&name, &self.group).await?;
        Ok(Arc::from(subscription))
    }

    /// Handles messages that need no gateway, a batch in one transaction.
    pub(crate) async fn run_batches(mut self) {
        let max = self.platform.config().close_batch;
        while let Some(received) = self.next(max).await {
            let handled = dispatch::handle(&self.platform, self.topic, &received).await;
            let mut done = Vec::with_capacity(received.len());
            for (incoming, handled) in received.iter().zip(handled) {
                match handled {
                    Ok(()) => done.push(incoming.handle.clone()),
                    Err(error) => hand_back(self.subscription.as_ref(), incoming, &error).await,
                }
            }
            ack(self.subscription.as_ref(), &done).await;
        }
    }

    /// How many calls run at once. Those to webhooks have limits by endpoint besides.
    fn calls_max(&self, kind: TimerKind) -> usize {
        match kind {
            TimerKind::Webhook => WEBHOOK_CALLS_MAX,
            _ => self.platform.config().gateway_calls,
        }
    }

    /// Handles timers that ask a gateway, many at once: most of their time is spent waiting for it.
    pub(crate) async fn run_calls(mut self, kind: TimerKind) {
        let places = Arc::new(Semaphore::new(self.calls_max(kind)));
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
                    handle_call(&platform, subscription.as_ref(), kind, &incoming).await;
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
}

async fn handle_call(
    platform: &Platform,
    subscription: &dyn Subscription,
    kind: TimerKind,
    incoming: &Incoming,
) {
    match dispatch::handle_one(platform, kind, incoming).await {
        Ok(()) => ack(subscription, std::slice::from_ref(&incoming.handle)).await,
        Err(error) => hand_back(subscription, incoming, &error).await,
    }
}

fn warn_of_panic(joined: Result<(), JoinError>) {
    if let Err(error) = joined {
        tracing::error!(%error, "handle a message");
    }
}

/// A failed acknowledgement costs a redelivery, which changes nothing.
async fn ack(subscription: &dyn Subscription, handles: &[Handle]) {
    if handles.is_empty() {
        return;
    }
    warn_of("acknowledge messages", subscription.ack(handles).await);
}

async fn hand_back(subscription: &dyn Subscription, incoming: &Incoming, error: &Error) {
    tracing::error!(%error, message = %incoming.message_id, "handle a message");
    let retried = subscription
        .retry_later(&incoming.handle, RETRY_AFTER)
        .await;
    warn_of("hand a message back", retried);
}

fn warn_of(what: &'static str, outcome: Result<(), MessagingError>) {
    if let Err(error) = outcome {
        tracing::warn!(%error, "{what}");
    }
}
