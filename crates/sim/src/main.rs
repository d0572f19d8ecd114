//! Provides the `sim` command: seeded simulation, crash states, and the loop that kills a process.

use std::time::Duration;

use anyhow::{Result, bail};
use broker::clock::Stopwatch;
use clap::{Parser, Subcommand};
use sim::{Figures, run_seed};

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
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Run {
            seed: Some(seed), ..
        } => replay(seed),
        Command::Run { seconds, from, .. } => simulate(Duration::from_secs(seconds), from),
    }
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
