//! Provides the platform's side of one simulated account: the [`Gateway`] the platform calls.

use std::time::Duration;

use async_trait::async_trait;
use http::HeaderMap;

use super::Simulator;
use super::callback::Body;
use crate::{
    Ack, CallbackError, CallbackEvent, Capabilities, CloseOutcome, CreateOutcome, CreateRequest,
    Gateway, QueryOutcome, RefundOutcome, RefundRequest, RefundStatus,
};

/// A call that takes longer is given up and answers `Unknown`, in ms.
const CALL_TIMEOUT_MS: u64 = 5_000;
/// The farthest expiry, in ms: as far as an order's deadline may be.
const EXPIRY_MAX_MS: u64 = 30 * 24 * 3_600_000;

/// One account at the simulated gateway.
#[derive(Clone, Debug)]
pub struct SimulatedGateway {
    simulator: Simulator,
    account_id: String,
}

impl SimulatedGateway {
    pub(super) fn new(simulator: Simulator, account_id: String) -> Self {
        Self {
            simulator,
            account_id,
        }
    }

    /// Waits as long as the gateway takes to answer; `None` if that is longer than the platform waits.
    ///
    /// What was asked has happened by then: the answer may be out of date when it arrives.
    async fn answer<T>(&self, attempt_id: &str, outcome: T) -> Option<T> {
        let delay_ms = self.simulator.book().answer_delay_ms(attempt_id);
        if delay_ms > 0 {
            let waited_ms = std::cmp::min(delay_ms, CALL_TIMEOUT_MS);
            let clock = &self.simulator.shared.clock;
            clock.sleep(Duration::from_millis(waited_ms)).await;
        }
        (delay_ms <= CALL_TIMEOUT_MS).then_some(outcome)
    }

    fn now_ms(&self) -> u64 {
        self.simulator.shared.clock.now_ms()
    }
}

fn timed_out() -> String {
    format!("no answer within {CALL_TIMEOUT_MS} ms")
}

#[async_trait]
impl Gateway for SimulatedGateway {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            can_close: true,
            close_delay_ms: self.simulator.shared.config.close_delay_ms,
            partial_refund: true,
            expiry_min_ms: 0,
            expiry_max_ms: EXPIRY_MAX_MS,
            refund_query_delay_ms: 0,
            queries_per_second: None,
        }
    }

    async fn create(&self, request: &CreateRequest) -> CreateOutcome {
        let id = &request.attempt_id;
        let plan = self.simulator.plan_for(&request.order_id, id);
        let now_ms = self.now_ms();
        let outcome = self.simulator.change(id, |book| {
            book.create(&self.account_id, request, plan, now_ms)
        });
        let answer = self.answer(id, outcome).await;
        answer.unwrap_or_else(|| CreateOutcome::Unknown {
            reason: timed_out(),
        })
    }

    async fn query(&self, attempt_id: &str) -> QueryOutcome {
        let outcome = self
            .simulator
            .book()
            .query(&self.account_id, attempt_id, self.now_ms());
        let answer = self.answer(attempt_id, outcome).await;
        answer.unwrap_or_else(|| QueryOutcome::Unknown {
            reason: timed_out(),
        })
    }

    async fn close(&self, attempt_id: &str) -> CloseOutcome {
        let now_ms = self.now_ms();
        let outcome = self.simulator.change(attempt_id, |book| {
            book.close(&self.account_id, attempt_id, now_ms)
        });
        self.simulator.shared.queued.notify_one();
        let answer = self.answer(attempt_id, outcome).await;
        answer.unwrap_or_else(|| CloseOutcome::Unknown {
            reason: timed_out(),
        })
    }

    async fn refund(&self, request: &RefundRequest) -> RefundOutcome {
        let now_ms = self.now_ms();
        let outcome = self.simulator.change(&request.attempt_id, |book| {
            book.refund(&self.account_id, request, now_ms)
        });
        self.simulator.shared.queued.notify_one();
        let answer = self.answer(&request.attempt_id, outcome).await;
        answer.unwrap_or_else(|| RefundOutcome::Unknown {
            reason: timed_out(),
        })
    }

    async fn query_refund(&self, refund_id: &str) -> RefundStatus {
        let (outcome, attempt_id) = {
            let book = self.simulator.book();
            let outcome = book.query_refund(&self.account_id, refund_id, self.now_ms());
            (outcome, book.attempt_of_refund(refund_id))
        };
        let answer = self.answer(&attempt_id.unwrap_or_default(), outcome).await;
        answer.unwrap_or_else(|| RefundStatus::Unknown {
            reason: timed_out(),
        })
    }

    fn verify_callback(
        &self,
        headers: &HeaderMap,
        raw_body: &[u8],
        now_ms: u64,
    ) -> Result<CallbackEvent, CallbackError> {
        let secret = self.simulator.shared.secret.derive(&self.account_id);
        let event_id = secret.verify(headers, raw_body, now_ms)?;
        Body::read(event_id, raw_body)
    }

    fn ack_body(&self) -> Ack {
        Ack {
            content_type: "application/json",
            body: "{\"received\":true}",
        }
    }
}
