//! Defines the errors of the engine, with texts a user can act on.

use crate::format::handle::HandleError;
use crate::ids::TopicKind;
use crate::store::StoreError;

/// Why the engine did not do what it was asked; nothing has been changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No such topic.
    #[error("topic {topic:?} does not exist")]
    TopicNotFound {
        /// The name asked for.
        topic: String,
    },
    /// No such consumer group.
    #[error("consumer group {group:?} does not exist")]
    GroupNotFound {
        /// The name asked for.
        group: String,
    },
    /// The consumer group has not read the topic.
    #[error("consumer group {group:?} does not read topic {topic:?}")]
    NotSubscribed {
        /// The topic.
        topic: String,
        /// The consumer group.
        group: String,
    },
    /// A topic or group of that name exists with other settings.
    #[error("{what} {name:?} exists already with other settings: {differs}")]
    Exists {
        /// `topic` or `consumer group`.
        what: &'static str,
        /// Its name.
        name: String,
        /// What is another than was asked for.
        differs: String,
    },
    /// Whether a group keeps order can be changed only while it has nothing open.
    #[error(
        "consumer group {group:?} is not empty (in flight or blocked: {open}, to be delivered again: {retrying}); whether it is FIFO can be changed only while it is"
    )]
    GroupBusy {
        /// The group.
        group: String,
        /// Messages that are with a consumer, or blocked by one that is.
        open: u64,
        /// Messages on the retry timeline.
        retrying: u64,
    },
    /// A topic that holds messages in order cannot get more queues.
    #[error(
        "topic {topic:?} is not empty (messages: {messages}); queues can be added to a FIFO or MIXED topic only while it is, because a message group would change its queue"
    )]
    TopicInOrder {
        /// The topic.
        topic: String,
        /// Messages on disk.
        messages: u64,
    },
    /// A histogram was asked for in steps that are finer than what is known.
    #[error(
        "a step of {step_ms} ms is finer than the counts are: in this stretch they are kept for spans of {resolution_ms} ms"
    )]
    TooFine {
        /// The step, in ms.
        step_ms: u64,
        /// The finest step that is answered, in ms.
        resolution_ms: u64,
    },
    /// The topic does not hold messages of this kind.
    #[error(
        "topic {topic:?} holds {expected} messages; this one is {found}. Send it to a {found} or MIXED topic"
    )]
    WrongKind {
        /// The topic.
        topic: String,
        /// What the topic holds.
        expected: TopicKind,
        /// What the message is.
        found: TopicKind,
    },
    /// A field is longer, larger or more numerous than allowed.
    #[error("{field} is {found}; the most allowed is {limit}")]
    OverLimit {
        /// The field.
        field: &'static str,
        /// What was given.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// A field does not have a form that is allowed.
    #[error("{field} {reason}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The message id was used for another message within the window of repeated sends.
    #[error(
        "message_id {message_id:?} was used for another message {ago_s} s ago. Choose another id, or cancel that message first"
    )]
    IdTaken {
        /// The id.
        message_id: String,
        /// How long ago, in s.
        ago_s: u64,
    },
    /// The topic is full.
    #[error("topic {topic:?} holds {bytes} bytes; its quota is {quota_bytes}")]
    QuotaReached {
        /// The topic.
        topic: String,
        /// Bytes it holds.
        bytes: u64,
        /// Bytes it may hold.
        quota_bytes: u64,
    },
    /// The disk is nearly full; acknowledgements and retries still work.
    #[error(
        "the disk has {free_bytes} bytes free; new messages stop at a reserve of {reserve_bytes}"
    )]
    DiskReserve {
        /// Bytes free.
        free_bytes: u64,
        /// Bytes kept in reserve.
        reserve_bytes: u64,
    },
    /// A handle is not one of ours.
    #[error(transparent)]
    Handle(#[from] HandleError),
    /// There is no such transaction: it was never prepared, or ended too long ago.
    #[error("there is no such transaction, or it ended too long ago")]
    TransactionNotFound,
    /// The transaction had ended the other way before.
    #[error("the transaction was {ended} before")]
    TransactionEnded {
        /// `committed` or `rolled back`.
        ended: &'static str,
    },
    /// There is no such message, or no longer.
    #[error("there is no such message, or it has gone")]
    MessageNotFound,
    /// A receipt handle no longer holds: the message was redelivered, reset, or finished since.
    #[error("the receipt handle has expired: the message was redelivered or finished since")]
    Expired,
    /// The store below failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Refuses a number over its limit.
pub(crate) fn within(field: &'static str, found: usize, limit: usize) -> Result<(), Error> {
    if found > limit {
        return Err(Error::OverLimit {
            field,
            found: found as u64,
            limit: limit as u64,
        });
    }
    Ok(())
}
