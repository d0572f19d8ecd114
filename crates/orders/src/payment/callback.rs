//! Takes callbacks of gateways: verified first, answered only when their effect is durable.

use http::HeaderMap;

use crate::error::{Error, Result};
use crate::ids::{AttemptId, GatewayAccountId, IdError, RefundId};
use crate::model::audit::Actor;
use crate::model::payment::AttemptState;
use crate::payment::attempt::{self, End};
use crate::payment::record::{self, Received};
use crate::platform::Platform;
use crate::refund::transition;
use crate::store::payments;
use gateway::{Ack, CallbackError, CallbackKind};

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
        let event = gateway.verify_callback(headers, raw_body, self.clock().now_ms())?;
        match event.kind {
            CallbackKind::Paid { attempt_id, paid } => {
                let received = Received {
                    account_id,
                    attempt_id: parse_attempt(&attempt_id)?,
                    paid,
                };
                self.record_money(received).await?;
            }
            CallbackKind::Closed { attempt_id } => {
                let attempt_id = parse_attempt(&attempt_id)?;
                self.end_attempt_of(account_id, attempt_id).await?;
            }
            CallbackKind::Refund { refund_id, status } => {
                let id: RefundId = refund_id.parse().map_err(|error| malformed(&error))?;
                transition::apply_status(self, account_id, id, status).await?;
            }
            CallbackKind::Other { name } => {
                tracing::debug!(%name, "drop a callback that has no use");
            }
        }
        Ok(gateway.ack_body())
    }

    pub(crate) async fn record_money(&self, received: Received) -> Result<()> {
        self.writer()
            .run(received, |tx, received| {
                Box::pin(record::record(tx, received))
            })
            .await?;
        Ok(())
    }

    async fn end_attempt_of(
        &self,
        account_id: GatewayAccountId,
        attempt_id: AttemptId,
    ) -> Result<()> {
        let input = (account_id, attempt_id);
        self.writer()
            .run(input, |tx, (account_id, attempt_id)| {
                Box::pin(async move {
                    let attempt = payments::find_attempt(tx.conn(), *attempt_id).await?;
                    let attempt = attempt
                        .filter(|attempt| attempt.account_id == *account_id)
                        .ok_or_else(|| Error::not_found("payment attempt", attempt_id))?;
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

fn parse_attempt(text: &str) -> Result<AttemptId> {
    text.parse().map_err(|error| malformed(&error))
}

fn malformed(error: &IdError) -> Error {
    Error::Callback(CallbackError::Body(error.to_string()))
}
