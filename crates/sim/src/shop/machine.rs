//! Provides the machine under a simulated shop: a broker's step function, its disk and its clocks, worked by hand.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use broker::clock::{Clock, Sleep};
use broker::{Answer, Command, Core, Error, Reply};
use engine::{Engine, StoreError};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::oneshot::{self, Receiver, error::TryRecvError};

use crate::clocks::Clocks;
use crate::fault_store::{Drops, FaultStore};
use crate::oracle::Violation;
use crate::plan::Faults;
use crate::shop::plan::ShopPlan;

/// Free bytes of a disk that is not full.
const ROOMY: u64 = 1 << 40;
/// Longest turn while an answer is awaited, in us.
const ANSWER_TURN_US: i64 = 1_000;
/// Turns after which a question counts as never answered.
const ANSWER_TURNS_MAX: u32 = 5_000;
/// Turns that a stretch of time is made of, at the most.
const PASS_TURNS_MAX: u32 = 300;
/// Longest that a machine is off after a crash, in us.
const OFF_US_MAX: i64 = 3_000_000;

/// A question to the broker, and where its answer comes.
pub(crate) type Question<T> = (Command<FaultStore>, Receiver<Result<T, Error>>);

/// A sync that goes on.
#[derive(Clone, Copy, Debug)]
struct Sync {
    epoch: u64,
    changes: usize,
    done_us: i64,
}

/// The machine.
pub(crate) struct Machine {
    /// `None` while the broker is down.
    core: Option<Core<FaultStore>>,
    /// What the disk holds while the broker is down.
    disk: Option<FaultStore>,
    pub(crate) clocks: Clocks,
    rng: StdRng,
    faults: Faults,
    config: engine::Config,
    sync_us_max: i64,
    /// The broker is given a time so far ahead, in ms: a deliberate fault.
    ahead_ms: u64,
    sync: Option<Sync>,
    full_until_us: i64,
    /// The latest instant of the engine clock, in ms: it may go back when the machine starts again.
    latest_ms: u64,
    pub(crate) steps: u64,
    pub(crate) falls: u64,
}

impl Machine {
    fn new(plan: &ShopPlan) -> Self {
        let mut store = FaultStore::default();
        store.set_free_bytes(ROOMY);
        Self {
            core: None,
            disk: Some(store),
            clocks: Clocks::start(),
            rng: StdRng::seed_from_u64(plan.seed ^ 0xd15c),
            faults: plan.faults,
            config: plan.config.clone(),
            sync_us_max: plan.sync_us_max,
            ahead_ms: plan.ahead_ms(),
            sync: None,
            full_until_us: 0,
            latest_ms: 0,
            steps: 0,
            falls: 0,
        }
    }

    /// The engine clock, in ms.
    pub(crate) fn now_ms(&mut self) -> u64 {
        let now_ms = self.clocks.engine_ms();
        self.latest_ms = std::cmp::max(self.latest_ms, now_ms);
        now_ms
    }

    /// The latest instant that the engine clock has shown, in ms.
    pub(crate) fn latest_ms(&mut self) -> u64 {
        self.now_ms();
        self.latest_ms
    }

    /// Whether the broker is down.
    pub(crate) fn is_down(&self) -> bool {
        self.core.is_none()
    }

    /// From now on nothing breaks, and the wall shows what the engine clock shows.
    pub(crate) fn calm(&mut self) {
        self.faults = Faults::default();
        self.full_until_us = 0;
        self.free_bytes(ROOMY);
        if let Some(core) = &mut self.core {
            core.engine_mut().store_mut().heal();
        }
        self.clocks.mend();
    }

    /// The broker dies; its disk keeps what was durable, and some of what was not.
    pub(crate) fn fall(&mut self) -> Result<(), Violation> {
        let Some(core) = self.core.take() else {
            return Ok(());
        };
        self.falls += 1;
        self.sync = None;
        let store = core.stop().into_store();
        let kept = self.rng.random_range(0..=store.pending());
        let drops = if self.rng.random_bool(0.5) {
            Drops::AtOnce
        } else {
            Drops::Undone
        };
        let store = store
            .crash(kept, drops)
            .or_else(|error| broken("the disk is broken", error))?;
        self.disk = Some(store);
        Ok(())
    }

