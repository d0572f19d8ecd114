//! Remembers the deliveries of each receive attempt, for a client that repeats it because the answer was lost.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use broker::ReceiptHandle;

use super::limits::{ATTEMPT_ID_BYTES_MAX, ATTEMPT_MS, ATTEMPTS_MAX};
use super::peer::ClientKey;

/// An attempt: the client, and the id it chose.
type Key = (ClientKey, Arc<str>);

#[derive(Debug, Default)]
struct State {
    given: HashMap<Key, Vec<ReceiptHandle>>,
    /// In order of arrival, with the instant at which each is forgotten.
    order: VecDeque<(u64, Key)>,
}

/// The recent attempts.
///
/// A std mutex: it is held for a look-up, never across an await.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    state: Mutex<State>,
}

impl Attempts {
    /// Remembers the deliveries of an attempt.
    pub(crate) fn remember(
        &self,
        now_ms: u64,
        client: &ClientKey,
        attempt_id: &str,
        handles: Vec<ReceiptHandle>,
    ) {
        if attempt_id.is_empty() || attempt_id.len() > ATTEMPT_ID_BYTES_MAX {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((end_ms, key)) = state.order.front()
            && (*end_ms <= now_ms || state.order.len() >= ATTEMPTS_MAX)
        {
            let key = key.clone();
            state.given.remove(&key);
            state.order.pop_front();
        }
        let key = (client.clone(), Arc::from(attempt_id));
        state.given.insert(key.clone(), handles);
        state
            .order
            .push_back((now_ms.saturating_add(ATTEMPT_MS), key));
    }

    /// Removes and returns the deliveries of an attempt that is repeated.
    pub(crate) fn take(&self, client: &ClientKey, attempt_id: &str) -> Vec<ReceiptHandle> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.given.is_empty() {
            return Vec::new();
        }
        let key = (client.clone(), Arc::from(attempt_id));
        state.given.remove(&key).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker::Place;

    #[test]
    fn attempts_are_taken_once_and_expire() {
        let attempts = Attempts::default();
        let handle = ReceiptHandle {
            topic: 1,
            group: 1,
            generation: 0,
            queue: 0,
            place: Place {
                due_ms: 1,
                sequence: 1,
                level: 0,
            },
            attempt: 1,
            returned: 0,
            retry: None,
        };
        let (ann, ben) = (ClientKey::new("", "ann"), ClientKey::new("", "ben"));
        attempts.remember(0, &ann, "a", vec![handle]);
        assert!(attempts.take(&ben, "a").is_empty(), "another client's");
        assert_eq!(attempts.take(&ann, "a"), [handle]);
        assert!(attempts.take(&ann, "a").is_empty(), "taken once");
        attempts.remember(0, &ann, "b", vec![handle]);
        attempts.remember(ATTEMPT_MS, &ann, "c", vec![handle]);
        assert!(attempts.take(&ann, "b").is_empty(), "too old");
        for index in 0..ATTEMPTS_MAX {
            attempts.remember(ATTEMPT_MS, &ann, &format!("n{index}"), vec![handle]);
        }
        assert!(attempts.take(&ann, "c").is_empty(), "evicted by later ones");
        assert_eq!(attempts.take(&ann, "n1"), [handle]);
    }
}
