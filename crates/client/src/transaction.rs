//! Provides transactions: a message is delivered only after its transaction is committed.

use std::sync::Arc;

use grpc_api::v2::{
    EndTransactionRequest, EndTransactionResponse, Resource, TransactionResolution,
    TransactionSource,
};

use crate::connection::{Connection, Procedure};
use crate::error::{Error, check};
use crate::session::Session;

const END: Procedure = Procedure("/apache.rocketmq.v2.MessagingService/EndTransaction");

/// The outcome of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The message is delivered, at its delivery time if it has one.
    Commit,
    /// The message is dropped.
    Rollback,
    /// Not known yet: the server asks again later.
    Unknown,
}

/// A message that waits for [`Transaction::commit`] or [`Transaction::rollback`]. If it gets neither, the server
/// asks the producers of the topic; see [`ProducerBuilder::check_back`](crate::ProducerBuilder::check_back).
#[derive(Debug)]
#[must_use = "a transaction that is dropped is neither committed nor rolled back"]
pub struct Transaction {
    session: Arc<Session>,
    ending: TransactionEnd,
}

impl Transaction {
    pub(crate) fn new(session: Arc<Session>, ending: TransactionEnd) -> Self {
        Self { session, ending }
    }

    /// The id of the message.
    pub fn message_id(&self) -> &str {
        &self.ending.message_id
    }

    /// Releases the message for delivery. May be repeated.
    ///
    /// # Errors
    ///
    /// The refusal of the server, or the failure to reach it: then the server will ask.
    pub async fn commit(&self) -> Result<(), Error> {
        self.end(Resolution::Commit).await
    }

    /// Drops the message. May be repeated.
    ///
    /// # Errors
    ///
    /// As [`Transaction::commit`].
    pub async fn rollback(&self) -> Result<(), Error> {
        self.end(Resolution::Rollback).await
    }

    async fn end(&self, resolution: Resolution) -> Result<(), Error> {
        let source = TransactionSource::SourceClient;
        self.ending.send(&self.session, resolution, source).await
    }
}

/// What is needed to end a transaction.
#[derive(Debug)]
pub(crate) struct TransactionEnd {
    pub(crate) topic: Resource,
    pub(crate) message_id: String,
    pub(crate) transaction_id: String,
    pub(crate) connection: Arc<Connection>,
}

impl TransactionEnd {
    pub(crate) async fn send(
        &self,
        session: &Session,
        resolution: Resolution,
        source: TransactionSource,
    ) -> Result<(), Error> {
        let resolution = match resolution {
            Resolution::Commit => TransactionResolution::Commit,
            Resolution::Rollback => TransactionResolution::Rollback,
            // Nothing is sent: the server asks again.
            Resolution::Unknown => return Ok(()),
        };
        let request = EndTransactionRequest {
            topic: Some(self.topic.clone()),
            message_id: self.message_id.clone(),
            transaction_id: self.transaction_id.clone(),
            resolution: resolution.into(),
            source: source.into(),
            ..EndTransactionRequest::default()
        };
        let response: EndTransactionResponse = self
            .connection
            .call(END, session.call_options(), &request)
            .await?;
        check(response.status)
    }
}
