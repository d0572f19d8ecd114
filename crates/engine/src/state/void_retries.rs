//! Provides the retries that are void because their subscription was reset or ended, until their rows are removed.

use std::collections::BTreeMap;

use crate::ids::SubscriptionKey;
use crate::place::Place;

/// Rows of a retry timeline that are void.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Void {
    /// Rows with lower sequences are void.
    pub(crate) before: u64,
    /// Everything up to here was looked at.
    pub(crate) after: Place,
    /// The epoch that has to be applied before the rows are read on.
    epoch: u64,
}

/// Void retries by subscription, whether that still exists or not.
#[derive(Debug, Default)]
pub(crate) struct VoidRetries {
    voids: BTreeMap<SubscriptionKey, Void>,
}

impl VoidRetries {
    /// The rows below a sequence are void, once `epoch` is applied.
    pub(crate) fn add(&mut self, key: SubscriptionKey, before: u64, epoch: u64) {
        let void = Void {
            before,
            after: Place::START,
            epoch,
        };
        self.voids.insert(key, void);
    }

    /// The sequence below which the retries of a subscription are void.
    pub(crate) fn before(&self, key: SubscriptionKey) -> u64 {
        self.voids.get(&key).map_or(0, |void| void.before)
    }

    /// The first whose rows can be read, with `applied` being the last epoch that was applied.
    pub(crate) fn first_readable(&self, applied: u64) -> Option<(SubscriptionKey, Void)> {
        let mut voids = self.voids.iter();
        let readable = voids.find(|(_, void)| void.epoch <= applied);
        readable.map(|(key, void)| (*key, *void))
    }

    /// Rows up to `after` were removed; the others can be read once `epoch` is applied.
    pub(crate) fn pass(&mut self, key: SubscriptionKey, after: Place, epoch: u64) {
        if let Some(void) = self.voids.get_mut(&key) {
            void.after = after;
            void.epoch = epoch;
        }
    }

    /// All rows were removed.
    pub(crate) fn remove(&mut self, key: SubscriptionKey) {
        self.voids.remove(&key);
    }
}
