//! Defines payment attempts and payments, and reads them.

pub(crate) mod attempt;
mod callback;
pub(crate) mod poll;
pub(crate) mod record;
mod start;

use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;

use crate::error::{Error, Result};
use crate::ids::{AttemptId, GatewayAccountId, MerchantId, OrderId, PaymentId};
use crate::money::Currency;
use crate::platform::Platform;
use crate::product::currency;
use crate::store::column;

pub use start::NewAttempt;

/// Where a payment attempt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptState {
    /// It was given to the gateway, which has no final answer yet.
    Submitted,
    /// Money came for it. Final.
    Succeeded,
    /// The gateway takes no money for it any more. Final.
    Closed,
    /// It never reached the gateway, or the gateway refused it. Final.
    Failed,
    /// The order ended although the gateway had not answered; it is still asked.
    Unknown,
    /// The gateway gave no answer for so long that a person must look. Final.
    NeedsOperator,
}

impl AttemptState {
    /// Every state.
    pub const ALL: [Self; 6] = [
        Self::Submitted,
        Self::Succeeded,
        Self::Closed,
        Self::Failed,
        Self::Unknown,
        Self::NeedsOperator,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Succeeded => "succeeded",
            Self::Closed => "closed",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::NeedsOperator => "needs_operator",
        }
    }

    pub(crate) fn stored(self) -> i64 {
        match self {
            Self::Submitted => 1,
            Self::Succeeded => 2,
            Self::Closed => 3,
            Self::Failed => 4,
            Self::Unknown => 5,
            Self::NeedsOperator => 6,
        }
    }

    /// Whether the gateway is still asked about it.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Submitted | Self::Unknown)
    }

    fn from_stored(stored: i64) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|state| state.stored() == stored);
        found.ok_or_else(|| Error::Unreadable {
            what: "attempt state",
            detail: stored.to_string(),
        })
    }
}

/// A buyer's attempt to pay an order through a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its id.
    pub id: AttemptId,
    /// Whose order it pays.
    pub merchant_id: MerchantId,
    /// The order it pays.
    pub order_id: OrderId,
    /// The gateway account it goes through.
    pub account_id: GatewayAccountId,
    /// Where it stands.
    pub state: AttemptState,
    /// Rises with every change.
    pub version: i64,
    /// What is to be paid, in minor units.
    pub amount_minor: i64,
    /// The amount's currency.
    pub currency: Currency,
    /// From this instant the gateway takes no money for it, in ms since the Unix epoch.
    pub expires_ms: i64,
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

/// The columns that [`attempt_from_row`] reads, for statements put together by `concat!`.
macro_rules! attempt_columns {
    () => {
        "id, merchant_id, order_id, account_id, state, version, amount_minor, currency, expires_ms, \
         gateway_ref, pay_url, detail, created_ms, final_ms"
    };
}
pub(crate) use attempt_columns;

/// Reads a row of `attempt_columns!()`.
pub(crate) fn attempt_from_row(row: &SqliteRow) -> Result<Attempt> {
    Ok(Attempt {
        id: column(row, "id")?,
        merchant_id: MerchantId::from_stored(column(row, "merchant_id")?),
        order_id: column(row, "order_id")?,
        account_id: column(row, "account_id")?,
        state: AttemptState::from_stored(column(row, "state")?)?,
        version: column(row, "version")?,
        amount_minor: column(row, "amount_minor")?,
        currency: currency(row)?,
        expires_ms: column(row, "expires_ms")?,
        gateway_ref: column(row, "gateway_ref")?,
        pay_url: column(row, "pay_url")?,
        detail: column(row, "detail")?,
        created_ms: column(row, "created_ms")?,
        final_ms: column(row, "final_ms")?,
    })
}

/// What a payment was to its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentKind {
    /// It paid the order.
    Accepted,
    /// The order was closed already.
    Late,
    /// The order was paid already.
    Duplicate,
    /// It is less or more than was asked.
    WrongAmount,
    /// It is in another currency than was asked.
    WrongCurrency,
}

impl PaymentKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Accepted,
        Self::Late,
        Self::Duplicate,
        Self::WrongAmount,
        Self::WrongCurrency,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Late => "late",
            Self::Duplicate => "duplicate",
            Self::WrongAmount => "wrong_amount",
            Self::WrongCurrency => "wrong_currency",
        }
    }

    pub(crate) fn stored(self) -> i64 {
        match self {
            Self::Accepted => 1,
            Self::Late => 2,
            Self::Duplicate => 3,
            Self::WrongAmount => 4,
            Self::WrongCurrency => 5,
        }
    }

    fn from_stored(stored: i64) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|kind| kind.stored() == stored);
        found.ok_or_else(|| Error::Unreadable {
            what: "payment kind",
            detail: stored.to_string(),
        })
    }
}

/// Money that came: one transaction at a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// Its id.
    pub id: PaymentId,
    /// Whose order it was for.
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

/// The columns that [`payment_from_row`] reads, for statements put together by `concat!`.
macro_rules! payment_columns {
    () => {
        "id, merchant_id, order_id, attempt_id, account_id, gateway_txn, kind, amount_minor, currency, \
         refunded_minor, paid_at_ms, created_ms"
    };
}
pub(crate) use payment_columns;

/// Reads a row of `payment_columns!()`.
pub(crate) fn payment_from_row(row: &SqliteRow) -> Result<Payment> {
    Ok(Payment {
        id: column(row, "id")?,
        merchant_id: MerchantId::from_stored(column(row, "merchant_id")?),
        order_id: column(row, "order_id")?,
        attempt_id: column(row, "attempt_id")?,
        account_id: column(row, "account_id")?,
        gateway_txn: column(row, "gateway_txn")?,
        kind: PaymentKind::from_stored(column(row, "kind")?)?,
        amount_minor: column(row, "amount_minor")?,
        currency: currency(row)?,
        refunded_minor: column(row, "refunded_minor")?,
        paid_at_ms: column(row, "paid_at_ms")?,
        created_ms: column(row, "created_ms")?,
    })
}

impl Platform {
    /// The payment attempt.
    pub async fn attempt(&self, merchant_id: &MerchantId, id: AttemptId) -> Result<Attempt> {
        let row = sqlx::query(concat!(
            "select ",
            attempt_columns!(),
            " from attempt where id = ? and merchant_id = ?"
        ))
        .bind(id)
        .bind(merchant_id.as_str())
        .fetch_optional(self.readers())
        .await?;
        attempt_from_row(&row.ok_or_else(|| Error::not_found("payment attempt", &id))?)
    }

    /// The order's payment attempts, oldest first.
    pub async fn attempts(
        &self,
        merchant_id: &MerchantId,
        order_id: OrderId,
    ) -> Result<Vec<Attempt>> {
        let rows = sqlx::query(concat!(
            "select ",
            attempt_columns!(),
            " from attempt where order_id = ? and merchant_id = ? order by id"
        ))
        .bind(order_id)
        .bind(merchant_id.as_str())
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(attempt_from_row).collect()
    }

    /// All money that came for the order, oldest first.
    pub async fn payments(
        &self,
        merchant_id: &MerchantId,
        order_id: OrderId,
    ) -> Result<Vec<Payment>> {
        let rows = sqlx::query(concat!(
            "select ",
            payment_columns!(),
            " from payment where order_id = ? and merchant_id = ? order by id"
        ))
        .bind(order_id)
        .bind(merchant_id.as_str())
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(payment_from_row).collect()
    }
}
