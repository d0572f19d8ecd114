//! Limits how many webhooks are sent at a time to one endpoint and for one merchant, so that a slow one holds up no other.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::ids::{MerchantId, WebhookDeliveryId, WebhookId};
use crate::limits::{MERCHANT_WEBHOOK_CALLS_MAX, WEBHOOK_SENDS_MAX, WEBHOOK_WAITING_MAX};
use crate::webhook::sender::WebhookSender;

/// Shortest wait of a delivery for which there is no place, in ms.
const FULL_MS_MIN: i64 = 1_000;
/// The same while the endpoint is failing: one delivery at a time tries whether it works again.
const FAILING_MS_MIN: i64 = 30_000;
/// Longest wait of a delivery for which there is no place, in ms.
const FULL_MS_MAX: i64 = 300_000;

/// What sends webhooks, and what is being sent.
pub(crate) struct Places {
    sender: RwLock<Arc<dyn WebhookSender>>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    endpoints: HashMap<WebhookId, Endpoint>,
    merchants: HashMap<MerchantId, Load>,
    deliveries: HashSet<WebhookDeliveryId>,
}

struct Endpoint {
    sending: Arc<Semaphore>,
    load: Load,
}

/// How many places are taken, and when those that got none come again.
#[derive(Default)]
struct Load {
    count: usize,
    /// How long the last webhook took, in ms.
    took_ms: i64,
    /// When the last delivery that got no place comes again, in ms since the Unix epoch.
    last_ms: i64,
}

impl Load {
    /// How long one more delivery without a place waits, in ms: until those before it have had their turns, `at_once` at a
    /// time.
    fn wait_ms(&mut self, now_ms: i64, at_once: usize, least_ms: i64) -> i64 {
        let at_once = i64::try_from(at_once).unwrap_or(1);
        let next_ms = std::cmp::max(self.last_ms + self.took_ms / at_once, now_ms + least_ms);
        self.last_ms = std::cmp::min(next_ms, now_ms + FULL_MS_MAX);
        self.last_ms - now_ms
    }
}

/// A delivery that is to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) merchant_id: MerchantId,
    pub(crate) webhook_id: WebhookId,
    pub(crate) delivery_id: WebhookDeliveryId,
    /// Whether the last delivery to the endpoint failed.
    pub(crate) is_failing: bool,
}

/// The right to send a delivery, until it is dropped.
pub(crate) struct Place {
    state: Arc<Mutex<State>>,
    wanted: Wanted,
    sending: Arc<Semaphore>,
}

