//! Ends transactions, and checks unfinished ones with their producers.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use broker::{Check, TransactionHandle};
use grpc_api::v2::telemetry_command::Command;
use grpc_api::v2::{
    Code, EndTransactionRequest, EndTransactionResponse, RecoverOrphanedTransactionCommand,
    TelemetryCommand, TransactionResolution,
};

use super::Shared;
use super::convert::{Outgoing, outgoing};
use super::limits::{CHECKS_MAX, CHECKS_WAIT, HALVES_MAX};
use super::names::namespace::resource_in;
use super::peer::{ClientKey, Peer};
use super::status::{Problem, ok};

impl Shared {
    pub(crate) async fn end_transaction(
        &self,
        peer: &Peer,
        request: EndTransactionRequest,
    ) -> Result<EndTransactionResponse, Problem> {
        let topic = peer.topic_name(request.topic.as_ref())?;
        peer.may_publish(&topic)?;
        let transaction: TransactionHandle = request.transaction_id.parse().map_err(|_| {
            let message = "the transaction id is not one of this broker";
            Problem::new(Code::InvalidTransactionId, message)
        })?;
        self.check_topic(&topic, transaction.topic).await?;
        let commit = match request.resolution() {
            TransactionResolution::Commit => Some(true),
            TransactionResolution::Rollback => Some(false),
            // The producer does not know the outcome: it is asked again later.
            TransactionResolution::Unspecified => None,
        };
        if let Some(commit) = commit {
            self.broker.end_transaction(transaction, commit).await?;
            self.halves.forget(&transaction);
        }
        Ok(EndTransactionResponse { status: Some(ok()) })
    }

    /// Checks unfinished transactions with their producers until the front end stops.
    pub(crate) async fn ask_producers(self: Arc<Self>) {
        loop {
            let checks = tokio::select! {
                () = self.stopping() => return,
                checks = self.broker.take_checks(CHECKS_MAX, CHECKS_WAIT) => checks,
            };
            match checks {
                Ok(checks) => self.ask_each(&checks).await,
                // The broker has ended, and this front end will with it.
                Err(_) => return,
            }
        }
    }

    /// Asks the producers of these transactions. Only questions that reached one are counted.
    async fn ask_each(&self, checks: &[Check]) {
        let told = checks.iter().filter(|check| self.ask_producer(check));
        let told: Vec<_> = told.map(|check| check.transaction).collect();
        if !told.is_empty()
            && let Err(error) = self.broker.checked(told).await
        {
            tracing::debug!(%error, "count the checks of transactions");
        }
    }

    /// Asks a producer about a transaction; returns whether there was one.
    fn ask_producer(&self, check: &Check) -> bool {
        let question = |namespace: &str| {
            let around = Outgoing {
                topic: &resource_in(namespace, &check.topic),
                namespace,
                queue: 0,
                delivery: None,
                invisible_ms: None,
                store_host: &self.store_host,
            };
            let command = RecoverOrphanedTransactionCommand {
                message: Some(outgoing(&check.message, around)),
                transaction_id: check.transaction.to_string(),
            };
            TelemetryCommand {
                status: Some(ok()),
                command: Some(Command::RecoverOrphanedTransactionCommand(command)),
            }
        };
        let sender = self.halves.sender(&check.transaction);
        let sent = self
            .sessions
            .send_to_producer(&check.topic, sender.as_ref(), question);
        if !sent {
            tracing::debug!(
                topic = check.topic,
                checks = check.checks,
                "find no producer for a check"
            );
        }
        sent
    }
}

#[derive(Debug, Default)]
struct Senders {
    clients: HashMap<TransactionHandle, ClientKey>,
    /// In the order they were sent, those that have ended included.
    order: VecDeque<TransactionHandle>,
}

/// The senders of the last half messages. After a restart they are not known.
///
/// A std mutex: it is held for a look-up, never across an await.
#[derive(Debug, Default)]
pub(crate) struct Halves {
    state: Mutex<Senders>,
}

impl Halves {
    fn state(&self) -> std::sync::MutexGuard<'_, Senders> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the sender of a half message.
    pub(crate) fn remember(&self, transaction: TransactionHandle, client: &ClientKey) {
        let mut state = self.state();
        if state.clients.insert(transaction, client.clone()).is_some() {
            return;
        }
        if state.order.len() >= HALVES_MAX
            && let Some(oldest) = state.order.pop_front()
        {
            state.clients.remove(&oldest);
        }
        state.order.push_back(transaction);
    }

    /// The sender of a half message.
    pub(crate) fn sender(&self, transaction: &TransactionHandle) -> Option<ClientKey> {
        self.state().clients.get(transaction).cloned()
    }

    /// Forgets a half message whose transaction has ended.
    pub(crate) fn forget(&self, transaction: &TransactionHandle) {
        self.state().clients.remove(transaction);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_are_known_until_the_end_or_until_there_are_too_many() {
        let halves = Halves::default();
        let ann = ClientKey::new("", "ann");
        let half = |sequence| TransactionHandle { topic: 1, sequence };
        halves.remember(half(0), &ann);
        halves.remember(half(1), &ann);
        assert_eq!(halves.sender(&half(0)), Some(ann.clone()));
        halves.forget(&half(0));
        assert_eq!(halves.sender(&half(0)), None);
        for sequence in 2..=HALVES_MAX as u64 {
            halves.remember(half(sequence), &ann);
        }
        assert_eq!(halves.sender(&half(1)), Some(ann.clone()));
        halves.remember(half(u64::MAX), &ann);
        assert_eq!(halves.sender(&half(1)), None, "the oldest");
        assert_eq!(halves.state().order.len(), HALVES_MAX);
    }
}
