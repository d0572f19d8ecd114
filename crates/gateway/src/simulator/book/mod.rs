//! Provides the simulated gateway's books: attempts, money and refunds, as a state machine without clock or I/O.

mod entry;

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::callback::Body;
use super::faults::AttemptPlan;
use super::queue::{Callback, CallbackQueue};
use super::{AttemptView, PayRefused, PayRequest, PayResult};
use crate::{
    CloseOutcome, CreateOutcome, CreateRequest, Money, Paid, QueryOutcome, RefundOutcome,
    RefundRequest, RefundStatus,
};

/// How many attempts are remembered; beyond that the oldest are forgotten, so that memory stays bounded.
const ATTEMPTS_MAX: usize = 250_000;
/// How soon to try to close an attempt again whose payment has no known end, in ms.
const CLOSE_AGAIN_MS: u64 = 1_000;

/// What the whole gateway knows.
#[derive(Debug, Default)]
pub(super) struct Book {
    attempts: HashMap<String, Attempt>,
    /// Ids in the order of creation, for forgetting the oldest.
    order: VecDeque<String>,
    refunds: HashMap<String, Refund>,
    /// Callbacks that wait to be sent.
    pub(super) queue: CallbackQueue,
    /// No attempt can be closed before it is this old, in ms.
    close_delay_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Attempt {
    account_id: String,
    /// `None` for one that was closed before it was ever opened.
    request: Option<CreateRequest>,
    created_at_ms: u64,
    closed_at_ms: Option<u64>,
    /// In the order they were made; one whose instant is still ahead is under way.
    payments: Vec<Paid>,
    /// Ids of the refunds of its payments.
    refunds: Vec<String>,
    plan: AttemptPlan,
}

#[derive(Debug, Serialize, Deserialize)]
struct Refund {
    request: RefundRequest,
    state: RefundState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RefundState {
    Refused,
    Stuck,
    Done { at_ms: u64 },
}

impl Attempt {
    fn state(&self, now_ms: u64) -> QueryOutcome {
        if let Some(paid) = self.payments.iter().find(|paid| paid.paid_at_ms <= now_ms) {
            return QueryOutcome::Paid(paid.clone());
        }
        if !self.payments.is_empty() {
            return QueryOutcome::Processing;
        }
        let expired = match &self.request {
            Some(request) => now_ms >= request.expires_at_ms,
            None => true,
        };
        if expired || self.closed_at_ms.is_some() {
            return QueryOutcome::Closed;
        }
        QueryOutcome::Pending
    }
}

/// Uses up one of so many; says whether there was one left.
fn used_up(left: &mut u32) -> bool {
    match left.checked_sub(1) {
        Some(fewer) => {
            *left = fewer;
            true
        }
        None => false,
    }
}

fn lost() -> String {
    "the gateway did not answer in time".to_owned()
}

impl Book {
    /// Books without attempts; none can be closed before it is `close_delay_ms` old.
    pub(super) fn new(close_delay_ms: u64) -> Self {
        Self {
            close_delay_ms,
            ..Self::default()
        }
    }

    /// Whether the gateway has heard of the attempt.
    pub(super) fn knows(&self, attempt_id: &str) -> bool {
        self.attempts.contains_key(attempt_id)
    }

    /// How long an answer about the attempt takes, in ms.
    pub(super) fn answer_delay_ms(&self, attempt_id: &str) -> u64 {
        let attempt = self.attempts.get(attempt_id);
        attempt.map_or(0, |attempt| attempt.plan.answer_delay_ms)
    }

    /// The attempt that a refund belongs to.
    pub(super) fn attempt_of_refund(&self, refund_id: &str) -> Option<String> {
        let refund = self.refunds.get(refund_id)?;
        Some(refund.request.attempt_id.clone())
    }

