//! Defines refunds, their states and their causes.

use serde::{Deserialize, Serialize};

use crate::ids::{AttemptId, GatewayAccountId, MerchantId, OrderId, PaymentId, RefundId};
use crate::model::stored::stored_enum;
use crate::money::Currency;

stored_enum! {
    /// The state of a refund.
    pub enum RefundState ("refund state") {
        /// It waits to be sent to the gateway.
        Requested = 1 "requested",
        /// It was sent; there is no answer yet.
        Submitted = 2 "submitted",
        /// The gateway works on it.
        Processing = 3 "processing",
        /// The money was given back. Final.
        Succeeded = 4 "succeeded",
        /// It did not work; it is sent again later.
        FailedRetryable = 5 "failed_retryable",
        /// It will not work by itself; a person must look.
        NeedsOperator = 6 "needs_operator",
        /// A person gave it up; its money can be refunded otherwise. Final.
        Withdrawn = 7 "withdrawn",
    }
}

impl RefundState {
    /// Whether it is finished, at least until a person acts or the gateway reports something else.
    pub(crate) fn is_final(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::NeedsOperator | Self::Withdrawn
        )
    }
}

stored_enum! {
    /// Why money is given back.
    pub enum RefundCause ("refund cause") {
        /// The merchant asked for it.
        Merchant = 1 "merchant",
        /// It came after the order had closed.
        Late = 2 "late",
        /// It came after the order had been paid.
        Duplicate = 3 "duplicate",
        /// It was less or more than asked.
        WrongAmount = 4 "wrong_amount",
        /// It was in another currency than asked.
        WrongCurrency = 5 "wrong_currency",
    }
}

/// Units of a line of the order that go back into stock when a refund has succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RefundLine {
    /// The line, counted from 1 in the order's own sequence.
    pub line_no: i64,
    /// How many units.
    pub quantity: i64,
}

/// Money to give back, or given back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// Its id, which is also the number the gateway knows it by.
    pub id: RefundId,
    /// The merchant whose order it is for.
    pub merchant_id: MerchantId,
    /// The merchant's own number, unique for the merchant.
    pub refund_no: String,
    /// The order.
    pub order_id: OrderId,
    /// The payment that it gives back.
    pub payment_id: PaymentId,
    /// Its state.
    pub state: RefundState,
    /// Rises with every change.
    pub version: i64,
    /// Why.
    pub cause: RefundCause,
    /// How much, in minor units.
    pub amount_minor: i64,
    /// How much was asked for, in minor units; none where it was all that was left.
    pub asked_minor: Option<i64>,
    /// The amount's currency.
    pub currency: Currency,
    /// Whether units go back into stock when it has succeeded.
    pub restock: bool,
    /// Whether its amount can be refunded otherwise: it is not part of the payment's refunded amount.
    pub released: bool,
    /// Whether it has changed stock and coupons.
    pub applied: bool,
    /// What a person settled it with, such as the number of a transfer.
    pub reference: Option<String>,
    /// What the gateway said last, for a person.
    pub detail: Option<String>,
    /// When it was requested, in ms since the Unix epoch.
    pub created_ms: i64,
    /// When it was requested or taken up again, in ms since the Unix epoch.
    pub asked_ms: i64,
    /// When it reached a final state, in ms since the Unix epoch.
    pub final_ms: Option<i64>,
}

/// A refund with what the gateway needs to know of its payment.
#[derive(Clone, Debug)]
pub(crate) struct RefundJob {
    pub(crate) refund: Refund,
    pub(crate) account_id: GatewayAccountId,
    pub(crate) attempt_id: AttemptId,
    pub(crate) gateway_txn: String,
}
