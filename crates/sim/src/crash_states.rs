//! Goes through the crash states of a run one by one: the store fails at each of its operations in turn, and of what
//! was not yet durable each prefix survives.

use crate::fault_store::Drops;
use crate::oracle::Violation;
use crate::plan::Plan;
use crate::world::run;

/// How many crash states were gone through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrashStates {
    /// Operations of the run without a crash.
    pub operations: u64,
    /// States from which the broker was started again.
    pub states: u64,
}

/// A crash state in which an invariant broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("after operation {operation} failed and {kept} changes survived ({drops:?}): {violation}")]
pub struct BadState {
    /// The operation at which the store failed.
    pub operation: u64,
    /// How many of the changes that were not durable survived.
    pub kept: usize,
    /// The outcome of dropped partitions.
    pub drops: Drops,
    /// What broke.
    pub violation: Violation,
}

/// Crashes a run at every operation of its store, with every prefix of what was not durable.
pub fn crash_states(plan: &Plan) -> Result<CrashStates, BadState> {
    let state = |operation, kept, drops| {
        let plan = Plan {
            fail_at: Some(operation),
            kept: Some(kept),
            drops: Some(drops),
            ..plan.clone()
        };
        run(plan).map_err(|violation| BadState {
            operation,
            kept,
            drops,
            violation,
        })
    };
    let whole = run(plan.clone()).map_err(|violation| BadState {
        operation: 0,
        kept: 0,
        drops: Drops::AtOnce,
        violation,
    })?;
    let mut done = CrashStates {
        operations: whole.operations,
        states: 0,
    };
    for operation in 1..=whole.operations {
        let mut kept = 0;
        loop {
            let run_stats = state(operation, kept, Drops::AtOnce)?;
            done.states += 1;
            if run_stats.undurable_drops > 0 {
                state(operation, kept, Drops::Undone)?;
                done.states += 1;
            }
            if kept >= run_stats.undurable {
                break;
            }
            kept += 1;
        }
    }
    Ok(done)
}
