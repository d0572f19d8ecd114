//! Provides the requests that wait for the writer: two queues, the end of both, and how the writer's thread waits.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use tokio::sync::mpsc;

use crate::store::writer::Request;

/// Most requests that go ahead, one after the other, of one that waits for its turn.
const AHEAD_MAX: u32 = 8;

const RUNNING: u8 = 0;
const STOPPING: u8 = 1;
const ABANDONED: u8 = 2;

/// How the writer's thread is stopped from outside.
#[derive(Debug, Default)]
pub(super) struct Control {
    state: AtomicU8,
    thread: OnceLock<Thread>,
}

impl Control {
    /// Names the thread that is controlled.
    pub(super) fn set_thread(&self, thread: Thread) {
        // It is set once, by who starts the thread.
        let _ = self.thread.set(thread);
    }

    /// No request is taken any longer; those that wait are carried out.
    pub(super) fn stop(&self) {
        let state = &self.state;
        let _ = state.compare_exchange(RUNNING, STOPPING, Ordering::AcqRel, Ordering::Acquire);
        self.wake();
    }

    /// No request is carried out any longer, and what is not committed is rolled back.
    pub(super) fn abandon(&self) {
        self.state.store(ABANDONED, Ordering::Release);
        self.wake();
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.state.load(Ordering::Acquire) == ABANDONED
    }

    fn is_stopping(&self) -> bool {
        self.state.load(Ordering::Acquire) != RUNNING
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// The requests that wait.
pub(super) struct Queues {
    ahead: mpsc::Receiver<Box<dyn Request>>,
    others: mpsc::Receiver<Box<dyn Request>>,
    control: Arc<Control>,
    /// How many went ahead since one of the others had its turn.
    gone_ahead: u32,
}

impl Queues {
    pub(super) fn new(
        ahead: mpsc::Receiver<Box<dyn Request>>,
        others: mpsc::Receiver<Box<dyn Request>>,
        control: Arc<Control>,
    ) -> Self {
        Self {
            ahead,
            others,
            control,
            gone_ahead: 0,
        }
    }

    /// The next request if one waits now.
    pub(super) fn try_next(&mut self) -> Option<Box<dyn Request>> {
        let waker = Waker::noop();
        match self.poll_next(&mut Context::from_waker(waker)) {
            Poll::Ready(request) => request,
            Poll::Pending => None,
        }
    }

    /// Waits for the next request; `None` at the end.
    pub(super) fn wait(&mut self) -> Option<Box<dyn Request>> {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            if self.control.is_stopping() {
                self.ahead.close();
                self.others.close();
            }
            if self.control.is_abandoned() {
                return None;
            }
            if let Poll::Ready(request) = self.poll_next(&mut context) {
                return request;
            }
            std::thread::park();
        }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Box<dyn Request>>> {
        let turn_of_others = self.gone_ahead >= AHEAD_MAX;
        if turn_of_others && let Poll::Ready(Some(request)) = self.others.poll_recv(context) {
            self.gone_ahead = 0;
            return Poll::Ready(Some(request));
        }
        let ahead = self.ahead.poll_recv(context);
        if let Poll::Ready(Some(request)) = ahead {
            self.gone_ahead = self.gone_ahead.saturating_add(1);
            return Poll::Ready(Some(request));
        }
        self.gone_ahead = 0;
        match self.others.poll_recv(context) {
            Poll::Ready(None) if ahead.is_pending() => Poll::Pending,
            others => others,
        }
    }
}

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
