//! Simulates a whole shop: the order platform's transitions over the broker's step function, from one seed.
//!
//! The platform is the real one on a SQLite file, with every operation awaited before the next begins; the broker is
//! the real step function on a disk that fails, under clocks that jump. What happens between and within the
//! operations follows from the seed.

mod actions;
mod driver;
mod gateway;
mod judge;
mod link;
mod machine;
mod plan;
mod scene;

use rand::SeedableRng;
use rand::rngs::StdRng;

pub use plan::ShopCanary;

use crate::oracle::Violation;
use driver::Driver;
use plan::ShopPlan;

/// What a run of a shop came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShopStats {
    /// Things that happened.
    pub steps: u64,
    /// Turns of the broker.
    pub turns: u64,
    /// Crashes of the platform.
    pub crashes: u64,
    /// Crashes of the broker, failed disks included.
    pub falls: u64,
    /// Disks lost for ever.
    pub burns: u64,
    /// Deliveries to the platform.
    pub deliveries: u64,
    /// Orders made.
    pub orders: u64,
    /// Orders that were paid.
    pub paid: u64,
    /// Orders that closed because their deadline came.
    pub closed_by_timeout: u64,
    /// Orders that were cancelled.
    pub cancelled: u64,
    /// Payments that came late, twice or wrong.
    pub given_back: u64,
    /// Payments that no one but a person could understand.
    pub by_hand: u64,
    /// Coupons earned.
    pub coupons: u64,
}

impl ShopStats {
    /// Adds those of another run.
    pub fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.turns += other.turns;
        self.crashes += other.crashes;
        self.falls += other.falls;
        self.burns += other.burns;
        self.deliveries += other.deliveries;
        self.orders += other.orders;
        self.paid += other.paid;
        self.closed_by_timeout += other.closed_by_timeout;
        self.cancelled += other.cancelled;
        self.given_back += other.given_back;
        self.by_hand += other.by_hand;
        self.coupons += other.coupons;
    }
}

/// Runs the shop of a seed to its end; returns its statistics, or the invariant that broke.
pub fn run_shop_seed(
    seed: u64,
    canary: Option<ShopCanary>,
) -> anyhow::Result<Result<ShopStats, Violation>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let plan = ShopPlan::of_seed(seed, canary, &mut rng);
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // The platform's ids come from the seed too.
    orders::step::seed(seed);
    Ok(runtime.block_on(Driver::new(plan, folder.path()).run()))
}
