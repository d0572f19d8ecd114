//! Defines what the order platform asks of a payment gateway, and provides the gateway simulator.
//!
//! One [`Gateway`] value serves one gateway account, so it holds that account's credentials and no
//! call names a merchant. Three rules hold for every implementation:
//!
//! * **Not knowing is an answer.** A time-out, a broken connection or an answer that cannot be read is the
//!   value `Unknown`, never an error: money may have moved, so the caller must ask again later.
//! * **Not found is not closed.** A gateway may not have seen an attempt yet that a buyer pays a moment
//!   later. Only [`QueryOutcome::Closed`] and [`CloseOutcome::Closed`] say that no money can come any longer.
//! * **Every call may be repeated.** `create` is keyed by its idempotency key, `refund` by its refund number;
//!   a repeated call with the same key and the same amounts changes nothing and answers the present state.

pub mod simulator;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use http::HeaderMap;
use serde::{Deserialize, Serialize};

/// One account at a payment gateway.
///
/// A call that the gateway does not answer in the implementation's own time limit answers `Unknown`.
#[async_trait]
pub trait Gateway: Send + Sync + 'static {
    /// What this gateway can do; constant for the life of the value.
    fn capabilities(&self) -> Capabilities;

    /// Opens a payment attempt, so that a buyer can pay it until its absolute expiry.
    async fn create(&self, request: &CreateRequest) -> CreateOutcome;

    /// Asks for the state of the attempt.
    async fn query(&self, attempt_id: &str) -> QueryOutcome;

    /// Asks the gateway to take no more money for the attempt.
    async fn close(&self, attempt_id: &str) -> CloseOutcome;

    /// Gives money of a payment back; `refund_id` stays the same for the life of the refund.
    async fn refund(&self, request: &RefundRequest) -> RefundOutcome;

    /// Asks for the state of a refund.
    async fn query_refund(&self, refund_id: &str) -> RefundStatus;

    /// Checks a callback's signature and age and reads it.
    ///
    /// `raw_body` is the body exactly as it arrived, since signatures cover bytes. `now_ms` is in ms since the
    /// Unix epoch. Nothing of an unverified callback may be used, so there is no event without a verification.
    fn verify_callback(
        &self,
        headers: &HeaderMap,
        raw_body: &[u8],
        now_ms: u64,
    ) -> Result<CallbackEvent, CallbackError>;

    /// What to answer once the callback's effect is durable, so that the gateway stops repeating it.
    fn ack_body(&self) -> Ack;
}

/// What a gateway can do, and within which limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether an attempt can be closed before its expiry.
    pub can_close: bool,
    /// An attempt cannot be closed before it is this old, in ms; 0 where the gateway has no such rule.
    pub close_delay_ms: u64,
    /// Whether less than the whole payment can be refunded.
    pub partial_refund: bool,
    /// The nearest expiry it accepts, in ms from the creation of the attempt.
    pub expiry_min_ms: u64,
    /// The farthest expiry it accepts, in ms from the creation of the attempt.
    pub expiry_max_ms: u64,
    /// A refund should not be asked about sooner than this after it was sent, in ms.
    pub refund_query_delay_ms: u64,
    /// How many queries per second it answers; `None` where it names no limit.
    pub queries_per_second: Option<u32>,
}

/// An amount of money as a gateway states it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// The amount in minor units of the currency (cents, fen).
    pub amount: i64,
    /// ISO 4217 code in capitals.
    pub currency: String,
}

/// A payment attempt to open at the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateRequest {
    /// The platform's id of the attempt (`att_...`): the number the gateway knows it by.
    pub attempt_id: String,
    /// The platform's id of the order (`ord_...`), for people who compare both sides.
    pub order_id: String,
    /// What the buyer is to pay.
    pub money: Money,
    /// From this instant the gateway must take no money, in ms since the Unix epoch; never after the order's deadline.
    pub expires_at_ms: u64,
    /// The same for every repetition of this call.
    pub idempotency_key: String,
}

