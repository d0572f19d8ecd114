//! Starts payment attempts: SUBMITTED is durable before the gateway is asked.

use crate::error::{Error, Result};
use crate::ids::{AttemptId, GatewayAccountId, MerchantId, OrderId};
use crate::limits::LIVE_ATTEMPTS_MAX;
use crate::model::audit::{Actor, NewAudit};
use crate::model::order::Order;
use crate::model::payment::{Attempt, AttemptState};
use crate::model::timer::{NewTimer, TimerKind};
use crate::order;
use crate::payment::attempt::{self, End};
use crate::payment::event::emit_attempt;
use crate::payment::poll::ATTEMPT_DELAYS_MS;
use crate::platform::Platform;
use crate::store::idempotency::{Answered, Idempotency, Keyed};
use crate::store::{Tx, merchants, orders, payments};
use crate::timer;
use gateway::{Capabilities, CreateOutcome, CreateRequest, Money};

/// A payment attempt to start.
#[derive(Clone, Copy, Debug)]
pub struct NewAttempt {
    /// The gateway account to pay through; the merchant's oldest if none is named.
    pub account_id: Option<GatewayAccountId>,
}

struct Input {
    order_id: OrderId,
    account_id: GatewayAccountId,
    capabilities: Capabilities,
}

impl Platform {
    /// Starts a payment attempt for a pending order before its deadline.
    ///
    /// An answer in the state SUBMITTED without a `pay_url` means that the gateway has not answered: the attempt
    /// counts as live and the gateway is asked again.
    pub async fn start_payment(
        &self,
        merchant_id: &MerchantId,
        order_id: OrderId,
        new: NewAttempt,
        idempotency: Option<Idempotency>,
    ) -> Result<Answered<Attempt>> {
        let account_id = self.payment_account(merchant_id, new.account_id).await?;
        let gateway = self.gateway_of(account_id)?;
        let answered = self
            .run_keyed(Keyed {
                merchant_id: merchant_id.clone(),
                idempotency,
                input: Input {
                    order_id,
                    account_id,
                    capabilities: gateway.capabilities(),
                },
                operation: |tx, merchant_id, input| Box::pin(submit(tx, merchant_id, input)),
            })
            .await?;
        let replayed = answered.replayed;
        let mut attempt = answered.value;
        if replayed {
            attempt = self.attempt(merchant_id, attempt.id).await?;
        }
        // A repeated request may have found an attempt whose first request was cut off before the gateway's answer.
        if attempt.state == AttemptState::Submitted && attempt.pay_url.is_none() {
            let outcome = gateway.create(&create_request(&attempt)).await;
            attempt = self.record_created(attempt, outcome).await?;
        }
        let value = attempt;
        Ok(Answered { value, replayed })
    }

    async fn payment_account(
        &self,
        merchant_id: &MerchantId,
        wanted: Option<GatewayAccountId>,
    ) -> Result<GatewayAccountId> {
        if let Some(wanted) = wanted {
            let account = self.gateway_account(wanted).await?;
            if account.merchant_id != *merchant_id {
                return Err(Error::not_found("gateway account", &wanted));
            }
            return Ok(wanted);
        }
        let oldest = merchants::oldest_account(self.readers(), merchant_id).await?;
        oldest.ok_or_else(|| {
            Error::invalid(
                "/account_id",
                "the merchant has no gateway account; make one first",
            )
        })
    }

    async fn record_created(&self, attempt: Attempt, outcome: CreateOutcome) -> Result<Attempt> {
        let merchant_id = attempt.merchant_id.clone();
        let id = attempt.id;
        self.writer()
            .run((id, outcome), |tx, (id, outcome)| {
                Box::pin(record_created(tx, *id, outcome))
            })
            .await?;
        self.attempt(&merchant_id, id).await
    }
}

fn create_request(attempt: &Attempt) -> CreateRequest {
    CreateRequest {
        attempt_id: attempt.id.to_string(),
        order_id: attempt.order_id.to_string(),
        money: Money {
            amount: attempt.amount_minor,
            currency: attempt.currency.to_string(),
        },
        expires_at_ms: u64::try_from(attempt.expires_at_ms).unwrap_or(0),
        idempotency_key: attempt.id.to_string(),
    }
}

