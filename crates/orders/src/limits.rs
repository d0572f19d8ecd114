//! Lists the limits of the order platform in one place.

use std::time::Duration;

/// Longest merchant id, in bytes.
pub const MERCHANT_ID_CHARS_MAX: usize = 32;
/// Longest merchant order number, refund number, buyer id and idempotency key, in characters.
pub const REFERENCE_CHARS_MAX: usize = 128;
/// Longest name of a product, coupon rule, account or key, and longest reason, in characters.
pub const NAME_CHARS_MAX: usize = 200;
/// Most lines of one order.
pub const LINES_MAX: usize = 100;
/// Most payment attempts of one order that have no final answer.
pub const LIVE_ATTEMPTS_MAX: i64 = 10;
/// Most units of one line, and most units of a product put in by one call.
pub const QUANTITY_MAX: i64 = 1_000_000;
/// Largest amount of money, in minor units: far above any order, far below where i64 sums overflow.
pub const AMOUNT_MINOR_MAX: i64 = 1_000_000_000_000_000;
/// Longest validity of a coupon, in days.
pub const COUPON_DAYS_MAX: i64 = 3_650;
/// Most rows of one page of a list.
pub const PAGE_ROWS_MAX: usize = 200;
/// Rows of a page if the caller does not say.
pub const PAGE_ROWS_DEFAULT: usize = 50;
/// Largest settings text of a gateway account, in bytes.
pub const SETTINGS_BYTES_MAX: usize = 16 * 1024;
/// How much of a gateway's report of money that no payment can hold is kept, in bytes.
pub const REPORT_BYTES_MAX: usize = 16 * 1024;
/// How many shards the outbox is split into; each is relayed by one process at a time.
pub const OUTBOX_SHARDS: u16 = 16;
/// Largest body of a request to the HTTP API, in bytes: room for an order of the most lines.
pub const BODY_BYTES_MAX: usize = 256 * 1024;
/// Most headers of a request.
pub const HEADERS_MAX: usize = 64;
/// Most requests under way at a time.
pub const REQUESTS_MAX: usize = 8_192;
/// Most requests of one merchant under way at a time.
pub const MERCHANT_REQUESTS_MAX: usize = 4_096;
/// Most open connections of the HTTP API.
pub const CONNECTIONS_MAX: usize = 8_192;
/// How long a request may take before it is answered with an error: longer than one that waits for events.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(40);
/// How long a connection may take to send the headers of a request, or be idle before it.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest wait of a request for events, in ms.
pub const EVENTS_WAIT_MS_MAX: u64 = 30_000;
/// Most requests that wait for events at a time.
pub const FOLLOWERS_MAX: usize = 1_024;
/// Most requests of one merchant that wait for events at a time.
pub const MERCHANT_FOLLOWERS_MAX: usize = 32;
/// Most bytes of events of one page; a single larger event is a page of its own.
pub const EVENT_PAGE_BYTES_MAX: usize = 1024 * 1024;
/// Most webhook endpoints of a merchant.
pub const WEBHOOKS_MAX: i64 = 16;
/// Longest URL of a webhook, in bytes.
pub const WEBHOOK_URL_BYTES_MAX: usize = 2_048;
/// How long a webhook may take, from the look-up of its host to the end of the answer's head.
pub const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(15);
/// How much of the head and of the body of an answer is read, in bytes.
pub const WEBHOOK_ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Most webhooks that are sent at once.
pub const WEBHOOK_CALLS_MAX: usize = 256;
/// Most webhooks of one merchant that are sent, or wait for their endpoints, at once.
pub const MERCHANT_WEBHOOK_CALLS_MAX: usize = 64;
/// Most webhooks that are sent to one endpoint at once.
pub const WEBHOOK_SENDS_MAX: usize = 8;
/// Most webhooks that wait for those, for each endpoint; further ones come again later.
pub const WEBHOOK_WAITING_MAX: usize = 24;
/// How many tries the log of a delivery shows.
pub const DELIVERY_TRIES_KEPT: usize = 16;
/// How long deliveries are listed after their end, in ms.
pub const DELIVERIES_KEPT_MS: i64 = 7 * 24 * 3_600_000;

// One merchant must leave room for the others.
const _: () = assert!(MERCHANT_REQUESTS_MAX <= REQUESTS_MAX / 2);
const _: () = assert!(MERCHANT_WEBHOOK_CALLS_MAX <= WEBHOOK_CALLS_MAX / 2);
// The largest order: every line at its largest, with room for summing them.
const _: () = assert!(AMOUNT_MINOR_MAX < i64::MAX / 1_000);
