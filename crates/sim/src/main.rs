//! Provides the `sim` command: seeded simulation, crash states, and the loop that kills a process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use broker::clock::Stopwatch;
use clap::{Args, Parser, Subcommand};
use sim::{
    Plan, RunStats, ShopStats, Task, child, crash_states, kill_loop, kill_shop_loop, run_seed,
    run_shop_seed, shop_child,
};

/// Puts Duetime's broker and its order platform under test as a whole.
#[derive(Debug, Parser)]
#[command(name = "sim")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Simulates one seed after the other, of the broker and of a whole shop in turn; or one of the broker alone.
    Run(RunArguments),
    /// Simulates a whole shop, one seed after the other, or one alone.
    Shop(RunArguments),
    /// Kills a process that uses a broker on a real folder, again and again.
    Kill(KillArguments),
    /// Goes through the crash states of short runs one by one.
    CrashStates {
        /// How many runs.
        #[arg(long, default_value_t = 5)]
        runs: u64,
    },
    /// Kills a process that runs the order platform on its broker, again and again.
    KillShop(KillArguments),
    /// The process that is killed.
    #[command(hide = true)]
    Child(ChildArguments),
    /// The shop that is killed.
    #[command(hide = true)]
    ShopChild(ChildArguments),
}

#[derive(Clone, Copy, Debug, Args)]
struct RunArguments {
    /// How long to go on, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Replays this seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
}

#[derive(Debug, Args)]
struct KillArguments {
    /// How often.
    #[arg(long, default_value_t = 50)]
    cycles: u64,
    /// Decides when the process is killed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The folder; a temporary one if absent.
    #[arg(long)]
    folder: Option<PathBuf>,
}

impl KillArguments {
    /// Does something in the folder; a temporary one is kept if that fails.
    fn within<T>(&self, work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let temporary = tempfile::tempdir()?;
        let folder = self
            .folder
            .clone()
            .unwrap_or_else(|| temporary.path().join("data"));
        work(&folder).map_err(|error| {
            let kept = temporary.keep();
            error.context(format!("the data is kept in {}", kept.display()))
        })
    }
}

#[derive(Debug, Args)]
struct ChildArguments {
    folder: PathBuf,
    #[arg(long)]
    cycle: u64,
    #[arg(long)]
    drain: bool,
}

impl ChildArguments {
    fn task(&self) -> Task {
        Task {
            cycle: self.cycle,
            drains: self.drain,
        }
    }
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Run(arguments) => match arguments.seed {
            Some(seed) => replay(seed),
            None => simulate(arguments, &[Subject::Broker, Subject::Shop]),
        },
        Command::Shop(arguments) => match arguments.seed {
            Some(seed) => replay_shop(seed),
            None => simulate(arguments, &[Subject::Shop]),
        },
        Command::Kill(arguments) => kill(&arguments),
        Command::KillShop(arguments) => kill_shop(&arguments),
        Command::CrashStates { runs } => go_through(runs),
        Command::Child(arguments) => {
            let runtime = tokio::runtime::Runtime::new()?;
            runtime.block_on(child(&arguments.folder, arguments.task()))
        }
        Command::ShopChild(arguments) => {
            let runtime = tokio::runtime::Runtime::new()?;
            runtime.block_on(shop_child(&arguments.folder, arguments.task()))
        }
    }
}

