//! Defines timers: one row per thing that must happen in time, and the message that fires it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::{AttemptId, CouponId, MerchantId, OrderId, RefundId, WebhookDeliveryId};
use crate::model::stored::stored_enum;

stored_enum! {
    /// What a timer is for.
    pub enum TimerKind ("timer kind") {
        /// An order's payment deadline.
        OrderDeadline = 1 "order_deadline",
        /// The next look at an order that is closing.
        OrderClosing = 2 "order_closing",
        /// The next question about a submitted payment attempt.
        Attempt = 3 "attempt",
        /// The next step of a refund.
        Refund = 4 "refund",
        /// The end of a coupon's validity.
        CouponExpiry = 5 "coupon_expiry",
        /// The next try to deliver an event to a webhook.
        Webhook = 6 "webhook",
    }
}

impl TimerKind {
    /// The text form of the id of the thing that the timer is for.
    pub(crate) fn subject(self, id: Uuid) -> String {
        match self {
            Self::OrderDeadline | Self::OrderClosing => OrderId::from_uuid(id).to_string(),
            Self::Attempt => AttemptId::from_uuid(id).to_string(),
            Self::Refund => RefundId::from_uuid(id).to_string(),
            Self::CouponExpiry => CouponId::from_uuid(id).to_string(),
            Self::Webhook => WebhookDeliveryId::from_uuid(id).to_string(),
        }
    }

    /// Whether a pause holds it. What gives money back or only reports goes on.
    pub(crate) fn obeys_pauses(self) -> bool {
        !matches!(self, Self::Refund | Self::Webhook)
    }

    fn id_of_subject(self, subject: &str) -> Option<Uuid> {
        match self {
            Self::OrderDeadline | Self::OrderClosing => {
                subject.parse::<OrderId>().ok().map(OrderId::uuid)
            }
            Self::Attempt => subject.parse::<AttemptId>().ok().map(AttemptId::uuid),
            Self::Refund => subject.parse::<RefundId>().ok().map(RefundId::uuid),
            Self::CouponExpiry => subject.parse::<CouponId>().ok().map(CouponId::uuid),
            Self::Webhook => subject
                .parse::<WebhookDeliveryId>()
                .ok()
                .map(WebhookDeliveryId::uuid),
        }
    }
}

/// A timer as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TimerRow {
    pub(crate) kind: TimerKind,
    pub(crate) id: Uuid,
    pub(crate) merchant_id: MerchantId,
    /// The instant that the timer is for, in ms since the Unix epoch.
    pub(crate) due_ms: i64,
    /// When its message comes, in ms since the Unix epoch.
    pub(crate) next_fire_ms: i64,
    /// Version of the thing when the timer was set.
    pub(crate) version: i64,
    /// The number of the message that counts.
    pub(crate) hop: i64,
    /// How often it has fired without a result.
    pub(crate) tries: i64,
}

/// A timer to set.
#[derive(Clone, Debug)]
pub(crate) struct NewTimer {
    pub(crate) kind: TimerKind,
    pub(crate) id: Uuid,
    pub(crate) merchant_id: MerchantId,
    pub(crate) due_ms: i64,
    pub(crate) fire_ms: i64,
    pub(crate) version: i64,
}

/// One timer to arm again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rearm {
    pub(crate) id: Uuid,
    /// The hop that was seen; if the row has moved on, nothing happens.
    pub(crate) hop: i64,
    pub(crate) fire_ms: i64,
    /// Added to the row's count of tries.
    pub(crate) tries: i64,
}

/// A timer message: the timer and the hop that it was published for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerMessage {
    pub(crate) id: Uuid,
    pub(crate) version: i64,
    pub(crate) hop: i64,
}

/// The body of a timer message.
#[derive(Serialize, Deserialize)]
pub(crate) struct TimerBody {
    pub(crate) kind: TimerKind,
    pub(crate) id: String,
    pub(crate) due_ms: i64,
    pub(crate) version: i64,
    pub(crate) hop: i64,
}

impl TimerMessage {
    /// Reads a message body; `None` if it is not a timer of this kind.
    pub(crate) fn parse(kind: TimerKind, body: &[u8]) -> Option<Self> {
        let body: TimerBody = serde_json::from_slice(body).ok()?;
        let id = kind.id_of_subject(&body.id)?;
        let (version, hop) = (body.version, body.hop);
        (body.kind == kind).then_some(Self { id, version, hop })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_only_as_its_own_kind() {
        let id = Uuid::from_u128(7);
        for kind in TimerKind::ALL {
            let body = TimerBody {
                kind,
                id: kind.subject(id),
                due_ms: 5,
                version: 1,
                hop: 3,
            };
            let bytes = serde_json::to_vec(&body).unwrap();
            assert_eq!(
                TimerMessage::parse(kind, &bytes),
                Some(TimerMessage {
                    id,
                    version: 1,
                    hop: 3
                })
            );
            for other in TimerKind::ALL.into_iter().filter(|other| *other != kind) {
                assert_eq!(TimerMessage::parse(other, &bytes), None);
            }
        }
        assert_eq!(TimerMessage::parse(TimerKind::Refund, b"{}"), None);
    }
}
