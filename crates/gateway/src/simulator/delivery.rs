//! Provides the delivery of callbacks: signed when sent, several at a time, repeated until acknowledged.

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderMap;
use tokio::task::JoinSet;

use super::Simulator;
use super::queue::Callback;

/// How many callbacks are under way at a time.
const IN_FLIGHT_MAX: usize = 64;

/// A signed callback on its way to the platform.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The gateway account it belongs to.
    pub account_id: String,
    /// The signature's headers.
    pub headers: HeaderMap,
    /// The body that was signed.
    pub body: Vec<u8>,
}

/// A callback did not reach the platform or was not acknowledged; it is sent again later.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the callback was not acknowledged: {0}")]
pub struct NotAcknowledged(pub String);

/// Where the simulator sends its callbacks.
#[async_trait]
pub trait CallbackSink: Send + Sync + 'static {
    /// Hands one callback over; `Ok` once the platform has acknowledged it.
    async fn deliver(&self, delivery: Delivery) -> Result<(), NotAcknowledged>;
}

impl Simulator {
    /// Sends callbacks as they become due until `shutdown` ends, then waits for those under way.
    pub async fn run(self, sink: Arc<dyn CallbackSink>, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() < IN_FLIGHT_MAX
                && let Some(callback) = self.take_due()
            {
                let simulator = self.clone();
                let sink = Arc::clone(&sink);
                under_way.spawn(async move { simulator.send(callback, sink.as_ref()).await });
            }
            let full = under_way.len() >= IN_FLIGHT_MAX;
            tokio::select! {
                () = &mut shutdown => break,
                Some(_) = under_way.join_next() => {}
                () = self.next_due(), if !full => {}
            }
        }
        while under_way.join_next().await.is_some() {}
    }

    /// Sends every callback that is due, one after another; the answer is how many were acknowledged.
    ///
    /// For tests, which move the clock themselves.
    pub async fn deliver_due(&self, sink: &dyn CallbackSink) -> usize {
        let mut acknowledged = 0;
        while let Some(callback) = self.take_due() {
            acknowledged += usize::from(self.send(callback, sink).await);
        }
        acknowledged
    }

    fn take_due(&self) -> Option<Callback> {
        let now_ms = self.shared.clock.now_ms();
        self.book().queue.take_due(now_ms)
    }

    /// Ends once a callback is due.
    async fn next_due(&self) {
        loop {
            // The wake-up is registered before looking, so that a callback added in between is not missed.
            let woken = self.shared.queued.notified();
            let next_due_ms = self.book().queue.next_due_ms();
            match next_due_ms {
                Some(due_ms) => {
                    tokio::select! {
                        () = self.shared.clock.sleep_until(due_ms) => return,
                        () = woken => {}
                    }
                }
                None => woken.await,
            }
        }
    }

    async fn send(&self, callback: Callback, sink: &dyn CallbackSink) -> bool {
        let now_ms = self.shared.clock.now_ms();
        let secret = self.shared.secret.derive(&callback.account_id);
        let delivery = Delivery {
            account_id: callback.account_id.clone(),
            headers: secret.sign(&callback.event_id, &callback.body, now_ms),
            body: callback.body.clone(),
        };
        match sink.deliver(delivery).await {
            Ok(()) => {
                self.book().queue.acknowledged();
                true
            }
            Err(error) => {
                tracing::debug!(event_id = callback.event_id, %error, "send callback");
                let now_ms = self.shared.clock.now_ms();
                self.book().queue.put_back(callback, now_ms);
                self.shared.queued.notify_one();
                false
            }
        }
    }
}
