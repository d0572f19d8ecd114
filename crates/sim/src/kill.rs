//! Provides the loop that kills a process: a child uses a broker, the parent kills it at any moment and judges what the
//! next child finds.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use broker::clock::{Clock, Stopwatch, SystemClock};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::child::READY;
use crate::fact::Fact;
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
    /// Facts told.
    pub facts: u64,
    /// Deliveries.
    pub deliveries: u64,
}

/// A child and what it says.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn spawn(folder: &Path, cycle: u64, drains: bool) -> Result<Self> {
        let program = std::env::current_exe().context("find this program")?;
        let mut command = Command::new(program);
        command
            .arg("child")
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
            .name("facts".into())
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
}

impl Drop for Running {
    fn drop(&mut self) {
        // However the loop ends, no child outlives it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Judges what children say.
struct Judge {
    oracle: Oracle,
    facts: u64,
}

impl Judge {
    fn hear(&mut self, line: &str) -> Result<()> {
        let line = line.trim_end();
        if line == READY {
            return Ok(());
        }
        let fact: Fact = line.parse()?;
        self.facts += 1;
        let now_ms = if let Fact::Delivered { now_ms, .. } = fact {
            now_ms
        } else {
            0
        };
        self.oracle.next_turn(now_ms);
        self.oracle.tell(fact)?;
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
        facts: 0,
    };
    let mut kills = Kills::default();
    for cycle in 1..=cycles {
        let lives = Duration::from_micros(rng.random_range(0..700_000));
        let opened = if rng.random_bool(0.15) {
            // Even opening is a moment to die in.
            live(
                &mut judge,
                Running::spawn(folder, cycle, false)?,
                lives / 20,
                false,
            )?
        } else {
            live(
                &mut judge,
                Running::spawn(folder, cycle, false)?,
                lives,
                true,
            )?
        };
        judge.oracle.tell(Fact::Crashed)?;
        kills.kills += 1;
        kills.while_opening += u64::from(!opened);
    }
    drain(&mut judge, Running::spawn(folder, cycles + 1, true)?)?;
    kills.facts = judge.facts;
    kills.deliveries = judge.oracle.deliveries();
    Ok(kills)
}

/// Lets a child live for a while, kills it, and hears all it has said; tells whether its broker was open.
fn live(
    judge: &mut Judge,
    mut running: Running,
    lives: Duration,
    from_opening: bool,
) -> Result<bool> {
    let mut watch = Stopwatch::start();
    let mut opened = false;
    loop {
        let limit = if from_opening && !opened {
            OPEN_MAX
        } else {
            lives
        };
        let Some(left) = limit
            .checked_sub(watch.elapsed())
            .filter(|left| !left.is_zero())
        else {
            if from_opening && !opened {
                bail!("a child did not open its broker within {OPEN_MAX:?}");
            }
            break;
        };
        match running.lines.recv_timeout(left) {
            Ok(line) => {
                if !opened && line.trim_end() == READY {
                    opened = true;
                    if from_opening {
                        watch = Stopwatch::start();
                    }
                }
                judge.hear(&line)?;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                let status = running.child.wait().context("wait for a child")?;
                bail!("a child ended by itself: {status}");
            }
        }
    }
    running.child.kill().context("kill a child")?;
    while let Ok(line) = running.lines.recv() {
        opened |= line.trim_end() == READY;
        judge.hear(&line)?;
    }
    Ok(opened)
}

/// Lets a child consume all that is left, and checks that it was all there is.
fn drain(judge: &mut Judge, mut running: Running) -> Result<()> {
    let clock = SystemClock::start();
    let watch = Stopwatch::start();
    loop {
        match running.lines.recv_timeout(QUIET) {
            Ok(line) => judge.hear(&line)?,
            Err(RecvTimeoutError::Timeout) => {
                let passed = clock.now_ms() > judge.oracle.last_due_ms() + 1_000;
                if passed && judge.oracle.finish().is_ok() {
                    break;
                }
            }
            Err(RecvTimeoutError::Disconnected) => bail!("the last child ended by itself"),
        }
        if watch.elapsed() > DRAIN_MAX {
            judge.oracle.finish()?;
            bail!("the broker was not drained within {DRAIN_MAX:?}");
        }
    }
    // Without an input the child shuts its broker down.
    drop(running.child.stdin.take());
    while let Ok(line) = running.lines.recv() {
        judge.hear(&line)?;
    }
    let status = running.child.wait().context("wait for the last child")?;
    if !status.success() {
        bail!("the last child ended with {status}");
    }
    judge.oracle.finish()?;
    Ok(())
}
