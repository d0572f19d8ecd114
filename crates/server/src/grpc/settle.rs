//! Settles deliveries: acknowledges them, changes their invisible time, dead-letters them.

use std::time::Duration;

use broker::ReceiptHandle;
use grpc_api::v2::{
    AckMessageEntry, AckMessageRequest, AckMessageResponse, AckMessageResultEntry,
    ChangeInvisibleDurationRequest, ChangeInvisibleDurationResponse, ClientType, Code,
    ForwardMessageToDeadLetterQueueRequest, ForwardMessageToDeadLetterQueueResponse, Language,
    Status,
};

use super::Shared;
use super::convert::ms_of_duration;
use super::limits::BATCH_MAX;
use super::peer::{Dialect, Peer};
use super::status::{Problem, ok, summary};

impl Shared {
    /// Acknowledges deliveries; each has its own entry in the answer.
    pub(crate) async fn ack(
        &self,
        peer: &Peer,
        dialect: Dialect,
        request: AckMessageRequest,
    ) -> Result<AckMessageResponse, Problem> {
        let topic = peer.topic_name(request.topic.as_ref())?;
        let group = peer.group_name(request.group.as_ref())?;
        peer.may_consume(&topic, &group)?;
        let count = request.entries.len();
        if !(1..=BATCH_MAX).contains(&count) {
            let message = format!("the request has {count} entries; 1 to {BATCH_MAX} are allowed");
            return Err(Problem::new(Code::BadRequest, message));
        }
        let mut handles = Vec::with_capacity(count);
        let mut read = Vec::with_capacity(count);
        for entry in &request.entries {
            let handle = self.receipt(&topic, &group, &entry.receipt_handle).await;
            read.push(handle.map(|handle| handles.push(handle)));
        }
        self.outstanding.settle(&handles);
        let mut settled = if handles.is_empty() {
            Vec::new()
        } else {
            self.broker.ack(handles).await?
        }
        .into_iter();
        let outcome = |read: Result<(), Problem>| {
            read?;
            // The broker returns one outcome for each receipt.
            match settled.next() {
                Some(Err(error)) => Err(Problem::from(error)),
                _ => Ok(()),
            }
        };
        let outcomes: Vec<Result<(), Problem>> = read.into_iter().map(outcome).collect();
        let entries: Vec<AckMessageResultEntry> = request
            .entries
            .into_iter()
            .zip(outcomes)
            .map(|(entry, outcome)| result_entry(entry, status_of(dialect, outcome)))
            .collect();
        let status = summary(entries.iter().filter_map(|entry| entry.status.as_ref()));
        Ok(AckMessageResponse {
            status: Some(status),
            entries,
        })
    }

    /// Changes the invisible time of a delivery of a simple consumer; from a push consumer it means that the delivery
    /// failed, and it
    /// is repeated after the back-off.
    pub(crate) async fn change_invisible(
        &self,
        peer: &Peer,
        request: ChangeInvisibleDurationRequest,
    ) -> Result<ChangeInvisibleDurationResponse, Problem> {
        let topic = peer.topic_name(request.topic.as_ref())?;
        let group = peer.group_name(request.group.as_ref())?;
        peer.may_consume(&topic, &group)?;
        let duration = request.invisible_duration.unwrap_or_default();
        let Some(wait_ms) = ms_of_duration(&duration) else {
            return Err(Problem::new(
                Code::IllegalInvisibleTime,
                "the invisible duration is negative or out of range",
            ));
        };
        let handle = self
            .receipt(&topic, &group, &request.receipt_handle)
            .await?;
        let wait = Duration::from_millis(wait_ms);
        self.outstanding.settle(&[handle]);
        match self.sessions.kind(&peer.client) {
            Some((ClientType::PushConsumer, language)) => {
                // The Node.js client reads seconds as milliseconds, so its wait is ignored: the group's back-off applies.
                let wait = (language != Language::NodeJs).then_some(wait);
                self.broker.retry_later(handle, wait).await?;
            }
            _ => self.broker.change_invisible(handle, wait).await?,
        }
        Ok(ChangeInvisibleDurationResponse {
            status: Some(ok()),
            // Clients overwrite their handle with this one.
            receipt_handle: request.receipt_handle,
        })
    }

    /// Makes a delivery a dead letter. A repeated call is not an error: clients repeat it until it works, and a
    /// receipt that is no longer valid means that the message was settled, or delivered again to a consumer that will
    /// settle it.
    pub(crate) async fn dead_letter(
        &self,
        peer: &Peer,
        request: ForwardMessageToDeadLetterQueueRequest,
    ) -> Result<ForwardMessageToDeadLetterQueueResponse, Problem> {
        let topic = peer.topic_name(request.topic.as_ref())?;
        let group = peer.group_name(request.group.as_ref())?;
        peer.may_consume(&topic, &group)?;
        let handle = self
            .receipt(&topic, &group, &request.receipt_handle)
            .await?;
        self.outstanding.settle(&[handle]);
        match self.broker.dead_letter(handle).await {
            Ok(()) | Err(broker::Error::Refused(broker::Refusal::Expired)) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(ForwardMessageToDeadLetterQueueResponse { status: Some(ok()) })
    }

    /// Reads a receipt handle and checks it against the topic and group it is used for.
    async fn receipt(
        &self,
        topic: &str,
        group: &str,
        text: &str,
    ) -> Result<ReceiptHandle, Problem> {
        let handle: ReceiptHandle = text.parse().map_err(|error: broker::HandleError| {
            Problem::new(Code::InvalidReceiptHandle, error.to_string())
        })?;
        match self
            .numbers_of(topic, group, (handle.topic, handle.group))
            .await
        {
            Ok(true) => return Ok(handle),
            Ok(false) => {}
            // Clients retry every failure for ever, except an invalid handle.
            Err(problem)
                if matches!(
                    problem.code,
                    Code::TopicNotFound | Code::ConsumerGroupNotFound
                ) => {}
            Err(problem) => return Err(problem),
        }
        Err(Problem::new(
            Code::InvalidReceiptHandle,
            "the receipt handle is of another topic or consumer group",
        ))
    }
}

fn status_of(dialect: Dialect, outcome: Result<(), Problem>) -> Status {
    match outcome {
        Ok(()) => ok(),
        Err(problem) => dialect.status(problem),
    }
}

fn result_entry(entry: AckMessageEntry, status: Status) -> AckMessageResultEntry {
    AckMessageResultEntry {
        message_id: entry.message_id,
        receipt_handle: entry.receipt_handle,
        status: Some(status),
    }
}
