//! Defines payment attempts and payments.

use serde::{Deserialize, Serialize};

use crate::ids::{AttemptId, GatewayAccountId, MerchantId, OrderId, PaymentId};
use crate::model::stored::stored_enum;
use crate::money::Currency;

stored_enum! {
    /// The state of a payment attempt.
    pub enum AttemptState ("attempt state") {
        /// It was given to the gateway, which has no final answer yet.
        Submitted = 1 "submitted",
        /// Money came for it. Final.
        Succeeded = 2 "succeeded",
        /// The gateway no longer takes money for it. Final.
        Closed = 3 "closed",
        /// It never reached the gateway, or the gateway refused it. Final.
        Failed = 4 "failed",
        /// The order ended although the gateway had not answered; it is still asked.
        Unknown = 5 "unknown",
        /// The gateway gave no answer for so long that a person must look. Final.
        NeedsOperator = 6 "needs_operator",
    }
}

impl AttemptState {
    /// Whether the gateway is still asked about it.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Submitted | Self::Unknown)
    }
}

/// A state in which an attempt waits after its order has gone on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitingAttempt {
    /// The gateway is still asked.
    Unknown,
    /// A person must look.
    NeedsOperator,
}

/// A buyer's attempt to pay an order through a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its id.
    pub id: AttemptId,
    /// The merchant whose order it pays.
    pub merchant_id: MerchantId,
    /// The order it pays.
    pub order_id: OrderId,
    /// The gateway account it goes through.
    pub account_id: GatewayAccountId,
    /// Its state.
    pub state: AttemptState,
    /// Rises with every change.
    pub version: i64,
    /// What is to be paid, in minor units.
    pub amount_minor: i64,
    /// The amount's currency.
    pub currency: Currency,
    /// From this instant the gateway takes no money for it, in ms since the Unix epoch on the engine clock.
    pub expires_ms: i64,
    /// The same instant on the wall clock when it was submitted, as the gateway has it.
    pub expires_at_ms: i64,
    /// The gateway's own number for it.
    pub gateway_ref: Option<String>,
    /// Where the buyer pays.
    pub pay_url: Option<String>,
    /// Why it failed, for a person.
    pub detail: Option<String>,
    /// When it was submitted, in ms since the Unix epoch.
    pub created_ms: i64,
    /// When it reached a final state, in ms since the Unix epoch.
    pub final_ms: Option<i64>,
}

stored_enum! {
    /// What a payment was to its order.
    pub enum PaymentKind ("payment kind") {
        /// It paid the order.
        Accepted = 1 "accepted",
        /// The order was closed already.
        Late = 2 "late",
        /// The order was paid already.
        Duplicate = 3 "duplicate",
        /// It is less or more than was asked.
        WrongAmount = 4 "wrong_amount",
        /// It is in another currency than was asked.
        WrongCurrency = 5 "wrong_currency",
    }
}

/// Money that came: one transaction at a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// Its id.
    pub id: PaymentId,
    /// The merchant whose order it was for.
    pub merchant_id: MerchantId,
    /// The order it was for.
    pub order_id: OrderId,
    /// The attempt it came through.
    pub attempt_id: AttemptId,
    /// The gateway account it came to.
    pub account_id: GatewayAccountId,
    /// The gateway's number, unique within the account.
    pub gateway_txn: String,
    /// What it was to the order.
    pub kind: PaymentKind,
    /// What came, in minor units.
    pub amount_minor: i64,
    /// The currency in which it came.
    pub currency: Currency,
    /// What refunds have reserved of it, in minor units.
    pub refunded_minor: i64,
    /// When the gateway took it, by the gateway's clock, in ms since the Unix epoch.
    pub paid_at_ms: i64,
    /// When it was recorded, in ms since the Unix epoch.
    pub created_ms: i64,
}