    /// Opens an attempt with the faults of `plan`, unless it is known already.
    pub(super) fn create(
        &mut self,
        account_id: &str,
        request: &CreateRequest,
        plan: AttemptPlan,
        now_ms: u64,
    ) -> CreateOutcome {
        if !self.attempts.contains_key(&request.attempt_id) {
            self.remember(account_id, &request.attempt_id, plan, now_ms);
        }
        let Some(attempt) = self.attempts.get_mut(&request.attempt_id) else {
            return CreateOutcome::Unknown { reason: lost() };
        };
        if used_up(&mut attempt.plan.unreached_creates) {
            return CreateOutcome::Unknown { reason: lost() };
        }
        if let Some(known) = &attempt.request
            && known != request
        {
            let reason = "the attempt exists with other contents".to_owned();
            return CreateOutcome::Rejected { reason };
        }
        if attempt.closed_at_ms.is_some() || attempt.account_id != account_id {
            let reason = "the attempt has been closed".to_owned();
            return CreateOutcome::Rejected { reason };
        }
        if attempt.plan.create_refused {
            attempt.closed_at_ms.get_or_insert(now_ms);
            let reason = "the gateway takes no payments of this kind".to_owned();
            return CreateOutcome::Rejected { reason };
        }
        attempt.request.get_or_insert_with(|| request.clone());
        if used_up(&mut attempt.plan.unknown_creates) {
            return CreateOutcome::Unknown { reason: lost() };
        }
        CreateOutcome::Created {
            gateway_ref: Some(format!("sim_{}", request.attempt_id)),
            pay_url: Some(format!("/v1/simulator/attempts/{}/pay", request.attempt_id)),
        }
    }

    /// Says what has become of the attempt.
    pub(super) fn query(
        &mut self,
        account_id: &str,
        attempt_id: &str,
        now_ms: u64,
    ) -> QueryOutcome {
        let Some(attempt) = self.attempts.get_mut(attempt_id) else {
            return QueryOutcome::NotFound;
        };
        if attempt.account_id != account_id {
            return QueryOutcome::NotFound;
        }
        if used_up(&mut attempt.plan.unknown_queries) {
            return QueryOutcome::Unknown { reason: lost() };
        }
        if attempt.request.is_none() && attempt.closed_at_ms.is_none() {
            return QueryOutcome::NotFound;
        }
        attempt.state(now_ms)
    }

    /// Closes the attempt. One never heard of is closed too, so that a request still under way cannot open it.
    pub(super) fn close(
        &mut self,
        account_id: &str,
        attempt_id: &str,
        now_ms: u64,
    ) -> CloseOutcome {
        if !self.attempts.contains_key(attempt_id) {
            self.remember(account_id, attempt_id, AttemptPlan::default(), now_ms);
        }
        let close_delay_ms = self.close_delay_ms;
        let known = self.attempts.get(attempt_id);
        if known.is_none_or(|attempt| attempt.account_id != account_id) {
            let reason = "the account has no such attempt".to_owned();
            return CloseOutcome::Unknown { reason };
        }
        let pays_now = self.attempts.get_mut(attempt_id).is_some_and(|attempt| {
            attempt.state(now_ms) == QueryOutcome::Pending
                && std::mem::take(&mut attempt.plan.paid_while_closing)
        });
        if pays_now {
            // The buyer won the race; an error would mean that the attempt is not pending after all.
            let _ = self.pay(attempt_id, &PayRequest::default(), now_ms);
        }
        let Some(attempt) = self.attempts.get_mut(attempt_id) else {
            return CloseOutcome::Unknown { reason: lost() };
        };
        let outcome = close_attempt(attempt, close_delay_ms, now_ms);
        if used_up(&mut attempt.plan.unknown_closes) {
            return CloseOutcome::Unknown { reason: lost() };
        }
        outcome
    }

    /// Takes a buyer's money.
    pub(super) fn pay(
        &mut self,
        attempt_id: &str,
        pay: &PayRequest,
        now_ms: u64,
    ) -> Result<PayResult, PayRefused> {
        let unknown = PayRefused::UnknownAttempt;
        let Some(attempt) = self.attempts.get_mut(attempt_id) else {
            return Err(unknown);
        };
        let request = attempt.request.as_ref().ok_or(unknown)?;
        if !pay.forced {
            match attempt.state(now_ms) {
                QueryOutcome::Pending => {}
                QueryOutcome::Closed => return Err(PayRefused::Closed),
                _ => return Err(PayRefused::AlreadyPaid),
            }
        }
        let plan = &attempt.plan;
        let asked = &request.money;
        let drawn = plan.currency.as_ref().unwrap_or(&asked.currency);
        let number = attempt.payments.len() + 1;
        let paid = Paid {
            transaction_id: format!("txn_{}_{number}", without_prefix(attempt_id)),
            money: Money {
                amount: pay
                    .amount
                    .unwrap_or_else(|| asked.amount.saturating_add(plan.amount_delta)),
                currency: pay.currency.as_ref().unwrap_or(drawn).clone(),
            },
            paid_at_ms: now_ms.saturating_add(plan.payment_ms),
        };
        attempt.payments.push(paid.clone());
        let callback = Callback {
            account_id: attempt.account_id.clone(),
            attempt_id: attempt_id.to_owned(),
            event_id: format!("evt_{}", paid.transaction_id),
            body: Body::paid(attempt_id, &paid).to_bytes(),
            tries: 0,
        };
        self.queue.add(callback, plan, paid.paid_at_ms);
        Ok(PayResult {
            under_way: paid.paid_at_ms > now_ms,
            paid,
        })
    }

