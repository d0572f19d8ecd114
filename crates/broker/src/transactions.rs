//! Provides the calls of operators for transactions that were given up.

use engine::{GivenUp, OpenTransaction, TransactionHandle};

use crate::broker::{Broker, publish};
use crate::error::Error;

impl Broker {
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

    /// How many transactions were given up and have not ended.
    pub async fn given_up_transactions(&self) -> Result<u64, Error> {
        self.look(0, |engine, _| Ok(engine.given_up_transactions()))
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
