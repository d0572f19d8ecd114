//! Provides the clients of a simulated broker: what they have asked and not been answered, what they will do.

use std::collections::BTreeMap;
use std::sync::Arc;

use broker::{Answer, Command, Error, Poll, Reply};
use engine::{
    Delivered, Delivery, Engine, MessageHandle, NewMessage, Recall, ReceiptHandle, ReceiveRequest,
    Reschedule, Sent, TagFilter,
};
use tokio::sync::oneshot::{self, Receiver, error::TryRecvError};

use crate::fault_store::FaultStore;

/// A consumer group, or the readers of its dead letters, on a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reader {
    pub(crate) topic: usize,
    pub(crate) group: usize,
}

/// A delivery a consumer holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) number: u64,
    pub(crate) group: usize,
    pub(crate) handle: ReceiptHandle,
}

/// A send that was not answered yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenSend {
    pub(crate) number: u64,
    pub(crate) begun_ms: u64,
    pub(crate) asked_ms: u64,
}

/// A question that was asked.
#[derive(Debug)]
pub(crate) enum Question {
    Send(OpenSend),
    Poll {
        reader: Reader,
        hide_ms: u64,
        parks: bool,
    },
    Ack(Vec<Held>),
    Recall(u64),
    Move(u64),
    /// To hand a delivery back, to hide it otherwise, to move it to the dead letters.
    End(Held),
    /// One whose answer changes nothing that is known.
    Plain,
}

/// What came back.
#[derive(Debug)]
pub(crate) enum Reaction {
    Sent(Result<Sent, Error>),
    Delivered(Result<Vec<Delivered>, Error>),
    Acked(Result<Vec<Result<(), Error>>, Error>),
    Recalled(Result<Recall, Error>),
    Moved(Result<Reschedule, Error>),
    Plain,
}

enum Pending {
    Sent(Receiver<Result<Sent, Error>>),
    Delivered(Receiver<Result<Vec<Delivered>, Error>>),
    Acked(Receiver<Result<Vec<Result<(), Error>>, Error>>),
    Recalled(Receiver<Result<Recall, Error>>),
    Moved(Receiver<Result<Reschedule, Error>>),
    Plain(Receiver<Result<(), Error>>),
}

/// Looks whether an answer has come; a question that is lost counts as one with an unknown outcome.
fn look<T>(receiver: &mut Receiver<Result<T, Error>>) -> Option<Result<T, Error>> {
    match receiver.try_recv() {
        Ok(result) => Some(result),
        Err(TryRecvError::Empty) => None,
        Err(TryRecvError::Closed) => Some(Err(Error::Stopped)),
    }
}

impl Pending {
    fn look(&mut self) -> Option<Reaction> {
        match self {
            Self::Sent(receiver) => look(receiver).map(Reaction::Sent),
            Self::Delivered(receiver) => look(receiver).map(Reaction::Delivered),
            Self::Acked(receiver) => look(receiver).map(Reaction::Acked),
            Self::Recalled(receiver) => look(receiver).map(Reaction::Recalled),
            Self::Moved(receiver) => look(receiver).map(Reaction::Moved),
            Self::Plain(receiver) => look(receiver).map(|_| Reaction::Plain),
        }
    }
}

/// Something a client will do.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Ack(Vec<Held>),
    GiveBack {
        held: Held,
        delay_ms: Option<u64>,
    },
    /// To hand back what was not worked on.
    Return(Held),
    Hide {
        held: Held,
        hide_ms: u64,
    },
    Bury(Held),
}

/// All clients of the broker.
#[derive(Default)]
pub(crate) struct Clients {
    waiting: Vec<(Question, Pending)>,
    agenda: BTreeMap<(i64, u64), Action>,
    actions: u64,
}

impl Clients {
    /// Questions that have not been answered.
    pub(crate) fn questions(&self) -> impl Iterator<Item = &Question> {
        self.waiting.iter().map(|(question, _)| question)
    }

    /// Takes the answers that have come, in the order of the questions.
    pub(crate) fn answers(&mut self) -> Vec<(Question, Reaction)> {
        let mut answered = Vec::new();
        let mut left = Vec::with_capacity(self.waiting.len());
        for (question, mut pending) in self.waiting.drain(..) {
            match pending.look() {
                Some(reaction) => answered.push((question, reaction)),
                None => left.push((question, pending)),
            }
        }
        self.waiting = left;
        answered
    }

    /// The broker has died: nothing that was asked will be answered.
    pub(crate) fn hang_up(&mut self) {
        self.waiting.clear();
    }

    /// Plans an action.
    pub(crate) fn plan(&mut self, at_us: i64, action: Action) {
        self.actions += 1;
        self.agenda.insert((at_us, self.actions), action);
    }

    /// When the next action is due.
    pub(crate) fn next_action_us(&self) -> Option<i64> {
        self.agenda.keys().next().map(|(at_us, _)| *at_us)
    }