#[expect(clippy::print_stdout, reason = "the report of a command")]
fn kill(arguments: &KillArguments) -> Result<()> {
    let watch = Stopwatch::start();
    let kills = arguments.within(|folder| kill_loop(folder, arguments.cycles, arguments.seed))?;
    println!(
        "{} kills, {} of them while opening, {} operations, {} deliveries, {:.1} s: every invariant holds",
        kills.kills,
        kills.while_opening,
        kills.operations,
        kills.deliveries,
        watch.elapsed().as_secs_f64()
    );
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the report of a command")]
fn kill_shop(arguments: &KillArguments) -> Result<()> {
    let watch = Stopwatch::start();
    let done =
        arguments.within(|folder| kill_shop_loop(folder, arguments.cycles, arguments.seed))?;
    let tally = done.tally;
    println!(
        "{} kills, {} orders ({} paid, {} closed by timeout, {} cancelled), {} payments to give back, {} coupons, {:.1} s: \
         every rule holds",
        done.kills,
        done.orders,
        tally.paid,
        tally.closed_by_timeout,
        tally.cancelled,
        tally.payments_to_give_back,
        tally.coupons,
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
    let stats = run_seed(seed, None)?;
    println!("seed {seed}: {}", summary(stats));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the report of a command")]
fn replay_shop(seed: u64) -> Result<()> {
    let stats = run_shop_seed(seed, None)??;
    println!("shop seed {seed}: {}", shop_summary(stats));
    Ok(())
}

fn summary(stats: RunStats) -> String {
    format!(
        "{} steps, {} crashes, {} messages, {} deliveries",
        stats.steps, stats.crashes, stats.sends, stats.deliveries
    )
}

fn shop_summary(stats: ShopStats) -> String {
    format!(
        "{} steps, {} crashes of the platform, {} of the broker, {} disks lost, {} deliveries, {} orders ({} paid, {} closed by \
         timeout, {} cancelled), {} payments to give back, {} recorded by hand, {} coupons",
        stats.steps,
        stats.crashes,
        stats.falls,
        stats.burns,
        stats.deliveries,
        stats.orders,
        stats.paid,
        stats.closed_by_timeout,
        stats.cancelled,
        stats.given_back,
        stats.by_hand,
        stats.coupons
    )
}

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    /// The broker and its clients.
    Broker,
    /// The order platform over the broker.
    Shop,
}

/// Runs of one subject.
#[derive(Debug, Default)]
struct Runs {
    next_seed: u64,
    done: u64,
    failed: u64,
    spent: Duration,
    broker: RunStats,
    shop: ShopStats,
}

impl Runs {
    fn summary(&self, subject: Subject) -> String {
        match subject {
            Subject::Broker => format!("{} broker runs, {}", self.done, summary(self.broker)),
            Subject::Shop => format!("{} shop runs, {}", self.done, shop_summary(self.shop)),
        }
    }

    #[expect(clippy::print_stdout, reason = "the report of a command")]
    fn run_next(&mut self, subject: Subject) -> Result<()> {
        let seed = self.next_seed;
        self.next_seed += 1;
        self.done += 1;
        let (violation, replay) = match subject {
            Subject::Broker => {
                let outcome = run_seed(seed, None).map(|stats| self.broker.add(stats));
                (outcome.err(), "run")
            }
            Subject::Shop => {
                let outcome = run_shop_seed(seed, None)?.map(|stats| self.shop.add(stats));
                (outcome.err(), "shop")
            }
        };
        if let Some(violation) = violation {
            self.failed += 1;
            println!(
                "seed {seed} fails: {violation}\n  replay: cargo run -p sim -- {replay} --seed {seed}"
            );
        }
        Ok(())
    }
}

#[expect(clippy::print_stdout, reason = "the report of a command")]
fn simulate(arguments: RunArguments, subjects: &[Subject]) -> Result<()> {
    let time = Duration::from_secs(arguments.seconds);
    let watch = Stopwatch::start();
    let begun = |subject: &Subject| {
        let runs = Runs {
            next_seed: arguments.from,
            ..Runs::default()
        };
        (*subject, runs)
    };
    let mut all: Vec<(Subject, Runs)> = subjects.iter().map(begun).collect();
    let mut printed_at = Duration::ZERO;
    loop {
        let before = watch.elapsed();
        if before >= time {
            break;
        }
        if before >= printed_at + Duration::from_secs(10) {
            printed_at = before;
            for (subject, runs) in &all {
                println!("{:>4} s  {}", before.as_secs(), runs.summary(*subject));
            }
        }
        // Each gets the same time, however long its runs are.
        let Some((subject, runs)) = all.iter_mut().min_by_key(|(_, runs)| runs.spent) else {
            break;
        };
        runs.run_next(*subject)?;
        runs.spent += watch.elapsed().saturating_sub(before);
    }
    let mut failed = 0;
    for (subject, runs) in &all {
        println!("{}, {} failed", runs.summary(*subject), runs.failed);
        failed += runs.failed;
    }
    if failed > 0 {
        bail!("{failed} runs failed");
    }
    Ok(())
}
