//! Provides the inbox of the writer loop: a queue of commands and signals that the loop takes at once.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use engine::StoreError;
use tokio::sync::Semaphore;

use crate::command::Command;

/// Everything that can wake the writer loop.
#[derive(Debug)]
pub(crate) enum Event<S> {
    /// A command of a client.
    Command(Command<S>),
    /// The disk has everything applied up to this epoch, or has failed.
    Synced(Result<u64, StoreError>),
    /// The clock was moved by hand.
    ClockMoved,
    /// Finish what was begun and end.
    Stop,
}

/// A queue of events with many senders and one taker.
///
/// A std mutex: it is held for a push or a swap, never across an await. The taker swaps the whole queue
/// out, so a thousand commands cost it one lock.
#[derive(Debug)]
pub(crate) struct Inbox<S> {
    state: Mutex<State<S>>,
    filled: Condvar,
    /// One permit for each command that may still be queued.
    room: Semaphore,
}

#[derive(Debug)]
struct State<S> {
    events: Vec<Event<S>>,
    closed: bool,
}

impl<S> Inbox<S> {
    pub(crate) fn new(commands_max: usize) -> Self {
        Self {
            state: Mutex::new(State {
                events: Vec::new(),
                closed: false,
            }),
            filled: Condvar::new(),
            room: Semaphore::new(commands_max),
        }
    }

    /// Queues a command once there is room for it; returns it if the loop has ended.
    pub(crate) async fn send(&self, command: Command<S>) -> Result<(), Command<S>> {
        match self.room.acquire().await {
            Ok(permit) => permit.forget(),
            Err(_) => return Err(command),
        }
        match self.push(Event::Command(command)) {
            Err(Event::Command(command)) => Err(command),
            _ => Ok(()),
        }
    }

    /// Queues a signal, which needs no room.
    pub(crate) fn signal(&self, event: Event<S>) {
        // After the end signals are dropped.
        let _ = self.push(event);
    }

    fn push(&self, event: Event<S>) -> Result<(), Event<S>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Err(event);
        }
        let was_empty = state.events.is_empty();
        state.events.push(event);
        drop(state);
        if was_empty {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Takes all events into `events`, after waiting for one for `wait` at the most; `None`: for ever.
    pub(crate) fn take(&self, events: &mut Vec<Event<S>>, wait: Option<Duration>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.events.is_empty() {
            state = match wait {
                Some(wait) => {
                    self.filled
                        .wait_timeout(state, wait)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None => self
                    .filled
                    .wait_while(state, |state| state.events.is_empty())
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
        std::mem::swap(&mut state.events, events);
    }

    /// Gives room for commands that were worked off.
    pub(crate) fn release(&self, commands: usize) {
        self.room.add_permits(commands);
    }

    /// Takes what is left and lets nothing more in.
    pub(crate) fn close(&self) -> Vec<Event<S>> {
        self.room.close();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.closed = true;
        std::mem::take(&mut state.events)
    }
}
