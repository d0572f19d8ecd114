//! Puts the broker under test as a whole: a simulator that owns time and disk, crash states one by one, a process
//! that is killed in a loop. An oracle judges all three by what their clients saw.

mod fact;
mod fault_store;
mod oracle;

pub use fact::{Fact, NotAFact};
pub use fault_store::{Drops, FaultStore};
pub use oracle::{Oracle, Rules, Violation};
