//! Defines the order and its states, and reads it from its row.

mod cancel;
pub(crate) mod close;
pub(crate) mod create;
mod extend;
mod query;

use std::fmt;

use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;

use crate::error::{Error, Result};
use crate::ids::{CouponId, MerchantId, OrderId, PaymentId, ProductId};
use crate::metrics::lost_race;
use crate::money::Currency;
use crate::product::currency;
use crate::store::column;

pub use create::{Deadline, NewLine, NewOrder};
pub use query::OrderPage;
pub(crate) use query::find;

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderState {
    /// It waits for money; its stock is held.
    Pending,
    /// It ends, but a gateway must first say that no money can come. Money that comes still wins.
    Closing,
    /// It is paid. Final.
    Paid,
    /// It ended unpaid, its stock is back. Final.
    Closed,
}

impl OrderState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Closing, Self::Paid, Self::Closed];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Closing => "closing",
            Self::Paid => "paid",
            Self::Closed => "closed",
        }
    }

    pub(crate) fn stored(self) -> i64 {
        match self {
            Self::Pending => 1,
            Self::Closing => 2,
            Self::Paid => 3,
            Self::Closed => 4,
        }
    }

    fn from_stored(stored: i64) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|state| state.stored() == stored);
        found.ok_or_else(|| Error::Unreadable {
            what: "order state",
            detail: stored.to_string(),
        })
    }
}

impl fmt::Display for OrderState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an order closed, or is closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// Its deadline was reached.
    Timeout,
    /// The buyer cancelled it.
    Buyer,
    /// The merchant cancelled it.
    Merchant,
}

impl CloseReason {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Buyer => "buyer",
            Self::Merchant => "merchant",
        }
    }

    pub(crate) fn stored(self) -> i64 {
        match self {
            Self::Timeout => 1,
            Self::Buyer => 2,
            Self::Merchant => 3,
        }
    }

    fn from_stored(stored: i64) -> Result<Self> {
        let mut all = [Self::Timeout, Self::Buyer, Self::Merchant].into_iter();
        let found = all.find(|reason| reason.stored() == stored);
        found.ok_or_else(|| Error::Unreadable {
            what: "close reason",
            detail: stored.to_string(),
        })
    }
}

/// What became of the units that a line holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HoldState {
    /// The order holds them.
    Held,
    /// They are sold.
    Consumed,
    /// They went back when the order closed.
    Released,
    /// They went back with a refund.
    Restocked,
}

impl HoldState {
    pub(crate) fn stored(self) -> i64 {
        match self {
            Self::Held => 1,
            Self::Consumed => 2,
            Self::Released => 3,
            Self::Restocked => 4,
        }
    }
}

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLine {
    /// What is bought.
    pub product_id: ProductId,
    /// What the product was called when the order was made.
    pub name: String,
    /// How many units.
    pub quantity: i64,
    /// Price of one unit when the order was made, in minor units.
    pub unit_price_minor: i64,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its id.
    pub id: OrderId,
    /// Whose it is.
    pub merchant_id: MerchantId,
    /// The merchant's own number, unique for the merchant.
    pub merchant_order_no: String,
    /// Who buys, by the merchant's own naming.
    pub buyer_id: String,
    /// Where it stands.
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
    /// Until when it can be paid, in ms since the Unix epoch.
    pub deadline_ms: i64,
    /// When it was made, in ms since the Unix epoch.
    pub created_ms: i64,
    /// When it was paid, in ms since the Unix epoch.
    pub paid_ms: Option<i64>,
    /// The payment that was accepted; none if there was nothing to pay.
    pub payment_id: Option<PaymentId>,
    /// When it closed, in ms since the Unix epoch.
    pub closed_ms: Option<i64>,
    /// Why it closed or is closing; kept if money came while it was closing.
    pub close_reason: Option<CloseReason>,
    /// What is bought; left out where only the state matters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<OrderLine>,
}

/// The columns that [`from_row`] reads, for statements put together by `concat!`.
macro_rules! order_columns {
    () => {
        "id, merchant_id, merchant_order_no, buyer_id, state, version, live_attempts, currency, \
         total_minor, discount_minor, coupon_id, deadline_ms, created_ms, paid_ms, payment_id, \
         closed_ms, close_reason"
    };
}
pub(crate) use order_columns;

/// Why nothing that needs a pending order ahead of its deadline can be done to this one, if so; the lost race is
/// counted. The names are those of the transition and of what was wanted.
pub(crate) fn not_open(
    order: &Order,
    now_ms: i64,
    [transition, wanted]: [&'static str; 2],
) -> Option<Error> {
    let (id, state, deadline_ms) = (order.id, order.state, order.deadline_ms);
    if state != OrderState::Pending {
        lost_race(transition, state.as_str());
        return Some(Error::OrderState { id, state, wanted });
    }
    if deadline_ms <= now_ms {
        lost_race(transition, "deadline");
        return Some(Error::DeadlineReached { id, deadline_ms });
    }
    None
}

/// Reads a row of `order_columns!()`; the lines are left out.
pub(crate) fn from_row(row: &SqliteRow) -> Result<Order> {
    let total_minor: i64 = column(row, "total_minor")?;
    let discount_minor: i64 = column(row, "discount_minor")?;
    let close_reason: Option<i64> = column(row, "close_reason")?;
    Ok(Order {
        id: column(row, "id")?,
        merchant_id: MerchantId::from_stored(column(row, "merchant_id")?),
        merchant_order_no: column(row, "merchant_order_no")?,
        buyer_id: column(row, "buyer_id")?,
        state: OrderState::from_stored(column(row, "state")?)?,
        version: column(row, "version")?,
        live_attempts: column(row, "live_attempts")?,
        currency: currency(row)?,
        total_minor,
        discount_minor,
        payable_minor: total_minor - discount_minor,
        coupon_id: column(row, "coupon_id")?,
        deadline_ms: column(row, "deadline_ms")?,
        created_ms: column(row, "created_ms")?,
        paid_ms: column(row, "paid_ms")?,
        payment_id: column(row, "payment_id")?,
        closed_ms: column(row, "closed_ms")?,
        close_reason: close_reason.map(CloseReason::from_stored).transpose()?,
        lines: Vec::new(),
    })
}
