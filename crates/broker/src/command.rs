//! Defines the commands to the writer, and their answers.

use std::fmt;
use std::sync::Arc;

use engine::{Delivered, Engine, NewMessage, ReceiptHandle, ReceiveRequest, Sent};
use tokio::sync::oneshot;

use crate::error::Error;
use crate::limits::WEIGHT_BYTES;

/// Where the answer to a command goes.
pub type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// Something to do with the engine at an instant; what it returns is called once that is durable.
pub type Work<S> = Box<dyn FnOnce(&mut Engine<S>, u64) -> Answer + Send>;

/// A request to the writer.
pub enum Command<S> {
    /// Store one message.
    Send {
        /// A number for the topic, by which commands take turns.
        lane: u64,
        /// The topic.
        topic: Arc<str>,
        /// The message.
        message: Box<NewMessage>,
        /// Where the answer goes.
        reply: Reply<Sent>,
    },
    /// Deliver messages, now or when there are some.
    Receive(Poll),
    /// Acknowledge deliveries.
    Ack {
        /// Which.
        handles: Vec<ReceiptHandle>,
        /// Where the answers go.
        reply: Reply<Vec<Result<(), Error>>>,
    },
    /// Anything that is done rarely.
    Other {
        /// A number by which commands take turns.
        lane: u64,
        /// About how many messages' worth of work it is.
        weight: usize,
        /// What to do.
        work: Work<S>,
    },
}

impl<S> Command<S> {
    /// By which number it takes turns with others.
    pub(crate) fn lane(&self) -> u64 {
        match self {
            Self::Send { lane, .. } | Self::Other { lane, .. } => *lane,
            Self::Receive(poll) => poll.lane,
            Self::Ack { handles, .. } => {
                handles.first().map_or(0, |handle| u64::from(handle.topic))
            }
        }
    }
}

impl<S> Command<S> {
    /// About how many messages' worth of work it is.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Send { message, .. } => weight_of(message),
            Self::Receive(poll) => poll.request.messages_max,
            Self::Ack { handles, .. } => handles.len(),
            Self::Other { weight, .. } => *weight,
        }
    }
}

/// About how many small messages' worth of work a message is.
pub(crate) fn weight_of(message: &NewMessage) -> usize {
    1 + message.body.len() / WEIGHT_BYTES
}

impl<S> fmt::Debug for Command<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Send { .. } => "Send",
            Self::Receive(_) => "Receive",
            Self::Ack { .. } => "Ack",
            Self::Other { .. } => "Other",
        })
    }
}

/// Where the messages of an answer are counted while they are in memory.
pub trait Room: fmt::Debug + Send + Sync {
    /// Whether any room is left.
    fn is_left(&self) -> bool;

    /// Takes so many bytes, more than are left if need be.
    fn take(&self, bytes: usize);
}

/// A receive that waits for something to deliver.
#[derive(Debug)]
pub struct Poll {
    /// A number for the topic, by which commands take turns.
    pub lane: u64,
    /// What it asks for.
    pub request: ReceiveRequest,
    /// How long it waits, in ms.
    pub wait_ms: u64,
    /// Where the messages are counted; `None`: nowhere. Without room there the poll is refused.
    pub room: Option<Arc<dyn Room>>,
    /// Where the answer goes.
    pub reply: Reply<Vec<Delivered>>,
}

/// An answer that waits until the changes it reports are durable.
pub enum Answer {
    /// To a send.
    Sent(Reply<Sent>, Result<Sent, Error>),
    /// To an acknowledgement.
    Acked(Reply<Vec<Result<(), Error>>>, Vec<Result<(), Error>>),
    /// To anything else: called with success, or with the failure of the store.
    Other(Box<dyn FnOnce(Result<(), Error>) + Send>),
    /// An answer that reports no change, or one that may be lost in a crash: it does not wait for the disk.
    Now(Box<dyn FnOnce() + Send>),
}

impl fmt::Debug for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Answer")
    }
}

impl Answer {
    /// Sends the answer, unless the client has gone away.
    pub(crate) fn send(self) {
        match self {
            Self::Sent(reply, result) => drop(reply.send(result)),
            Self::Acked(reply, results) => drop(reply.send(Ok(results))),
            Self::Other(reply) => reply(Ok(())),
            Self::Now(reply) => reply(),
        }
    }

    /// Answers that the outcome is unknown.
    pub(crate) fn fail(self) {
        match self {
            Self::Sent(reply, _) => drop(reply.send(Err(Error::Failed))),
            Self::Acked(reply, _) => drop(reply.send(Err(Error::Failed))),
            Self::Other(reply) => reply(Err(Error::Failed)),
            Self::Now(reply) => reply(),
        }
    }
}
