//! Lists the limits of the JSON API in one place.

use std::time::Duration;

/// Largest body of a request that carries messages, in bytes: a message of 4 MiB as base64, and its frame.
pub(super) const MESSAGE_REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Largest body of any other request, in bytes.
pub(super) const REQUEST_BYTES_MAX: usize = 256 * 1024;
/// Bytes of bodies that may be in memory at a time, of all requests together.
pub(super) const BODIES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most headers of a request.
pub(super) const HEADERS_MAX: usize = 64;
/// Longest id of a request, in bytes.
pub(super) const REQUEST_ID_BYTES_MAX: usize = 128;
/// Most requests under way at a time, long polls among them.
pub(super) const REQUESTS_MAX: usize = 4_096;
/// Most open connections.
pub(super) const CONNECTIONS_MAX: usize = 4_096;
/// Most streams of one HTTP/2 connection at a time.
pub(super) const STREAMS_MAX: u32 = 256;
/// How long a connection may take to send the headers of a request, or be idle before it.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait of a long poll, in ms.
pub(super) const WAIT_MS_MAX: u64 = 60_000;
/// How long a request may take before it is answered with an error.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(90);
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
