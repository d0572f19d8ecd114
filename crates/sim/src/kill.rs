//! Provides the loop that kills a process: a child uses a broker, the parent kills it at any moment and judges what the
//! next child finds.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use broker::clock::{Clock, Stopwatch, SystemClock};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::child::READY;
use crate::operation::Operation;
use crate::oracle::{Oracle, Rules};
use crate::plan::{ATTEMPTS_MAX, Plan};

/// How long a drained broker has to stay quiet.
const QUIET: Duration = Duration::from_millis(1_500);
/// How long draining may take.
const DRAIN_MAX: Duration = Duration::from_secs(90);
/// How long a child may take to open its broker.
const OPEN_MAX: Duration = Duration::from_secs(100);

/// What a loop came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kills {
    /// Children killed.
    pub kills: u64,
    /// Of these, before their broker was open.
    pub while_opening: u64,
    /// Operations reported.
    pub operations: u64,
    /// Deliveries.
    pub deliveries: u64,
}

/// A child process and what it says.
pub(crate) struct Offspring {
    child: Child,
    lines: Receiver<String>,
}

impl Offspring {
    /// Starts this program again, to do `what` in `folder`.
    pub(crate) fn spawn(what: &str, folder: &Path, cycle: u64, drains: bool) -> Result<Self> {
        let program = std::env::current_exe().context("find this program")?;
        let mut command = Command::new(program);
        command
            .arg(what)
            .arg(folder)
            .arg("--cycle")
            .arg(cycle.to_string());
        if drains {
            command.arg("--drain");
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start a child")?;
        let output = child.stdout.take().context("a child without an output")?;
        let (sender, lines) = channel();
        std::thread::Builder::new()
            .name("operations".into())
            .spawn(move || {
                let mut reader = BufReader::new(output);
                loop {
                    let mut line = String::new();
                    // A line without an end was cut off by the kill.
                    let whole = reader.read_line(&mut line).is_ok() && line.ends_with('\n');
                    if !whole || sender.send(line).is_err() {
                        break;
                    }
                }
            })?;
        Ok(Self { child, lines })
    }

    /// Lets the child live for a while, kills it, and reads all its reports; answers whether it was open.
    ///
    /// `lives` counts from the child's first sign of life, or from its start.
    pub(crate) fn live(
        mut self,
        lives: Duration,
        from_opening: bool,
        mut hear: impl FnMut(&str) -> Result<()>,
    ) -> Result<bool> {
        let mut watch = Stopwatch::start();
        let mut opened = false;
        loop {
            let opens = from_opening && !opened;
            let limit = if opens { OPEN_MAX } else { lives };
            let Some(left) = limit
                .checked_sub(watch.elapsed())
                .filter(|left| !left.is_zero())
            else {
                ensure!(!opens, "a child did not open within {OPEN_MAX:?}");
                break;
            };
            match self.lines.recv_timeout(left) {
                Ok(line) if line.trim_end() == READY => {
                    opened = true;
                    if from_opening {
                        watch = Stopwatch::start();
                    }
                }
                Ok(line) => hear(&line)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().context("wait for a child")?;
                    bail!("a child ended by itself: {status}");
                }
            }
        }
        self.child.kill().context("kill a child")?;
        while let Ok(line) = self.lines.recv() {
            if line.trim_end() == READY {
                opened = true;
            } else {
                hear(&line)?;
            }
        }
        Ok(opened)
    }

    /// Waits for a line; `None` if none comes in time, or none will come again.
    pub(crate) fn hear(&self, wait: Duration) -> Option<String> {
        self.lines.recv_timeout(wait).ok()
    }

    /// Closes the child's input, which ends it, and checks how it ended.
    pub(crate) fn finish(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait().context("wait for the last child")?;
        ensure!(status.success(), "the last child ended with {status}");
        Ok(())
    }
}

impl Drop for Offspring {
    fn drop(&mut self) {
        // However the loop ends, no child outlives it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Judges what children say.
struct Judge {
    oracle: Oracle,
    operations: u64,
}

impl Judge {
    fn hear(&mut self, line: &str) -> Result<()> {
        let line = line.trim_end();
        if line == READY {
            return Ok(());
        }
        let operation: Operation = line.parse()?;
        self.operations += 1;
        let now_ms = if let Operation::Delivered { now_ms, .. } = operation {
            now_ms
        } else {
            0
        };
        self.oracle.next_turn(now_ms);
        self.oracle.record(operation)?;
        Ok(())
    }
}

/// Kills a process that uses a broker in `folder`, again and again; then drains it.
pub fn kill_loop(folder: &Path, cycles: u64, seed: u64) -> Result<Kills> {
    let mut rng = StdRng::seed_from_u64(seed);
    let rules = Rules {
        attempts_max: ATTEMPTS_MAX,
        retention_ms: broker::Config::default().retention_ms,
        ..Plan::quiet(seed).rules()
    };
    let mut judge = Judge {
        oracle: Oracle::new(rules),
        operations: 0,
    };
    let mut kills = Kills::default();
    for cycle in 1..=cycles {
        let lives = Duration::from_micros(rng.random_range(0..700_000));
        // Even opening is a moment to die in.
        let from_opening = rng.random_bool(0.85);
        let lives = if from_opening { lives } else { lives / 20 };
        let child = Offspring::spawn("child", folder, cycle, false)?;
        let opened = child.live(lives, from_opening, |line| judge.hear(line))?;
        judge.oracle.record(Operation::Crashed { noted_turn: 0 })?;
        kills.kills += 1;
        kills.while_opening += u64::from(!opened);
    }
    drain(
        &mut judge,
        Offspring::spawn("child", folder, cycles + 1, true)?,
    )?;
    kills.operations = judge.operations;
    kills.deliveries = judge.oracle.deliveries();
    Ok(kills)
}

/// Lets a child consume all that is left, and checks that it was all there is.
///
/// Only the time in which nothing is heard counts against the limit: a fast child says more than is judged meanwhile, and
/// what it has said is waiting then.
fn drain(judge: &mut Judge, child: Offspring) -> Result<()> {
    let clock = SystemClock::start();
    let mut waited = Duration::ZERO;
    loop {
        let watch = Stopwatch::start();
        let heard = child.hear(QUIET);
        waited += watch.elapsed();
        if let Some(line) = heard {
            judge.hear(&line)?;
        } else {
            let passed = clock.now_ms() > judge.oracle.last_due_ms() + 1_000;
            if passed && judge.oracle.finish().is_ok() {
                break;
            }
        }
        if waited > DRAIN_MAX {
            judge.oracle.finish()?;
            bail!("the broker was not drained within {DRAIN_MAX:?}");
        }
    }
    child.finish()?;
    judge.oracle.finish()?;
    Ok(())
}
