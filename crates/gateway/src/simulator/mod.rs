//! Provides the payment gateway simulator that ships with Duetime: stateful, in-process, and faulty on demand.
//!
//! A [`Simulator`] plays the gateway and its buyers. [`Simulator::gateway`] gives the platform's side of one
//! account; [`Simulator::pay`] is a buyer; [`Simulator::run`] sends the signed callbacks. Its books are kept in
//! memory, with [`Simulator::open`] in a file too. Closing an attempt that it does not know closes it for good.

mod account;
mod book;
mod callback;
mod delivery;
mod faults;
mod http_sink;
mod journal;
mod queue;
mod signature;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clock::Clock;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use self::book::Book;
use self::journal::Journal;
use self::signature::Secret;
use crate::{Paid, QueryOutcome};

pub use self::account::SimulatedGateway;
pub use self::delivery::{CallbackSink, Delivery, NotAcknowledged};
pub use self::faults::{AttemptPlan, Faults};
pub use self::http_sink::HttpSink;
pub use self::signature::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, TOLERANCE_MS};

/// The kind of gateway of the accounts at a simulator.
pub const GATEWAY_NAME: &str = "simulator";

/// How a simulator behaves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimulatorConfig {
    /// What the faults are drawn from.
    pub seed: u64,
    /// How likely each fault is.
    pub faults: Faults,
    /// No attempt can be closed before it is this old, in ms; 300,000 is usual where the rule exists, 0 for no such rule.
    pub close_delay_ms: u64,
}

/// What a buyer does with an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PayRequest {
    /// Pays this many minor units and not what was asked.
    pub amount: Option<i64>,
    /// Pays in this currency and not in the one asked for.
    pub currency: Option<String>,
    /// Pays although the attempt is closed or paid: money that arrives too late, or twice.
    pub forced: bool,
}

/// The gateway has taken a buyer's order to pay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayResult {
    /// The money has not been taken yet; `paid.paid_at_ms` is ahead.
    pub under_way: bool,
    /// The transaction.
    pub paid: Paid,
}

/// Why a buyer cannot pay.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PayRefused {
    /// The gateway has no such attempt.
    #[error("the gateway has no such attempt")]
    UnknownAttempt,
    /// The attempt was closed or has expired.
    #[error("the attempt is closed")]
    Closed,
    /// The attempt is paid, or a payment is under way.
    #[error("the attempt is paid already")]
    AlreadyPaid,
}

/// What the gateway knows of an attempt, for tests and reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptView {
    /// What a query without faults would answer.
    pub state: QueryOutcome,
    /// All its transactions, those under way too.
    pub payments: Vec<Paid>,
    /// How much has been given back, in minor units.
    pub refunded: i64,
}

/// The simulated gateway; clones are the same gateway.
#[derive(Clone)]
pub struct Simulator {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    config: SimulatorConfig,
    secret: Secret,
    // A std lock: each call is a few look-ups in memory, never held across an await.
    book: Mutex<Book>,
    /// Locked only while `book` is.
    journal: Mutex<Option<Journal>>,
    /// Plans that wait for an attempt of the order, by order id; never locked together with `book`.
    scripts: Mutex<HashMap<String, AttemptPlan>>,
    /// Notified when a callback was queued.
    queued: Notify,
}

impl Simulator {
    /// A gateway without attempts; the secrets of its accounts are derived from `secret`.
    pub fn new(config: SimulatorConfig, secret: &[u8], clock: Arc<dyn Clock>) -> Self {
        let book = Book::new(config.close_delay_ms);
        let shared = Shared {
            clock,
            config,
            secret: Secret::new(secret),
            book: Mutex::new(book),
            journal: Mutex::default(),
            scripts: Mutex::default(),
            queued: Notify::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// A gateway whose books are in the file too, with the attempts that are there.
    ///
    /// Callbacks that were not acknowledged before the last stop are not sent.
    pub fn open(
        config: SimulatorConfig,
        secret: &[u8],
        clock: Arc<dyn Clock>,
        file: &Path,
    ) -> io::Result<Self> {
        let simulator = Self::new(config, secret, clock);
        let journal = {
            let mut book = simulator.book();
            Journal::open(file, simulator.shared.config.seed, &mut book)?
        };
        *lock(&simulator.shared.journal) = Some(journal);
        Ok(simulator)
    }

    /// Changes the books, and writes down what they say of the attempt then.
    fn change<T>(&self, attempt_id: &str, change: impl FnOnce(&mut Book) -> T) -> T {
        let mut book = self.book();
        let changed = change(&mut book);
        if let Some(journal) = lock(&self.shared.journal).as_mut() {
            journal.add(&book, attempt_id);
        }
        changed
    }

    /// The platform's side of one account.
    pub fn gateway(&self, account_id: &str) -> SimulatedGateway {
        SimulatedGateway::new(self.clone(), account_id.to_owned())
    }

    /// Pays an attempt, as its buyer.
    pub fn pay(&self, attempt_id: &str, pay: &PayRequest) -> Result<PayResult, PayRefused> {
        let now_ms = self.shared.clock.now_ms();
        let result = self.change(attempt_id, |book| book.pay(attempt_id, pay, now_ms));
        self.shared.queued.notify_one();
        result
    }

    /// Sets the faults of an attempt from now on; answers whether the gateway knows it.
    pub fn script_attempt(&self, attempt_id: &str, plan: AttemptPlan) -> bool {
        self.change(attempt_id, |book| book.set_plan(attempt_id, plan))
    }

    /// Sets the faults of the next attempt of an order, in place of those that would be drawn.
    pub fn script_order(&self, order_id: &str, plan: AttemptPlan) {
        let mut scripts = lock(&self.shared.scripts);
        scripts.insert(order_id.to_owned(), plan);
    }

    /// Ends a stuck refund now; answers whether there was one.
    pub fn free_refund(&self, refund_id: &str) -> bool {
        let now_ms = self.shared.clock.now_ms();
        let attempt_id = self.book().attempt_of_refund(refund_id);
        let attempt_id = attempt_id.unwrap_or_default();
        let freed = self.change(&attempt_id, |book| book.free_refund(refund_id, now_ms));
        self.shared.queued.notify_one();
        freed
    }

    /// How many callbacks wait to be sent or acknowledged; 0 once the platform has acknowledged all.
    pub fn callbacks_waiting(&self) -> usize {
        self.book().queue.len()
    }

    /// What the gateway knows of an attempt.
    pub fn attempt(&self, attempt_id: &str) -> Option<AttemptView> {
        let now_ms = self.shared.clock.now_ms();
        self.book().view(attempt_id, now_ms)
    }

    /// The faults of an attempt that is about to be opened; a repeated request uses up no script.
    fn plan_for(&self, order_id: &str, attempt_id: &str) -> AttemptPlan {
        if self.book().knows(attempt_id) {
            return AttemptPlan::default();
        }
        let scripted = lock(&self.shared.scripts).remove(order_id);
        let config = &self.shared.config;
        scripted.unwrap_or_else(|| AttemptPlan::draw(&config.faults, config.seed, attempt_id))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.shared.book)
    }
}

impl std::fmt::Debug for Simulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The books may be large and the secret must not be shown.
        f.debug_struct("Simulator")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

/// Every call leaves the books valid before it could panic, so a poisoned lock is as good as another.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