/// The result of [`Gateway::create`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreateOutcome {
    /// The attempt is open (or was already, by an earlier call with the same key).
    Created {
        /// The gateway's own number for the attempt, where it has one.
        gateway_ref: Option<String>,
        /// Where the buyer pays.
        pay_url: Option<String>,
    },
    /// The gateway will never open this attempt; no money can come.
    Rejected {
        /// The gateway's reason, for a person.
        reason: String,
    },
    /// It is unknown whether the attempt is open: ask with [`Gateway::query`].
    Unknown {
        /// What went wrong, for a person.
        reason: String,
    },
}

/// Money that a gateway took for an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paid {
    /// The gateway's number of the transaction; unique within the account.
    pub transaction_id: String,
    /// What was paid, which need not be what was asked.
    pub money: Money,
    /// When the gateway took the money, in ms since the Unix epoch, by the gateway's clock.
    pub paid_at_ms: u64,
}

/// The result of [`Gateway::query`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryOutcome {
    /// The gateway did not give a usable answer.
    Unknown {
        /// What went wrong, for a person.
        reason: String,
    },
    /// The gateway has no such attempt *yet*; this is not the same as closed.
    NotFound,
    /// The attempt is open and no payment has begun.
    Pending,
    /// A payment is under way.
    Processing,
    /// The money has been taken.
    Paid(Paid),
    /// No money can come for this attempt any longer.
    Closed,
}

/// The result of [`Gateway::close`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseOutcome {
    /// No money can come for this attempt any longer.
    Closed,
    /// The money has been taken; [`Gateway::query`] answers how much.
    AlreadyPaid,
    /// It cannot be closed at present.
    NotClosable {
        /// When to ask again, in ms from now.
        retry_after_ms: u64,
    },
    /// The gateway did not give a usable answer: it may or may not have closed the attempt.
    Unknown {
        /// What went wrong, for a person.
        reason: String,
    },
}

/// A refund to send to the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundRequest {
    /// The platform's id of the refund (`ref_...`); every repetition carries the same id and the same amount.
    pub refund_id: String,
    /// The attempt that was paid.
    pub attempt_id: String,
    /// The gateway's number of the transaction to refund.
    pub transaction_id: String,
    /// How much to give back.
    pub money: Money,
}

/// The result of [`Gateway::refund`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefundOutcome {
    /// The gateway works on it; [`Gateway::query_refund`] answers when it is done.
    Accepted,
    /// The money has been given back.
    Succeeded {
        /// When, in ms since the Unix epoch, by the gateway's clock.
        refunded_at_ms: u64,
    },
    /// Not now (not enough balance, too many calls): send the same refund again later.
    Retryable {
        /// The gateway's reason, for a person.
        reason: String,
    },
    /// The gateway will never do it; a person must look.
    Rejected {
        /// The gateway's reason, for a person.
        reason: String,
    },
    /// The gateway did not give a usable answer: ask with [`Gateway::query_refund`].
    Unknown {
        /// What went wrong, for a person.
        reason: String,
    },
}

/// The state of a refund at a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefundStatus {
    /// The gateway did not give a usable answer.
    Unknown {
        /// What went wrong, for a person.
        reason: String,
    },
    /// The gateway has no such refund: sending it again is safe, since the id is the same.
    NotFound,
    /// The gateway still works on it.
    Processing,
    /// The money has been given back.
    Succeeded {
        /// When, in ms since the Unix epoch, by the gateway's clock.
        refunded_at_ms: u64,
    },
    /// It failed, and the same refund may be sent again later.
    Retryable {
        /// The gateway's reason, for a person.
        reason: String,
    },
    /// It failed for good; a person must look.
    Failed {
        /// The gateway's reason, for a person.
        reason: String,
    },
}

/// A callback whose signature has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackEvent {
    /// The gateway's number of the event: the same for every repetition.
    pub event_id: String,
    /// What happened.
    pub kind: CallbackKind,
}

