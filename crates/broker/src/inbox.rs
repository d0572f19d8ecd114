//! Provides the inbox of the writer: a queue of commands and signals that a turn takes at once, and the bell of the thread
//! that waits for time.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::command::Command;
use crate::limits::{ROOM_COMMANDS_MAX, ROOMS, SENDS_LEFT_MAX};

/// What a turn of the writer takes.
#[derive(Debug)]
pub(crate) enum Event<S> {
    /// A command of a client.
    Command(Command<S>),
    /// The clock was moved by hand.
    ClockMoved,
    /// Finish what was begun and end.
    Stop,
}

/// A queue of events with many senders.
///
/// A std mutex: it is held for a push or a swap, never across an await. A turn swaps the whole queue
/// out, so a thousand commands cost it one lock.
#[derive(Debug)]
pub(crate) struct Inbox<S> {
    state: Mutex<State<S>>,
    rung: Condvar,
    /// By the lane of a command: one permit for each that may still be queued. A full lane keeps back those that share
    /// its room, and no others.
    rooms: Vec<Semaphore>,
}

#[derive(Debug)]
struct State<S> {
    events: Vec<Event<S>>,
    /// Events that are not sends.
    others: usize,
    /// The sync thread takes what is left in the queue after its sync.
    syncing: bool,
    /// The thread that waits for time is to look.
    rings: bool,
    closed: bool,
}

impl<S> Inbox<S> {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                events: Vec::new(),
                others: 0,
                syncing: false,
                rings: false,
                closed: false,
            }),
            rung: Condvar::new(),
            rooms: (0..ROOMS)
                .map(|_| Semaphore::new(ROOM_COMMANDS_MAX))
                .collect(),
        }
    }

    /// Queues a command once there is room for it; returns it if the broker has ended.
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

    fn state(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an event; returns it if the broker has ended.
    fn push(&self, event: Event<S>) -> Option<Event<S>> {
        let mut state = self.state();
        if state.closed {
            return Some(event);
        }
        let is_send = matches!(event, Event::Command(Command::Send { .. }));
        state.others += usize::from(!is_send);
        state.events.push(event);
        None
    }

    /// Whether a turn would do something that the sync thread does not do as early after its sync.
    ///
    /// During a sync a few sends may wait: they become durable by the next one, by whichever thread they are executed. Many are
    /// executed meanwhile.
    pub(crate) fn needs_turn(&self) -> bool {
        let state = self.state();
        let left_max = if state.syncing { SENDS_LEFT_MAX } else { 0 };
        state.others > 0 || state.events.len() > left_max
    }

    /// Whether the sync thread is at work.
    pub(crate) fn set_syncing(&self, syncing: bool) {
        self.state().syncing = syncing;
    }

    /// Takes all events into `events`.
    pub(crate) fn take(&self, events: &mut Vec<Event<S>>) {
        let mut state = self.state();
        state.others = 0;
        std::mem::swap(&mut state.events, events);
    }

    /// Wakes the thread that waits for time.
    pub(crate) fn ring(&self) {
        let mut state = self.state();
        let was_rung = std::mem::replace(&mut state.rings, true);
        drop(state);
        if !was_rung {
            self.rung.notify_one();
        }
    }

    /// Waits for a ring, for `wait` at the most; `None`: for ever.
    pub(crate) fn wait(&self, wait: Option<Duration>) {
        let mut state = self.state();
        if !state.rings {
            state = if let Some(wait) = wait {
                let waited = self.rung.wait_timeout(state, wait);
                waited.unwrap_or_else(PoisonError::into_inner).0
            } else {
                let waited = self.rung.wait_while(state, |state| !state.rings);
                waited.unwrap_or_else(PoisonError::into_inner)
            };
        }
        state.rings = false;
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
        let mut state = self.state();
        state.closed = true;
        state.others = 0;
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

    #[test]
    fn a_few_sends_are_left_to_the_sync_thread_while_it_is_at_work() {
        let inbox = Inbox::new();
        let send = |inbox: &Inbox<engine::MemoryStore>| {
            let (reply, _) = tokio::sync::oneshot::channel();
            let send = Command::Send {
                lane: 1,
                topic: "t".into(),
                message: Box::default(),
                reply,
            };
            assert!(inbox.push(Event::Command(send)).is_none());
            inbox.needs_turn()
        };
        assert!(!inbox.needs_turn());
        assert!(send(&inbox));
        inbox.set_syncing(true);
        assert!(!inbox.needs_turn());
        assert!(inbox.push(Event::Command(command(1))).is_none());
        assert!(inbox.needs_turn(), "it may be answered without the disk");
        let mut events = Vec::new();
        inbox.take(&mut events);
        assert_eq!(events.len(), 2);
        assert!((0..SENDS_LEFT_MAX).all(|_| !send(&inbox)));
        assert!(send(&inbox));
        events.clear();
        inbox.take(&mut events);
        assert!(!send(&inbox));
        inbox.set_syncing(false);
        assert!(inbox.needs_turn());
    }
}
