//! Defines the codes of requests and responses, with the numbers of Apache RocketMQ.

/// Codes of requests. Some are sent by the broker to a client, as said at each.
pub mod request {
    /// Send a message; parameters under long names.
    pub const SEND: i32 = 10;
    /// Pull messages from a queue.
    pub const PULL: i32 = 11;
    /// Find messages by key, or by the id their producer gave them.
    pub const QUERY_MESSAGE: i32 = 12;
    /// The offset a group has committed for a queue.
    pub const QUERY_CONSUMER_OFFSET: i32 = 14;
    /// Commit the offset of a group for a queue; mostly one-way.
    pub const UPDATE_CONSUMER_OFFSET: i32 = 15;
    /// Make or change a topic.
    pub const UPDATE_TOPIC: i32 = 17;
    /// The settings of the broker.
    pub const GET_BROKER_CONFIG: i32 = 26;
    /// The run-time numbers of the broker.
    pub const GET_BROKER_RUNTIME_INFO: i32 = 28;
    /// The first offset stored at an instant or later.
    pub const SEARCH_OFFSET: i32 = 29;
    /// The offset after the last message of a queue.
    pub const GET_MAX_OFFSET: i32 = 30;
    /// The offset of the first message of a queue.
    pub const GET_MIN_OFFSET: i32 = 31;
    /// When the first message of a queue was stored.
    pub const GET_EARLIEST_STORE_TIME: i32 = 32;
    /// The message at a physical offset.
    pub const VIEW_MESSAGE: i32 = 33;
    /// What a client is and subscribes to.
    pub const HEARTBEAT: i32 = 34;
    /// A client stops.
    pub const UNREGISTER_CLIENT: i32 = 35;
    /// A consumer could not work on a message and wants it again.
    pub const SEND_BACK: i32 = 36;
    /// Commit or roll back a half message; one-way.
    pub const END_TRANSACTION: i32 = 37;
    /// The clients of a group.
    pub const GET_CONSUMER_LIST: i32 = 38;
    /// Broker to producer: what became of a half message? One-way.
    pub const CHECK_TRANSACTION: i32 = 39;
    /// Broker to consumer: the members of the group changed. One-way.
    pub const NOTIFY_CONSUMER_IDS_CHANGED: i32 = 40;
    /// Lock queues for a client of an orderly group.
    pub const LOCK_QUEUES: i32 = 41;
    /// Give the locks of queues back.
    pub const UNLOCK_QUEUES: i32 = 42;
    /// Whether the broker can read a filter.
    pub const CHECK_CLIENT_CONFIG: i32 = 46;
    /// The route of a topic, asked of the name server.
    pub const GET_ROUTE: i32 = 105;
    /// The brokers of the cluster, asked of the name server.
    pub const GET_CLUSTER_INFO: i32 = 106;
    /// Make or change a consumer group.
    pub const UPDATE_GROUP: i32 = 200;
    /// The numbers of a topic's queues.
    pub const GET_TOPIC_STATS: i32 = 202;
    /// The connections of a consumer group.
    pub const GET_CONSUMER_CONNECTIONS: i32 = 203;
    /// The connections of a producer group.
    pub const GET_PRODUCER_CONNECTIONS: i32 = 204;
    /// The names of all topics, asked of the name server.
    pub const GET_TOPIC_LIST: i32 = 206;
    /// Delete a consumer group.
    pub const DELETE_GROUP: i32 = 207;
    /// How far a group is.
    pub const GET_CONSUME_STATS: i32 = 208;
    /// Delete a topic, asked of the broker.
    pub const DELETE_TOPIC: i32 = 215;
    /// Move the offsets of a group to an instant; also broker to consumer: begin again at these offsets.
    pub const RESET_OFFSET: i32 = 220;
    /// Send a message; parameters under names of one letter.
    pub const SEND_V2: i32 = 310;
    /// Send several messages in one request.
    pub const SEND_BATCH: i32 = 320;
    /// Send a reply to a request message; parameters under long names.
    pub const SEND_REPLY: i32 = 324;
    /// As [`SEND_REPLY`], under names of one letter.
    pub const SEND_REPLY_V2: i32 = 325;
    /// Broker to client: the reply to a request message.
    pub const PUSH_REPLY: i32 = 326;
    /// Pull messages, asked by a lite pull consumer.
    pub const LITE_PULL: i32 = 361;
    /// Cancel a delayed message by its recall handle.
    pub const RECALL: i32 = 370;
}

/// Codes of responses.
pub mod response {
    /// Done.
    pub const SUCCESS: i32 = 0;
    /// The broker failed, or refuses for a reason that has no code of its own.
    pub const SYSTEM_ERROR: i32 = 1;
    /// The broker is overloaded; producers try another broker.
    pub const SYSTEM_BUSY: i32 = 2;
    /// The code of the request is not known here.
    pub const REQUEST_CODE_NOT_SUPPORTED: i32 = 3;
    /// The message cannot be stored as it is.
    pub const MESSAGE_ILLEGAL: i32 = 13;
    /// The broker does not take messages now.
    pub const SERVICE_NOT_AVAILABLE: i32 = 14;
    /// The account may not do that, or is not known.
    pub const NO_PERMISSION: i32 = 16;
    /// There is no such topic.
    pub const TOPIC_NOT_EXIST: i32 = 17;
    /// There is nothing to pull.
    pub const PULL_NOT_FOUND: i32 = 19;
    /// Nothing matched so far; pull again at once from the next offset.
    pub const PULL_RETRY_IMMEDIATELY: i32 = 20;
    /// The offset is outside of the queue; the right one is in the answer.
    pub const PULL_OFFSET_MOVED: i32 = 21;
    /// What was asked for is not there.
    pub const QUERY_NOT_FOUND: i32 = 22;
    /// The filter cannot be read.
    pub const SUBSCRIPTION_PARSE_FAILED: i32 = 23;
    /// The group is not subscribed to the topic.
    pub const SUBSCRIPTION_NOT_EXIST: i32 = 24;
    /// The broker has an older subscription than the client.
    pub const SUBSCRIPTION_NOT_LATEST: i32 = 25;
    /// There is no such consumer group.
    pub const GROUP_NOT_EXIST: i32 = 26;
    /// A parameter is missing or out of range.
    pub const INVALID_PARAMETER: i32 = 29;
    /// No client of the group is connected.
    pub const CONSUMER_NOT_ONLINE: i32 = 206;
    /// The client sends faster than it may.
    pub const FLOW_CONTROL: i32 = 215;
    /// The operation is not allowed on this object.
    pub const ILLEGAL_OPERATION: i32 = 604;
}
