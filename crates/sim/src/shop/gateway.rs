//! Provides the payment gateway of a simulated shop: it loses calls and answers, takes money that was not asked for, and
//! keeps a book of all it took and gave back.

use std::collections::BTreeMap;

use async_trait::async_trait;
use http::HeaderMap;
use orders::gateway::{
    Ack, CallbackError, CallbackEvent, CallbackKind, Capabilities, CloseOutcome, CreateOutcome,
    CreateRequest, Gateway, Money, Paid, QueryOutcome, RefundOutcome, RefundRequest, RefundStatus,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::shop::plan::{GatewayFaults, ShopCanary, ShopPlan};
use crate::shop::scene::{Report, Stage};

/// A currency that no payment can have.
const UNREADABLE: &str = "eur";

/// An attempt as the gateway knows it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) order_id: String,
    money: Money,
    expires_at_ms: u64,
    closed: bool,
    pub(crate) payments: Vec<Paid>,
}

/// A refund as the gateway knows it.
#[derive(Clone, Debug)]
pub(crate) struct GivenBack {
    pub(crate) transaction_id: String,
    pub(crate) amount: i64,
    pub(crate) state: GivenState,
}

/// What has become of a refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GivenState {
    UnderWay,
    Done,
    Refused,
}

/// The gateway's book.
#[derive(Debug)]
pub(crate) struct Book {
    faults: GatewayFaults,
    random: StdRng,
    canary: Option<ShopCanary>,
    pub(crate) attempts: BTreeMap<String, Entry>,
    /// Attempts that were closed before they were opened.
    shut: Vec<String>,
    pub(crate) refunds: BTreeMap<String, GivenBack>,
    /// Refunds that failed after they were done; their callbacks may come at any time, and again.
    pub(crate) failed_refunds: Vec<String>,
    next_txn: u64,
    /// What the platform did that no platform may do.
    pub(crate) misuse: Option<String>,
}

impl Book {
    pub(crate) fn new(plan: &ShopPlan) -> Self {
        Self {
            faults: plan.gateway,
            random: StdRng::seed_from_u64(plan.seed ^ 0x7111),
            canary: plan.canary,
            attempts: BTreeMap::new(),
            shut: Vec::new(),
            refunds: BTreeMap::new(),
            failed_refunds: Vec::new(),
            next_txn: 0,
            misuse: None,
        }
    }

    /// From now on it answers well, and names the right currency of half of what it named wrongly.
    pub(crate) fn calm(&mut self) {
        self.faults = GatewayFaults::default();
        let payments = self
            .attempts
            .values_mut()
            .flat_map(|entry| &mut entry.payments);
        for paid in payments.step_by(2) {
            if paid.money.currency == UNREADABLE {
                "EUR".clone_into(&mut paid.money.currency);
            }
        }
    }

    /// Some attempt is paid: mostly in full and in time, now and then wrongly, too late or twice.
    ///
    /// Answers what the gateway has to report then. It answers a question with the first payment of an attempt, so only
    /// that one's callback may be lost, and only while there is no second one.
    pub(crate) fn pay_some(&mut self, rng: &mut StdRng, now_ms: u64) -> Vec<Report> {
        let Some((attempt_id, entry)) = self.some_attempt(rng, now_ms) else {
            return Vec::new();
        };
        let may_be_lost =
            !entry.closed && entry.payments.is_empty() && now_ms < entry.expires_at_ms;
        let mut money = entry.money.clone();
        if rng.random_bool(0.02) {
            "USD".clone_into(&mut money.currency);
        } else if self.strikes(|faults| faults.unreadable) {
            UNREADABLE.clone_into(&mut money.currency);
        } else if rng.random_bool(0.08) {
            money.amount = rng.random_range(1..3_000);
        }
        self.next_txn += 1;
        let paid = Paid {
            transaction_id: format!("txn-{}", self.next_txn),
            money,
            paid_at_ms: now_ms,
        };
        let Some(entry) = self.attempts.get_mut(&attempt_id) else {
            return Vec::new();
        };
        entry.payments.push(paid);
        let report = |paid: &Paid| Report {
            attempt_id: attempt_id.clone(),
            paid: paid.clone(),
            may_be_lost,
        };
        entry.payments.iter().map(report).collect()
    }

    /// An attempt that a buyer pays: mostly one that takes money.
    fn some_attempt(&self, rng: &mut StdRng, now_ms: u64) -> Option<(String, Entry)> {
        if self.attempts.is_empty() {
            return None;
        }
        let back = rng.random_range(0..std::cmp::min(self.attempts.len(), 8));
        let forced = rng.random_bool(0.1);
        let (attempt_id, entry) = self.attempts.iter().rev().nth(back)?;
        let open = !entry.closed && entry.payments.is_empty() && now_ms < entry.expires_at_ms;
        (forced || open).then(|| (attempt_id.clone(), entry.clone()))
    }

