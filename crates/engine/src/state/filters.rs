//! Provides what is known of the filters with which the consumers of a subscription ask.

use crate::place::HOUR_MS;

/// Filters that were used within this time are in use, in ms: longer than any consumer waits.
const IN_USE_MS: u64 = 5 * 60_000;
/// The least time between two reports about a subscription, in ms.
const REPORT_EVERY_MS: u64 = HOUR_MS;

/// A filter, by its fingerprint, and when it was last used.
#[derive(Clone, Copy, Debug)]
struct Used {
    filter: u64,
    at_ms: u64,
}

/// The filters of a subscription. What one of them leaves out is skipped for the whole group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filters {
    last: Option<Used>,
    /// The one before it.
    other: Option<Used>,
    reported_ms: Option<u64>,
    /// Messages that a filter has left out since the start.
    pub(crate) skipped: u64,
}

impl Filters {
    /// Notes a receive; returns whether it is to be reported that another filter was used before.
    pub(crate) fn note(&mut self, now_ms: u64, filter: u64) -> bool {
        let used = Used {
            filter,
            at_ms: now_ms,
        };
        match self.last.replace(used) {
            None => return false,
            Some(last) if last.filter == filter => return false,
            Some(last) => self.other = Some(last),
        }
        let is_due = self
            .reported_ms
            .is_none_or(|reported_ms| now_ms >= reported_ms + REPORT_EVERY_MS);
        if is_due {
            self.reported_ms = Some(now_ms);
        }
        is_due
    }

    /// Whether more than one filter is in use.
    pub(crate) fn differ(&self, now_ms: u64) -> bool {
        let is_used = |used: Used| now_ms < used.at_ms + IN_USE_MS;
        self.other.is_some_and(is_used)
    }
}
