//! Defines the order, its lines and its states.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{CouponId, MerchantId, OrderId, PaymentId, ProductId};
use crate::model::stored::stored_enum;
use crate::money::Currency;

stored_enum! {
    /// The state of an order.
    pub enum OrderState ("order state") {
        /// It waits for money; its stock is held.
        Pending = 1 "pending",
        /// It ends, but a gateway must first confirm that no money can come. Money that comes still wins.
        Closing = 2 "closing",
        /// It is paid. Final, unless there was nothing to pay: then it can be cancelled.
        Paid = 3 "paid",
        /// It ended unpaid, its stock is back. Final.
        Closed = 4 "closed",
    }
}

impl fmt::Display for OrderState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

stored_enum! {
    /// Why an order closed, or is closing.
    pub enum CloseReason ("close reason") {
        /// Its deadline was reached.
        Timeout = 1 "timeout",
        /// The buyer cancelled it.
        Buyer = 2 "buyer",
        /// The merchant cancelled it.
        Merchant = 3 "merchant",
    }
}

stored_enum! {
    /// The state of the units that a line holds.
    pub(crate) enum HoldState ("hold state") {
        /// The order holds them.
        Held = 1,
        /// They are sold.
        Consumed = 2,
        /// They went back when the order closed.
        Released = 3,
        /// They went back with a refund.
        Restocked = 4,
    }
}

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLine {
    /// The product that is bought.
    pub product_id: ProductId,
    /// The product's name when the order was created.
    pub name: String,
    /// How many units.
    pub quantity: i64,
    /// Price of one unit when the order was created, in minor units.
    pub unit_price_minor: i64,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its id.
    pub id: OrderId,
    /// The merchant it belongs to.
    pub merchant_id: MerchantId,
    /// The merchant's own number, unique for the merchant.
    pub merchant_order_no: String,
    /// The buyer, by the merchant's own naming.
    pub buyer_id: String,
    /// Its state.
    pub state: OrderState,
    /// Rises with every change.
    pub version: i64,
    /// Payment attempts that were submitted and have no final answer.
    pub live_attempts: i64,
    /// The currency of its amounts.
    pub currency: Currency,
    /// Sum of the lines, in minor units.
    pub total_minor: i64,
    /// What a coupon takes off, in minor units.
    pub discount_minor: i64,
    /// What is to be paid, in minor units.
    pub payable_minor: i64,
    /// The coupon it uses.
    pub coupon_id: Option<CouponId>,
    /// Until when it can be paid, in ms since the Unix epoch on the engine clock.
    pub deadline_ms: i64,
    /// The same instant on the wall clock when it was asked for, in ms since the Unix epoch.
    pub deadline_at_ms: i64,
    /// When it was created, in ms since the Unix epoch.
    pub created_ms: i64,
    /// Since when it waits, closing, for a person, in ms since the Unix epoch.
    pub needs_operator_ms: Option<i64>,
    /// When it was paid, in ms since the Unix epoch.
    pub paid_ms: Option<i64>,
    /// The payment that was accepted; none if there was nothing to pay.
    pub payment_id: Option<PaymentId>,
    /// When it closed, in ms since the Unix epoch.
    pub closed_ms: Option<i64>,
    /// Why it closed or is closing; kept if money came while it was closing.
    pub close_reason: Option<CloseReason>,
    /// Its lines; left out where only the state matters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<OrderLine>,
}
