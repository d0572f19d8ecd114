//! Defines the types of events, and what each has as its data.

use crate::model::stored::stored_enum;

stored_enum! {
    /// The type of an event.
    pub enum EventType ("event type") {
        /// An order was created; its stock is held.
        OrderCreated = 1 "order.created",
        /// The deadline of an order was moved to a later instant.
        OrderExtended = 2 "order.extended",
        /// An order ends, but a gateway must first confirm that no money can come for it.
        OrderClosing = 3 "order.closing",
        /// An order has been closing for too long without an answer of its gateway; the operator must act.
        OrderNeedsOperator = 4 "order.needs_operator",
        /// An order was paid, or there was nothing to pay.
        OrderPaid = 5 "order.paid",
        /// An order ended unpaid, or was undone; its stock is available again.
        OrderClosed = 6 "order.closed",
        /// A payment attempt was started.
        PaymentStarted = 10 "payment.started",
        /// A payment attempt ended without money: the gateway takes none for it any longer.
        PaymentClosed = 11 "payment.closed",
        /// A payment attempt never reached the gateway, or the gateway refused it.
        PaymentFailed = 12 "payment.failed",
        /// The order of a payment attempt ended before the gateway had answered; the gateway is still asked.
        PaymentUnknown = 13 "payment.unknown",
        /// The gateway gave no usable answer about a payment attempt; the operator must act.
        PaymentNeedsOperator = 14 "payment.needs_operator",
        /// Money came and paid the order.
        PaymentAccepted = 15 "payment.accepted",
        /// Money came after the order had closed; it is refunded.
        PaymentLate = 16 "payment.late",
        /// Money came after the order had been paid; it is refunded.
        PaymentDuplicate = 17 "payment.duplicate",
        /// Money came that is less or more than was asked for; it is refunded.
        PaymentWrongAmount = 18 "payment.wrong_amount",
        /// Money came in another currency than was asked for; it is refunded.
        PaymentWrongCurrency = 19 "payment.wrong_currency",
        /// A gateway reported money that no payment can hold; the operator must act.
        PaymentUnmatched = 20 "payment.unmatched",
        /// A refund was requested, by the merchant or by the platform, or taken up again.
        RefundRequested = 30 "refund.requested",
        /// A refund is being sent to the gateway.
        RefundSubmitted = 31 "refund.submitted",
        /// The gateway works on a refund.
        RefundProcessing = 32 "refund.processing",
        /// A refund did not work; it is sent again later.
        RefundFailedRetryable = 33 "refund.failed_retryable",
        /// The money of a refund was given back.
        RefundSucceeded = 34 "refund.succeeded",
        /// A refund will not work by itself; the operator must act.
        RefundNeedsOperator = 35 "refund.needs_operator",
        /// A refund was given up; its money can be refunded otherwise.
        RefundWithdrawn = 36 "refund.withdrawn",
        /// A refund had succeeded, and then the gateway reported that it failed; the gateway is asked again.
        RefundReopened = 37 "refund.reopened",
        /// A paid order earned its buyer a coupon.
        CouponIssued = 50 "coupon.issued",
        /// A pending order holds a coupon.
        CouponHeld = 51 "coupon.held",
        /// A paid order used a coupon.
        CouponUsed = 52 "coupon.used",
        /// The order that held or used a coupon ended; the coupon can be used again.
        CouponReturned = 53 "coupon.returned",
        /// The validity of a coupon ended.
        CouponExpired = 54 "coupon.expired",
        /// The order that had earned a coupon was refunded in full.
        CouponRevoked = 55 "coupon.revoked",
        /// A coupon was given to another buyer.
        CouponGiven = 56 "coupon.given",
        /// The platform has switched a webhook off, since it failed for 5 days or answered 410.
        WebhookDisabled = 70 "webhook.disabled",
    }
}

impl EventType {
    /// The type of a name.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|each| each.as_str() == name)
    }
}

/// An event as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its place: later events of the merchant have larger ones.
    pub place: i64,
    /// The event, in JSON.
    pub body: String,
}

/// A page of a merchant's events, in the order in which they were committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventPage {
    /// The events.
    pub events: Vec<StoredEvent>,
    /// The place to go on after.
    pub next: i64,
}
