//! Defines the JSON documents that are bodies of requests and responses.

mod heartbeat;
mod queues;
mod route;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use heartbeat::{
    ConsumeFromWhere, ConsumeType, ConsumerData, Heartbeat, MessageModel, ProducerData,
    SubscriptionData,
};
pub use queues::{ConsumerList, LockedQueues, MessageQueue, QueueSet};
pub use route::{BrokerData, ClusterInfo, QueueData, TopicList, TopicRoute, permission};

/// A body that is not the document it should be. Its text is fit for the remark of a response.
#[derive(Debug, thiserror::Error)]
#[error("the body is no {what}: {reason}")]
pub struct BodyError {
    what: &'static str,
    reason: serde_json::Error,
}

/// Reads a document; `what` names it in the error.
///
/// # Errors
///
/// [`BodyError`] if the body is no JSON, or a member is missing or has another type.
pub fn read<T: DeserializeOwned>(body: &[u8], what: &'static str) -> Result<T, BodyError> {
    serde_json::from_slice(body).map_err(|reason| BodyError { what, reason })
}

/// The bytes of a document.
///
/// # Errors
///
/// [`BodyError`] never for the documents of this module.
pub fn write(document: &impl Serialize) -> Result<Bytes, BodyError> {
    let bytes = serde_json::to_vec(document);
    bytes.map(Bytes::from).map_err(|reason| BodyError {
        what: "document",
        reason,
    })
}
