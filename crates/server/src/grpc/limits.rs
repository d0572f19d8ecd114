//! Defines the limits of the gRPC front end: configurable ones in [`GrpcLimits`], fixed ones as constants.

use std::time::Duration;

use edge::accept::Bounds;

/// The limits that an operator may configure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcLimits {
    /// The limits of its connections.
    pub bounds: Bounds,
    /// Most calls of one connection at a time.
    pub streams_max: u32,
    /// Most bytes of the headers of one call.
    pub header_bytes_max: u32,
    /// Largest request, in bytes.
    pub request_bytes_max: usize,
    /// Most bytes of all requests together that are under way.
    pub requests_bytes_max: usize,
    /// Most bytes of messages that are being sent to consumers.
    pub answers_bytes_max: usize,
    /// Most clients that are connected.
    pub sessions_max: usize,
    /// How long a call may take, from its headers to the start of the answer.
    pub call: Duration,
}

impl Default for GrpcLimits {
    fn default() -> Self {
        Self {
            bounds: Bounds::default(),
            streams_max: 1_024,
            header_bytes_max: 16 * 1024,
            request_bytes_max: 32 * 1024 * 1024,
            requests_bytes_max: 256 * 1024 * 1024,
            answers_bytes_max: 256 * 1024 * 1024,
            sessions_max: 65_536,
            call: Duration::from_mins(1),
        }
    }
}

/// Bytes of one call that a client may send before they are read.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
/// The same for one connection.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// Bytes of one call that may wait to be written.
pub(crate) const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// How often a silent connection is pinged.
pub(crate) const PING_EVERY: Duration = Duration::from_secs(20);
/// How long the answer to a ping may take.
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// Calls that a client may reset before the server has accepted them.
pub(crate) const RESETS_PENDING_MAX: usize = 64;

/// Characters of the version a client says that are kept.
pub(crate) const VERSION_CHARS_MAX: usize = 64;
/// Longest client id, in bytes.
pub(crate) const CLIENT_ID_BYTES_MAX: usize = 255;
/// Most topics in the settings of one client.
pub(crate) const SESSION_TOPICS_MAX: usize = 1_024;
/// Topics that are remembered of one client because it has sent half messages to them.
pub(crate) const HALF_TOPICS_MAX: usize = 64;
/// Half messages whose senders are remembered.
pub(crate) const HALVES_MAX: usize = 65_536;
/// Most streams of one client, which opens one for each endpoint it knows.
pub(crate) const SESSION_STREAMS_MAX: usize = 32;
/// Most commands that wait to be written to one client.
pub(crate) const SESSION_COMMANDS_MAX: usize = 64;
/// After this a silent client without a stream counts as gone, in ms.
pub(crate) const SESSION_SILENCE_MS: u64 = 60_000;
/// How long a client may take to send its settings on a new stream.
pub(crate) const SETTINGS_WAIT: Duration = Duration::from_mins(1);

/// Longest wait for messages, in ms.
pub(crate) const POLL_MS_MAX: u64 = 20_000;
/// How long before a call's own deadline it is answered, in ms.
pub(crate) const POLL_MARGIN_MS: u64 = 1_000;
/// The receive batch size in the settings sent to consumers.
pub(crate) const BATCH_ADVISED: i32 = 32;
/// Most messages of one answer, even if a consumer asks for more.
pub(crate) const BATCH_MAX: usize = 256;
/// The lease of a delivery that the server renews, in ms.
pub(crate) const LEASE_MS: u64 = 60_000;
/// How long before its end such a lease is renewed, in ms.
pub(crate) const RENEW_AHEAD_MS: u64 = 20_000;
/// How long a lease is renewed after the delivery, in ms: three hours.
pub(crate) const RENEW_FOR_MS: u64 = 3 * 3_600_000;
/// The lease of a delivery to a consumer without an id, in ms.
pub(crate) const LEASE_UNKNOWN_MS: u64 = 15 * 60_000;
/// The lease that remains for the deliveries of a consumer that has left, in ms.
pub(crate) const LEASE_LEFT_MS: u64 = 1_000;
/// Shortest invisible duration of a simple consumer, in ms.
pub(crate) const INVISIBLE_MS_MIN: u64 = 1_000;
/// Deliveries that are kept until they are settled, to renew them or to take them back: 80 bytes each and as much again
/// for finding them.
pub(crate) const OUTSTANDING_MAX: usize = 262_144;
/// As how many deliveries an answer counts beyond those it brings.
pub(crate) const BATCH_COST: usize = 2;
/// Longest id of an attempt, in bytes.
pub(crate) const ATTEMPT_ID_BYTES_MAX: usize = 64;

/// Transactions that are checked at a time.
pub(crate) const CHECKS_MAX: usize = 64;
/// How long one wait for transactions to check may take.
pub(crate) const CHECKS_WAIT: Duration = Duration::from_mins(1);
/// Longest wait before the first check of a transaction that a producer may set, in ms.
pub(crate) const RECOVERY_MS_MAX: u64 = 3_600_000;

/// Most user properties of a message.
pub(crate) const USER_PROPERTIES_MAX: usize = 128;
/// Most bytes of a message's properties, tag and keys.
pub(crate) const USER_PROPERTIES_BYTES_MAX: usize = 16 * 1024;
/// Longest message group, in bytes.
pub(crate) const MESSAGE_GROUP_BYTES_MAX: usize = 63;
/// Longest host name or trace context that is stored with a message, in bytes; longer ones are omitted.
pub(crate) const CARRIED_BYTES_MAX: usize = 256;
/// Longest topic name, in bytes.
pub(crate) const TOPIC_BYTES_MAX: usize = 127;
/// Longest name of a consumer group, in bytes.
pub(crate) const GROUP_BYTES_MAX: usize = 255;
/// Most addresses of an endpoint list that are echoed.
pub(crate) const ADDRESSES_MAX: usize = 64;

// A connection that was cut when an answer was sent on it is closed before the deliveries of the answer are renewed.
const _: () = assert!(
    PING_EVERY.as_millis() + PING_TIMEOUT.as_millis() + 1_000 < (LEASE_MS - RENEW_AHEAD_MS) as u128
);
