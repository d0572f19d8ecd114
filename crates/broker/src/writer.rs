//! Runs the engine, one thread at a time: the client that brings a command, one that waits for time, one that syncs.
//!
//! The engine is under one lock, and what a thread does while it holds it is a *turn*: it takes the commands that wait in
//! the inbox and executes a step. Three kinds of threads take turns:
//!
//! * A client that has queued a command takes a short turn if the lock is free, so that no other thread has to wake up
//!   for it. If the lock is held it goes away: the holder looks into the inbox after its turn. Sends that could not
//!   become durable before the next sync anyway are left to the sync thread, which takes many of them at once.
//! * The sync thread applies what turns have collected, syncs, and gives the answers that waited for that. No client ever
//!   waits for the disk.
//! * The timer thread sleeps until the next instant at which the engine has work. It also does what is too much for a
//!   client, and ends the broker.
//!
//! The order of commands is that of the inbox, on whichever thread. The lock is held for a step or an apply, never
//! during a sync and never across an await.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use engine::StoreError;
use storage::{FjallStore, Syncer};
use tokio::sync::watch;

use crate::clock::{Clock, Stopwatch};
use crate::command::Command;
use crate::core::Core;
use crate::inbox::{Event, Inbox};
use crate::limits::{BRIEF_TIME, BRIEF_TURNS_MAX, STEP_TIME};

/// The health of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It works.
    Running,
    /// It was shut down and everything is on the disk.
    Stopped,
    /// Its store failed; the process should end.
    Failed(String),
}

/// The engine of a broker, and who takes turns with it.
#[derive(Debug)]
pub(crate) struct Writer {
    inbox: Inbox<FjallStore>,
    clock: Arc<dyn Clock>,
    turn: Mutex<Turn>,
    /// Threads of the broker that wait for the lock: clients leave it to them.
    claims: AtomicUsize,
    /// The sync thread has something to do, or the broker has ended.
    asked: Mutex<Asked>,
    asks: Condvar,
}

/// What the sync thread is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Nothing,
    Sync,
    End,
}

/// What is under the lock.
#[derive(Debug)]
struct Turn {
    /// Nothing once the broker has ended.
    core: Option<Core<FjallStore>>,
    events: Vec<Event<FjallStore>>,
    /// The sync thread is at work, and takes a turn after each sync.
    syncing: bool,
    stopping: bool,
    /// The timer thread sleeps until then at the most.
    alarm_ms: u64,
    /// The threads that have to be woken once the lock is free: woken before, they would only wait for it.
    wakes: Wakes,
    health: watch::Sender<Health>,
}

/// Which threads have to be woken.
#[derive(Debug, Default)]
struct Wakes {
    sync: bool,
    timer: bool,
}

