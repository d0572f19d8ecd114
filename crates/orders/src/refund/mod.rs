//! Defines refunds, requests them, and reads them.

mod drive;
mod request;
mod transition;

use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;

use crate::error::{Error, Result};
use crate::ids::{MerchantId, OrderId, PaymentId, RefundId};
use crate::money::Currency;
use crate::platform::Platform;
use crate::product::currency;
use crate::store::column;

pub(crate) use drive::fire;
pub use request::NewRefund;
pub(crate) use request::give_back;
pub(crate) use transition::note_status;

/// Where a refund stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundState {
    /// It waits to be sent to the gateway.
    Requested,
    /// It was sent; there is no answer yet.
    Submitted,
    /// The gateway works on it.
    Processing,
    /// The money was given back. Final.
    Succeeded,
    /// It did not work; it is sent again later.
    FailedRetryable,
    /// It will not work by itself; a person must look.
    NeedsOperator,
}

impl RefundState {
    /// Every state.
    pub const ALL: [Self; 6] = [
        Self::Requested,
        Self::Submitted,
        Self::Processing,
        Self::Succeeded,
        Self::FailedRetryable,
        Self::NeedsOperator,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Submitted => "submitted",
            Self::Processing => "processing",
            Self::Succeeded => "succeeded",
            Self::FailedRetryable => "failed_retryable",
            Self::NeedsOperator => "needs_operator",
        }
    }

    pub(crate) fn stored(self) -> i64 {
        match self {
            Self::Requested => 1,
            Self::Submitted => 2,
            Self::Processing => 3,
            Self::Succeeded => 4,
            Self::FailedRetryable => 5,
            Self::NeedsOperator => 6,
        }
    }

    /// Whether it is done with, at least until a person acts.
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::NeedsOperator)
    }

    fn from_stored(stored: i64) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|state| state.stored() == stored);
        found.ok_or_else(|| Error::Unreadable {
            what: "refund state",
            detail: stored.to_string(),
        })
    }
}

/// Why money is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundCause {
    /// The merchant asked for it.
    Merchant,
    /// It came after the order had closed.
    Late,
    /// It came after the order had been paid.
    Duplicate,
    /// It was less or more than asked.
    WrongAmount,
    /// It was in another currency than asked.
    WrongCurrency,
}

impl RefundCause {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Merchant => "merchant",
            Self::Late => "late",
            Self::Duplicate => "duplicate",
            Self::WrongAmount => "wrong_amount",
            Self::WrongCurrency => "wrong_currency",
        }
    }

    fn stored(self) -> i64 {
        match self {
            Self::Merchant => 1,
            Self::Late => 2,
            Self::Duplicate => 3,
            Self::WrongAmount => 4,
            Self::WrongCurrency => 5,
        }
    }

    fn from_stored(stored: i64) -> Result<Self> {
        let all = [
            Self::Merchant,
            Self::Late,
            Self::Duplicate,
            Self::WrongAmount,
            Self::WrongCurrency,
        ];
        let found = all.into_iter().find(|cause| cause.stored() == stored);
        found.ok_or_else(|| Error::Unreadable {
            what: "refund cause",
            detail: stored.to_string(),
        })
    }
}

/// Money to give back, or given back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// Its id, which is also the number the gateway knows it by.
    pub id: RefundId,
    /// Whose order it is for.
    pub merchant_id: MerchantId,
    /// The merchant's own number, unique for the merchant.
    pub refund_no: String,
    /// The order.
    pub order_id: OrderId,
    /// The payment that it gives back.
    pub payment_id: PaymentId,
    /// Where it stands.
    pub state: RefundState,
    /// Rises with every change.
    pub version: i64,
    /// Why.
    pub cause: RefundCause,
    /// How much, in minor units.
    pub amount_minor: i64,
    /// The amount's currency.
    pub currency: Currency,
    /// Whether the order's units went back into stock.
    pub restock: bool,
    /// What the gateway said last, for a person.
    pub detail: Option<String>,
    /// When it was requested, in ms since the Unix epoch.
    pub created_ms: i64,
    /// When it reached a final state, in ms since the Unix epoch.
    pub final_ms: Option<i64>,
}

/// The columns that [`from_row`] reads, for statements put together by `concat!`.
macro_rules! refund_columns {
    () => {
        "id, merchant_id, refund_no, order_id, payment_id, state, version, cause, amount_minor, \
         currency, restock, detail, created_ms, final_ms"
    };
}
pub(crate) use refund_columns;

/// Reads a row of `refund_columns!()`.
fn from_row(row: &SqliteRow) -> Result<Refund> {
    Ok(Refund {
        id: column(row, "id")?,
        merchant_id: MerchantId::from_stored(column(row, "merchant_id")?),
        refund_no: column(row, "refund_no")?,
        order_id: column(row, "order_id")?,
        payment_id: column(row, "payment_id")?,
        state: RefundState::from_stored(column(row, "state")?)?,
        version: column(row, "version")?,
        cause: RefundCause::from_stored(column(row, "cause")?)?,
        amount_minor: column(row, "amount_minor")?,
        currency: currency(row)?,
        restock: column(row, "restock")?,
        detail: column(row, "detail")?,
        created_ms: column(row, "created_ms")?,
        final_ms: column(row, "final_ms")?,
    })
}

impl Platform {
    /// The refund.
    pub async fn refund(&self, merchant_id: &MerchantId, id: RefundId) -> Result<Refund> {
        let row = sqlx::query(concat!(
            "select ",
            refund_columns!(),
            " from refund where id = ? and merchant_id = ?"
        ))
        .bind(id)
        .bind(merchant_id.as_str())
        .fetch_optional(self.readers())
        .await?;
        from_row(&row.ok_or_else(|| Error::not_found("refund", &id))?)
    }

    /// The order's refunds, oldest first.
    pub async fn refunds(
        &self,
        merchant_id: &MerchantId,
        order_id: OrderId,
    ) -> Result<Vec<Refund>> {
        let rows = sqlx::query(concat!(
            "select ",
            refund_columns!(),
            " from refund where order_id = ? and merchant_id = ? order by id"
        ))
        .bind(order_id)
        .bind(merchant_id.as_str())
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(from_row).collect()
    }
}
