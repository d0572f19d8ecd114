//! Provides the `sim` command: seeded simulation, crash states, and the loop that kills a process.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use broker::clock::Stopwatch;
use clap::{Parser, Subcommand};
use sim::{Figures, Plan, Task, child, crash_states, kill_loop, run_seed};

/// Puts Duetime's broker under test as a whole.
#[derive(Debug, Parser)]
#[command(name = "sim")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Simulates one seed after the other, or one alone.
    Run {
        /// How long to go on, in seconds.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// Replays this seed alone.
        #[arg(long)]
        seed: Option<u64>,
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        from: u64,
    },
    /// Kills a process that uses a broker on a real folder, again and again.
    Kill {
        /// How often.
        #[arg(long, default_value_t = 50)]
        cycles: u64,
        /// Decides when the process is killed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The folder; a temporary one if absent.
        #[arg(long)]
        folder: Option<PathBuf>,
    },
    /// Goes through the crash states of short runs one by one.
    CrashStates {
        /// How many runs.
        #[arg(long, default_value_t = 5)]
        runs: u64,
    },
    /// The process that is killed.
    #[command(hide = true)]
    Child {
        folder: PathBuf,
        #[arg(long)]
        cycle: u64,
        #[arg(long)]
        drain: bool,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Run {
            seed: Some(seed), ..
        } => replay(seed),
        Command::Run { seconds, from, .. } => simulate(Duration::from_secs(seconds), from),
        Command::Kill {
            cycles,
            seed,
            folder,
        } => kill(cycles, seed, folder),
        Command::CrashStates { runs } => go_through(runs),
        Command::Child {
            folder,
            cycle,
            drain,
        } => {
            let task = Task {
                cycle,
                drains: drain,
            };
            tokio::runtime::Runtime::new()?.block_on(child(&folder, task))
        }
    }
}

#[expect(clippy::print_stdout, reason = "the report of a command")]
fn kill(cycles: u64, seed: u64, folder: Option<PathBuf>) -> Result<()> {
    let watch = Stopwatch::start();
    // Kept in a variable, for it is removed when it is dropped.
    let temporary = tempfile::tempdir()?;
    let folder = folder.unwrap_or_else(|| temporary.path().join("data"));
    let kills = match kill_loop(&folder, cycles, seed) {
        Ok(kills) => kills,
        Err(error) => {
            let kept = temporary.keep();
            return Err(error.context(format!("the data is kept in {}", kept.display())));
        }
    };
    println!(
        "{} kills, {} of them while opening, {} facts, {} deliveries, {:.1} s: every invariant holds",
        kills.kills,
        kills.while_opening,
        kills.facts,
        kills.deliveries,
        watch.elapsed().as_secs_f64()
    );
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the report of a command")]
fn go_through(runs: u64) -> Result<()> {
    for seed in 1..=runs {
        let states = crash_states(&Plan::quiet(seed))?;
        println!(
            "run {seed}: {} operations, {} crash states",
            states.operations, states.states
        );
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the report of a command")]
fn replay(seed: u64) -> Result<()> {
    let figures = run_seed(seed, None)?;
    println!("seed {seed}: {}", told(figures));
    Ok(())
}

fn told(figures: Figures) -> String {
    format!(
        "{} steps, {} crashes, {} messages, {} deliveries",
        figures.steps, figures.crashes, figures.sends, figures.deliveries
    )
}

#[expect(clippy::print_stdout, reason = "the report of a command")]
fn simulate(time: Duration, from: u64) -> Result<()> {
    let watch = Stopwatch::start();
    let mut sum = Figures::default();
    let (mut runs, mut failed) = (0_u64, 0_u64);
    let mut told_at = Duration::ZERO;
    for seed in from.. {
        let elapsed = watch.elapsed();
        if elapsed >= time {
            break;
        }
        if elapsed >= told_at + Duration::from_secs(10) {
            told_at = elapsed;
            println!("{:>4} s  {runs} runs, {}", elapsed.as_secs(), told(sum));
        }
        runs += 1;
        match run_seed(seed, None) {
            Ok(figures) => sum.add(figures),
            Err(violation) => {
                failed += 1;
                println!(
                    "seed {seed} fails: {violation}\n  replay: cargo run -p sim -- run --seed {seed}"
                );
            }
        }
    }
    println!("{runs} runs, {}, {failed} failed", told(sum));
    if failed > 0 {
        bail!("{failed} of {runs} runs failed");
    }
    Ok(())
}