    /// Gives money back.
    pub(super) fn refund(
        &mut self,
        account_id: &str,
        request: &RefundRequest,
        now_ms: u64,
    ) -> RefundOutcome {
        let reject = |reason: &str| RefundOutcome::Rejected {
            reason: reason.to_owned(),
        };
        if let Some(known) = self.refunds.get(&request.refund_id) {
            if known.request != *request {
                return reject("the refund exists with other contents");
            }
            if known.state != RefundState::Refused {
                return known.state.outcome(now_ms);
            }
        }
        let left = self.refundable(account_id, request, now_ms);
        let Some(attempt) = self.attempts.get_mut(&request.attempt_id) else {
            return reject("the account has no such transaction");
        };
        match left {
            None => return reject("the account has no such transaction"),
            Some(left) if request.money.amount <= 0 || request.money.amount > left => {
                return reject("more than the payment has left");
            }
            Some(_) => {}
        }
        let state = if used_up(&mut attempt.plan.refund_refusals) {
            RefundState::Refused
        } else if attempt.plan.refund_stuck {
            RefundState::Stuck
        } else {
            let at_ms = now_ms.saturating_add(attempt.plan.refund_ms);
            RefundState::Done { at_ms }
        };
        let answer_is_lost = used_up(&mut attempt.plan.unknown_refunds);
        if !attempt.refunds.contains(&request.refund_id) {
            attempt.refunds.push(request.refund_id.clone());
        }
        let known = Refund {
            request: request.clone(),
            state,
        };
        self.refunds.insert(request.refund_id.clone(), known);
        self.announce_refund(&request.refund_id);
        if answer_is_lost {
            return RefundOutcome::Unknown { reason: lost() };
        }
        state.outcome(now_ms)
    }

    /// Says what has become of a refund.
    pub(super) fn query_refund(
        &self,
        account_id: &str,
        refund_id: &str,
        now_ms: u64,
    ) -> RefundStatus {
        let known = self.refunds.get(refund_id).filter(|refund| {
            let attempt = self.attempts.get(&refund.request.attempt_id);
            attempt.is_some_and(|attempt| attempt.account_id == account_id)
        });
        match known.map(|refund| refund.state) {
            None => RefundStatus::NotFound,
            Some(RefundState::Refused) => RefundStatus::Retryable {
                reason: NO_BALANCE.to_owned(),
            },
            Some(RefundState::Done { at_ms }) if at_ms <= now_ms => RefundStatus::Succeeded {
                refunded_at_ms: at_ms,
            },
            Some(_) => RefundStatus::Processing,
        }
    }

    /// Lets a stuck refund end now; says whether there was one.
    pub(super) fn free_refund(&mut self, refund_id: &str, now_ms: u64) -> bool {
        let Some(refund) = self.refunds.get_mut(refund_id) else {
            return false;
        };
        if refund.state != RefundState::Stuck {
            return false;
        }
        refund.state = RefundState::Done { at_ms: now_ms };
        self.announce_refund(refund_id);
        true
    }

    /// Replaces the faults of the attempt from now on.
    pub(super) fn set_plan(&mut self, attempt_id: &str, plan: AttemptPlan) -> bool {
        let attempt = self.attempts.get_mut(attempt_id);
        attempt.map(|attempt| attempt.plan = plan).is_some()
    }

    /// What the gateway's own staff would see of the attempt.
    pub(super) fn view(&self, attempt_id: &str, now_ms: u64) -> Option<AttemptView> {
        let attempt = self.attempts.get(attempt_id)?;
        let mut refunded = 0;
        for refund in self.refunds_of(attempt) {
            if matches!(refund.state, RefundState::Done { at_ms } if at_ms <= now_ms) {
                refunded += refund.request.money.amount;
            }
        }
        Some(AttemptView {
            state: attempt.state(now_ms),
            payments: attempt.payments.clone(),
            refunded,
        })
    }