    /// The broker starts on what the disk holds; with `anew`, the whole machine does, and its engine clock too.
    pub(crate) fn rise(&mut self, anew: bool) -> Result<(), Violation> {
        let Some(mut store) = self.disk.take() else {
            return Ok(());
        };
        let off_us = self.rng.random_range(0..OFF_US_MAX);
        let until_us = self.clocks.boot_us() + off_us;
        self.clocks.pass_until(until_us);
        self.full_until_us = 0;
        store.set_free_bytes(ROOMY);
        let engine = Engine::open(store, self.config.clone());
        let engine = engine.or_else(|error| broken("cannot open again", error))?;
        if anew {
            self.clocks.restart(engine.last_stamp_ms());
        }
        self.core = Some(Core::new(engine));
        Ok(())
    }

    /// The broker dies, and its disk with it.
    pub(crate) fn burn(&mut self) -> Result<(), Violation> {
        self.fall()?;
        self.disk = Some(FaultStore::default());
        Ok(())
    }

    /// The wall clock is set, up to an hour off.
    pub(crate) fn upset_wall(&mut self) {
        let far_us = if self.rng.random_bool(0.5) {
            3_600_000_000
        } else {
            2_000_000
        };
        let step_us = self.rng.random_range(-far_us..far_us);
        self.clocks.set_wall(step_us);
    }

    /// Asks the broker; each question is answered, or refused because the broker died.
    pub(crate) fn ask<T>(
        &mut self,
        questions: Vec<Question<T>>,
    ) -> Result<Vec<Result<T, Error>>, Violation> {
        let mut receivers = Vec::with_capacity(questions.len());
        for (command, receiver) in questions {
            if let Some(core) = &mut self.core {
                core.push(command);
            }
            receivers.push(receiver);
        }
        let mut answers: Vec<Option<Result<T, Error>>> = receivers.iter().map(|_| None).collect();
        for _ in 0..ANSWER_TURNS_MAX {
            for (answer, receiver) in answers.iter_mut().zip(&mut receivers) {
                if answer.is_none() {
                    *answer = match receiver.try_recv() {
                        Ok(answer) => Some(answer),
                        Err(TryRecvError::Empty) => None,
                        Err(TryRecvError::Closed) => Some(Err(Error::Stopped)),
                    };
                }
            }
            if answers.iter().all(Option::is_some) {
                return Ok(answers.into_iter().flatten().collect());
            }
            let limit_us = self.clocks.boot_us() + ANSWER_TURN_US;
            self.turn(limit_us)?;
        }
        broken("the broker", "does not answer")
    }

