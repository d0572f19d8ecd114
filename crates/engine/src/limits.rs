//! Defines every limit of the engine: fixed ones as constants, configured ones as [`Limits`].

/// Longest topic name, in bytes.
pub const TOPIC_NAME_BYTES_MAX: usize = 127;
/// Longest consumer group name, in bytes.
pub const GROUP_NAME_BYTES_MAX: usize = 120;
/// Longest message id, in bytes.
pub const MESSAGE_ID_BYTES_MAX: usize = 255;
/// Longest tag, in bytes: it counts towards the properties, as in Apache RocketMQ.
pub const TAG_BYTES_MAX: usize = 16 * 1024;
/// Longest message key, in bytes: it counts towards the properties too.
pub const KEY_BYTES_MAX: usize = 16 * 1024;
/// Longest key of a timer, in bytes.
pub const TIMER_KEY_BYTES_MAX: usize = 255;
/// Most keys of one message.
pub const KEYS_MAX: usize = 64;
/// Longest message group, in bytes (the limit of Apache RocketMQ's proxy).
pub const MESSAGE_GROUP_BYTES_MAX: usize = 64;
/// Most properties of one message: 128 of the user (the limit of Apache RocketMQ's proxy), and eight that a front
/// end may carry with it.
pub const PROPERTIES_MAX: usize = 136;
/// Most bytes of all property names and values of one message, its tag and its keys: 16 KiB of the user and 1 KiB of a
/// front end.
pub const PROPERTIES_BYTES_MAX: usize = 17 * 1024;
/// Most tags one subscription may name.
pub const FILTER_TAGS_MAX: usize = 256;
/// Most message queues of a topic.
pub const QUEUES_MAX: u16 = 1024;
/// Most delay levels.
pub const DELAY_LEVELS_MAX: usize = 64;
/// Most back-off steps of a consumer group.
pub const BACKOFF_STEPS_MAX: usize = 64;
/// Longest back-off step of a consumer group, in ms: a message that waits longer would be taken for lost.
pub const BACKOFF_MS_MAX: u64 = 366 * 86_400_000;
/// Longest invisible duration: 12 hours (Apache RocketMQ's proxy has the same).
pub const INVISIBLE_MS_MAX: u64 = 12 * 3_600_000;
/// How far ahead of the clock each commit promises not to write below, in ms.
pub const FLOOR_AHEAD_MS: u64 = 200;
/// Places of a queue that may be acknowledged beyond what was read again since a crash.
pub const ACKED_AHEAD_MAX: usize = 4_096;
/// Open places a queue's progress may hold before it parks the lease in front.
pub const OPEN_PLACES_MAX: usize = 4_096;
/// Acknowledgements of a queue that are remembered, in case they are repeated.
pub(crate) const ACKED_LATELY_MAX: usize = 256;
/// Bytes of blocked messages a queue of a FIFO group keeps in memory; others are read again.
pub(crate) const BLOCKED_BYTES_MAX: usize = 64 * 1024;
/// Leases of retries that the record of a subscription keeps; the newest ones.
pub(crate) const RETRY_LEASES_KEPT_MAX: usize = 1_024;
/// Progress records that one group of changes takes only because something was handed out.
pub(crate) const NOTES_MAX: usize = 256;
/// Bytes after which one receive stops: what one answer holds in memory is bounded by this and one
/// message.
pub const RECEIVE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Messages one read of the store fetches at the most.
pub const READ_MESSAGES_MAX: usize = 512;
/// Bytes after which one read of the store stops.
pub const READ_BYTES_MAX: usize = 1024 * 1024;

/// Units of work after which one receive stops, in a step that has a limit; the next one goes on.
pub const RECEIVE_UNITS: u64 = 768;

/// Damaged messages that are skipped; with more of them the store counts as failed.
pub const DAMAGED_MAX: usize = 64;

/// Units of work one histogram spends on messages that it counts one by one.
pub(crate) const HISTOGRAM_UNITS: u64 = 2_048;
/// Units of work one count of what is ready for a group spends on messages that it counts one by one.
pub(crate) const READY_UNITS: u64 = 1_024;
/// Messages of a bucket that are counted one by one; more are estimated.
pub(crate) const EXACT_COUNT_MAX: u64 = 256;
/// Index rows of a timer's key that are read in one partition.
pub(crate) const TIMER_ROWS_MAX: usize = 1_024;
/// Index rows of a message id that are read in one partition to recognise a repeated send after a restart.
pub(crate) const REPEAT_ROWS_MAX: usize = 64;
/// Partitions of a topic that are all looked at to recognise a repeated send after a restart; of more only those near
/// its due time.
pub(crate) const REPEAT_PARTITIONS_MAX: usize = 16;
/// Rows of void retries that are removed with one group of changes.
pub(crate) const VOID_ROWS_PER_ROUND_MAX: usize = 256;
/// Shortest wait between two rounds of upkeep, in ms.
pub(crate) const UPKEEP_ROUND_MS_MIN: u64 = 60_000;
/// Identity rows that are looked at in one round of upkeep.
pub(crate) const IDENTITIES_PER_ROUND_MAX: usize = 1_024;
/// The largest count that is read from a record: a million a second for two thousand years.
pub(crate) const COUNT_MAX: u64 = 1 << 56;

const _: () = assert!(READ_MESSAGES_MAX <= OPEN_PLACES_MAX);

/// The limits an operator may choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest body of a message, in bytes.
    pub body_bytes_max: usize,
    /// Most messages in one send, receive or acknowledgement.
    pub batch_max: usize,
    /// Most messages in flight in one consumer group and topic.
    pub in_flight_max: usize,
    /// Most pollers that may wait at the same time.
    pub waiting_pollers_max: usize,
    /// Most topics.
    pub topics_max: usize,
    /// Most consumer groups.
    pub groups_max: usize,
    /// Longest delay, in ms.
    pub delay_ms_max: u64,
    /// Messages kept in memory at the head of each queue.
    pub head_messages_max: usize,
    /// Bytes of messages that may be held in memory for readers, over all topics: heads of queues, what was read ahead,
    /// blocked messages of FIFO groups, rows of retries.
    pub held_bytes_max: usize,
    /// Blocked messages a reader of a FIFO queue passes to find one that may be delivered.
    pub fifo_window: usize,
    /// How long a repeated send is recognised, in ms.
    pub repeat_window_ms: u64,
    /// How many sends are remembered to recognise repeated ones.
    pub repeat_window_sends: usize,
    /// Free bytes on the disk below which new sends stop.
    pub free_bytes_reserve: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 4 * 1024 * 1024,
            batch_max: 1_024,
            in_flight_max: 65_536,
            waiting_pollers_max: 16_384,
            topics_max: 4_096,
            groups_max: 4_096,
            delay_ms_max: 10 * 366 * 86_400_000,
            head_messages_max: 1_024,
            held_bytes_max: 64 * 1024 * 1024,
            fifo_window: 1_024,
            repeat_window_ms: 120_000,
            repeat_window_sends: 100_000,
            free_bytes_reserve: 1024 * 1024 * 1024,
        }
    }
}
