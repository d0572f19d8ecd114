//! The `bench` command: measures Duetime under load and writes the results as text and JSON.

mod broker_load;
mod grpc_load;
mod orders_load;
mod process;
mod report;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context as _;
use broker_load::{PHASES, Scale};
use clap::{Parser, Subcommand};
use report::Figure;

/// Like the server: load generators allocate on one thread and free on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Duetime on this machine.
#[derive(Parser)]
#[command(name = "bench")]
struct Arguments {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Subcommand)]
enum Subject {
    /// The broker in this process: sends, deliveries, lateness, memory, restart.
    Broker(Run),
    /// The order platform: orders created over HTTP, closed by their timers, and the cost of each layer.
    Orders(Run),
    /// `duetime serve` over gRPC: sends, deliveries, lateness, CPU time, memory, start.
    Grpc(Run),
    /// One phase; the other commands run each phase in its own process.
    #[command(hide = true)]
    Phase {
        name: String,
        folder: PathBuf,
        #[arg(long)]
        quick: bool,
    },
}

#[derive(clap::Args)]
struct Run {
    /// Run with a tenth of the load.
    #[arg(long)]
    quick: bool,
    /// Also write the results to this JSON file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Run only the phases with these names, separated by commas.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// The folder for the data, on the disk to be measured.
    #[arg(long, value_name = "DIR", default_value = "target/bench-data")]
    data: PathBuf,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().subject {
        Subject::Broker(run) => bench(&run, &PHASES),
        Subject::Orders(run) => bench(&run, &orders_load::PHASES.map(|phase| (phase, phase))),
        Subject::Grpc(run) => bench(&run, &grpc_load::PHASES.map(|phase| (phase, phase))),
        Subject::Phase {
            name,
            folder,
            quick,
        } => {
            // A client that only sends needs less than a core; two threads would only contend for locks.
            let of_client = grpc_load::PHASES.contains(&name.as_str());
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(if of_client { 1 } else { 2 })
                .enable_all()
                .build()?;
            let figures = runtime.block_on(async {
                if orders_load::PHASES.contains(&name.as_str()) {
                    orders_load::run_phase(&name, &folder, orders_load::Scale::new(quick)).await
                } else if grpc_load::PHASES.contains(&name.as_str()) {
                    grpc_load::run_phase(&name, &folder, grpc_load::Scale::new(quick)).await
                } else {
                    broker_load::run_phase(&name, &folder, Scale::new(quick)).await
                }
            })?;
            say(&serde_json::to_string(&figures)?);
            // As in a crash, nothing is closed cleanly.
            std::process::abort();
        }
    }
}

fn bench(run: &Run, phases: &[(&str, &str)]) -> anyhow::Result<()> {
    let mut figures = Vec::new();
    if run.data.exists() {
        std::fs::remove_dir_all(&run.data)
            .with_context(|| format!("empty {}", run.data.display()))?;
    }
    for (phase, folder) in phases {
        if !run.only.is_empty() && !run.only.iter().any(|only| only == *phase) {
            continue;
        }
        let of_phase = run_phase(phase, &run.data.join(folder), run.quick)?;
        say(&report::table(&of_phase));
        figures.extend(of_phase);
    }
    std::fs::remove_dir_all(&run.data).with_context(|| format!("remove {}", run.data.display()))?;
    match &run.json {
        Some(path) => report::write_json(path, &figures),
        None => Ok(()),
    }
}

/// Runs a phase in its own process, which prints its results and aborts.
fn run_phase(phase: &str, folder: &Path, quick: bool) -> anyhow::Result<Vec<Figure>> {
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command
        .arg("phase")
        .arg(phase)
        .arg(folder)
        .args(quick.then_some("--quick"))
        .stderr(Stdio::inherit());
    let output = command
        .output()
        .with_context(|| format!("start phase {phase}"))?;
    let text = String::from_utf8(output.stdout)?;
    let last = text
        .lines()
        .last()
        .with_context(|| format!("phase {phase} printed nothing ({})", output.status))?;
    serde_json::from_str(last).with_context(|| format!("phase {phase} printed {last:?}"))
}

#[expect(clippy::print_stdout, reason = "this is what the command is for")]
fn say(text: &str) {
    println!("{text}");
}