impl Writer {
    /// Starts the threads.
    pub(crate) fn start(
        core: Core<FjallStore>,
        syncer: Syncer,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<(Arc<Self>, watch::Receiver<Health>)> {
        let (sender, health) = watch::channel(Health::Running);
        let writer = Arc::new(Self {
            inbox: Inbox::new(),
            clock,
            turn: Mutex::new(Turn {
                core: Some(core),
                events: Vec::new(),
                syncing: false,
                stopping: false,
                alarm_ms: 0,
                wakes: Wakes::default(),
                health: sender,
            }),
            claims: AtomicUsize::new(0),
            asked: Mutex::new(Asked::Nothing),
            asks: Condvar::new(),
        });
        let of_timer = Arc::clone(&writer);
        std::thread::Builder::new()
            .name("broker".into())
            .spawn(move || of_timer.wait_for_time())?;
        let of_sync = Arc::clone(&writer);
        let started = std::thread::Builder::new()
            .name("broker-sync".into())
            .spawn(move || of_sync.wait_for_disk(&syncer));
        if let Err(error) = started {
            writer.signal(Event::Stop);
            return Err(error);
        }
        Ok((writer, health))
    }

    /// Queues a command once there is room for it, and executes it if that takes no waiting; returns it if the broker
    /// has ended.
    pub(crate) async fn send(
        &self,
        command: Command<FjallStore>,
    ) -> Result<(), Command<FjallStore>> {
        self.inbox.send(command).await?;
        self.take_brief_turns();
        Ok(())
    }

    /// Queues a signal for the timer thread.
    pub(crate) fn signal(&self, event: Event<FjallStore>) {
        self.inbox.signal(event);
        self.inbox.ring();
    }

    /// Executes what waits, unless another thread does or will.
    fn take_brief_turns(&self) {
        for _ in 0..BRIEF_TURNS_MAX {
            // A thread that claims the lock takes the inbox after it has got it, and with it what was queued before this
            // look at the claims.
            if !self.inbox.needs_turn() || self.claims.load(Ordering::SeqCst) > 0 {
                return;
            }
            let mut turn = match self.turn.try_lock() {
                Ok(turn) => turn,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            self.execute(&mut turn, BRIEF_TIME);
            set_alarm(&mut turn);
            self.leave(turn);
        }
        if self.inbox.needs_turn() {
            self.inbox.ring();
        }
    }

    /// Waits for the lock; clients do not compete for it.
    fn claim(&self) -> MutexGuard<'_, Turn> {
        self.claims.fetch_add(1, Ordering::SeqCst);
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.claims.fetch_sub(1, Ordering::SeqCst);
        turn
    }

    /// Gives up the lock, and wakes who has to be woken.
    fn leave(&self, mut turn: MutexGuard<'_, Turn>) {
        let wakes = std::mem::take(&mut turn.wakes);
        drop(turn);
        if wakes.sync {
            self.ask(Asked::Sync);
        }
        if wakes.timer {
            self.inbox.ring();
        }
    }

    /// Gives up the lock. Clients that found it held have left their commands in the inbox.
    fn release(&self, turn: MutexGuard<'_, Turn>) {
        self.leave(turn);
        if self.inbox.needs_turn() {
            self.inbox.ring();
        }
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the sync thread.
    fn ask(&self, what: Asked) {
        let mut asked = self.asked();
        if *asked != Asked::End {
            *asked = what;
        }
        drop(asked);
        self.asks.notify_one();
    }

    /// Executes what waits in the inbox, and has the changes applied.
    fn execute(&self, turn: &mut Turn, step_time: Duration) {
        let Some(core) = &mut turn.core else {
            return;
        };
        self.inbox.take(&mut turn.events);
        for event in turn.events.drain(..) {
            match event {
                Event::Command(command) => core.push(command),
                Event::ClockMoved => {}
                Event::Stop => turn.stopping = true,
            }
        }
        let now_ms = self.clock.now_ms();
        let stopping = turn.stopping;
        let step = Stopwatch::start();
        let mut is_over = || step.elapsed() >= step_time;
        // After a panic the engine may be half changed, and nothing of it is used again.
        let result = catch_unwind(AssertUnwindSafe(|| {
            core.step_until(now_ms, &mut is_over)?;
            if stopping {
                core.engine_mut().stage_notes();
            }
            Ok(())
        }));
        self.inbox.release(core.executed_lanes());
        let is_durable = is_durable(core);
        match result {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return self.end(turn, Err(End::Failed(error))),
            Err(panic) => return self.end(turn, Err(End::Panicked(panic))),
        }
        if !is_durable && !turn.syncing {
            turn.syncing = true;
            turn.wakes.sync = true;
            self.inbox.set_syncing(true);
        }
    }

    /// The timer thread: takes a turn whenever something is due, until the broker ends.
    fn wait_for_time(&self) {
        loop {
            let mut turn = self.claim();
            self.execute(&mut turn, STEP_TIME);
            let Some(core) = &turn.core else {
                return;
            };
            let is_written = is_durable(core) && !core.engine().has_notes();
            let is_done = !core.has_commands() && is_written;
            if turn.stopping && !turn.syncing && is_done {
                return self.end(&mut turn, Ok(()));
            }
            let wait = if core.has_work() {
                Some(Duration::ZERO)
            } else {
                let next_ms = core.next_event_ms();
                turn.alarm_ms = next_ms.unwrap_or(u64::MAX);
                next_ms.and_then(|next_ms| self.clock.until(next_ms))
            };
            self.release(turn);
            self.inbox.wait(wait);
        }
    }

    /// The sync thread: applies and syncs whenever it is asked to, and goes on while there is more.
    fn wait_for_disk(&self, syncer: &Syncer) {
        loop {
            let waited = self
                .asks
                .wait_while(self.asked(), |asked| *asked == Asked::Nothing);
            let mut asked = waited.unwrap_or_else(PoisonError::into_inner);
            if *asked == Asked::End {
                return;
            }
            *asked = Asked::Nothing;
            drop(asked);
            while let Some(epoch) = self.apply() {
                let result = catch_unwind(AssertUnwindSafe(|| syncer.sync()));
                self.synced(epoch, result);
            }
        }
    }

    /// Applies what was collected; returns the epoch to sync, if any.
    fn apply(&self) -> Option<u64> {
        let mut turn = self.claim();
        self.execute(&mut turn, STEP_TIME);
        let core = turn.core.as_mut()?;
        let now_ms = self.clock.now_ms();
        let applied = catch_unwind(AssertUnwindSafe(|| core.apply(now_ms)));
        let epoch = match applied {
            Ok(Ok(epoch)) => epoch,
            Ok(Err(error)) => {
                self.end(&mut turn, Err(End::Failed(error)));
                return None;
            }
            Err(panic) => {
                self.end(&mut turn, Err(End::Panicked(panic)));
                return None;
            }
        };
        if epoch.is_none() {
            turn.syncing = false;
            self.inbox.set_syncing(false);
            turn.wakes.timer |= turn.stopping;
        }
        set_alarm(&mut turn);
        self.release(turn);
        epoch
    }

    /// Answers who waited for a sync.
    fn synced(&self, epoch: u64, result: std::thread::Result<Result<(), StoreError>>) {
        let result = result.unwrap_or_else(|panic| {
            Err(StoreError::Failed {
                action: "synced its journal",
                source: format!("a panic: {}", panic_text(panic.as_ref())).into(),
            })
        });
        let mut turn = self.claim();
        let answers = match (result, &mut turn.core) {
            (Ok(()), Some(core)) => core.take_answers(epoch),
            (Err(error), _) => return self.end(&mut turn, Err(End::Failed(error))),
            (Ok(()), None) => return,
        };
        // What waits in the inbox is left: the next thing this thread does is a turn.
        drop(turn);
        for answer in answers {
            answer.send();
        }
    }

    /// Ends the broker: with the core go its answers that wait, and from the dropped replies clients learn of it.
    fn end(&self, turn: &mut Turn, result: Result<(), End>) {
        let Some(core) = turn.core.take() else {
            return;
        };
        drop(self.inbox.close());
        self.ask(Asked::End);
        let health = match result {
            Ok(()) => {
                drop(core.stop());
                Health::Stopped
            }
            Err(End::Failed(error)) => {
                tracing::error!(%error, "the store failed: the broker no longer accepts or delivers");
                drop(core.stop());
                Health::Failed(error.to_string())
            }
            Err(End::Panicked(panic)) => {
                let reason = format!("the writer panicked: {}", panic_text(panic.as_ref()));
                tracing::error!(%reason, "the broker no longer accepts or delivers");
                drop(core);
                Health::Failed(reason)
            }
        };
        turn.health.send_replace(health);
        // The timer thread ends as well.
        self.inbox.ring();
    }
}

/// Why a broker ends that was not stopped.
enum End {
    Failed(StoreError),
    Panicked(Box<dyn Any + Send>),
}

/// Has the timer thread woken if there is work before it would wake up by itself.
fn set_alarm(turn: &mut Turn) {
    let Some(core) = &turn.core else {
        return;
    };
    let next_ms = if core.has_work() {
        Some(0)
    } else {
        core.next_event_ms()
    };
    if let Some(next_ms) = next_ms
        && next_ms < turn.alarm_ms
    {
        turn.alarm_ms = next_ms;
        turn.wakes.timer = true;
    }
}

/// Whether nothing is left to apply or to sync. A command may have applied something by itself.
fn is_durable(core: &Core<FjallStore>) -> bool {
    core.engine().pending_epoch() <= core.engine().durable_epoch()
}

/// What a panic said.
fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no reason given")
}
