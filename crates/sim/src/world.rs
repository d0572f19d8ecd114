//! Provides the simulated world: a broker, its disk, its clocks and its clients, in one thread and from one seed.

use broker::Core;
use engine::{Engine, StoreError};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::client::{Clients, Question};
use crate::clocks::Clocks;
use crate::fault_store::{Drops, FaultStore};
use crate::operation::Operation;
use crate::oracle::{Oracle, Violation};
use crate::plan::{Canary, GROUPS, HIDE_MS_MAX, Plan, TOPICS, groups};

/// Free bytes of a disk that is not full.
const ROOMY: u64 = 1 << 40;
/// Turns after which a run that is not drained is given up.
const DRAIN_TURNS_MAX: u32 = 60_000;

/// Each group on each topic, and one for the dead letters of each group.
pub(crate) const READERS: usize = TOPICS.len() * GROUPS.len() + GROUPS.len();

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunStats {
    /// Steps of the broker.
    pub steps: u64,
    /// Crashes, failed disks included.
    pub crashes: u64,
    /// Messages sent.
    pub sends: u64,
    /// Deliveries.
    pub deliveries: u64,
    /// Operations that changed the store.
    pub operations: u64,
    /// Changes that were not durable at the last crash.
    pub undurable: usize,
    /// Dropped partitions among them.
    pub undurable_drops: usize,
    /// Partitions dropped since the last start.
    pub dropped: u64,
    /// Messages whose rows were damaged.
    pub damaged: u64,
}

impl RunStats {
    /// Adds those of another run.
    pub fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.crashes += other.crashes;
        self.sends += other.sends;
        self.deliveries += other.deliveries;
        self.operations += other.operations;
        self.dropped += other.dropped;
        self.damaged += other.damaged;
    }
}

/// A sync that goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sync {
    epoch: u64,
    changes: usize,
    done_us: i64,
}

/// A broker and everything around it.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) rng: StdRng,
    /// `None` only within a crash.
    pub(crate) core: Option<Core<FaultStore>>,
    pub(crate) clocks: Clocks,
    pub(crate) clients: Clients,
    pub(crate) oracle: Oracle,
    pub(crate) sync: Option<Sync>,
    pub(crate) next_number: u64,
    /// The number of the next answer to a poll.
    pub(crate) next_answer: u64,
    full_until_us: i64,
    /// Decides when a step is cut short.
    cuts: StdRng,
    /// Rows of the store and units of work that the last step took.
    pub(crate) last_step: (u64, u64),
    /// Steps since the broker last did something.
    pub(crate) idle_steps: u32,
    pub(crate) drains: bool,
    pub(crate) stats: RunStats,
}

