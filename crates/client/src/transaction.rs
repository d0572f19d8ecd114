//! Provides transactions: a message nobody sees before it is known that it shall be sent.

use std::sync::Arc;

use grpc_api::v2::{
    EndTransactionRequest, EndTransactionResponse, Resource, TransactionResolution,
    TransactionSource,
};

use crate::connection::{Line, Procedure};
use crate::error::{Error, check};
use crate::session::Core;

const END: Procedure = Procedure("/apache.rocketmq.v2.MessagingService/EndTransaction");

/// What becomes of a message that was sent in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It is delivered, at its due time if it has one.
    Commit,
    /// Nobody gets it.
    Rollback,
    /// That is not known yet: the server asks again later.
    Unknown,
}

/// A message that waits for [`Transaction::commit`] or [`Transaction::rollback`]. If it gets neither, the server
/// asks the producers of the topic; see [`ProducerBuilder::check_back`](crate::ProducerBuilder::check_back).
#[derive(Debug)]
#[must_use = "a transaction that is dropped is neither committed nor rolled back"]
pub struct Transaction {
    core: Arc<Core>,
    ending: Ending,
}

impl Transaction {
    pub(crate) fn new(core: Arc<Core>, ending: Ending) -> Self {
        Self { core, ending }
    }

    /// The id of the message.
    pub fn message_id(&self) -> &str {
        &self.ending.message_id
    }

    /// Makes the message one to be delivered. May be repeated.
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
        self.ending.tell(&self.core, resolution, source).await
    }
}

/// What ending a transaction takes.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) topic: Resource,
    pub(crate) message_id: String,
    pub(crate) transaction_id: String,
    pub(crate) line: Arc<Line>,
}

impl Ending {
    pub(crate) async fn tell(
        &self,
        core: &Core,
        resolution: Resolution,
        source: TransactionSource,
    ) -> Result<(), Error> {
        let resolution = match resolution {
            Resolution::Commit => TransactionResolution::Commit,
            Resolution::Rollback => TransactionResolution::Rollback,
            // Silence says it: the server asks again.
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
        let answer: EndTransactionResponse = self.line.call(END, core.terms(), &request).await?;
        check(answer.status)
    }
}
