//! A payment gateway for tests: every call waits at a gate, and each fault has its likelihood.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use broker::clock::{Clock, ManualClock};
use http::HeaderMap;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::tests::gate::Gates;
use gateway::{
    Ack, CallbackError, CallbackEvent, CallbackKind, Capabilities, CloseOutcome, CreateOutcome,
    CreateRequest, Gateway, Money, Paid, QueryOutcome, RefundOutcome, RefundRequest, RefundStatus,
};

/// How likely each bad answer is, 0 to 1.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GatewayFaults {
    /// A call is lost on its way: nothing happens and no answer comes.
    pub(crate) loses_call: f64,
    /// A call is done and its answer is lost.
    pub(crate) loses_answer: f64,
    /// A refund cannot be done now.
    pub(crate) refund_waits: f64,
    /// A refund is refused for good.
    pub(crate) refund_refused: f64,
}

/// The gateway. Clones are the same gateway.
#[derive(Clone)]
pub(crate) struct TestGateway {
    clock: ManualClock,
    gates: Gates,
    state: Arc<Mutex<Book>>,
}

struct Book {
    faults: GatewayFaults,
    random: StdRng,
    attempts: BTreeMap<String, Entry>,
    /// Attempts that were closed before they were opened.
    refused: Vec<String>,
    refunds: BTreeMap<String, i64>,
    /// Refunds that failed, some of them after they had succeeded.
    failed_refunds: BTreeSet<String>,
    next_txn: u64,
    /// How often it was asked about an attempt or to close one.
    asked: usize,
}

struct Entry {
    money: Money,
    expires_at_ms: u64,
    closed: bool,
    payments: Vec<Paid>,
}

impl TestGateway {
    pub(crate) fn new(clock: ManualClock, gates: Gates, seed: u64) -> Self {
        let book = Book {
            faults: GatewayFaults::default(),
            random: StdRng::seed_from_u64(seed),
            attempts: BTreeMap::new(),
            refused: Vec::new(),
            refunds: BTreeMap::new(),
            failed_refunds: BTreeSet::new(),
            next_txn: seed << 20,
            asked: 0,
        };
        let state = Arc::new(Mutex::new(book));
        Self {
            clock,
            gates,
            state,
        }
    }