    /// Time goes on for `delay_ms`, and the broker with it.
    pub(crate) fn pass(&mut self, delay_ms: u64) -> Result<(), Violation> {
        let passes_us = i64::try_from(delay_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let until_us = self.clocks.boot_us().saturating_add(passes_us);
        for _ in 0..PASS_TURNS_MAX {
            if self.clocks.boot_us() >= until_us {
                return Ok(());
            }
            self.turn(until_us)?;
        }
        self.clocks.pass_until(until_us);
        self.turn(until_us)
    }

    fn chance(&mut self, per_thousand: u32) -> bool {
        per_thousand > 0 && self.rng.random_ratio(per_thousand, 1_000)
    }

    fn free_bytes(&mut self, free_bytes: u64) {
        if let Some(core) = &mut self.core {
            core.engine_mut().store_mut().set_free_bytes(free_bytes);
        }
    }

    fn misfortune(&mut self) -> Result<(), Violation> {
        let faults = self.faults;
        if self.chance(faults.kill) {
            self.fall()?;
        }
        if self.chance(faults.write)
            && let Some(core) = &mut self.core
        {
            core.engine_mut().store_mut().fail_once();
        }
        if self.chance(faults.full) {
            self.full_until_us = self.clocks.boot_us() + self.rng.random_range(0..5_000_000);
            self.free_bytes(0);
        }
        if self.full_until_us > 0 && self.clocks.boot_us() >= self.full_until_us {
            self.full_until_us = 0;
            self.free_bytes(ROOMY);
        }
        if self.chance(faults.wall) {
            self.upset_wall();
        }
        Ok(())
    }

    /// One round of the writer loop; time goes on until something happens, no further than `limit_us`.
    fn turn(&mut self, limit_us: i64) -> Result<(), Violation> {
        self.steps += 1;
        self.misfortune()?;
        let now_ms = self.now_ms();
        if self.core.is_none() {
            self.clocks.pass_until(limit_us);
            return Ok(());
        }
        if self.work(now_ms + self.ahead_ms).is_err() {
            return self.fall();
        }
        self.pass_time(limit_us);
        self.finish_sync()
    }

    fn work(&mut self, now_ms: u64) -> Result<(), StoreError> {
        let Some(core) = &mut self.core else {
            return Ok(());
        };
        core.step(now_ms)?;
        if self.sync.is_none()
            && let Some(epoch) = core.apply(now_ms)?
        {
            let changes = core.engine().store().pending();
            let takes_us = self.rng.random_range(100..self.sync_us_max);
            self.sync = Some(Sync {
                epoch,
                changes,
                done_us: self.clocks.boot_us() + takes_us,
            });
        }
        Ok(())
    }

    fn pass_time(&mut self, limit_us: i64) {
        let Some(core) = &self.core else {
            return;
        };
        let mut next_us = limit_us;
        if core.has_work() {
            next_us = 0;
        }
        if let Some(at_ms) = core.next_event_ms() {
            next_us = std::cmp::min(next_us, self.clocks.boot_us_at(at_ms));
        }
        if let Some(sync) = self.sync {
            next_us = std::cmp::min(next_us, sync.done_us);
        }
        self.clocks.pass_until(next_us);
    }

    fn finish_sync(&mut self) -> Result<(), Violation> {
        let Some(sync) = self
            .sync
            .filter(|sync| sync.done_us <= self.clocks.boot_us())
        else {
            return Ok(());
        };
        self.sync = None;
        let fails = self.chance(self.faults.sync);
        let Some(core) = &mut self.core else {
            return Ok(());
        };
        if fails || core.engine_mut().store_mut().sync(sync.changes).is_err() {
            return self.fall();
        }
        core.durable(sync.epoch);
        Ok(())
    }
}

/// An invariant of the broker is broken.
pub(crate) fn broken<T>(what: &str, error: impl std::fmt::Display) -> Result<T, Violation> {
    let what = format!("{what}: {error}");
    Err(Violation { invariant: 2, what })
}

/// A rare question.
pub(crate) fn question<T: Send + 'static>(
    lane: u64,
    action: impl FnOnce(&mut Engine<FaultStore>, u64) -> Result<T, engine::Error> + Send + 'static,
) -> Question<T> {
    let (reply, receiver): (Reply<T>, _) = oneshot::channel();
    let work = Box::new(move |engine: &mut Engine<FaultStore>, now_ms| {
        let result = action(engine, now_ms).map_err(Error::Refused);
        Answer::Other(Box::new(move |durable: Result<(), Error>| {
            drop(reply.send(durable.and(result)));
        }))
    });
    let weight = 16;
    (Command::Other { lane, weight, work }, receiver)
}

/// A handle to the machine; it is the platform's clock too.
///
/// A std mutex: nothing that holds it waits for anything.
#[derive(Clone)]
pub(crate) struct Host(Arc<Mutex<Machine>>);

impl Host {
    pub(crate) fn new(plan: &ShopPlan) -> Self {
        Self(Arc::new(Mutex::new(Machine::new(plan))))
    }

    pub(crate) fn machine(&self) -> MutexGuard<'_, Machine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Host").finish_non_exhaustive()
    }
}

impl Clock for Host {
    fn now_ms(&self) -> u64 {
        self.machine().now_ms()
    }

    fn resume_at(&self, at_ms: u64) {
        self.machine().clocks.resume_at(at_ms);
    }

    fn sleep_until(&self, _: u64) -> Sleep<'_> {
        // No task of the platform runs by itself here, so nothing sleeps.
        Box::pin(std::future::pending())
    }
}