impl std::fmt::Debug for World {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("World")
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

/// Runs a plan to its end; returns its statistics, or the invariant that broke.
pub fn run(plan: Plan) -> Result<RunStats, Violation> {
    World::new(plan)?.run()
}

/// Runs what a seed says.
pub fn run_seed(seed: u64, canary: Option<Canary>) -> Result<RunStats, Violation> {
    let mut rng = StdRng::seed_from_u64(seed);
    let plan = Plan::of_seed(seed, &mut rng);
    run(Plan { canary, ..plan })
}

pub(crate) fn defect<T>(what: &str, error: impl std::fmt::Display) -> Result<T, Violation> {
    let what = format!("{what}: {error}");
    Err(Violation { invariant: 2, what })
}

fn core_of(engine: Engine<FaultStore>, plan: &Plan) -> Core<FaultStore> {
    let mut core = Core::new(engine);
    if let Some(units) = plan.step_units {
        core.limit_steps(units);
    }
    core
}

/// Says now and then that the time of a step is over.
fn cut_short(mut cuts: Option<&mut StdRng>) -> impl FnMut() -> bool {
    move || cuts.as_mut().is_some_and(|cuts| cuts.random_bool(0.2))
}

impl World {
    fn new(plan: Plan) -> Result<Self, Violation> {
        let mut clocks = Clocks::start();
        let mut store = FaultStore::default();
        store.set_free_bytes(ROOMY);
        let mut engine = match Engine::open(store, plan.config.clone()) {
            Ok(engine) => engine,
            Err(error) => return defect("cannot open an empty store", error),
        };
        let now_ms = clocks.engine_ms();
        for spec in plan.topics() {
            engine
                .create_topic(spec)
                .or_else(|error| defect("cannot create a topic", error))?;
        }
        for spec in groups() {
            engine
                .create_group(now_ms, spec)
                .or_else(|error| defect("cannot create a group", error))?;
        }
        engine
            .apply(now_ms)
            .or_else(|error| defect("cannot apply", error))?;
        let pending = engine.store().pending();
        engine
            .store_mut()
            .sync(pending)
            .or_else(|error| defect("cannot sync", error))?;
        let epoch = engine.applied_epoch();
        engine.durable(epoch);
        if let Some(operation) = plan.fail_at {
            engine.store_mut().fail_at(operation);
        }
        Ok(Self {
            rng: StdRng::seed_from_u64(plan.seed ^ 0x5eed),
            cuts: StdRng::seed_from_u64(plan.seed ^ 0xc075),
            oracle: Oracle::new(plan.rules()),
            core: Some(core_of(engine, &plan)),
            plan,
            clocks,
            clients: Clients::default(),
            sync: None,
            next_number: 1,
            next_answer: 1,
            full_until_us: 0,
            last_step: (0, 0),
            idle_steps: 0,
            drains: false,
            stats: RunStats::default(),
        })
    }

    fn run(mut self) -> Result<RunStats, Violation> {
        for _ in 0..self.plan.turns {
            self.misfortune()?;
            self.produce()?;
            self.turn()?;
        }
        self.drain()?;
        self.oracle.finish()?;
        self.stats.deliveries = self.oracle.deliveries();
        if let Some(core) = &self.core {
            self.stats.operations = core.engine().store().operations();
            self.stats.dropped = core.engine().tallies().partitions_dropped;
            let missing = core.engine().tallies().missing_bodies;
            if missing > 0 {
                return defect("bodies of retries are missing", missing);
            }
            let found = core.engine().tallies().damaged_messages;
            if found > self.stats.damaged {
                return defect("messages are damaged that the run did not damage", found);
            }
        }
        Ok(self.stats)
    }

    fn chance(&mut self, per_thousand: u32) -> bool {
        per_thousand > 0 && self.rng.random_ratio(per_thousand, 1_000)
    }

    fn free_bytes(&mut self, free_bytes: u64) {
        if let Some(core) = &mut self.core {
            core.engine_mut().store_mut().set_free_bytes(free_bytes);
        }
    }