    fn strikes(&mut self, likelihood: impl Fn(&GatewayFaults) -> f64) -> bool {
        let likelihood = likelihood(&self.faults);
        likelihood > 0.0 && self.random.random_bool(likelihood)
    }

    /// Opens an attempt, unless it was closed before; says whether it is open.
    fn open(&mut self, request: &CreateRequest) -> bool {
        if self.shut.contains(&request.attempt_id) {
            return false;
        }
        self.attempts
            .entry(request.attempt_id.clone())
            .or_insert_with(|| Entry {
                order_id: request.order_id.clone(),
                money: request.money.clone(),
                expires_at_ms: request.expires_at_ms,
                closed: false,
                payments: Vec::new(),
            });
        true
    }

    fn look_up(&mut self, attempt_id: &str, now_ms: u64) -> QueryOutcome {
        let forgets = self.canary == Some(ShopCanary::MoneyForgotten);
        let Some(entry) = self.attempts.get_mut(attempt_id) else {
            return QueryOutcome::NotFound;
        };
        match entry.payments.first() {
            Some(paid) if !forgets => QueryOutcome::Paid(paid.clone()),
            _ if entry.closed || now_ms >= entry.expires_at_ms => {
                // Once said, it stays so, whatever the clock does.
                entry.closed = true;
                QueryOutcome::Closed
            }
            _ => QueryOutcome::Pending,
        }
    }

    fn close(&mut self, attempt_id: &str) -> CloseOutcome {
        let forgets = self.canary == Some(ShopCanary::MoneyForgotten);
        match self.attempts.get_mut(attempt_id) {
            None => {
                self.shut.push(attempt_id.to_owned());
                CloseOutcome::Closed
            }
            Some(entry) if !entry.payments.is_empty() && !forgets => CloseOutcome::AlreadyPaid,
            Some(entry) => {
                entry.closed = true;
                CloseOutcome::Closed
            }
        }
    }

    /// Gives money back, once per refund number; says what has become of it.
    fn give_back(&mut self, request: &RefundRequest) -> GivenState {
        if let Some(known) = self.refunds.get(&request.refund_id) {
            if known.amount != request.money.amount
                || known.transaction_id != request.transaction_id
            {
                self.misuse = Some(format!(
                    "refund {} was sent again with other terms",
                    request.refund_id
                ));
            }
            return known.state;
        }
        let state = if self.strikes(|faults| faults.refund_refused) {
            GivenState::Refused
        } else if self.strikes(|faults| faults.refund_takes_time) {
            GivenState::UnderWay
        } else {
            GivenState::Done
        };
        let given = GivenBack {
            transaction_id: request.transaction_id.clone(),
            amount: request.money.amount,
            state,
        };
        if self.canary != Some(ShopCanary::RefundForgotten) {
            self.refunds.insert(request.refund_id.clone(), given);
        }
        state
    }

    /// Some refund that was done fails, if the fault strikes.
    pub(crate) fn fail_some_refund(&mut self) {
        if !self.strikes(|faults| faults.refund_fails_later) {
            return;
        }
        let back = self.random.random_range(0..4);
        let done = self.refunds.iter_mut().rev();
        let mut done = done.filter(|(_, given)| given.state == GivenState::Done);
        if let Some((id, given)) = done.nth(back) {
            given.state = GivenState::Refused;
            self.failed_refunds.push(id.clone());
        }
    }

    fn refund_state(&mut self, refund_id: &str) -> Option<GivenState> {
        let slow = self.strikes(|faults| faults.refund_takes_time);
        if self.canary == Some(ShopCanary::RefundForgotten) {
            return Some(GivenState::Done);
        }
        let given = self.refunds.get_mut(refund_id)?;
        if given.state == GivenState::UnderWay && !slow {
            given.state = GivenState::Done;
        }
        Some(given.state)
    }
}

/// The gateway, on its stage.
pub(crate) struct ShopGateway(pub(crate) Stage);

impl ShopGateway {
    /// Whether a fault of this likelihood strikes.
    fn strikes(&self, likelihood: impl Fn(&GatewayFaults) -> f64) -> bool {
        self.0.scene().book.strikes(likelihood)
    }

    fn now_ms(&self) -> u64 {
        self.0.host.machine().now_ms()
    }

    /// The call is on its way; whether it is lost there.
    async fn is_lost(&self) -> bool {
        self.0.go_on().await;
        self.strikes(|faults| faults.loses_call)
    }

    /// The answer is on its way; whether it is lost there.
    async fn answer_is_lost(&self) -> bool {
        self.0.go_on().await;
        self.strikes(|faults| faults.loses_answer)
    }
}

fn lost() -> String {
    "a fault of the simulation".to_owned()
}

/// The body of the callback that reports the money.
pub(crate) fn callback(attempt_id: &str, paid: &Paid) -> Vec<u8> {
    let Paid {
        transaction_id,
        money,
        paid_at_ms,
    } = paid;
    format!(
        "{attempt_id} {transaction_id} {} {} {paid_at_ms}",
        money.amount, money.currency
    )
    .into_bytes()
}

