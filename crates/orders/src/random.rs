//! Provides the randomness of ids and waits, which a simulator can seed.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Counts the ids made by this process, so that those of one millisecond sort by age too.
static MADE: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// The generator that a simulator has seeded, on this thread and those that were given it.
    static SEEDED: RefCell<Option<Source>> = const { RefCell::new(None) };
}

/// A generator that a simulator has seeded. The threads of one platform draw from the same one, in turn.
#[derive(Clone)]
pub(crate) struct Source(Arc<Mutex<Seeded>>);

struct Seeded {
    random: StdRng,
    made: u32,
}

/// From now on, everything drawn on this thread, and by a platform opened on it, follows from the seed. Secrets never come from here.
pub(crate) fn seed(seed: u64) {
    let seeded = Seeded {
        random: StdRng::seed_from_u64(seed),
        made: 0,
    };
    use_source(Some(Source(Arc::new(Mutex::new(seeded)))));
}

/// What this thread draws from, if it was seeded.
pub(crate) fn source() -> Option<Source> {
    SEEDED.with_borrow(Clone::clone)
}

/// From now on this thread draws from the source.
pub(crate) fn use_source(source: Option<Source>) {
    SEEDED.set(source);
}

/// Draws from the seeded generator, if there is one.
fn draw<T>(draw: impl FnOnce(&mut Seeded) -> T) -> Option<T> {
    let source = source()?;
    let mut seeded = source.0.lock().unwrap_or_else(PoisonError::into_inner);
    Some(draw(&mut seeded))
}

/// The number of the next id, and random bits.
pub(crate) fn id_parts() -> (u32, u128) {
    let seeded = draw(|seeded| {
        seeded.made = seeded.made.wrapping_add(1);
        (seeded.made, seeded.random.random())
    });
    seeded.unwrap_or_else(|| (MADE.fetch_add(1, Ordering::Relaxed), rand::random()))
}

/// A number from 0 to 1.
pub(crate) fn part() -> f64 {
    let seeded = draw(|seeded| seeded.random.random_range(0.0..1.0));
    seeded.unwrap_or_else(|| rand::random_range(0.0..1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_what_is_drawn() {
        // A thread of its own, since a seed stays with its thread.
        let drawn = || {
            let draws = || {
                seed(7);
                (id_parts(), id_parts(), part().to_bits())
            };
            std::thread::spawn(draws).join().unwrap()
        };
        assert_eq!(drawn(), drawn());
        assert_ne!(id_parts().1, id_parts().1);
    }
}
