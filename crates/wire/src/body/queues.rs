//! Defines the documents about the members and the queues of a consumer group.

use serde::{Deserialize, Serialize};

/// The clients of a consumer group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerList {
    /// Their ids.
    pub consumer_id_list: Vec<String>,
}

/// A message queue, by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageQueue {
    /// Topic.
    pub topic: String,
    /// Name of the broker.
    pub broker_name: String,
    /// Number of the queue.
    pub queue_id: i32,
}

/// Queues that a client of an orderly group wants to lock, or gives back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueSet {
    /// The group.
    pub consumer_group: String,
    /// The client.
    pub client_id: String,
    /// The queues.
    #[serde(default, rename = "mqSet")]
    pub queues: Vec<MessageQueue>,
}

/// The queues that are locked for the client now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedQueues {
    /// The queues.
    #[serde(rename = "lockOKMQSet")]
    pub queues: Vec<MessageQueue>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body;

    #[test]
    fn locks_have_the_names_of_the_protocol() {
        let text = r#"{"clientId":"c","consumerGroup":"g","mqSet":[{"brokerName":"b","queueId":3,"topic":"t"}],"onlyThisBroker":false}"#;
        let asked: QueueSet = body::read(text.as_bytes(), "set of queues").expect("it is whole");
        let locked = LockedQueues {
            queues: asked.queues,
        };
        let bytes = body::write(&locked).expect("it can be written");
        assert_eq!(
            bytes,
            r#"{"lockOKMQSet":[{"topic":"t","brokerName":"b","queueId":3}]}"#
        );
    }
}
