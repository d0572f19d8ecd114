//! Defines what can go wrong, with a stable code for each case.

use crate::ids::{AttemptId, CouponId, OrderId, PaymentId, ProductId, RefundId};
use crate::messaging::MessagingError;
use crate::model::order::OrderState;
use crate::model::payment::AttemptState;
use crate::model::refund::RefundState;
use crate::store::sql::DbError;
use gateway::CallbackError;

/// The result of the platform's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in an operation of the platform.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It does not exist, or belongs to another merchant.
    #[error("there is no {what} {id}")]
    NotFound {
        /// The kind of thing, such as `order`.
        what: &'static str,
        /// The id that was asked for.
        id: String,
    },
    /// A field of the request has a value that is not allowed.
    #[error("{detail}")]
    Invalid {
        /// JSON pointer of the field.
        field: &'static str,
        /// What is wrong with the value and what would be right.
        detail: String,
    },
    /// The order's state forbids it: another transition came first.
    #[error("order {id} is {state}, so it cannot be {wanted}")]
    OrderState {
        /// The order.
        id: OrderId,
        /// Its present state.
        state: OrderState,
        /// What was to be done to it.
        wanted: &'static str,
    },
    /// The deadline has been reached.
    #[error("the deadline of order {id} was reached at {deadline_at_ms} ms since the epoch")]
    DeadlineReached {
        /// The order.
        id: OrderId,
        /// Its deadline, in ms since the Unix epoch.
        deadline_at_ms: i64,
    },
    /// The merchant already has something under this number or name.
    #[error("the merchant already has a {what} `{number}`")]
    Duplicate {
        /// What the number belongs to, such as `order`.
        what: &'static str,
        /// The number or name.
        number: String,
    },
    /// The refund's state forbids it.
    #[error("refund {id} is {}, so it cannot be {wanted}", state.as_str())]
    RefundState {
        /// The refund.
        id: RefundId,
        /// Its present state.
        state: RefundState,
        /// What was to be done to it.
        wanted: &'static str,
    },
    /// The payment attempt's state forbids it.
    #[error("payment attempt {id} is {}, so it cannot be {wanted}", state.as_str())]
    AttemptState {
        /// The attempt.
        id: AttemptId,
        /// Its present state.
        state: AttemptState,
        /// What was to be done to it.
        wanted: &'static str,
    },
    /// A person has settled it otherwise, or it needs no settling.
    #[error("{what} {id} is not open: it was settled before")]
    Settled {
        /// The kind of thing, such as `unmatched payment`.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// There is not enough stock.
    #[error("product {id} has {available} units available, {wanted} were asked for")]
    InsufficientStock {
        /// The product.
        id: ProductId,
        /// Units that can be held now.
        available: i64,
        /// Units asked for.
        wanted: i64,
    },
    /// The coupon cannot be used so.
    #[error("coupon {id} cannot be used: {reason}")]
    CouponUnusable {
        /// The coupon.
        id: CouponId,
        /// Why not.
        reason: &'static str,
    },
    /// The refund asks for more than what is left of the payment.
    #[error("{left_minor} of payment {id} can still be refunded, {wanted_minor} were asked for")]
    RefundTooLarge {
        /// The payment.
        id: PaymentId,
        /// What has not been refunded yet, in minor units.
        left_minor: i64,
        /// What was asked for, in minor units.
        wanted_minor: i64,
    },
    /// The same idempotency key came with another request.
    #[error("the idempotency key `{key}` was used for another request")]
    IdempotencyKeyReused {
        /// The key.
        key: String,
    },
    /// Timers cannot be published, so no order is taken: it might close late.
    #[error("no order is taken at present: timers have not been published for {} s", waits_ms / 1_000)]
    NotPublishing {
        /// How long the oldest timer message has waited, in ms.
        waits_ms: i64,
    },
    /// Events after the place are no longer kept, or the place is of another database.
    #[error(
        "events after the cursor are no longer kept; read the orders anew, then begin without a cursor"
    )]
    EventsGone,
    /// Too many callers wait for events.
    #[error("too many requests wait for events")]
    TooManyFollowers,
    /// The gateway refused.
    #[error("the gateway refused: {reason}")]
    GatewayRefused {
        /// The gateway's reason.
        reason: String,
    },
    /// A callback is not authentic or not readable.
    #[error(transparent)]
    Callback(#[from] CallbackError),
    /// The platform has stopped or is stopping.
    #[error("the order platform is stopping")]
    Stopped,
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] DbError),
    /// The schema could not be brought up to date.
    #[error("the schema could not be brought up to date: {detail}")]
    Migration {
        /// Why not.
        detail: String,
    },
    /// A stored value cannot be read: the database was damaged or written by a newer version.
    #[error("the stored {what} is unreadable: {detail}")]
    Unreadable {
        /// What it is.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The broker failed while the platform started.
    #[error(transparent)]
    Messaging(#[from] MessagingError),
    /// The request had been answered before; the stored answer is inside. Never leaves the crate.
    #[error("the request was answered before")]
    #[doc(hidden)]
    Replayed(String),
}

impl Error {
    /// A stable code of the case, for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::Invalid { .. } => "invalid",
            Self::OrderState { .. } => "order_state",
            Self::RefundState { .. } => "refund_state",
            Self::AttemptState { .. } => "attempt_state",
            Self::Settled { .. } => "settled",
            Self::DeadlineReached { .. } => "deadline_reached",
            Self::Duplicate { .. } => "duplicate",
            Self::InsufficientStock { .. } => "insufficient_stock",
            Self::CouponUnusable { .. } => "coupon_unusable",
            Self::RefundTooLarge { .. } => "refund_too_large",
            Self::IdempotencyKeyReused { .. } => "idempotency_key_reused",
            Self::NotPublishing { .. } => "not_publishing",
            Self::EventsGone => "cursor_expired",
            Self::TooManyFollowers => "too_many_requests",
            Self::GatewayRefused { .. } => "gateway_refused",
            Self::Callback(_) => "callback_rejected",
            Self::Stopped => "stopping",
            Self::Database(_)
            | Self::Migration { .. }
            | Self::Unreadable { .. }
            | Self::Messaging(_)
            | Self::Replayed(_) => "internal",
        }
    }

    pub(crate) fn invalid(field: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self::Invalid { field, detail }
    }

    pub(crate) fn not_found(what: &'static str, id: &dyn std::fmt::Display) -> Self {
        let id = id.to_string();
        Self::NotFound { what, id }
    }
}

/// Checks a text that the caller chose: not empty, no control characters, at most `chars_max` characters.
pub(crate) fn check_text(field: &'static str, text: &str, chars_max: usize) -> Result<()> {
    let chars = text.chars().count();
    if chars == 0 || chars > chars_max {
        return Err(Error::invalid(
            field,
            format!("{field} has {chars} characters; 1 to {chars_max} are allowed"),
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(Error::invalid(
            field,
            format!("{field} contains a control character"),
        ));
    }
    Ok(())
}

/// Checks a number that the caller chose.
pub(crate) fn check_range(
    field: &'static str,
    value: i64,
    range: std::ops::RangeInclusive<i64>,
) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let (low, high) = range.into_inner();
    Err(Error::invalid(
        field,
        format!("{field} is {value}; {low} to {high} are allowed"),
    ))
}
