//! Defines the fixed limits of the JSON API; [`edge::serve::HttpLimits`] has the configurable ones.

/// Largest body of a request with messages, in bytes: a message of 4 MiB as base64, and the JSON around it.
pub(super) const MESSAGE_REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Largest body of any other request, in bytes.
pub(super) const REQUEST_BYTES_MAX: usize = 256 * 1024;
/// Most bytes of bodies in memory at a time, of all requests together.
pub(super) const BODIES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most requests under way at a time, including long polls.
pub(super) const REQUESTS_MAX: usize = 4_096;
/// Longest wait of a long poll, in ms.
pub(super) const WAIT_MS_MAX: u64 = 60_000;
/// Most rows of one page of a list.
pub(super) const PAGE_ROWS_MAX: usize = 200;
/// Rows of a page by default.
pub(super) const PAGE_ROWS_DEFAULT: usize = 50;
/// Most messages of one receive.
pub(super) const RECEIVE_MAX: usize = 256;
/// Most receipts of one acknowledgement.
pub(super) const RECEIPTS_MAX: usize = 1_024;
/// Most messages of one batch.
pub(super) const BATCH_MAX: usize = 1_024;
/// Dead letters read at a time.
pub(super) const LETTERS_PER_READ: usize = 100;
/// Most dead letters read by one request before it answers with a cursor.
pub(super) const LETTERS_PER_REQUEST: usize = 10_000;
/// Most topics with metrics of their own, in alphabetical order; the others are only counted.
pub(super) const METRIC_TOPICS_MAX: usize = 200;
/// Most pairs of topic and group with metrics of their own.
pub(super) const METRIC_PAIRS_MAX: usize = 500;

// The limit of all bodies is several times that of one.
const _: () = assert!(MESSAGE_REQUEST_BYTES_MAX * 4 <= BODIES_BYTES_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_poll_ends_before_its_request_does() {
        let request = edge::serve::HttpLimits::default().request;
        assert!(u128::from(WAIT_MS_MAX) < request.as_millis());
    }
}