    /// Breaks something now and then.
    fn misfortune(&mut self) -> Result<(), Violation> {
        let faults = self.plan.faults;
        if self.chance(faults.kill) {
            self.crash()?;
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
        if self.chance(faults.rot) {
            self.rot();
        }
        if self.chance(faults.wall) {
            let far = if self.rng.random_bool(0.5) {
                3_600_000_000
            } else {
                2_000_000
            };
            let step_us = self.rng.random_range(-far..far);
            self.clocks.set_wall(step_us);
        }
        Ok(())
    }

    /// Flips a bit of a message on the disk.
    fn rot(&mut self) {
        let number = self.rng.random_range(0..self.next_number);
        let handle = self.oracle.handle_of(number);
        if let (Some(handle), Some(core)) = (handle, &mut self.core)
            && core.engine_mut().store_mut().damage(&handle)
        {
            self.stats.damaged += 1;
            self.oracle.damaged(number);
        }
    }

    pub(crate) fn push(&mut self, command: broker::Command<FaultStore>) {
        if let Some(core) = &mut self.core {
            core.push(command);
        }
    }

    /// One round of the writer loop, and of everything around it.
    fn turn(&mut self) -> Result<(), Violation> {
        let now_ms = self.clocks.engine_ms();
        self.oracle.next_turn(now_ms);
        self.stats.steps += 1;
        self.consume()?;
        let shown_ms = if self.plan.canary == Some(Canary::ClockAhead) {
            now_ms + 40
        } else {
            now_ms
        };
        if self.work(shown_ms).is_err() {
            self.take_answers(now_ms)?;
            return self.crash();
        }
        let failed = |core: &Core<FaultStore>| core.engine().store().has_failed();
        if self.core.as_ref().is_some_and(failed) {
            return defect("the broker goes on", "its disk has failed");
        }
        self.take_answers(now_ms)?;
        self.look_for_long_steps(now_ms)?;
        self.look_for_spins(now_ms)?;
        self.look_for_delays(now_ms)?;
        self.pass_time()
    }

    /// The broker works, and begins a sync if there is something to sync.
    fn work(&mut self, now_ms: u64) -> Result<(), StoreError> {
        let turn = self.oracle.turn();
        let Some(core) = &mut self.core else {
            return Ok(());
        };
        core.engine_mut().store_mut().set_turn(turn);
        let before = core.engine().traffic();
        let reads = core.engine().store().reads();
        let cuts = self.plan.step_units.map(|_| &mut self.cuts);
        let mut is_over = cut_short(cuts);
        let done = core.step_until(now_ms, &mut is_over)?;
        let reads = core.engine().store().reads() - reads;
        self.last_step = (reads, core.engine().spent());
        let idle = done == 0 && core.has_work() && core.engine().traffic() == before;
        self.idle_steps = if idle { self.idle_steps + 1 } else { 0 };
        if self.sync.is_none()
            && let Some(epoch) = core.apply(now_ms)?
        {
            let changes = core.engine().store().pending();
            let takes_us = self.rng.random_range(100..self.plan.sync_us_max);
            self.sync = Some(Sync {
                epoch,
                changes,
                done_us: self.clocks.boot_us() + takes_us,
            });
        }
        Ok(())
    }

    /// Time goes on until something happens.
    fn pass_time(&mut self) -> Result<(), Violation> {
        let Some(core) = &self.core else {
            return Ok(());
        };
        let mut next_us = i64::MAX;
        if core.has_work() {
            next_us = 0;
        }
        if let Some(at_ms) = core.next_event_ms() {
            next_us = std::cmp::min(next_us, self.clocks.boot_us_at(at_ms));
        }
        let sync_us = self.sync.map(|sync| sync.done_us);
        let action_us = self.clients.next_action_us();
        for at_us in [sync_us, action_us].into_iter().flatten() {
            next_us = std::cmp::min(next_us, at_us);
        }
        if !self.drains {
            let busy_us = if self.rng.random_bool(0.05) {
                60_000_000
            } else {
                100_000
            };
            let client_us = self.soon_us(busy_us * i64::from(self.plan.pace));
            next_us = std::cmp::min(next_us, client_us);
        }
        let is_poll = |question: &&Question| matches!(question, Question::Poll { .. });
        let polls = self.clients.questions().filter(is_poll).count();
        if self.drains && polls < READERS {
            // A consumer that has got its answer asks again.
            next_us = std::cmp::min(next_us, self.clocks.boot_us() + 1_000);
        }
        if next_us == i64::MAX {
            next_us = self.clocks.boot_us() + 1_000_000;
        }
        if self.rng.random_bool(0.05) {
            // The machine is busy with something else, or sleeps.
            let away_us = self.rng.random_range(0..20_000);
            let slow = i64::from(self.plan.pace) * 30;
            next_us = next_us.saturating_add(if self.plan.pace > 1 {
                away_us * slow
            } else {
                away_us
            });
        }
        self.clocks.pass_until(next_us);
        self.finish_sync()
    }

    fn finish_sync(&mut self) -> Result<(), Violation> {
        let Some(sync) = self
            .sync
            .filter(|sync| sync.done_us <= self.clocks.boot_us())
        else {
            return Ok(());
        };
        let faults = self.plan.faults;
        let dropping = self
            .core
            .as_ref()
            .is_some_and(|core| core.engine().store().pending_drops() > 0);
        // A partition that goes is a delicate moment, and a rare one.
        let rate = if dropping {
            30 * faults.kill
        } else {
            faults.sync
        };
        let fails = !self.drains && self.chance(rate);
        self.sync = None;
        let Some(core) = &mut self.core else {
            return Ok(());
        };
        let mut changes = sync.changes;
        if self.plan.canary == Some(Canary::SyncForgets) {
            changes = changes.saturating_sub(1);
        }
        if fails || core.engine_mut().store_mut().sync(changes).is_err() {
            return self.crash();
        }
        core.durable(sync.epoch);
        let now_ms = self.clocks.engine_ms();
        self.take_answers(now_ms)
    }

    /// The process dies, and is started again on what the disk holds.
    fn crash(&mut self) -> Result<(), Violation> {
        let Some(core) = self.core.take() else {
            return Ok(());
        };
        self.stats.crashes += 1;
        self.sync = None;
        let store = core.stop().into_store();
        let undurable = store.pending();
        self.stats.undurable = undurable;
        self.stats.undurable_drops = store.pending_drops();
        self.clients.hang_up();
        let kept = match self.plan.kept {
            Some(kept) => kept,
            None if self.plan.canary == Some(Canary::SyncForgets) => 0,
            None => self.rng.random_range(0..=undurable),
        };
        let drops = match self.plan.drops {
            Some(drops) => drops,
            None if self.rng.random_bool(0.5) => Drops::AtOnce,
            None => Drops::Undone,
        };
        let mut store = store
            .crash(kept, drops)
            .or_else(|error| defect("the disk is broken", error))?;
        // A batch holds the leases of all turns before its own.
        let noted_turn = store.durable_turn().saturating_sub(1);
        self.oracle.record(Operation::Crashed { noted_turn })?;
        store.set_free_bytes(ROOMY);
        let down_us = self.rng.random_range(0..3_000_000);
        let until_us = self.clocks.boot_us() + down_us;
        self.clocks.pass_until(until_us);
        let engine = Engine::open(store, self.plan.config.clone());
        let engine = engine.or_else(|error| defect("cannot open again", error))?;
        self.clocks.restart(engine.last_stamp_ms());
        self.core = Some(core_of(engine, &self.plan));
        Ok(())
    }

    /// Everything that was sent comes, and is acknowledged.
    fn drain(&mut self) -> Result<(), Violation> {
        self.drains = true;
        self.full_until_us = 0;
        self.free_bytes(ROOMY);
        let last_ms = std::cmp::max(self.oracle.last_due_ms(), self.oracle.latest_ms());
        // Leases that run out, and retries after them.
        let end_ms = last_ms + 3 * HIDE_MS_MAX + 3_000 * u64::from(self.plan.pace);
        let mut quiet_turns = 0;
        for _ in 0..DRAIN_TURNS_MAX {
            let worked_ms = self.clocks.engine_ms();
            self.turn()?;
            let busy = self.clients.next_action_us().is_some()
                || self
                    .clients
                    .questions()
                    .any(|question| !matches!(question, Question::Poll { .. }));
            quiet_turns = if busy || worked_ms <= end_ms {
                0
            } else {
                // Where hours pass between two polls, the store is written at the end of each: when its group was seen.
                quiet_turns + usize::from(self.sync.is_none())
            };
            if quiet_turns > 2 * READERS {
                return Ok(());
            }
        }
        defect("a run does not end", self.plan.seed)
    }
}
