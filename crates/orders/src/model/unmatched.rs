//! Defines unmatched payments: money that a gateway reported and that no payment can hold.

use serde::Serialize;

use crate::ids::{AttemptId, GatewayAccountId, MerchantId, OrderId, UnmatchedPaymentId};
use crate::model::stored::stored_enum;

stored_enum! {
    /// Why no payment can hold the money.
    pub enum UnmatchedKind ("kind of unmatched payment") {
        /// Its report cannot be understood.
        Unreadable = 1 "unreadable",
        /// It came for a payment attempt that is not known here.
        UnknownAttempt = 2 "unknown_attempt",
        /// It went back by a refund that is not known here.
        UnknownRefund = 3 "unknown_refund",
    }
}

stored_enum! {
    /// The state of an unmatched payment.
    pub enum UnmatchedState ("state of unmatched payment") {
        /// It waits for a person.
        Open = 1 "open",
        /// A person has dealt with it.
        Settled = 2 "settled",
        /// The gateway reported the same money again so that a payment could hold it.
        Superseded = 3 "superseded",
    }
}

/// Money that a gateway reported and that no payment can hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnmatchedPayment {
    /// Its id.
    pub id: UnmatchedPaymentId,
    /// The merchant of the gateway account.
    pub merchant_id: MerchantId,
    /// The gateway account.
    pub account_id: GatewayAccountId,
    /// Why no payment can hold it.
    pub kind: UnmatchedKind,
    /// Its state.
    pub state: UnmatchedState,
    /// The gateway's number of the transaction, or a digest of the report where that cannot be used.
    pub key: String,
    /// The attempt or refund as the gateway named it.
    pub subject: Option<String>,
    /// The attempt, where it is known here.
    pub attempt_id: Option<AttemptId>,
    /// The amount as the gateway reported it.
    pub amount: Option<String>,
    /// The currency as the gateway reported it.
    pub currency: Option<String>,
    /// The report as it came; not part of events, since it may name the buyer.
    #[serde(skip)]
    pub raw: String,
    /// When the gateway took the money, by the gateway's clock, in ms since the Unix epoch.
    pub paid_at_ms: Option<i64>,
    /// How often it was reported.
    pub reports: i64,
    /// When it was first reported, in ms since the Unix epoch.
    pub created_ms: i64,
    /// When it was settled or superseded, in ms since the Unix epoch.
    pub settled_ms: Option<i64>,
    /// Who settled it.
    pub settled_by: Option<String>,
    /// By what it was settled, such as the number of a transfer.
    pub reference: Option<String>,
    /// More about that, for a person.
    pub note: Option<String>,
}

/// Money that no payment can hold, to be noted.
#[derive(Clone, Debug)]
pub(crate) struct NewUnmatched {
    pub(crate) account_id: GatewayAccountId,
    pub(crate) kind: UnmatchedKind,
    pub(crate) key: String,
    /// The attempt or refund as the gateway named it.
    pub(crate) subject: Option<String>,
    /// The attempt and its order, where they are known here.
    pub(crate) attempt: Option<(AttemptId, OrderId)>,
    pub(crate) amount: Option<String>,
    pub(crate) currency: Option<String>,
    pub(crate) raw: String,
    pub(crate) paid_at_ms: Option<i64>,
}
