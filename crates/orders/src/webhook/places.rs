//! Limits how many webhooks are sent to one endpoint at a time, so that a slow one holds up no other.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::ids::{WebhookDeliveryId, WebhookId};
use crate::limits::{WEBHOOK_SENDS_MAX, WEBHOOK_WAITING_MAX};
use crate::webhook::sender::WebhookSender;

/// What sends webhooks, and what is being sent.
pub(crate) struct Places {
    sender: RwLock<Arc<dyn WebhookSender>>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    endpoints: HashMap<WebhookId, Endpoint>,
    deliveries: HashSet<WebhookDeliveryId>,
}

struct Endpoint {
    sending: Arc<Semaphore>,
    count: usize,
}

/// The right to send a delivery, until it is dropped.
pub(crate) struct Place {
    state: Arc<Mutex<State>>,
    webhook_id: WebhookId,
    delivery_id: WebhookDeliveryId,
    sending: Arc<Semaphore>,
}

/// Why a delivery cannot be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// It is being sent.
    Sending,
    /// Too many wait for the endpoint.
    Full,
}

impl Places {
    pub(crate) fn new(sender: Arc<dyn WebhookSender>) -> Self {
        Self {
            sender: RwLock::new(sender),
            state: Arc::default(),
        }
    }

    /// What sends webhooks.
    pub(crate) fn sender(&self) -> Arc<dyn WebhookSender> {
        let sender = self.sender.read();
        Arc::clone(&sender.unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts in another sender.
    pub(crate) fn set_sender(&self, sender: Arc<dyn WebhookSender>) {
        let mut present = self.sender.write().unwrap_or_else(PoisonError::into_inner);
        *present = sender;
    }

    /// Takes a place for a delivery, unless it has one or too many wait for the endpoint.
    pub(crate) fn take(
        &self,
        webhook_id: WebhookId,
        delivery_id: WebhookDeliveryId,
    ) -> Result<Place, NoPlace> {
        let mut state = lock(&self.state);
        if state.deliveries.contains(&delivery_id) {
            return Err(NoPlace::Sending);
        }
        let endpoint = state
            .endpoints
            .entry(webhook_id)
            .or_insert_with(|| Endpoint {
                sending: Arc::new(Semaphore::new(WEBHOOK_SENDS_MAX)),
                count: 0,
            });
        if endpoint.count >= WEBHOOK_SENDS_MAX + WEBHOOK_WAITING_MAX {
            return Err(NoPlace::Full);
        }
        endpoint.count += 1;
        let sending = Arc::clone(&endpoint.sending);
        state.deliveries.insert(delivery_id);
        Ok(Place {
            state: Arc::clone(&self.state),
            webhook_id,
            delivery_id,
            sending,
        })
    }
}

impl Place {
    /// Waits until it may be sent.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        Arc::clone(&self.sending).acquire_owned().await.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.deliveries.remove(&self.delivery_id);
        if let Some(endpoint) = state.endpoints.get_mut(&self.webhook_id) {
            endpoint.count -= 1;
            if endpoint.count == 0 {
                state.endpoints.remove(&self.webhook_id);
            }
        }
    }
}

/// A std lock: held for a look-up in a small map, never across an await.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::sender::{HttpSender, Reach};

    #[test]
    fn places_are_limited_by_endpoint_and_returned() {
        let places = Places::new(Arc::new(HttpSender::new(Reach::Public)));
        let (slow, other) = (WebhookId::new(1), WebhookId::new(2));
        let id = WebhookDeliveryId::new(1);
        let first = places.take(slow, id).unwrap();
        assert!(matches!(places.take(slow, id), Err(NoPlace::Sending)));
        let most = WEBHOOK_SENDS_MAX + WEBHOOK_WAITING_MAX;
        let taken: Vec<_> = (1..most)
            .map(|_| places.take(slow, WebhookDeliveryId::new(2)).unwrap())
            .collect();
        let more = places.take(slow, WebhookDeliveryId::new(3));
        assert!(matches!(more, Err(NoPlace::Full)));
        assert!(places.take(other, WebhookDeliveryId::new(4)).is_ok());
        drop((first, taken));
        assert!(lock(&places.state).endpoints.is_empty());
        assert!(lock(&places.state).deliveries.is_empty());
    }
}
