//! Defines the platform's configuration, already validated and resolved.

use std::path::PathBuf;
use std::time::Duration;

/// Milliseconds of a minute.
const MINUTE_MS: i64 = 60_000;
/// Milliseconds of a day.
pub(crate) const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// What happens to an order whose gateway gives no usable answer while the order is closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownPolicy {
    /// It stays CLOSING, its stock held, until the gateway answers.
    Hold,
    /// After this many tries it closes; money that still arrives is refunded.
    CloseAndRefundLate {
        /// How often the gateway is asked first.
        tries: u32,
    },
}

/// What a commit of the database survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A power loss: the log is synced before anything is answered.
    Fsync,
    /// A killed process, but not a power loss: the operating system writes when it likes.
    Os,
}

/// The platform's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The database file.
    pub database: PathBuf,
    /// What a commit survives.
    pub durability: Durability,
    /// How many connections read.
    pub readers: u32,
    /// Most requests of one commit.
    pub commit_requests_max: usize,
    /// Most requests that wait for the writer; further callers wait for a place.
    pub writer_queue: usize,
    /// What the topics' and consumer groups' names begin with.
    pub prefix: String,
    /// Message queues per topic.
    pub queues: u16,
    /// Deadline of an order that names none, in ms after its creation.
    pub deadline_default_ms: i64,
    /// Nearest deadline, in ms ahead.
    pub deadline_min_ms: i64,
    /// Farthest deadline, in ms after the order's creation, extensions included.
    pub deadline_max_ms: i64,
    /// How many tasks close due orders.
    pub closers: usize,
    /// Most orders closed by one batch.
    pub close_batch: usize,
    /// How many gateway calls of each kind of timer run at once.
    pub gateway_calls: usize,
    /// What to do about an order that the gateway says nothing of.
    pub unknown_policy: UnknownPolicy,
    /// How long money is watched for after an order ended, in ms.
    pub watch_ms: i64,
    /// How often the sweeper looks.
    pub sweep_every: Duration,
    /// How late a timer must be for the sweeper to handle it, in ms.
    pub sweep_grace_ms: i64,
    /// How long timers may wait to be published before no order is taken, in ms.
    pub publish_grace_ms: i64,
    /// How far ahead of the last recorded instant the clock may be, in ms, without a pause of all closing; 0 for any.
    pub clock_jump_max_ms: i64,
    /// How many parked timers a second are released when a pause ends.
    pub resume_per_second: u32,
    /// How long published events are kept, in ms.
    pub keep_events_ms: i64,
    /// How long idempotency keys are kept, in ms.
    pub keep_idempotency_ms: i64,
    /// Whether webhooks may be sent to private addresses, and without TLS.
    pub webhooks_private: bool,
    /// Most rows of the outbox published by one batch.
    pub relay_batch: usize,
    /// Under which name this process leases shards of the outbox; another one for each process on one database.
    pub relay_owner: String,
    /// How long a relay holds its shards without renewal, in ms.
    pub relay_lease_ms: i64,
}

impl Config {
    /// The defaults, on this database file.
    pub fn new(database: impl Into<PathBuf>) -> Self {
        Self {
            database: database.into(),
            durability: Durability::Fsync,
            readers: 4,
            commit_requests_max: 512,
            writer_queue: 4_096,
            prefix: "duetime".to_owned(),
            queues: 4,
            deadline_default_ms: 30 * MINUTE_MS,
            deadline_min_ms: 1_000,
            deadline_max_ms: 30 * DAY_MS,
            closers: 2,
            close_batch: 512,
            gateway_calls: 32,
            unknown_policy: UnknownPolicy::Hold,
            watch_ms: 25 * 60 * MINUTE_MS,
            sweep_every: Duration::from_mins(1),
            sweep_grace_ms: 2 * MINUTE_MS,
            publish_grace_ms: 30_000,
            clock_jump_max_ms: 366 * DAY_MS,
            resume_per_second: 500,
            keep_events_ms: 30 * DAY_MS,
            keep_idempotency_ms: 2 * DAY_MS,
            webhooks_private: false,
            relay_batch: 512,
            relay_owner: "embedded".to_owned(),
            relay_lease_ms: 30_000,
        }
    }
}