/// Why a delivery cannot be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// It is being sent.
    Sending,
    /// Too many are sent, or wait, for the endpoint or its merchant.
    Full {
        /// When to try again, in ms from now.
        wait_ms: i64,
    },
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

    /// Takes a place for a delivery, unless it has one or there is none.
    pub(crate) fn take(&self, wanted: Wanted, now_ms: i64) -> Result<Place, NoPlace> {
        let mut state = lock(&self.state);
        let state = &mut *state;
        if state.deliveries.contains(&wanted.delivery_id) {
            return Err(NoPlace::Sending);
        }
        if let Some(merchant) = state.merchants.get_mut(&wanted.merchant_id)
            && merchant.count >= MERCHANT_WEBHOOK_CALLS_MAX
        {
            let wait_ms = merchant.wait_ms(now_ms, MERCHANT_WEBHOOK_CALLS_MAX, FULL_MS_MIN);
            return Err(NoPlace::Full { wait_ms });
        }
        let endpoint = state
            .endpoints
            .entry(wanted.webhook_id)
            .or_insert_with(|| Endpoint {
                sending: Arc::new(Semaphore::new(WEBHOOK_SENDS_MAX)),
                load: Load::default(),
            });
        let (most, at_once, least_ms) = if wanted.is_failing {
            (1, 1, FAILING_MS_MIN)
        } else {
            let most = WEBHOOK_SENDS_MAX + WEBHOOK_WAITING_MAX;
            (most, WEBHOOK_SENDS_MAX, FULL_MS_MIN)
        };
        if endpoint.load.count >= most {
            let wait_ms = endpoint.load.wait_ms(now_ms, at_once, least_ms);
            return Err(NoPlace::Full { wait_ms });
        }
        endpoint.load.count += 1;
        let sending = Arc::clone(&endpoint.sending);
        let merchant_id = wanted.merchant_id.clone();
        state.merchants.entry(merchant_id).or_default().count += 1;
        state.deliveries.insert(wanted.delivery_id);
        Ok(Place {
            state: Arc::clone(&self.state),
            wanted,
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

    /// Notes how long it took to send, in ms: those that have no place wait accordingly.
    pub(crate) fn note_took(&self, took_ms: i64) {
        let mut state = lock(&self.state);
        if let Some(endpoint) = state.endpoints.get_mut(&self.wanted.webhook_id) {
            endpoint.load.took_ms = took_ms;
        }
        if let Some(merchant) = state.merchants.get_mut(&self.wanted.merchant_id) {
            merchant.took_ms = took_ms;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.deliveries.remove(&self.wanted.delivery_id);
        if let Some(endpoint) = state.endpoints.get_mut(&self.wanted.webhook_id) {
            endpoint.load.count -= 1;
            if endpoint.load.count == 0 {
                state.endpoints.remove(&self.wanted.webhook_id);
            }
        }
        if let Some(merchant) = state.merchants.get_mut(&self.wanted.merchant_id) {
            merchant.count -= 1;
            if merchant.count == 0 {
                state.merchants.remove(&self.wanted.merchant_id);
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

    fn wanted(webhook: WebhookId, delivery: WebhookDeliveryId) -> Wanted {
        Wanted {
            merchant_id: MerchantId::fallback(),
            webhook_id: webhook,
            delivery_id: delivery,
            is_failing: false,
        }
    }

    fn places() -> Places {
        Places::new(Arc::new(HttpSender::new(Reach::Public)))
    }

    fn next(webhook: WebhookId) -> Wanted {
        wanted(webhook, WebhookDeliveryId::new(2))
    }

    fn wait_ms(places: &Places, wanted: Wanted) -> i64 {
        match places.take(wanted, 0) {
            Err(NoPlace::Full { wait_ms }) => wait_ms,
            Err(NoPlace::Sending) | Ok(_) => panic!("there was a place"),
        }
    }

    #[test]
    fn places_are_limited_by_endpoint_and_returned() {
        let places = places();
        let (slow, other) = (WebhookId::new(1), WebhookId::new(2));
        let id = WebhookDeliveryId::new(1);
        let first = places.take(wanted(slow, id), 0).unwrap();
        assert!(matches!(
            places.take(wanted(slow, id), 0),
            Err(NoPlace::Sending)
        ));
        let most = WEBHOOK_SENDS_MAX + WEBHOOK_WAITING_MAX;
        let taken: Vec<_> = (1..most)
            .map(|_| places.take(next(slow), 0).unwrap())
            .collect();
        assert_eq!(wait_ms(&places, next(slow)), FULL_MS_MIN);
        assert!(places.take(next(other), 0).is_ok());
        drop((first, taken));
        assert!(lock(&places.state).endpoints.is_empty());
        assert!(lock(&places.state).merchants.is_empty());
        assert!(lock(&places.state).deliveries.is_empty());
    }

    #[test]
    fn those_without_a_place_wait_for_all_that_are_ahead() {
        let places = places();
        let slow = WebhookId::new(1);
        let most = WEBHOOK_SENDS_MAX + WEBHOOK_WAITING_MAX;
        let taken: Vec<_> = (0..most)
            .map(|_| places.take(next(slow), 0).unwrap())
            .collect();
        taken[0].note_took(8_000);
        let mut waits = (0..1_000).map(|_| wait_ms(&places, next(slow)));
        assert_eq!(waits.next(), Some(1_000));
        assert_eq!(waits.next(), Some(2_000));
        assert_eq!(waits.last(), Some(FULL_MS_MAX));
    }

    #[test]
    fn a_failing_endpoint_is_tried_by_one_delivery_at_a_time() {
        let places = places();
        let dead = WebhookId::new(1);
        let failing = || Wanted {
            is_failing: true,
            ..next(dead)
        };
        let probe = places.take(failing(), 0).unwrap();
        probe.note_took(15_000);
        assert_eq!(wait_ms(&places, failing()), 30_000);
        assert_eq!(wait_ms(&places, failing()), 45_000);
        drop(probe);
        assert!(places.take(failing(), 0).is_ok());
    }

    #[test]
    fn one_merchant_leaves_places_to_others() {
        let places = places();
        let taken: Vec<_> = (0..MERCHANT_WEBHOOK_CALLS_MAX)
            .map(|_| places.take(next(WebhookId::new(1)), 0).unwrap())
            .collect();
        let more = next(WebhookId::new(1));
        assert_eq!(wait_ms(&places, more), FULL_MS_MIN);
        let other = Wanted {
            merchant_id: "other".parse().unwrap(),
            ..next(WebhookId::new(1))
        };
        assert!(places.take(other, 0).is_ok());
        drop(taken);
    }
}
