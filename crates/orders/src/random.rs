//! Provides the randomness of ids and waits, which a simulator can seed.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Counts the ids made by this process, so that those of one millisecond sort by age too.
static MADE: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// The generator that a simulator has seeded, on this thread alone.
    static SEEDED: RefCell<Option<Seeded>> = const { RefCell::new(None) };
}

struct Seeded {
    random: StdRng,
    made: u32,
}

/// From now on, everything drawn on this thread follows from the seed. Secrets never come from here.
pub(crate) fn seed(seed: u64) {
    let seeded = Seeded {
        random: StdRng::seed_from_u64(seed),
        made: 0,
    };
    SEEDED.with_borrow_mut(|present| *present = Some(seeded));
}

/// The number of the next id, and random bits.
pub(crate) fn id_parts() -> (u32, u128) {
    SEEDED.with_borrow_mut(|seeded| match seeded {
        Some(seeded) => {
            seeded.made = seeded.made.wrapping_add(1);
            (seeded.made, seeded.random.random())
        }
        None => (MADE.fetch_add(1, Ordering::Relaxed), rand::random()),
    })
}

/// A number from 0 to 1.
pub(crate) fn part() -> f64 {
    SEEDED.with_borrow_mut(|seeded| match seeded {
        Some(seeded) => seeded.random.random_range(0.0..1.0),
        None => rand::random_range(0.0..1.0),
    })
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
