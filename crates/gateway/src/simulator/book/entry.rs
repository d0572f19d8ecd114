//! Writes what the books say of an attempt as a line of JSON, and reads it back.

use serde::{Deserialize, Serialize};

use super::{Attempt, Book, Refund};

/// An attempt and the refunds of its payments, to be written.
#[derive(Serialize)]
struct Entry<'a> {
    attempt_id: &'a str,
    attempt: &'a Attempt,
    refunds: Vec<&'a Refund>,
}

/// The same, read.
#[derive(Deserialize)]
struct ReadEntry {
    attempt_id: String,
    attempt: Attempt,
    refunds: Vec<Refund>,
}

impl Book {
    /// What the books say of the attempt, as a line of JSON without its end.
    pub(in super::super) fn entry(&self, attempt_id: &str) -> Option<String> {
        let attempt = self.attempts.get(attempt_id)?;
        let entry = Entry {
            attempt_id,
            attempt,
            refunds: self.refunds_of(attempt).collect(),
        };
        serde_json::to_string(&entry).ok()
    }

    /// The ids of all attempts, oldest first.
    pub(in super::super) fn attempt_ids(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }

    /// Takes over what a line of JSON says of an attempt, in place of what the books said of it.
    pub(in super::super) fn restore(&mut self, line: &str) -> Result<(), serde_json::Error> {
        let read: ReadEntry = serde_json::from_str(line)?;
        for refund in read.refunds {
            let id = refund.request.refund_id.clone();
            self.refunds.insert(id, refund);
        }
        match self.attempts.get_mut(&read.attempt_id) {
            Some(known) => *known = read.attempt,
            None => self.insert(&read.attempt_id, read.attempt),
        }
        Ok(())
    }
}