    fn remember(&mut self, account_id: &str, attempt_id: &str, plan: AttemptPlan, now_ms: u64) {
        let attempt = Attempt {
            account_id: account_id.to_owned(),
            request: None,
            created_at_ms: now_ms,
            closed_at_ms: None,
            payments: Vec::new(),
            refunds: Vec::new(),
            plan,
        };
        self.insert(attempt_id, attempt);
    }

    /// Adds an attempt, and forgets the oldest if there are too many.
    fn insert(&mut self, attempt_id: &str, attempt: Attempt) {
        self.attempts.insert(attempt_id.to_owned(), attempt);
        self.order.push_back(attempt_id.to_owned());
        if self.order.len() > ATTEMPTS_MAX
            && let Some(oldest) = self.order.pop_front()
            && let Some(forgotten) = self.attempts.remove(&oldest)
        {
            for refund_id in forgotten.refunds {
                self.refunds.remove(&refund_id);
            }
        }
    }

    fn refunds_of<'a>(&'a self, attempt: &'a Attempt) -> impl Iterator<Item = &'a Refund> {
        attempt
            .refunds
            .iter()
            .filter_map(|refund_id| self.refunds.get(refund_id))
    }

    /// How much of the transaction can still be given back; `None` if the account has no such money.
    fn refundable(&self, account_id: &str, request: &RefundRequest, now_ms: u64) -> Option<i64> {
        let attempt = self.attempts.get(&request.attempt_id)?;
        let paid = attempt.payments.iter().find(|paid| {
            paid.transaction_id == request.transaction_id
                && paid.paid_at_ms <= now_ms
                && paid.money.currency == request.money.currency
        })?;
        if attempt.account_id != account_id {
            return None;
        }
        let mut left = paid.money.amount;
        for refund in self.refunds_of(attempt) {
            let other = refund.request.refund_id != request.refund_id;
            let same = refund.request.transaction_id == request.transaction_id;
            if other && same && refund.state != RefundState::Refused {
                left = left.saturating_sub(refund.request.money.amount);
            }
        }
        Some(left)
    }

    fn announce_refund(&mut self, refund_id: &str) {
        let Some(refund) = self.refunds.get(refund_id) else {
            return;
        };
        let RefundState::Done { at_ms } = refund.state else {
            return;
        };
        let attempt_id = &refund.request.attempt_id;
        let Some(attempt) = self.attempts.get(attempt_id) else {
            return;
        };
        let callback = Callback {
            account_id: attempt.account_id.clone(),
            attempt_id: attempt_id.clone(),
            event_id: format!("evt_{}", without_prefix(refund_id)),
            body: Body::refunded(refund_id, at_ms).to_bytes(),
            tries: 0,
        };
        self.queue.add(callback, &attempt.plan, at_ms);
    }
}

const NO_BALANCE: &str = "the account has not enough balance";

impl RefundState {
    fn outcome(self, now_ms: u64) -> RefundOutcome {
        match self {
            Self::Refused => RefundOutcome::Retryable {
                reason: NO_BALANCE.to_owned(),
            },
            Self::Done { at_ms } if at_ms <= now_ms => RefundOutcome::Succeeded {
                refunded_at_ms: at_ms,
            },
            Self::Stuck | Self::Done { .. } => RefundOutcome::Accepted,
        }
    }
}

fn close_attempt(attempt: &mut Attempt, close_delay_ms: u64, now_ms: u64) -> CloseOutcome {
    let closable_at_ms = attempt.created_at_ms.saturating_add(close_delay_ms);
    match attempt.state(now_ms) {
        QueryOutcome::Paid(_) => CloseOutcome::AlreadyPaid,
        QueryOutcome::Processing => {
            let ends_at_ms = attempt.payments.iter().map(|paid| paid.paid_at_ms).min();
            let retry_after_ms =
                ends_at_ms.map_or(CLOSE_AGAIN_MS, |at_ms| at_ms.saturating_sub(now_ms));
            CloseOutcome::NotClosable { retry_after_ms }
        }
        QueryOutcome::Pending if now_ms < closable_at_ms => CloseOutcome::NotClosable {
            retry_after_ms: closable_at_ms - now_ms,
        },
        _ => {
            attempt.closed_at_ms.get_or_insert(now_ms);
            CloseOutcome::Closed
        }
    }
}

fn without_prefix(id: &str) -> &str {
    id.split_once('_').map_or(id, |(_, rest)| rest)
}
