//! Provides the queue of callbacks that wait to be sent: in time, late, twice, out of order, or never.

use std::collections::BTreeMap;

use super::faults::AttemptPlan;

/// How long after each failed try a callback is sent again, in ms: 24 h 4 min in all, then never.
const RETRY_DELAYS_MS: [u64; 15] = {
    const MINUTE: u64 = 60_000;
    const HOUR: u64 = 60 * MINUTE;
    [
        15_000,
        15_000,
        30_000,
        3 * MINUTE,
        10 * MINUTE,
        20 * MINUTE,
        30 * MINUTE,
        30 * MINUTE,
        30 * MINUTE,
        HOUR,
        3 * HOUR,
        3 * HOUR,
        3 * HOUR,
        6 * HOUR,
        6 * HOUR,
    ]
};

/// A callback that waits to be sent.
#[derive(Clone, Debug)]
pub(super) struct Callback {
    pub(super) account_id: String,
    pub(super) attempt_id: String,
    pub(super) event_id: String,
    pub(super) body: Vec<u8>,
    /// How often it has been sent without an acknowledgement.
    pub(super) tries: usize,
}

/// Callbacks in the order they are to be sent.
#[derive(Debug, Default)]
pub(super) struct CallbackQueue {
    waiting: BTreeMap<(u64, u64), Callback>,
    /// The place of the callback of an attempt that waits to be overtaken.
    held: BTreeMap<String, (u64, u64)>,
    next_sequence: u64,
    /// Taken out, and neither acknowledged nor put back yet.
    under_way: usize,
}

impl CallbackQueue {
    /// Adds a callback that a gateway without faults would send at `due_ms`.
    pub(super) fn add(&mut self, callback: Callback, plan: &AttemptPlan, due_ms: u64) {
        if plan.callback_lost {
            return;
        }
        let due_ms = due_ms.saturating_add(plan.callback_late_ms);
        let overtaken = self.held.remove(&callback.attempt_id);
        if plan.callback_hold_ms > 0 && overtaken.is_none() {
            let attempt_id = callback.attempt_id.clone();
            let due_ms = due_ms.saturating_add(plan.callback_hold_ms);
            let key = self.put_copies(callback, due_ms, plan.callback_copies);
            self.held.insert(attempt_id, key);
            return;
        }
        self.put_copies(callback, due_ms, plan.callback_copies);
        if let Some(key) = overtaken
            && let Some(waited) = self.waiting.remove(&key)
        {
            self.put(waited, due_ms.saturating_add(1));
        }
    }

    /// When the next callback is to be sent, in ms since the Unix epoch.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.waiting.keys().next().map(|(due_ms, _)| *due_ms)
    }

    /// Takes out the next callback if its time has come.
    pub(super) fn take_due(&mut self, now_ms: u64) -> Option<Callback> {
        let entry = self.waiting.first_entry()?;
        if entry.key().0 > now_ms {
            return None;
        }
        self.under_way += 1;
        Some(entry.remove())
    }

    /// Notes that a callback that was taken out has been acknowledged.
    pub(super) fn acknowledged(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// How many callbacks have not been acknowledged.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.under_way
    }

    /// Puts a callback back that was not acknowledged; after the last try it is given up.
    pub(super) fn put_back(&mut self, mut callback: Callback, now_ms: u64) {
        self.under_way = self.under_way.saturating_sub(1);
        let Some(delay_ms) = RETRY_DELAYS_MS.get(callback.tries) else {
            return;
        };
        callback.tries += 1;
        self.put(callback, now_ms.saturating_add(*delay_ms));
    }

    /// The answer is the place of the last copy.
    fn put_copies(&mut self, callback: Callback, due_ms: u64, copies: u32) -> (u64, u64) {
        for _ in 0..copies {
            self.put(callback.clone(), due_ms);
        }
        self.put(callback, due_ms)
    }

    fn put(&mut self, callback: Callback, due_ms: u64) -> (u64, u64) {
        let key = (due_ms, self.next_sequence);
        self.next_sequence += 1;
        self.waiting.insert(key, callback);
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn callback(event_id: &str) -> Callback {
        Callback {
            account_id: "gwa_1".to_owned(),
            attempt_id: "att_1".to_owned(),
            event_id: event_id.to_owned(),
            body: Vec::new(),
            tries: 0,
        }
    }

    #[test]
    fn retries_last_a_day_and_then_end() {
        assert_eq!(RETRY_DELAYS_MS.iter().sum::<u64>(), (24 * 60 + 4) * 60_000);
        let mut queue = CallbackQueue::default();
        queue.add(callback("a"), &AttemptPlan::default(), 5);
        let mut now_ms = 0;
        let mut sent = 0;
        while let Some(due_ms) = queue.next_due_ms() {
            assert!(queue.take_due(due_ms - 1).is_none());
            now_ms = due_ms;
            let callback = queue.take_due(now_ms).unwrap();
            sent += 1;
            queue.put_back(callback, now_ms);
        }
        assert_eq!(queue.len(), 0);
        assert_eq!(sent, 16);
        assert_eq!(now_ms, 5 + (24 * 60 + 4) * 60_000);
    }

    #[test]
    fn a_held_callback_is_overtaken_or_sent_after_the_hold() {
        let plan = AttemptPlan {
            callback_hold_ms: 100,
            ..AttemptPlan::default()
        };
        let mut queue = CallbackQueue::default();
        queue.add(callback("first"), &plan, 10);
        assert_eq!(queue.next_due_ms(), Some(110));
        queue.add(callback("second"), &plan, 20);
        assert_eq!(queue.take_due(20).unwrap().event_id, "second");
        assert_eq!(queue.take_due(21).unwrap().event_id, "first");
        assert_eq!(queue.next_due_ms(), None);
        assert_eq!(queue.len(), 2);
        queue.acknowledged();
        queue.acknowledged();
        assert_eq!(queue.len(), 0);
    }
}
