//! Provides the part of a timeline that is kept in memory: a contiguous stretch at its head.

use std::collections::BTreeMap;

use crate::place::Place;

/// A contiguous stretch of a timeline: every entry after `low` up to `high` is in it.
///
/// Readers at the present live in it and never touch the store. What is appended or removed within the
/// stretch is appended or removed here too.
#[derive(Debug)]
pub(crate) struct Window<T> {
    entries: BTreeMap<Place, (T, usize)>,
    /// The stretch begins after this place.
    low: Place,
    /// It ends with this place; `None`: with the last message there is.
    high: Option<Place>,
    bytes: usize,
}

impl<T> Default for Window<T> {
    /// An empty stretch that covers nothing.
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            low: Place::START,
            high: Some(Place::START),
            bytes: 0,
        }
    }
}

impl<T: Clone> Window<T> {
    /// Whether the entry that follows `place` is known.
    pub(crate) fn covers_after(&self, place: Place) -> bool {
        place >= self.low && self.high.is_none_or(|high| place < high)
    }

    /// Replaces the stretch.
    pub(crate) fn load(
        &mut self,
        low: Place,
        high: Option<Place>,
        entries: Vec<(Place, T, usize)>,
    ) {
        self.bytes = entries.iter().map(|(_, _, bytes)| *bytes).sum();
        self.entries = entries
            .into_iter()
            .map(|(place, entry, bytes)| (place, (entry, bytes)))
            .collect();
        self.low = low;
        self.high = high;
    }

    /// Inserts a new entry if it is within the stretch.
    pub(crate) fn insert(&mut self, place: Place, entry: impl FnOnce() -> (T, usize)) {
        if place > self.low && self.high.is_none_or(|high| place <= high) {
            let (entry, bytes) = entry();
            self.bytes += bytes;
            self.entries.insert(place, (entry, bytes));
        }
    }

    /// Forgets something that was removed from the timeline.
    pub(crate) fn remove(&mut self, place: Place) -> Option<T> {
        let (entry, bytes) = self.entries.remove(&place)?;
        self.bytes -= bytes;
        Some(entry)
    }

    /// The entries after `after`, in order.
    pub(crate) fn after(&self, after: Place) -> impl Iterator<Item = (Place, &T)> {
        let after = std::cmp::max(after, self.low);
        self.entries
            .range((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded))
            .map(|(place, (entry, _))| (*place, entry))
    }

    /// When a reader at `after`, which the stretch covers, has to look again, in ms; `None`: never.
    pub(crate) fn next_due_ms(&self, after: Place) -> Option<u64> {
        self.after(after)
            .next()
            .map(|(place, _)| place.due_ms)
            .or_else(|| self.high.map(|high| high.due_ms))
    }

    /// Whether a reader that may read up to `shown` and finds nothing here has to read past the stretch.
    pub(crate) fn ends_by(&self, shown: Place) -> bool {
        self.high.is_some_and(|high| high <= shown)
    }

    /// How far the stretch is known, up to `end` at the most.
    pub(crate) fn known_to(&self, end: Place) -> Place {
        self.high.map_or(end, |high| std::cmp::min(high, end))
    }

    /// Drops everything up to `place`: all readers have passed it.
    pub(crate) fn pass(&mut self, place: Place) {
        while let Some(entry) = self.entries.first_entry() {
            if *entry.key() > place {
                break;
            }
            let (_, (_, bytes)) = entry.remove_entry();
            self.bytes -= bytes;
        }
        let place = self.high.map_or(place, |high| std::cmp::min(high, place));
        self.low = std::cmp::max(self.low, place);
    }

    /// Gives up one entry: the first if it is due by `frontier_ms` (a late reader goes to the store),
    /// else the last.
    pub(crate) fn shrink(&mut self, frontier_ms: u64) {
        let Some((&first, _)) = self.entries.first_key_value() else {
            return;
        };
        if first.due_ms <= frontier_ms {
            self.remove(first);
            self.low = first;
        } else if let Some((place, (_, bytes))) = self.entries.pop_last() {
            self.bytes -= bytes;
            let end = self.entries.last_key_value().map(|(place, _)| *place);
            // With nothing left the stretch ends just before the entry that was given up.
            let before = Place {
                sequence: place.sequence.saturating_sub(1),
                ..place
            };
            self.high = Some(end.unwrap_or_else(|| std::cmp::max(self.low, before)));
        }
    }

    /// Gives up all entries. What is known of the stretch is kept, so that who waits for the first of them still knows
    /// when it is due, and asks for it no earlier.
    pub(crate) fn shed(&mut self) {
        let Some((&first, _)) = self.entries.first_key_value() else {
            return;
        };
        let before = Place {
            sequence: first.sequence.saturating_sub(1),
            ..first
        };
        self.high = Some(std::cmp::max(self.low, before));
        self.entries.clear();
        self.bytes = 0;
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn place(due_ms: u64, sequence: u64) -> Place {
        Place {
            due_ms,
            sequence,
            level: 0,
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64),
        Remove(usize),
        Load(u64, usize),
        Pass(u64),
        Shrink(u64),
        Shed,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (1..50_u64).prop_map(Step::Insert),
            1 => any::<usize>().prop_map(Step::Remove),
            1 => (0..50_u64, 0..6_usize).prop_map(|(low, count)| Step::Load(low, count)),
            1 => (0..50_u64).prop_map(Step::Pass),
            1 => (0..50_u64).prop_map(Step::Shrink),
            1 => Just(Step::Shed),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        /// Whatever happens, the stretch holds exactly what the timeline holds within its bounds.
        #[test]
        fn the_stretch_is_never_broken(steps in steps()) {
            let mut timeline = BTreeSet::new();
            let mut window = Window::<()>::default();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(due) => {
                        let place = place(due, number as u64 + 1);
                        timeline.insert(place);
                        window.insert(place, || ((), 1));
                    }
                    Step::Remove(at) if !timeline.is_empty() => {
                        let place = *timeline.iter().nth(at % timeline.len()).expect("within the set");
                        timeline.remove(&place);
                        window.remove(place);
                    }
                    Step::Remove(_) => {}
                    Step::Load(low, count) => {
                        let low = place(low, 0);
                        let all: Vec<_> = timeline.iter().filter(|place| **place > low).copied().collect();
                        let high = (all.len() > count).then(|| all.get(..count).and_then(<[_]>::last).copied().unwrap_or(low));
                        window.load(low, high, all.into_iter().take(count).map(|place| (place, (), 1)).collect());
                    }
                    Step::Pass(due) => window.pass(place(due, u64::MAX)),
                    Step::Shrink(due) => window.shrink(due),
                    Step::Shed => {
                        let due_ms = window.next_due_ms(window.low);
                        window.shed();
                        prop_assert_eq!(window.next_due_ms(window.low), due_ms, "who waits is woken as before");
                    }
                }
                let (low, high) = (window.low, window.high);
                let expected: Vec<_> =
                    timeline.iter().filter(|place| **place > low && high.is_none_or(|high| **place <= high)).copied().collect();
                let found: Vec<_> = window.after(Place::START).map(|(place, ())| place).collect();
                prop_assert_eq!(found, expected);
                prop_assert_eq!(window.bytes(), window.len());
            }
        }
    }
}