/// The content of a callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallbackKind {
    /// The money of an attempt has been taken.
    Paid {
        /// The platform's id of the attempt.
        attempt_id: String,
        /// The money.
        paid: Paid,
    },
    /// No money can come for the attempt any longer.
    Closed {
        /// The platform's id of the attempt.
        attempt_id: String,
    },
    /// A refund changed.
    Refund {
        /// The platform's id of the refund.
        refund_id: String,
        /// Its state at the gateway.
        status: RefundStatus,
    },
    /// A genuine callback that the platform has no use for; it is acknowledged and dropped.
    Other {
        /// The gateway's name for it.
        name: String,
    },
}

/// Why a callback is refused.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallbackError {
    /// A header that the signature needs is missing or malformed.
    #[error("the callback header {0} is missing or malformed")]
    Header(&'static str),
    /// The signature does not belong to this body and this account.
    #[error("the callback signature does not match")]
    Signature,
    /// The callback was signed too long ago, or ahead of time.
    #[error("the callback was signed {offset_ms} ms away from now; the limit is {tolerance_ms} ms")]
    Stale {
        /// How far its timestamp is from now, in ms.
        offset_ms: u64,
        /// How far it may be, in ms.
        tolerance_ms: u64,
    },
    /// The signature is right and the body is not a callback of this gateway.
    #[error("the callback body is malformed: {0}")]
    Body(String),
}

/// The answer that makes a gateway stop repeating a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Media type of the body.
    pub content_type: &'static str,
    /// The body, which some gateways compare byte by byte.
    pub body: &'static str,
}

/// The gateways of this process by account id; clones share the same set.
#[derive(Clone, Default)]
pub struct Gateways {
    // A std lock: held for one look-up in a small map, never across an await.
    accounts: Arc<RwLock<HashMap<String, Arc<dyn Gateway>>>>,
}

impl Gateways {
    /// The gateway of the account, if this process has one.
    pub fn get(&self, account_id: &str) -> Option<Arc<dyn Gateway>> {
        let accounts = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
        accounts.get(account_id).cloned()
    }

    /// Adds the account, or replaces its gateway.
    pub fn insert(&self, account_id: impl Into<String>, gateway: Arc<dyn Gateway>) {
        let mut accounts = self
            .accounts
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        accounts.insert(account_id.into(), gateway);
    }
}

impl std::fmt::Debug for Gateways {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let accounts = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(accounts.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trait_is_object_safe_and_the_set_is_shared_by_clones() {
        struct Refuses;
        #[async_trait]
        impl Gateway for Refuses {
            fn capabilities(&self) -> Capabilities {
                Capabilities {
                    can_close: false,
                    close_delay_ms: 0,
                    partial_refund: false,
                    expiry_min_ms: 0,
                    expiry_max_ms: 0,
                    refund_query_delay_ms: 0,
                    queries_per_second: None,
                }
            }
            async fn create(&self, _: &CreateRequest) -> CreateOutcome {
                let reason = "never".to_owned();
                CreateOutcome::Rejected { reason }
            }
            async fn query(&self, _: &str) -> QueryOutcome {
                QueryOutcome::NotFound
            }
            async fn close(&self, _: &str) -> CloseOutcome {
                CloseOutcome::NotClosable { retry_after_ms: 1 }
            }
            async fn refund(&self, _: &RefundRequest) -> RefundOutcome {
                RefundOutcome::Accepted
            }
            async fn query_refund(&self, _: &str) -> RefundStatus {
                RefundStatus::NotFound
            }
            fn verify_callback(
                &self,
                _: &HeaderMap,
                _: &[u8],
                _: u64,
            ) -> Result<CallbackEvent, CallbackError> {
                Err(CallbackError::Signature)
            }
            fn ack_body(&self) -> Ack {
                Ack {
                    content_type: "text/plain",
                    body: "ok",
                }
            }
        }

        let gateways = Gateways::default();
        assert!(gateways.get("gwa_1").is_none());
        gateways.clone().insert("gwa_1", Arc::new(Refuses));
        let found = gateways.get("gwa_1").unwrap();
        assert!(!found.capabilities().can_close);
        assert_eq!(
            found.verify_callback(&HeaderMap::new(), b"{}", 0),
            Err(CallbackError::Signature)
        );
        assert_eq!(format!("{gateways:?}"), "{\"gwa_1\"}");
    }
}
