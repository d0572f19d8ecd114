//! Defines the audit trail: who did what to an order, a coupon, a product, a merchant or a pause, and when.

use std::sync::Arc;

use serde::Serialize;

use crate::ids::MerchantId;

/// On whose behalf requests are made: the id of an API key, or an operator's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who(Arc<str>);

impl Who {
    /// The bearer of an API key, or an operator.
    pub fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Who did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The buyer.
    Buyer,
    /// The merchant, through the API.
    Merchant,
    /// The payment gateway, by a callback or an answer.
    Gateway,
    /// The operator.
    Operator,
    /// The platform itself, driven by a timer or an event.
    System,
}

impl Actor {
    /// Whether a person or a program of the shop does it by a request.
    pub(crate) fn asks(self) -> bool {
        matches!(self, Self::Buyer | Self::Merchant | Self::Operator)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Buyer => "buyer",
            Self::Merchant => "merchant",
            Self::Gateway => "gateway",
            Self::Operator => "operator",
            Self::System => "system",
        }
    }
}

/// What an operation records.
#[derive(Clone, Debug)]
pub(crate) struct NewAudit {
    /// The order, coupon, product, merchant or pause that the row is found by.
    pub(crate) subject: String,
    pub(crate) merchant_id: MerchantId,
    /// The thing that changed: the subject itself, or one of its attempts, payments or refunds.
    pub(crate) entity: String,
    pub(crate) actor: Actor,
    pub(crate) action: &'static str,
    pub(crate) from: Option<&'static str>,
    pub(crate) to: Option<&'static str>,
    pub(crate) detail: Option<String>,
}

/// What an operation records, with the time of its request.
#[derive(Clone, Debug)]
pub(crate) struct AuditRow {
    pub(crate) at_ms: i64,
    /// Who asked for it, if a request did.
    pub(crate) who: Option<Who>,
    pub(crate) new: NewAudit,
}

/// One entry of an audit trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditEntry {
    /// When, in ms since the Unix epoch.
    pub at_ms: i64,
    /// The id of the thing that changed.
    pub entity: String,
    /// Who changed it.
    pub actor: String,
    /// The API key or operator whose request it was, if it was one.
    pub who: Option<String>,
    /// What was done, such as `close`.
    pub action: String,
    /// The state before, where there was one.
    pub from_state: Option<String>,
    /// The state after, where it has one.
    pub to_state: Option<String>,
    /// More, for a person.
    pub detail: Option<String>,
}

/// An entry with its place in the trail of its subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedEntry {
    /// Rises from entry to entry.
    pub seq: i64,
    /// The entry.
    pub entry: AuditEntry,
}
