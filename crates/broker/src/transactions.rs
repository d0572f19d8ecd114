//! Provides the calls for transactions: of producers, of who asks producers, and of operators.

use std::sync::Arc;
use std::time::Duration;

use engine::{
    Check, Engine, GivenUp, NewMessage, OpenTransaction, Outcome, Prepared, TransactionHandle,
};
use storage::FjallStore;
use tokio::sync::watch;

use crate::broker::{Broker, lane};
use crate::error::Error;

impl Broker {
    /// Stores a half message: no consumer sees it until its transaction commits.
    ///
    /// `check_after` is the wait before the producer is asked, if it shall differ from the configured one.
    pub async fn prepare(
        &self,
        topic: &str,
        message: NewMessage,
        check_after: Option<Duration>,
    ) -> Result<Prepared, Error> {
        let topic: Arc<str> = Arc::from(topic);
        let check_after_ms =
            check_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        let next_check = self.next_check();
        self.with(lane(&topic), move |engine, now_ms| {
            let prepared = engine.prepare(now_ms, &topic, &message, check_after_ms)?;
            if let Some(check_ms) = engine.known_check_ms() {
                publish(&next_check, check_ms);
            }
            Ok(prepared)
        })
        .await
    }

    /// Commits a transaction, or rolls it back. Ending it the same way again gets the same answer.
    pub async fn end_transaction(
        &self,
        transaction: TransactionHandle,
        commit: bool,
    ) -> Result<Outcome, Error> {
        let work = move |engine: &mut Engine<FjallStore>, now_ms| {
            engine.end_transaction(now_ms, &transaction, commit)
        };
        self.with(u64::from(transaction.topic), work).await
    }

    /// Waits until the producers of unfinished transactions have to be asked, for `wait` at the most, and
    /// takes those transactions.
    pub async fn take_checks(
        &self,
        checks_max: usize,
        wait: Duration,
    ) -> Result<Vec<Check>, Error> {
        let clock = self.clock();
        let end_ms = clock
            .now_ms()
            .saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        let mut next_check = self.next_check().subscribe();
        loop {
            let next_ms = *next_check.borrow_and_update();
            let now_ms = clock.now_ms();
            if next_ms <= now_ms {
                let due = self.take_due_checks(checks_max).await?;
                if !due.is_empty() {
                    return Ok(due);
                }
                continue;
            }
            if end_ms <= now_ms {
                return Ok(Vec::new());
            }
            tokio::select! {
                _ = next_check.changed() => {}
                () = clock.sleep_until(std::cmp::min(next_ms, end_ms)) => {}
                _ = self.ended() => return Err(self.end()),
            }
        }
    }

    /// Takes the transactions whose checks are due, and publishes when the next one is.
    async fn take_due_checks(&self, checks_max: usize) -> Result<Vec<Check>, Error> {
        let next_check = self.next_check();
        self.with(0, move |engine, now_ms| {
            let due = engine.take_checks(now_ms, checks_max)?;
            publish(&next_check, engine.next_check_ms()?.unwrap_or(u64::MAX));
            Ok(due)
        })
        .await
    }

    /// Counts a check of each of these transactions: their producers were asked.
    pub async fn checked(&self, transactions: Vec<TransactionHandle>) -> Result<(), Error> {
        self.with(0, move |engine, now_ms| {
            engine.checked(now_ms, &transactions)
        })
        .await
    }

    /// Transactions that were given up, after `after`, of one topic or of all; ends after `transactions_max`, or after
    /// about a megabyte.
    pub async fn given_up(
        &self,
        topic: Option<String>,
        after: Option<TransactionHandle>,
        transactions_max: usize,
    ) -> Result<GivenUp, Error> {
        self.look(0, move |engine, now_ms| {
            engine.given_up(now_ms, topic.as_deref(), after, transactions_max)
        })
        .await
    }

    /// What is known of a transaction that has not ended.
    pub async fn open_transaction(
        &self,
        transaction: TransactionHandle,
    ) -> Result<OpenTransaction, Error> {
        self.look(0, move |engine, now_ms| {
            engine.open_transaction(now_ms, &transaction)
        })
        .await
    }

    /// The topic of a transaction, if there is such a topic.
    pub async fn topic_of_transaction(
        &self,
        transaction: TransactionHandle,
    ) -> Result<Option<String>, Error> {
        self.look(0, move |engine, _| {
            Ok(engine.topic_name(transaction.topic).map(str::to_owned))
        })
        .await
    }

    /// Lets the producer of a transaction be asked again from now on, as often as of a new one.
    pub async fn check_again(
        &self,
        transaction: TransactionHandle,
    ) -> Result<OpenTransaction, Error> {
        let next_check = self.next_check();
        self.with(0, move |engine, now_ms| {
            let opened = engine.check_again(now_ms, &transaction)?;
            publish(&next_check, engine.known_check_ms().unwrap_or(0));
            Ok(opened)
        })
        .await
    }
}

/// Publishes when the first check may be due, and wakes its readers if that has changed.
fn publish(next_check: &watch::Sender<u64>, check_ms: u64) {
    next_check.send_if_modified(|known_ms| std::mem::replace(known_ms, check_ms) != check_ms);
}
