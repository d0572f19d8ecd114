//! Provides the inbox of the writer loop: a queue of commands and signals that the loop takes at once.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use engine::StoreError;
use tokio::sync::Semaphore;

use crate::command::Command;
use crate::limits::{ROOM_COMMANDS_MAX, ROOMS};

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
    /// By the lane of a command: one permit for each that may still be queued. A full lane keeps back those that share
    /// its room, and no others.
    rooms: Vec<Semaphore>,
}

#[derive(Debug)]
struct State<S> {
    events: Vec<Event<S>>,
    closed: bool,
}

impl<S> Inbox<S> {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                events: Vec::new(),
                closed: false,
            }),
            filled: Condvar::new(),
            rooms: (0..ROOMS)
                .map(|_| Semaphore::new(ROOM_COMMANDS_MAX))
                .collect(),
        }
    }

    /// Queues a command once there is room for it; returns it if the loop has ended.
    pub(crate) async fn send(&self, command: Command<S>) -> Result<(), Command<S>> {
        if let Some(room) = self.room(command.lane()) {
            match room.acquire().await {
                Ok(permit) => permit.forget(),
                Err(_) => return Err(command),
            }
        }
        match self.push(Event::Command(command)) {
            Some(Event::Command(command)) => Err(command),
            _ => Ok(()),
        }
    }

    /// Queues a signal, which needs no room.
    pub(crate) fn signal(&self, event: Event<S>) {
        // After the end signals are dropped.
        drop(self.push(event));
    }

    /// Queues an event; returns it if the loop has ended.
    fn push(&self, event: Event<S>) -> Option<Event<S>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Some(event);
        }
        let was_empty = state.events.is_empty();
        state.events.push(event);
        drop(state);
        if was_empty {
            self.filled.notify_one();
        }
        None
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

    /// Gives room for commands that were worked off, one for each of their lanes.
    pub(crate) fn release(&self, lanes: impl Iterator<Item = u64>) {
        let mut freed = [0; ROOMS];
        for lane in lanes {
            if let Some(freed) = freed.get_mut(room_of(lane)) {
                *freed += 1;
            }
        }
        for (room, freed) in self.rooms.iter().zip(freed).filter(|(_, freed)| *freed > 0) {
            room.add_permits(freed);
        }
    }

    fn room(&self, lane: u64) -> Option<&Semaphore> {
        self.rooms.get(room_of(lane))
    }

    /// Takes what is left and lets nothing more in.
    pub(crate) fn close(&self) -> Vec<Event<S>> {
        self.rooms.iter().for_each(Semaphore::close);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.closed = true;
        std::mem::take(&mut state.events)
    }
}

/// The number of the room in which commands of a lane wait.
fn room_of(lane: u64) -> usize {
    usize::try_from(lane % ROOMS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Answer;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn command(lane: u64) -> Command<engine::MemoryStore> {
        Command::Other {
            lane,
            weight: 1,
            work: Box::new(|_, _| Answer::Other(Box::new(drop))),
        }
    }

    #[test]
    fn a_full_lane_keeps_no_other_lane_back() {
        let inbox = Inbox::new();
        let has_room = |lane| {
            let mut context = Context::from_waker(Waker::noop());
            let sending = pin!(inbox.send(command(lane)));
            matches!(sending.poll(&mut context), Poll::Ready(Ok(())))
        };
        for _ in 0..ROOM_COMMANDS_MAX {
            assert!(has_room(1));
        }
        assert!(!has_room(1));
        assert!(has_room(2));
        inbox.release([1, 2].into_iter());
        assert!(has_room(1));
        assert!(!has_room(1));
    }
}
