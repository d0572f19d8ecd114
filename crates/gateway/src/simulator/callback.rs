//! Defines the body of the simulator's callbacks.

use serde::{Deserialize, Serialize};

use crate::{CallbackError, CallbackEvent, CallbackKind, Money, Paid, RefundStatus};

/// The body of a callback: the name of the event and what belongs to it.
///
/// Fields that a later version adds are skipped by the reader, as with any gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Body {
    #[serde(rename = "type")]
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attempt_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refund_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    transaction_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    amount: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    currency: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_ms: Option<u64>,
}

impl Body {
    /// Money was taken.
    pub(super) fn paid(attempt_id: &str, paid: &Paid) -> Self {
        Self {
            attempt_id: Some(attempt_id.to_owned()),
            transaction_id: Some(paid.transaction_id.clone()),
            amount: Some(paid.money.amount),
            currency: Some(paid.money.currency.clone()),
            at_ms: Some(paid.paid_at_ms),
            ..Self::named("attempt.paid")
        }
    }

    /// Money was given back.
    pub(super) fn refunded(refund_id: &str, refunded_at_ms: u64) -> Self {
        Self {
            refund_id: Some(refund_id.to_owned()),
            at_ms: Some(refunded_at_ms),
            ..Self::named("refund.succeeded")
        }
    }

    fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            attempt_id: None,
            refund_id: None,
            transaction_id: None,
            amount: None,
            currency: None,
            at_ms: None,
        }
    }

    /// The bytes that are signed and sent.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always have a JSON form")
    }

    /// Reads a verified callback.
    pub(super) fn read(event_id: &str, raw_body: &[u8]) -> Result<CallbackEvent, CallbackError> {
        let body: Self = serde_json::from_slice(raw_body)
            .map_err(|error| CallbackError::Body(error.to_string()))?;
        let kind = body.into_kind()?;
        let event_id = event_id.to_owned();
        Ok(CallbackEvent { event_id, kind })
    }

    fn into_kind(self) -> Result<CallbackKind, CallbackError> {
        match self.name.as_str() {
            "attempt.paid" => Ok(CallbackKind::Paid {
                attempt_id: required(self.attempt_id, "attempt_id")?,
                paid: Paid {
                    transaction_id: required(self.transaction_id, "transaction_id")?,
                    money: Money {
                        amount: required(self.amount, "amount")?,
                        currency: required(self.currency, "currency")?,
                    },
                    paid_at_ms: required(self.at_ms, "at_ms")?,
                },
            }),
            "attempt.closed" => Ok(CallbackKind::Closed {
                attempt_id: required(self.attempt_id, "attempt_id")?,
            }),
            "refund.succeeded" => Ok(CallbackKind::Refund {
                refund_id: required(self.refund_id, "refund_id")?,
                status: RefundStatus::Succeeded {
                    refunded_at_ms: required(self.at_ms, "at_ms")?,
                },
            }),
            _ => Ok(CallbackKind::Other { name: self.name }),
        }
    }
}

fn required<T>(field: Option<T>, name: &str) -> Result<T, CallbackError> {
    field.ok_or_else(|| CallbackError::Body(format!("field {name} is missing")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_and_names_are_let_through_and_missing_fields_are_not() {
        let closed = br#"{"type":"attempt.closed","attempt_id":"att_1","new":{"x":1}}"#;
        let event = Body::read("evt_1", closed).unwrap();
        let attempt_id = "att_1".to_owned();
        assert_eq!(event.kind, CallbackKind::Closed { attempt_id });
        let event = Body::read("evt_1", br#"{"type":"balance.low"}"#).unwrap();
        let name = "balance.low".to_owned();
        assert_eq!(event.kind, CallbackKind::Other { name });
        let error = Body::read("evt_1", br#"{"type":"attempt.paid","attempt_id":"a"}"#);
        let missing = CallbackError::Body("field transaction_id is missing".to_owned());
        assert_eq!(error, Err(missing));
        assert!(matches!(
            Body::read("evt_1", b"[]"),
            Err(CallbackError::Body(_))
        ));
    }

    #[test]
    fn callbacks_of_any_content_are_read_or_refused() {
        let target = fuzz::Target::new(env!("CARGO_MANIFEST_DIR"), "callback")
            .seed(r#"{"type":"attempt.paid","attempt_id":"a","transaction_id":"t","amount":5,"currency":"EUR","at_ms":1}"#)
            .seed(r#"{"type":"refund.succeeded","refund_id":"r","at_ms":9223372036854775807}"#)
            .tokens(&["attempt.closed", "null", "1e99", "[[[[", "\\ud800", "-1"]);
        target.check(|input| {
            let _ = Body::read("evt_1", input);
        });
    }
}
