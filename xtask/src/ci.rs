//! Provides `cargo xtask ci`: the list of steps, and the loop that runs them and prints a summary.

use std::io::{BufRead, BufReader, IsTerminal};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::tally::Tally;
use crate::tidy;

/// One thing that must pass.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    name: &'static str,
    work: Work,
    /// A step this one depends on; it is not started if that one failed.
    needs: Option<&'static str>,
    /// One more environment variable of the step's process.
    variable: Option<(&'static str, &'static str)>,
    /// Whether `--quick` runs it: it needs nothing but Rust, and builds only once.
    is_quick: bool,
}

/// How a step does its work.
#[derive(Clone, Copy)]
enum Work {
    /// Runs cargo with these arguments, separated by blanks.
    Cargo(&'static str),
    /// Runs the tidy checks in this process.
    Tidy,
}

/// The steps in the order they run, the quick ones first.
///
/// There are two builds only, dev and release, so that a run from an empty target stays well under an hour on two cores: a
/// step with other features or flags costs one more full build.
const STEPS: &[Step] = &[
    Step::cargo("format", "fmt --all -- --check").quick(),
    Step::tidy("tidy").quick(),
    Step::cargo(
        "clippy",
        "clippy --workspace --all-targets --locked -- -D warnings",
    )
    .quick(),
    Step::cargo("docs", "doc --workspace --no-deps --locked")
        .variable("RUSTDOCFLAGS", "-D warnings")
        .quick(),
    Step::cargo("tests", "test --workspace --no-fail-fast --locked").quick(),
    Step::cargo(
        "simulation",
        "run --quiet --package sim --locked -- run --seconds 60",
    ),
    Step::cargo(
        "kill",
        "run --quiet --package sim --locked -- kill --cycles 50",
    ),
    Step::cargo(
        "kill shop",
        "run --quiet --package sim --locked -- kill-shop --cycles 15",
    ),
    Step::cargo("release", "build --release --locked"),
    Step::cargo("demo", "run --release --locked -- demo").needs("release"),
    Step::cargo(
        "examples",
        "run --quiet --package xtask --locked -- examples --release",
    )
    .needs("release"),
    Step::cargo(
        "apis",
        "run --quiet --package xtask --locked -- apis --release",
    )
    .needs("release"),
    Step::cargo(
        "interop",
        "run --quiet --package xtask --locked -- interop --release",
    )
    .needs("release"),
    Step::cargo("peers", "run --quiet --package xtask --locked -- peers"),
];

impl Step {
    const fn cargo(name: &'static str, arguments: &'static str) -> Self {
        Self {
            name,
            work: Work::Cargo(arguments),
            needs: None,
            variable: None,
            is_quick: false,
        }
    }

    const fn tidy(name: &'static str) -> Self {
        Self {
            name,
            work: Work::Tidy,
            needs: None,
            variable: None,
            is_quick: false,
        }
    }

    const fn quick(self) -> Self {
        Self {
            is_quick: true,
            ..self
        }
    }

    const fn needs(self, name: &'static str) -> Self {
        Self {
            needs: Some(name),
            ..self
        }
    }

    const fn variable(self, name: &'static str, value: &'static str) -> Self {
        Self {
            variable: Some((name, value)),
            ..self
        }
    }

    fn describe(&self) -> String {
        match self.work {
            Work::Cargo(arguments) => format!("cargo {arguments}"),
            Work::Tidy => "cargo xtask tidy".to_owned(),
        }
    }
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed,
    /// Not started, since the step it needs did not pass.
    NotRun,
}

struct Outcome {
    name: &'static str,
    verdict: Verdict,
    took: Duration,
    tally: Tally,
}

/// Prints the names of the steps, whether `--quick` runs them, and what they run.
pub(crate) fn list() {
    for step in STEPS {
        let mark = if step.is_quick { "quick" } else { "" };
        println!("{:<10} {mark:<5} {}", step.name, step.describe());
    }
}

/// The steps that need nothing but Rust.
pub(crate) fn quick() -> Vec<Step> {
    let quick = STEPS.iter().filter(|step| step.is_quick);
    quick.copied().collect()
}

/// The steps with these names in the order of the list; all of them if no name is given.
pub(crate) fn select(names: &[&str]) -> Result<Vec<Step>, String> {
    for name in names {
        if !STEPS.iter().any(|step| step.name == *name) {
            let known: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
            return Err(format!(
                "unknown step \"{name}\"; the steps are {}",
                known.join(", ")
            ));
        }
    }
    Ok(STEPS
        .iter()
        .filter(|step| names.is_empty() || names.contains(&step.name))
        .copied()
        .collect())
}

/// Runs the steps, prints the summary, and says whether all passed.
///
/// A failed step does not stop the others: one run shows every failure.
pub(crate) fn run(root: &Path, steps: &[Step]) -> bool {
    let started = now();
    let mut outcomes: Vec<Outcome> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        println!(
            "\n==> [{}/{}] {}: {}",
            index + 1,
            steps.len(),
            step.name,
            step.describe()
        );
        let outcome = if is_blocked(step, &outcomes) {
            println!(
                "not run: it needs the step {}",
                step.needs.unwrap_or_default()
            );
            Outcome {
                name: step.name,
                verdict: Verdict::NotRun,
                took: Duration::ZERO,
                tally: Tally::default(),
            }
        } else {
            run_step(root, step)
        };
        outcomes.push(outcome);
    }
    print!("\n{}", summary(&outcomes, elapsed(started)));
    outcomes
        .iter()
        .all(|outcome| outcome.verdict == Verdict::Passed)
}

