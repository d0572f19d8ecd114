//! Runs the writer loop: the one thread that owns the engine, and the one that syncs beside it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use engine::StoreError;
use storage::{FjallStore, Syncer};
use tokio::sync::watch;

use crate::clock::{Clock, Stopwatch};
use crate::core::Core;
use crate::inbox::{Event, Inbox};
use crate::limits::STEP_TIME;

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

/// The loop and what it is given.
pub(crate) struct Writer {
    pub(crate) core: Core<FjallStore>,
    pub(crate) inbox: Arc<Inbox<FjallStore>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) syncs: mpsc::Sender<u64>,
    pub(crate) health: watch::Sender<Health>,
}

impl Writer {
    /// Starts the loop on a thread of its own.
    pub(crate) fn spawn(self) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new()
            .name("broker".into())
            .spawn(move || self.run())
    }

    fn run(mut self) {
        // After a panic the engine may be half changed, and nothing of it is used again.
        let result = catch_unwind(AssertUnwindSafe(|| self.work()));
        let left = self.inbox.close();
        // Dropping a command drops its reply, from which the client learns that the broker has stopped.
        drop(left);
        let health = match result {
            Err(panic) => {
                let reason = format!("the writer panicked: {}", panic_text(panic.as_ref()));
                tracing::error!(%reason, "the broker no longer accepts or delivers");
                // Every answer that waits is dropped with the core, from which its client learns the same.
                drop(self.core);
                self.health.send_replace(Health::Failed(reason));
                return;
            }
            Ok(Ok(())) => Health::Stopped,
            Ok(Err(error)) => {
                tracing::error!(%error, "the store failed: the broker no longer accepts or delivers");
                Health::Failed(error.to_string())
            }
        };
        drop(self.core.stop());
        self.health.send_replace(health);
    }

    /// Works until it is stopped and everything is durable, or until the store fails.
    fn work(&mut self) -> Result<(), StoreError> {
        let mut events = Vec::new();
        let mut syncing = false;
        let mut stopping = false;
        loop {
            let now_ms = self.clock.now_ms();
            let step = Stopwatch::start();
            let mut is_over = || step.elapsed() >= STEP_TIME;
            self.core.step_until(now_ms, &mut is_over)?;
            self.inbox.release(self.core.executed_lanes());
            if stopping {
                self.core.engine_mut().stage_notes();
            }
            if !syncing && let Some(epoch) = self.core.apply(now_ms)? {
                // The other side ends only after this one.
                syncing = self.syncs.send(epoch).is_ok();
            }
            let is_done = !self.core.has_commands() && !self.core.engine().has_notes();
            if stopping && !syncing && is_done {
                return Ok(());
            }
            let wait = if self.core.has_work() {
                Some(std::time::Duration::ZERO)
            } else {
                self.core
                    .next_event_ms()
                    .and_then(|at_ms| self.clock.until(at_ms))
            };
            self.inbox.take(&mut events, wait);
            for event in events.drain(..) {
                match event {
                    Event::Command(command) => self.core.push(command),
                    Event::Synced(result) => {
                        syncing = false;
                        self.core.durable(result?);
                    }
                    Event::ClockMoved => {}
                    Event::Stop => stopping = true,
                }
            }
        }
    }
}

/// Starts the thread that waits for the disk, so that the loop need not.
pub(crate) fn spawn_syncer(
    syncer: Syncer,
    inbox: Arc<Inbox<FjallStore>>,
    epochs: mpsc::Receiver<u64>,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("broker-sync".into())
        .spawn(move || {
            while let Ok(epoch) = epochs.recv() {
                let caught = catch_unwind(AssertUnwindSafe(|| syncer.sync()));
                let result = caught.unwrap_or_else(|panic| {
                    Err(StoreError::Failed {
                        action: "synced its journal",
                        source: format!("a panic: {}", panic_text(panic.as_ref())).into(),
                    })
                });
                inbox.signal(Event::Synced(result.map(|()| epoch)));
            }
        })
}

/// What a panic said.
fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no reason given")
}
