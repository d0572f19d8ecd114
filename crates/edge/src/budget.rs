//! Limits what may be in memory at a time: a budget, the part of one connection, and shares that are given back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// One of so many parts of a budget is what a connection may take at the most.
const PARTS: usize = 4;

/// So many bytes, or other units, that may be held at a time.
#[derive(Debug)]
pub struct Budget {
    max: usize,
    held: AtomicUsize,
    /// The budget that this is a part of: what is held here counts there too.
    whole: Option<Arc<Budget>>,
}

impl Budget {
    /// Creates a budget of `max` units.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            held: AtomicUsize::new(0),
            whole: None,
        })
    }

    /// Returns a part for one connection: a quarter, so that no connection takes all, but `least` if that is more.
    pub fn part(self: &Arc<Self>, least: usize) -> Arc<Self> {
        Arc::new(Self {
            max: part_of(self.max, least),
            held: AtomicUsize::new(0),
            whole: Some(Arc::clone(self)),
        })
    }

    /// Returns whether any of the budget is left.
    pub fn has_room(&self) -> bool {
        let has_room = self.held.load(Ordering::Relaxed) < self.max;
        has_room && self.whole.as_ref().is_none_or(|whole| whole.has_room())
    }

    /// Returns an empty share, to be grown.
    pub fn hold(self: &Arc<Self>) -> Share {
        Share {
            budget: Arc::clone(self),
            amount: AtomicUsize::new(0),
        }
    }

    fn grow(&self, amount: usize) -> bool {
        let before = self.held.fetch_add(amount, Ordering::Relaxed);
        let fits = before.saturating_add(amount) <= self.max;
        if fits && self.whole.as_ref().is_none_or(|whole| whole.grow(amount)) {
            return true;
        }
        self.held.fetch_sub(amount, Ordering::Relaxed);
        false
    }

    fn overdraw(&self, amount: usize) {
        self.held.fetch_add(amount, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.overdraw(amount);
        }
    }

    fn give_back(&self, amount: usize) {
        self.held.fetch_sub(amount, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.give_back(amount);
        }
    }
}

/// Returns how much of `whole` one connection may take: a quarter, but `least` if that is more.
fn part_of(whole: usize, least: usize) -> usize {
    std::cmp::max(whole / PARTS, std::cmp::min(least, whole))
}

/// A share of a budget, given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    amount: AtomicUsize,
}

impl Share {
    /// Adds so much, or nothing if less is left.
    pub fn grow(&self, amount: usize) -> bool {
        let grown = self.budget.grow(amount);
        if grown {
            self.amount.fetch_add(amount, Ordering::Relaxed);
        }
        grown
    }

    /// Adds so much, even if less is left.
    pub fn overdraw(&self, amount: usize) {
        self.budget.overdraw(amount);
        self.amount.fetch_add(amount, Ordering::Relaxed);
    }

    /// Makes the share as large as this, even if less is left.
    pub fn resize(&self, amount: usize) {
        let before = self.amount.swap(amount, Ordering::Relaxed);
        self.budget.overdraw(amount.saturating_sub(before));
        self.budget.give_back(before.saturating_sub(amount));
    }

    /// Returns whether any of the budget is left.
    pub fn has_room(&self) -> bool {
        self.budget.has_room()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.give_back(*self.amount.get_mut());
    }
}

/// What one connection may take of budgets that all connections share; each request carries that of its connection.
#[derive(Debug, Default)]
pub struct Connection {
    bodies: OnceLock<Arc<Budget>>,
    waits: OnceLock<Arc<Budget>>,
}

impl Connection {
    /// Returns the part of the budget of request bodies; `least` is the largest body.
    pub fn bodies(&self, whole: &Arc<Budget>, least: usize) -> &Arc<Budget> {
        self.bodies.get_or_init(|| whole.part(least))
    }

    /// Counts a request that waits until the share is dropped; `None` if it would be more than a quarter of `max`.
    pub fn wait(&self, max: usize) -> Option<Share> {
        let waits = self.waits.get_or_init(|| Budget::new(part_of(max, 1)));
        let share = waits.hold();
        share.grow(1).then_some(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_not_exceeded_by_growth_and_is_returned() {
        let budget = Budget::new(100);
        let first = budget.hold();
        assert!(first.grow(60) && !first.grow(41) && first.grow(40));
        assert!(!budget.has_room());
        let second = budget.hold();
        assert!(!second.grow(1));
        second.overdraw(5);
        drop(first);
        assert!(budget.has_room() && second.grow(95) && !second.grow(1));
        second.resize(20);
        let third = budget.hold();
        assert!(third.grow(80) && !third.has_room());
        second.resize(21);
        assert_eq!(budget.held.load(Ordering::Relaxed), 101);
    }

    #[test]
    fn a_connection_takes_a_quarter_at_the_most() {
        let budget = Budget::new(100);
        let connections = [(); 5].map(|()| Connection::default());
        let take = |index: usize, amount| {
            let share = connections[index].bodies(&budget, 10).hold();
            share.grow(amount).then_some(share)
        };
        let first = take(0, 25);
        assert!(first.is_some() && take(0, 1).is_none());
        let others: Vec<_> = (1..4).map(|index| take(index, 24)).collect();
        assert!(others.iter().all(Option::is_some));
        assert!(take(4, 4).is_none(), "all together");
        drop(first);
        assert!(take(0, 26).is_none() && take(4, 25).is_some());
        drop(others);
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
        // The largest request fits a part.
        assert!(budget.part(90).hold().grow(90));
        let connection = Connection::default();
        let waits: Vec<_> = (0..3).map(|_| connection.wait(8)).collect();
        let waiting: Vec<_> = waits.iter().map(Option::is_some).collect();
        assert_eq!(waiting, [true, true, false]);
        drop(waits);
        assert!(connection.wait(8).is_some());
    }
}