    pub(crate) fn set_faults(&self, faults: GatewayFaults) {
        self.book().faults = faults;
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buyer pays; `forced` money comes whatever the state of the attempt. `None` if the gateway refuses.
    pub(crate) fn pay(&self, attempt_id: &str, money: Option<Money>, forced: bool) -> Option<Paid> {
        let now_ms = self.clock.now_ms();
        let mut book = self.book();
        book.next_txn += 1;
        let transaction_id = format!("txn-{}", book.next_txn);
        let entry = book.attempts.get_mut(attempt_id)?;
        let open = !entry.closed && entry.payments.is_empty() && now_ms < entry.expires_at_ms;
        if !open && !forced {
            return None;
        }
        let paid = Paid {
            transaction_id,
            money: money.unwrap_or_else(|| entry.money.clone()),
            paid_at_ms: now_ms,
        };
        entry.payments.push(paid.clone());
        Some(paid)
    }

    /// Whether it takes no money for the attempt any longer.
    pub(crate) fn is_closed(&self, attempt_id: &str) -> bool {
        let book = self.book();
        book.attempts
            .get(attempt_id)
            .is_some_and(|entry| entry.closed)
    }

    /// The attempts it knows, by id.
    pub(crate) fn attempts(&self) -> Vec<String> {
        self.book().attempts.keys().cloned().collect()
    }

    /// All money it took, by attempt.
    pub(crate) fn payments(&self) -> Vec<(String, Paid)> {
        let book = self.book();
        let each = book.attempts.iter();
        each.flat_map(|(id, entry)| entry.payments.iter().map(|paid| (id.clone(), paid.clone())))
            .collect()
    }

    /// How often it was asked about an attempt or to close one.
    pub(crate) fn asked(&self) -> usize {
        self.book().asked
    }

    /// All it gave back, in minor units.
    pub(crate) fn refunded(&self) -> i64 {
        let book = self.book();
        let refunds = book.refunds.iter();
        let given = refunds.filter(|(id, _)| !book.failed_refunds.contains(*id));
        given.map(|(_, amount)| amount).sum()
    }

    /// From now on the refund has failed, whatever was said before.
    pub(crate) fn fail_refund(&self, refund_id: &str) {
        self.book().failed_refunds.insert(refund_id.to_owned());
    }

    /// The body of the callback that reports the state of a refund: `succeeded`, `failed` or `processing`.
    pub(crate) fn refund_callback(refund_id: &str, state: &str) -> Vec<u8> {
        format!("refund {refund_id} {state}").into_bytes()
    }

    /// The body of the callback that reports the money.
    pub(crate) fn callback(attempt_id: &str, paid: &Paid) -> Vec<u8> {
        format!(
            "{attempt_id} {} {} {} {}",
            paid.transaction_id, paid.money.amount, paid.money.currency, paid.paid_at_ms
        )
        .into_bytes()
    }

    /// Whether a fault of this likelihood strikes.
    fn strikes(&self, likelihood: impl Fn(&GatewayFaults) -> f64) -> bool {
        let mut book = self.book();
        let likelihood = likelihood(&book.faults);
        book.random.random_bool(likelihood)
    }
}

fn refund_event(refund_id: &str, state: &str) -> CallbackEvent {
    let status = match state {
        "succeeded" => RefundStatus::Succeeded { refunded_at_ms: 0 },
        "failed" => RefundStatus::Failed { reason: lost() },
        _ => RefundStatus::Processing,
    };
    let refund_id = refund_id.to_owned();
    CallbackEvent {
        event_id: format!("{refund_id} {state}"),
        kind: CallbackKind::Refund { refund_id, status },
    }
}

fn lost() -> String {
    "a fault of the test".to_owned()
}

#[async_trait]
impl Gateway for TestGateway {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            can_close: true,
            close_delay_ms: 0,
            partial_refund: true,
            expiry_min_ms: 0,
            expiry_max_ms: 86_400_000,
            refund_query_delay_ms: 0,
            queries_per_second: None,
        }
    }

    async fn create(&self, request: &CreateRequest) -> CreateOutcome {
        self.gates.pass().await;
        if self.strikes(|faults| faults.loses_call) {
            return CreateOutcome::Unknown { reason: lost() };
        }
        {
            let mut book = self.book();
            if book.refused.contains(&request.attempt_id) {
                let reason = "closed before".to_owned();
                return CreateOutcome::Rejected { reason };
            }
            book.attempts
                .entry(request.attempt_id.clone())
                .or_insert_with(|| Entry {
                    money: request.money.clone(),
                    expires_at_ms: request.expires_at_ms,
                    closed: false,
                    payments: Vec::new(),
                });
        }
        self.gates.pass().await;
        if self.strikes(|faults| faults.loses_answer) {
            return CreateOutcome::Unknown { reason: lost() };
        }
        CreateOutcome::Created {
            gateway_ref: Some(format!("test-{}", request.attempt_id)),
            pay_url: Some("https://pay.example".to_owned()),
        }
    }

    async fn query(&self, attempt_id: &str) -> QueryOutcome {
        self.book().asked += 1;
        self.gates.pass().await;
        if self.strikes(|faults| faults.loses_call) {
            return QueryOutcome::Unknown { reason: lost() };
        }
        let now_ms = self.clock.now_ms();
        let answer = match self.book().attempts.get(attempt_id) {
            None => QueryOutcome::NotFound,
            Some(entry) => match entry.payments.first() {
                Some(paid) => QueryOutcome::Paid(paid.clone()),
                None if entry.closed || now_ms >= entry.expires_at_ms => QueryOutcome::Closed,
                None => QueryOutcome::Pending,
            },
        };
        // The answer is old when it arrives.
        self.gates.pass().await;
        answer
    }

    async fn close(&self, attempt_id: &str) -> CloseOutcome {
        self.book().asked += 1;
        self.gates.pass().await;
        if self.strikes(|faults| faults.loses_call) {
            return CloseOutcome::Unknown { reason: lost() };
        }
        let answer = {
            let mut book = self.book();
            match book.attempts.get_mut(attempt_id) {
                None => {
                    book.refused.push(attempt_id.to_owned());
                    CloseOutcome::Closed
                }
                Some(entry) if !entry.payments.is_empty() => CloseOutcome::AlreadyPaid,
                Some(entry) => {
                    entry.closed = true;
                    CloseOutcome::Closed
                }
            }
        };
        self.gates.pass().await;
        if self.strikes(|faults| faults.loses_answer) {
            return CloseOutcome::Unknown { reason: lost() };
        }
        answer
    }

    async fn refund(&self, request: &RefundRequest) -> RefundOutcome {
        self.gates.pass().await;
        if self.strikes(|faults| faults.loses_call) {
            return RefundOutcome::Unknown { reason: lost() };
        }
        if self.strikes(|faults| faults.refund_waits) {
            return RefundOutcome::Retryable { reason: lost() };
        }
        if self.strikes(|faults| faults.refund_refused) {
            return RefundOutcome::Rejected { reason: lost() };
        }
        let amount = request.money.amount;
        let before = self
            .book()
            .refunds
            .insert(request.refund_id.clone(), amount);
        assert!(
            before.is_none_or(|before| before == amount),
            "a refund number has one amount"
        );
        self.gates.pass().await;
        if self.strikes(|faults| faults.loses_answer) {
            return RefundOutcome::Unknown { reason: lost() };
        }
        RefundOutcome::Succeeded {
            refunded_at_ms: self.clock.now_ms(),
        }
    }

    async fn query_refund(&self, refund_id: &str) -> RefundStatus {
        self.gates.pass().await;
        if self.strikes(|faults| faults.loses_call) {
            return RefundStatus::Unknown { reason: lost() };
        }
        let book = self.book();
        match book.refunds.get(refund_id) {
            None => RefundStatus::NotFound,
            Some(_) if book.failed_refunds.contains(refund_id) => {
                RefundStatus::Failed { reason: lost() }
            }
            Some(_) => RefundStatus::Succeeded {
                refunded_at_ms: self.clock.now_ms(),
            },
        }
    }

    fn verify_callback(
        &self,
        _: &HeaderMap,
        raw_body: &[u8],
        _: u64,
    ) -> Result<CallbackEvent, CallbackError> {
        let malformed = || CallbackError::Body("not of this gateway".to_owned());
        let text = std::str::from_utf8(raw_body).map_err(|_| malformed())?;
        let parts: Vec<&str> = text.split(' ').collect();
        if let ["refund", refund_id, state] = parts[..] {
            return Ok(refund_event(refund_id, state));
        }
        let [attempt_id, transaction_id, amount, currency, paid_at_ms] = parts[..] else {
            return Err(CallbackError::Signature);
        };
        let paid = Paid {
            transaction_id: transaction_id.to_owned(),
            money: Money {
                amount: amount.parse().map_err(|_| malformed())?,
                currency: currency.to_owned(),
            },
            paid_at_ms: paid_at_ms.parse().map_err(|_| malformed())?,
        };
        Ok(CallbackEvent {
            event_id: transaction_id.to_owned(),
            kind: CallbackKind::Paid {
                attempt_id: attempt_id.to_owned(),
                paid,
            },
        })
    }

    fn ack_body(&self) -> Ack {
        Ack {
            content_type: "text/plain",
            body: "ok",
        }
    }
}
