//! Ends transactions, and asks producers about those nobody has ended.

use std::sync::Arc;

use broker::{Check, TransactionHandle};
use grpc_api::v2::telemetry_command::Command;
use grpc_api::v2::{
    Code, EndTransactionRequest, EndTransactionResponse, RecoverOrphanedTransactionCommand,
    TelemetryCommand, TransactionResolution,
};

use super::Shared;
use super::convert::{Outgoing, outgoing};
use super::limits::{CHECKS_MAX, CHECKS_WAIT};
use super::namespace::resource_in;
use super::peer::Peer;
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
            let words = "the transaction id is not one of this broker";
            Problem::new(Code::InvalidTransactionId, words)
        })?;
        self.check_topic(&topic, transaction.topic).await?;
        let commit = match request.resolution() {
            TransactionResolution::Commit => Some(true),
            TransactionResolution::Rollback => Some(false),
            // The producer does not know: it is asked again later.
            TransactionResolution::Unspecified => None,
        };
        if let Some(commit) = commit {
            self.broker.end_transaction(transaction, commit).await?;
        }
        Ok(EndTransactionResponse { status: Some(ok()) })
    }

    /// Asks producers about unfinished transactions until the front end stops.
    pub(crate) async fn ask_producers(self: Arc<Self>) {
        loop {
            let checks = tokio::select! {
                () = self.stopping() => return,
                checks = self.broker.take_checks(CHECKS_MAX, CHECKS_WAIT) => checks,
            };
            match checks {
                Ok(checks) => checks.iter().for_each(|check| self.ask_producer(check)),
                // The broker has ended, and this front end will with it.
                Err(_) => return,
            }
        }
    }

    fn ask_producer(&self, check: &Check) {
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
        let told = self.sessions.tell_producer(&check.topic, question);
        if !told {
            tracing::debug!(
                topic = check.topic,
                checks = check.checks,
                "find no producer to ask"
            );
        }
    }
}
