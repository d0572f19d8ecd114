//! Defines every limit of the JSON API: chosen ones as [`HttpLimits`], fixed ones as constants.

use std::time::Duration;

/// The limits an operator may choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Most connections; further ones wait to be accepted.
    pub connections_max: usize,
    /// Most calls of one HTTP/2 connection at a time.
    pub streams_max: u32,
    /// Most headers of one HTTP/1.1 request.
    pub headers_max: usize,
    /// Most bytes of the headers of one request; 8 KiB at least.
    pub header_bytes_max: usize,
    /// How long a new connection may take to say what it speaks, and again for the TLS handshake.
    pub handshake: Duration,
    /// How long the headers of a request may take.
    pub headers: Duration,
    /// A connection without a request under way is closed after this.
    pub idle: Duration,
    /// How long a request may take, its body included, before it is answered with an error.
    pub request: Duration,
    /// How long requests under way may go on after the front end was told to stop.
    pub drain: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections_max: 4_096,
            streams_max: 256,
            headers_max: 64,
            header_bytes_max: 32 * 1024,
            handshake: Duration::from_secs(10),
            headers: Duration::from_secs(30),
            idle: Duration::from_mins(1),
            request: REQUEST_TIMEOUT,
            drain: Duration::from_secs(5),
        }
    }
}

/// Largest body of a request that carries messages, in bytes: a message of 4 MiB as base64, and its frame.
pub(super) const MESSAGE_REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Largest body of any other request, in bytes.
pub(super) const REQUEST_BYTES_MAX: usize = 256 * 1024;
/// Bytes of bodies that may be in memory at a time, of all requests together.
pub(super) const BODIES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest id of a request, in bytes.
pub(super) const REQUEST_ID_BYTES_MAX: usize = 128;
/// Most requests under way at a time, long polls among them.
pub(super) const REQUESTS_MAX: usize = 4_096;
/// Longest wait of a long poll, in ms.
pub(super) const WAIT_MS_MAX: u64 = 60_000;
/// How long a request may take before it is answered with an error, if nobody says otherwise.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(90);
/// Most rows of one page of a list.
pub(super) const PAGE_ROWS_MAX: usize = 200;
/// Rows of a page if the caller does not say.
pub(super) const PAGE_ROWS_DEFAULT: usize = 50;
/// Most messages of one receive.
pub(super) const RECEIVE_MAX: usize = 256;
/// Most receipts of one acknowledgement.
pub(super) const RECEIPTS_MAX: usize = 1_024;
/// Most messages of one batch.
pub(super) const BATCH_MAX: usize = 1_024;
/// Dead letters read at a time.
pub(super) const LETTERS_PER_READ: usize = 100;
/// Dead letters one request looks at before it answers with a cursor.
pub(super) const LETTERS_PER_REQUEST: usize = 10_000;
/// Topics the figures tell apart; those behind them in the alphabet are only counted.
pub(super) const FIGURE_TOPICS_MAX: usize = 200;
/// Pairs of topic and group the figures tell apart.
pub(super) const FIGURE_PAIRS_MAX: usize = 500;

// A long poll must end before its request does.
const _: () = assert!((WAIT_MS_MAX as u128) < REQUEST_TIMEOUT.as_millis());
// The largest request fits several times into what all together may hold.
const _: () = assert!(MESSAGE_REQUEST_BYTES_MAX * 4 <= BODIES_BYTES_MAX);
