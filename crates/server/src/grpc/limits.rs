//! Defines every limit of the gRPC front end: chosen ones as [`GrpcLimits`], fixed ones as constants.

use std::time::Duration;

use edge::accept::Bounds;

/// The limits an operator may choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcLimits {
    /// Those of its connections.
    pub bounds: Bounds,
    /// Most calls of one connection at a time.
    pub streams_max: u32,
    /// Most bytes of the headers of one call.
    pub header_bytes_max: u32,
    /// Largest request, in bytes.
    pub request_bytes_max: usize,
    /// Most bytes of all requests together that are being read or worked on.
    pub requests_bytes_max: usize,
    /// Most bytes of messages that are on their way to consumers.
    pub answers_bytes_max: usize,
    /// Most clients that are remembered.
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

/// Bytes of one call that may be on the way before they are read.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
/// The same for one connection.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// Bytes of one call that may wait to be written.
pub(crate) const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// How often a silent connection is asked whether its other end is there.
pub(crate) const PING_EVERY: Duration = Duration::from_mins(1);
/// How long it may take to answer that.
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Calls a client may break off that have not been looked at yet.
pub(crate) const RESETS_PENDING_MAX: usize = 64;

/// Characters of the version a client says that are kept.
pub(crate) const VERSION_CHARS_MAX: usize = 64;
/// Longest client id, in bytes.
pub(crate) const CLIENT_ID_BYTES_MAX: usize = 255;
/// Topics one client may name in its settings.
pub(crate) const SESSION_TOPICS_MAX: usize = 1_024;
/// Topics that are remembered of one client because it has sent half messages to them.
pub(crate) const HALF_TOPICS_MAX: usize = 64;
/// Half messages whose senders are remembered.
pub(crate) const HALVES_MAX: usize = 65_536;
/// Streams one client may hold open, one for each endpoint it knows.
pub(crate) const SESSION_STREAMS_MAX: usize = 32;
/// Commands that may wait to be written to one client.
pub(crate) const SESSION_COMMANDS_MAX: usize = 64;
/// A client without a stream that is silent for so long is gone, in ms.
pub(crate) const SESSION_SILENCE_MS: u64 = 60_000;
/// How long a client may take to send its settings on a new stream.
pub(crate) const SETTINGS_WAIT: Duration = Duration::from_mins(1);

/// Longest wait for messages, in ms.
pub(crate) const POLL_MS_MAX: u64 = 20_000;
/// How long before a call's own deadline it is answered, in ms.
pub(crate) const POLL_MARGIN_MS: u64 = 1_000;
/// Messages a consumer is told to ask for at a time.
pub(crate) const BATCH_ADVISED: i32 = 32;
/// Most messages of one answer; a consumer that asks for more gets as many.
pub(crate) const BATCH_MAX: usize = 256;
/// How long a delivery is hidden whose lease the server renews, in ms.
pub(crate) const LEASE_MS: u64 = 60_000;
/// How long before its end such a lease is renewed, in ms.
pub(crate) const RENEW_AHEAD_MS: u64 = 20_000;
/// How long a lease is renewed after the delivery, in ms: three hours.
pub(crate) const RENEW_FOR_MS: u64 = 3 * 3_600_000;
/// How long a delivery stays hidden whose consumer cannot be told from others, in ms.
pub(crate) const LEASE_UNKNOWN_MS: u64 = 15 * 60_000;
/// How long the messages of a consumer that has left stay hidden, in ms.
pub(crate) const LEASE_LEFT_MS: u64 = 1_000;
/// Shortest invisible duration a simple consumer may ask for, in ms.
pub(crate) const INVISIBLE_MS_MIN: u64 = 1_000;
/// Attempts to receive that are remembered to recognise their repetition.
pub(crate) const ATTEMPTS_MAX: usize = 16_384;
/// How long they are remembered, in ms.
pub(crate) const ATTEMPT_MS: u64 = 60_000;
/// Longest id of an attempt, in bytes.
pub(crate) const ATTEMPT_ID_BYTES_MAX: usize = 64;

/// Transactions whose producers are asked at a time.
pub(crate) const CHECKS_MAX: usize = 64;
/// How long the front end waits for transactions to ask about before it asks again.
pub(crate) const CHECKS_WAIT: Duration = Duration::from_mins(1);
/// Longest wait a producer may ask for before it is asked about a transaction, in ms.
pub(crate) const RECOVERY_MS_MAX: u64 = 3_600_000;

/// Most properties a user may give a message.
pub(crate) const USER_PROPERTIES_MAX: usize = 128;
/// Most bytes of a message's properties, tag and keys.
pub(crate) const USER_PROPERTIES_BYTES_MAX: usize = 16 * 1024;
/// Longest message group, in bytes.
pub(crate) const MESSAGE_GROUP_BYTES_MAX: usize = 63;
/// Longest host name or trace context that is kept with a message, in bytes; longer ones are left out.
pub(crate) const CARRIED_BYTES_MAX: usize = 256;
/// Longest topic name, in bytes.
pub(crate) const TOPIC_BYTES_MAX: usize = 127;
/// Longest name of a consumer group, in bytes.
pub(crate) const GROUP_BYTES_MAX: usize = 255;
/// Addresses of one endpoint list that are echoed.
pub(crate) const ADDRESSES_MAX: usize = 64;

const _: () = assert!(RENEW_AHEAD_MS < LEASE_MS);