    /// Takes the next action if its time has come.
    pub(crate) fn take_action(&mut self, now_us: i64) -> Option<Action> {
        let entry = self
            .agenda
            .first_entry()
            .filter(|entry| entry.key().0 <= now_us)?;
        Some(entry.remove())
    }

    pub(crate) fn send(
        &mut self,
        topic: &str,
        open: OpenSend,
        message: NewMessage,
    ) -> Command<FaultStore> {
        let (reply, receiver) = oneshot::channel();
        self.waiting
            .push((Question::Send(open), Pending::Sent(receiver)));
        Command::Send {
            lane: lane(topic),
            topic: Arc::from(topic),
            message: Box::new(message),
            reply,
        }
    }

    pub(crate) fn poll(
        &mut self,
        reader: Reader,
        (topic, group): (&str, &str),
        (messages_max, hide_ms, wait_ms): (usize, u64, u64),
        run: bool,
    ) -> Command<FaultStore> {
        let (reply, receiver) = oneshot::channel();
        let parks = wait_ms > 0;
        self.waiting.push((
            Question::Poll {
                reader,
                hide_ms,
                parks,
            },
            Pending::Delivered(receiver),
        ));
        Command::Receive(Poll {
            lane: lane(topic),
            request: ReceiveRequest {
                topic: topic.to_owned(),
                group: group.to_owned(),
                messages_max,
                invisible_ms: hide_ms,
                filter: TagFilter::All,
                run,
            },
            wait_ms,
            room: None,
            reply,
        })
    }

    pub(crate) fn ack(&mut self, held: Vec<Held>) -> Command<FaultStore> {
        let (reply, receiver) = oneshot::channel();
        let handles = held.iter().map(|held| held.handle).collect();
        self.waiting
            .push((Question::Ack(held), Pending::Acked(receiver)));
        Command::Ack { handles, reply }
    }

    pub(crate) fn recall(&mut self, number: u64, handle: MessageHandle) -> Command<FaultStore> {
        let (reply, receiver) = oneshot::channel();
        self.waiting
            .push((Question::Recall(number), Pending::Recalled(receiver)));
        work(handle.topic, reply, move |engine, now_ms| {
            engine.recall(now_ms, &handle)
        })
    }

    /// A recall whose answer does not wait for the disk.
    pub(crate) fn hasty_recall(
        &mut self,
        number: u64,
        handle: MessageHandle,
    ) -> Command<FaultStore> {
        let (reply, receiver) = oneshot::channel();
        self.waiting
            .push((Question::Recall(number), Pending::Recalled(receiver)));
        Command::Other {
            lane: u64::from(handle.topic),
            weight: 16,
            work: Box::new(move |engine: &mut Engine<FaultStore>, now_ms| {
                drop(reply.send(engine.recall(now_ms, &handle).map_err(Error::Refused)));
                Answer::Other(Box::new(drop))
            }),
        }
    }

    pub(crate) fn reschedule(
        &mut self,
        number: u64,
        handle: MessageHandle,
        delivery: Delivery,
    ) -> Command<FaultStore> {
        let (reply, receiver) = oneshot::channel();
        self.waiting
            .push((Question::Move(number), Pending::Moved(receiver)));
        work(handle.topic, reply, move |engine, now_ms| {
            engine.reschedule(now_ms, &handle, delivery)
        })
    }

    /// Ends a delivery in some way.
    pub(crate) fn end(
        &mut self,
        held: Held,
        action: impl FnOnce(&mut Engine<FaultStore>, u64) -> Result<(), engine::Error> + Send + 'static,
    ) -> Command<FaultStore> {
        self.plain_as(Question::End(held), held.handle.topic, action)
    }

    /// Does something whose answer is not needed.
    pub(crate) fn plain(
        &mut self,
        topic: u32,
        action: impl FnOnce(&mut Engine<FaultStore>, u64) -> Result<(), engine::Error> + Send + 'static,
    ) -> Command<FaultStore> {
        self.plain_as(Question::Plain, topic, action)
    }

    fn plain_as(
        &mut self,
        question: Question,
        topic: u32,
        action: impl FnOnce(&mut Engine<FaultStore>, u64) -> Result<(), engine::Error> + Send + 'static,
    ) -> Command<FaultStore> {
        let (reply, receiver) = oneshot::channel();
        self.waiting.push((question, Pending::Plain(receiver)));
        work(topic, reply, action)
    }
}

fn lane(topic: &str) -> u64 {
    topic.len() as u64
}

fn work<T: Send + 'static>(
    lane: u32,
    reply: Reply<T>,
    action: impl FnOnce(&mut Engine<FaultStore>, u64) -> Result<T, engine::Error> + Send + 'static,
) -> Command<FaultStore> {
    Command::Other {
        lane: u64::from(lane),
        weight: 16,
        work: Box::new(move |engine: &mut Engine<FaultStore>, now_ms| {
            let result = action(engine, now_ms).map_err(Error::Refused);
            Answer::Other(Box::new(move |durable: Result<(), Error>| {
                drop(reply.send(durable.and(result)));
            }))
        }),
    }
}
