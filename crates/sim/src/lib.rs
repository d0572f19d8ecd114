//! Puts the broker under test as a whole: a simulator that owns time and disk, crash states one by one, a process
//! that is killed in a loop. An oracle judges all three by what their clients saw.

mod child;
mod client;
mod clocks;
mod crash_states;
mod fault_store;
mod kill;
mod kill_shop;
mod operation;
mod oracle;
mod plan;
mod progress;
mod shop;
mod shop_child;
mod traffic;
mod world;

pub use child::{Task, child};
pub use crash_states::{BadState, CrashStates, crash_states};
pub use fault_store::{Drops, FaultStore};
pub use kill::{Kills, kill_loop};
pub use kill_shop::{ShopKills, kill_shop_loop};
pub use operation::{NotAnOperation, Operation};
pub use oracle::{Oracle, Rules, Violation};
pub use plan::{Canary, Faults, Plan};
pub use shop::{ShopCanary, ShopStats, run_shop_seed};
pub use shop_child::shop_child;
pub use world::{RunStats, run, run_seed};
