//! Tests of the whole broker: seeds of the simulator, crash states one by one, and faults that must be found.

mod shop;

use std::collections::BTreeSet;

use sim::{Canary, Faults, Plan, crash_states, run, run_seed};

#[test]
fn a_few_seeds_keep_every_invariant() {
    let mut damaged = 0;
    for seed in 1..=30 {
        match run_seed(seed, None) {
            Ok(stats) => damaged += stats.damaged,
            Err(violation) => panic!("cargo run -p sim -- run --seed {seed}: {violation}"),
        }
    }
    assert!(damaged > 0, "no row was damaged in any of them");
}

/// Seeds that found a defect once: messages lost with their partition, in two ways; a full group that was not woken.
#[test]
fn seeds_that_failed_once_do_not_fail_again() {
    for seed in [63, 985, 1013, 1041, 1069] {
        if let Err(violation) = run_seed(seed, None) {
            panic!("seed {seed}: {violation}");
        }
    }
}

#[test]
fn a_seed_gives_the_same_run_every_time() {
    assert_eq!(run_seed(7, None), run_seed(7, None));
}

#[test]
fn every_crash_state_of_short_runs_keeps_every_invariant() {
    for seed in 1..=2 {
        let states =
            crash_states(&Plan::quiet(seed)).unwrap_or_else(|state| panic!("seed {seed}: {state}"));
        assert!(states.states > states.operations, "{states:?}");
    }
}

/// A disk that is full again and again lets partitions go in which messages are written later, so crashes come between a
/// drop and the next batch for the same partition.
#[test]
fn every_crash_state_of_a_disk_that_fills_keeps_every_invariant() {
    let faults = Faults {
        full: 200,
        ..Faults::default()
    };
    let plan = Plan {
        turns: 40,
        faults,
        ..Plan::quiet(1)
    };
    let whole = run(plan.clone()).unwrap_or_else(|violation| panic!("{violation}"));
    assert!(whole.dropped > 0, "{whole:?}");
    crash_states(&plan).unwrap_or_else(|state| panic!("{state}"));
}

/// A fault put in on purpose is found within a few seeds, as one of the given invariants.
fn is_found(canary: Canary, invariants: &[u8]) {
    let found = (1..40).find_map(|seed| run_seed(seed, Some(canary)).err());
    let found = found.unwrap_or_else(|| panic!("{canary:?} was not found"));
    assert!(invariants.contains(&found.invariant), "{canary:?}: {found}");
}

#[test]
fn a_clock_that_runs_ahead_is_found() {
    is_found(Canary::ClockAhead, &[1]);
}

/// What the disk forgets may be an acknowledgement, a message or a cancellation: each of these losses is found, in
/// whichever seed it comes first.
#[test]
fn a_disk_that_forgets_is_found() {
    let found: BTreeSet<u8> = (1..40)
        .filter_map(|seed| run_seed(seed, Some(Canary::SyncForgets)).err())
        .map(|violation| violation.invariant)
        .collect();
    assert!(found.is_superset(&BTreeSet::from([3, 4, 8])), "{found:?}");
    assert!(
        found.is_subset(&BTreeSet::from([1, 2, 3, 4, 8])),
        "{found:?}"
    );
}

#[test]
fn an_answer_before_its_time_is_found() {
    is_found(Canary::AnswersEarly, &[4]);
}

#[test]
fn an_acknowledgement_that_got_lost_is_found() {
    is_found(Canary::AckDropped, &[3]);
}

#[test]
fn a_process_that_is_killed_keeps_every_invariant() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_sim"))
        .args(["kill", "--cycles", "3"])
        .output()
        .unwrap();
    let (printed, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{printed}{errors}");
    assert!(printed.starts_with("3 kills"), "{printed}");
}