async fn submit(tx: &mut Tx, merchant_id: &MerchantId, input: &Input) -> Result<Attempt> {
    let now_ms = tx.now_ms();
    let order = orders::add_live_attempt(tx, merchant_id, input.order_id).await?;
    let Some(order) = order else {
        let order = orders::find(tx.conn(), merchant_id, input.order_id).await?;
        return Err(refusal(&order, now_ms));
    };
    let expires_ms = expiry(&order, &input.capabilities, now_ms)?;
    // As the gateway gets it in every repetition of the request: a difference of the clocks that changes does not change it.
    let expires_at_ms = std::cmp::min(expires_ms - tx.ahead_ms(), order.deadline_at_ms);
    let attempt = Attempt {
        id: AttemptId::new(now_ms),
        merchant_id: merchant_id.clone(),
        order_id: order.id,
        account_id: input.account_id,
        state: AttemptState::Submitted,
        version: 1,
        amount_minor: order.payable_minor,
        currency: order.currency,
        expires_ms,
        expires_at_ms,
        gateway_ref: None,
        pay_url: None,
        detail: None,
        created_ms: now_ms,
        final_ms: None,
    };
    payments::insert_attempt(tx, &attempt).await?;
    follow_up(tx, &attempt);
    Ok(attempt)
}

/// Sets what goes with a new attempt: its timer, its audit row and its event.
fn follow_up(tx: &mut Tx, attempt: &Attempt) {
    let now_ms = tx.now_ms();
    let [first_delay_ms, ..] = ATTEMPT_DELAYS_MS;
    timer::arm(
        tx,
        NewTimer {
            kind: TimerKind::Attempt,
            id: attempt.id.uuid(),
            merchant_id: attempt.merchant_id.clone(),
            due_ms: attempt.expires_ms,
            fire_ms: now_ms + first_delay_ms,
            version: attempt.version,
        },
    );
    tx.audit(NewAudit {
        subject: attempt.order_id.to_string(),
        merchant_id: attempt.merchant_id.clone(),
        entity: attempt.id.to_string(),
        actor: Actor::Buyer,
        action: "attempt",
        from: None,
        to: Some(attempt.state.as_str()),
        detail: None,
    });
    emit_attempt(tx, attempt);
}

/// When the gateway must stop taking money: never after the order's deadline.
fn expiry(order: &Order, capabilities: &Capabilities, now_ms: i64) -> Result<i64> {
    let left_ms = order.deadline_ms - now_ms;
    let min_ms = i64::try_from(capabilities.expiry_min_ms).unwrap_or(i64::MAX);
    if left_ms < min_ms {
        return Err(Error::GatewayRefused {
            reason: format!(
                "the order's deadline is {left_ms} ms ahead, the gateway needs at least {min_ms} ms"
            ),
        });
    }
    let max_ms = i64::try_from(capabilities.expiry_max_ms).unwrap_or(i64::MAX);
    Ok(now_ms + std::cmp::min(left_ms, max_ms))
}

fn refusal(order: &Order, now_ms: i64) -> Error {
    if let Some(error) = order::not_open(order, now_ms, ["attempt", "paid"]) {
        return error;
    }
    Error::invalid(
        "",
        format!(
            "the order has {} open payment attempts; at most {LIVE_ATTEMPTS_MAX} are allowed",
            order.live_attempts
        ),
    )
}

async fn record_created(tx: &mut Tx, id: AttemptId, outcome: &CreateOutcome) -> Result<()> {
    match outcome {
        CreateOutcome::Created {
            gateway_ref,
            pay_url,
        } => payments::set_gateway_ref(tx, id, gateway_ref.as_deref(), pay_url.as_deref()).await,
        CreateOutcome::Rejected { reason } => {
            let end = End {
                to: AttemptState::Failed,
                actor: Actor::Gateway,
                detail: Some(reason.clone()),
            };
            attempt::end_open(tx, id, &end).await.map(drop)
        }
        CreateOutcome::Unknown { reason } => payments::set_detail(tx, id, reason).await,
    }
}