fn is_blocked(step: &Step, outcomes: &[Outcome]) -> bool {
    step.needs.is_some_and(|needed| {
        outcomes
            .iter()
            .any(|outcome| outcome.name == needed && outcome.verdict != Verdict::Passed)
    })
}

fn run_step(root: &Path, step: &Step) -> Outcome {
    let started = now();
    let mut tally = Tally::default();
    let result = match step.work {
        Work::Cargo(arguments) => run_cargo(root, arguments, step.variable, &mut tally),
        Work::Tidy => tidy::run(root),
    };
    let passed = result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        false
    });
    Outcome {
        name: step.name,
        verdict: if passed && tally.failed == 0 {
            Verdict::Passed
        } else {
            Verdict::Failed
        },
        took: elapsed(started),
        tally,
    }
}

/// Runs cargo, prints its output line by line and counts the test results in it.
fn run_cargo(
    root: &Path,
    arguments: &str,
    variable: Option<(&str, &str)>,
    tally: &mut Tally,
) -> Result<bool> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(arguments.split_whitespace())
        .current_dir(root)
        .stdout(Stdio::piped());
    if let Some((name, value)) = variable {
        command.env(name, value);
    }
    if std::io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command.spawn().context("start cargo")?;
    let output = child.stdout.take().context("take the output of cargo")?;
    // Lines are read as bytes, since output that is no UTF-8 must not end the run.
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("read the output of cargo")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        tally.read_line(&line);
    }
    Ok(child.wait().context("wait for cargo")?.success())
}

fn summary(outcomes: &[Outcome], took: Duration) -> String {
    let mut lines = Vec::new();
    let mut total = Tally::default();
    for outcome in outcomes {
        let verdict = match outcome.verdict {
            Verdict::Passed => "passed",
            Verdict::Failed => "FAILED",
            Verdict::NotRun => "NOT RUN",
        };
        let cases = match (outcome.tally.passed, outcome.tally.failed) {
            (0, 0) => String::new(),
            (passed, failed) => format!("   {passed} tests passed, {failed} failed"),
        };
        let time = format!("{:.1} s", outcome.took.as_secs_f64());
        lines.push(format!(
            "{:<10} {verdict:<8} {time:>9}{cases}",
            outcome.name
        ));
        let failures = outcome.tally.failures.iter();
        lines.extend(failures.map(|name| format!("           {name}")));
        total.passed += outcome.tally.passed + u64::from(outcome.verdict == Verdict::Passed);
        total.failed += outcome.tally.failed + u64::from(outcome.verdict != Verdict::Passed);
    }
    let seconds = took.as_secs();
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    lines.push(format!(
        "{minutes} min {seconds} s in total; each step counts as one below"
    ));
    lines.push(format!("{} passed, {} failed", total.passed, total.failed));
    lines.join("\n") + "\n"
}

#[expect(
    clippy::disallowed_methods,
    reason = "a development command shows how long its steps take"
)]
fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a development command shows how long its steps take"
)]
fn elapsed(since: Instant) -> Duration {
    since.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(name: &'static str, verdict: Verdict, passed: u64, failures: &[&str]) -> Outcome {
        let failures: Vec<String> = failures.iter().map(|name| (*name).to_owned()).collect();
        let failed = failures.len() as u64;
        Outcome {
            name,
            verdict,
            took: Duration::from_millis(1_500),
            tally: Tally {
                passed,
                failed,
                failures,
            },
        }
    }

    #[test]
    fn every_needed_step_runs_before() {
        for (index, step) in STEPS.iter().enumerate() {
            if let Some(needed) = step.needs {
                assert!(
                    STEPS
                        .iter()
                        .take(index)
                        .any(|earlier| earlier.name == needed),
                    "{} needs {needed}, which does not run before it",
                    step.name
                );
            }
        }
    }

    #[test]
    fn summary_counts_cases_and_steps() {
        let outcomes = [
            outcome("format", Verdict::Passed, 0, &[]),
            outcome("tests", Verdict::Failed, 7, &["engine::late"]),
            outcome("demo", Verdict::NotRun, 0, &[]),
        ];
        let text = summary(&outcomes, Duration::from_secs(61));
        assert!(text.contains(
            "tests      FAILED       1.5 s   7 tests passed, 1 failed\n           engine::late\n"
        ));
        assert!(text.contains("1 min 1 s in total"));
        assert!(text.ends_with("\n8 passed, 3 failed\n"), "{text}");
    }

    #[test]
    fn step_is_blocked_only_by_what_it_needs() {
        let demo = Step::cargo("demo", "run").needs("release");
        let failed = |name| outcome(name, Verdict::Failed, 0, &[]);
        assert!(is_blocked(&demo, &[failed("release")]));
        assert!(!is_blocked(&demo, &[failed("tests")]));
        assert!(!is_blocked(
            &demo,
            &[outcome("release", Verdict::Passed, 0, &[])]
        ));
        // A step that is named alone runs although the step it needs is not in the list.
        assert!(!is_blocked(&demo, &[]));
    }

    #[test]
    fn quick_steps_need_no_other_step() {
        let quick = quick();
        let names: Vec<&str> = quick.iter().map(|step| step.name).collect();
        assert_eq!(names, ["format", "tidy", "clippy", "docs", "tests"]);
        assert!(quick.iter().all(|step| step.needs.is_none()));
    }

    #[test]
    fn select_keeps_the_order_of_the_list() {
        let names: Vec<&str> = select(&["tests", "format"])
            .unwrap()
            .iter()
            .map(|step| step.name)
            .collect();
        assert_eq!(names, ["format", "tests"]);
        assert_eq!(select(&[]).unwrap().len(), STEPS.len());
        assert!(select(&["test"]).is_err_and(|message| message.contains("the steps are format")));
    }
}
