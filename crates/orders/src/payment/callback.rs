//! Takes callbacks of gateways: verified first, answered only when their effect is durable.
//!
//! A verified callback that has no effect here is acknowledged all the same: a gateway that is refused for a day stops
//! reporting. What it says about money is kept for a person.

use http::HeaderMap;

use crate::error::{Error, Result};
use crate::ids::{AttemptId, GatewayAccountId, RefundId};
use crate::limits::REFERENCE_CHARS_MAX;
use crate::model::audit::Actor;
use crate::model::payment::AttemptState;
use crate::model::unmatched::{NewUnmatched, UnmatchedKind};
use crate::payment::attempt::{self, End};
use crate::payment::record::{self, Received};
use crate::payment::unmatched;
use crate::platform::Platform;
use crate::refund::transition;
use crate::store::payments;
use gateway::{Ack, CallbackError, CallbackEvent, CallbackKind, RefundStatus};

impl Platform {
    /// Takes a callback to a gateway account; `raw_body` is the body exactly as it arrived.
    ///
    /// A repeated callback changes nothing and is acknowledged again.
    pub async fn handle_callback(
        &self,
        account_id: GatewayAccountId,
        headers: &HeaderMap,
        raw_body: &[u8],
    ) -> Result<Ack> {
        let gateway = self.gateway_of(account_id)?;
        let raw = unmatched::cut_report(raw_body);
        let now_ms = self.clock().wall_now_ms();
        match gateway.verify_callback(headers, raw_body, now_ms) {
            Ok(event) => self.take_event(account_id, event, raw).await?,
            Err(CallbackError::Body(reason)) => {
                tracing::error!(%account_id, %reason, "a verified callback cannot be read");
                let new = of_body(account_id, UnmatchedKind::Unreadable, raw);
                self.note_unmatched(new).await?;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(gateway.ack_body())
    }

    async fn take_event(
        &self,
        account_id: GatewayAccountId,
        event: CallbackEvent,
        raw: String,
    ) -> Result<()> {
        match event.kind {
            CallbackKind::Paid { attempt_id, paid } => {
                let received = Received {
                    account_id,
                    attempt: attempt_id,
                    paid,
                    raw,
                };
                self.record_money(received).await
            }
            CallbackKind::Closed { attempt_id } => {
                self.end_attempt_of(account_id, &attempt_id).await
            }
            CallbackKind::Refund { refund_id, status } => {
                self.take_refund(account_id, &refund_id, status, raw).await
            }
            CallbackKind::Other { name } => {
                tracing::debug!(%name, "drop a callback that has no use");
                Ok(())
            }
        }
    }

    /// Applies the status of a refund; money that went back by a refund that is not known here is noted.
    async fn take_refund(
        &self,
        account_id: GatewayAccountId,
        refund_id: &str,
        status: RefundStatus,
        raw: String,
    ) -> Result<()> {
        let succeeded = matches!(status, RefundStatus::Succeeded { .. });
        if let Ok(id) = refund_id.parse::<RefundId>() {
            match transition::apply_status(self, account_id, id, status).await {
                Err(Error::NotFound { .. }) => {}
                applied => return applied,
            }
        }
        tracing::warn!(%account_id, refund_id, "a callback is about a refund that is not known here");
        if !succeeded {
            return Ok(());
        }
        let subject = unmatched::cut(refund_id, REFERENCE_CHARS_MAX);
        let new = NewUnmatched {
            key: format!("refund:{subject}"),
            subject: Some(subject),
            ..of_body(account_id, UnmatchedKind::UnknownRefund, raw)
        };
        self.note_unmatched(new).await
    }

    async fn note_unmatched(&self, new: NewUnmatched) -> Result<()> {
        self.writer()
            .run(new, |tx, new| Box::pin(unmatched::note(tx, new)))
            .await
    }

    pub(crate) async fn record_money(&self, received: Received) -> Result<()> {
        self.writer()
            .run(received, |tx, received| {
                Box::pin(record::record(tx, received))
            })
            .await?;
        Ok(())
    }

    async fn end_attempt_of(&self, account_id: GatewayAccountId, attempt_id: &str) -> Result<()> {
        let Ok(attempt_id) = attempt_id.parse::<AttemptId>() else {
            tracing::debug!(
                attempt_id,
                "drop a callback about an attempt that is not known here"
            );
            return Ok(());
        };
        let input = (account_id, attempt_id);
        self.writer()
            .run(input, |tx, (account_id, attempt_id)| {
                Box::pin(async move {
                    let attempt = payments::find_attempt(tx.conn(), *attempt_id).await?;
                    let attempt = attempt.filter(|attempt| attempt.account_id == *account_id);
                    let Some(attempt) = attempt else {
                        return Ok(());
                    };
                    let end = End {
                        to: AttemptState::Closed,
                        actor: Actor::Gateway,
                        detail: None,
                    };
                    attempt::end_open(tx, attempt.id, &end).await?;
                    Ok(())
                })
            })
            .await
    }
}

/// What is noted of a callback that names no money that is understood here.
fn of_body(account_id: GatewayAccountId, kind: UnmatchedKind, raw: String) -> NewUnmatched {
    NewUnmatched {
        account_id,
        kind,
        key: unmatched::key_of("", &raw),
        subject: None,
        attempt: None,
        amount: None,
        currency: None,
        raw,
        paid_at_ms: None,
    }
}