/// The body of the callback that reports that a refund has failed.
pub(crate) fn refund_callback(refund_id: &str) -> Vec<u8> {
    format!("refund {refund_id}").into_bytes()
}

fn read_callback(raw_body: &[u8]) -> Option<CallbackEvent> {
    let text = std::str::from_utf8(raw_body).ok()?;
    if let Some(refund_id) = text.strip_prefix("refund ") {
        let refund_id = refund_id.to_owned();
        let event_id = refund_id.clone();
        let status = RefundStatus::Failed { reason: lost() };
        let kind = CallbackKind::Refund { refund_id, status };
        return Some(CallbackEvent { event_id, kind });
    }
    let mut parts = text.split(' ');
    let attempt_id = parts.next()?.to_owned();
    let transaction_id = parts.next()?.to_owned();
    let amount = parts.next()?.parse().ok()?;
    let currency = parts.next()?.to_owned();
    let paid_at_ms = parts.next()?.parse().ok()?;
    let event_id = transaction_id.clone();
    let paid = Paid {
        transaction_id,
        money: Money { amount, currency },
        paid_at_ms,
    };
    let kind = CallbackKind::Paid { attempt_id, paid };
    Some(CallbackEvent { event_id, kind })
}

#[async_trait]
impl Gateway for ShopGateway {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            can_close: true,
            close_delay_ms: 0,
            partial_refund: true,
            expiry_min_ms: 0,
            expiry_max_ms: 30 * 86_400_000,
            refund_query_delay_ms: 0,
            queries_per_second: None,
        }
    }

    async fn create(&self, request: &CreateRequest) -> CreateOutcome {
        if self.is_lost().await {
            return CreateOutcome::Unknown { reason: lost() };
        }
        let opened = self.0.scene().book.open(request);
        if self.answer_is_lost().await {
            return CreateOutcome::Unknown { reason: lost() };
        }
        if !opened {
            let reason = "it was closed before".to_owned();
            return CreateOutcome::Rejected { reason };
        }
        CreateOutcome::Created {
            gateway_ref: Some(format!("test-{}", request.attempt_id)),
            pay_url: None,
        }
    }

    async fn query(&self, attempt_id: &str) -> QueryOutcome {
        if self.is_lost().await {
            return QueryOutcome::Unknown { reason: lost() };
        }
        let now_ms = self.now_ms();
        let outcome = self.0.scene().book.look_up(attempt_id, now_ms);
        // The answer may be old when it arrives.
        if self.answer_is_lost().await {
            return QueryOutcome::Unknown { reason: lost() };
        }
        outcome
    }

    async fn close(&self, attempt_id: &str) -> CloseOutcome {
        if self.is_lost().await {
            return CloseOutcome::Unknown { reason: lost() };
        }
        if self.strikes(|faults| faults.not_closable) {
            return CloseOutcome::NotClosable {
                retry_after_ms: 3_000,
            };
        }
        let outcome = self.0.scene().book.close(attempt_id);
        if self.answer_is_lost().await {
            return CloseOutcome::Unknown { reason: lost() };
        }
        outcome
    }

    async fn refund(&self, request: &RefundRequest) -> RefundOutcome {
        if self.is_lost().await {
            return RefundOutcome::Unknown { reason: lost() };
        }
        if self.strikes(|faults| faults.refund_waits) {
            return RefundOutcome::Retryable { reason: lost() };
        }
        let state = self.0.scene().book.give_back(request);
        if self.answer_is_lost().await {
            return RefundOutcome::Unknown { reason: lost() };
        }
        match state {
            GivenState::UnderWay => RefundOutcome::Accepted,
            GivenState::Refused => RefundOutcome::Rejected { reason: lost() },
            GivenState::Done => RefundOutcome::Succeeded {
                refunded_at_ms: self.now_ms(),
            },
        }
    }

    async fn query_refund(&self, refund_id: &str) -> RefundStatus {
        if self.is_lost().await {
            return RefundStatus::Unknown { reason: lost() };
        }
        let state = self.0.scene().book.refund_state(refund_id);
        if self.answer_is_lost().await {
            return RefundStatus::Unknown { reason: lost() };
        }
        match state {
            None => RefundStatus::NotFound,
            Some(GivenState::UnderWay) => RefundStatus::Processing,
            Some(GivenState::Refused) => RefundStatus::Failed { reason: lost() },
            Some(GivenState::Done) => RefundStatus::Succeeded {
                refunded_at_ms: self.now_ms(),
            },
        }
    }

    fn verify_callback(
        &self,
        _: &HeaderMap,
        raw_body: &[u8],
        _: u64,
    ) -> Result<CallbackEvent, CallbackError> {
        read_callback(raw_body).ok_or(CallbackError::Signature)
    }

    fn ack_body(&self) -> Ack {
        Ack {
            content_type: "text/plain",
            body: "ok",
        }
    }
}
