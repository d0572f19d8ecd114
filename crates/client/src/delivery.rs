//! Receives deliveries and settles them: the calls that both kinds of consumers make.

use std::sync::Arc;
use std::time::Duration;

use grpc_api::v2::receive_message_response::Content;
use grpc_api::v2::{
    AckMessageEntry, AckMessageRequest, AckMessageResponse, ChangeInvisibleDurationRequest,
    ChangeInvisibleDurationResponse, Code, ForwardMessageToDeadLetterQueueRequest,
    ForwardMessageToDeadLetterQueueResponse, ReceiveMessageRequest, ReceiveMessageResponse,
    Subscription, SubscriptionEntry,
};

use crate::connection::Procedure;
use crate::error::{Error, Refused, check};
use crate::filter::Filter;
use crate::message::{Damaged, Received};
use crate::route::Queue;
use crate::session::Session;
use crate::timestamp;

const RECEIVE: Procedure = Procedure("/apache.rocketmq.v2.MessagingService/ReceiveMessage");
const ACK: Procedure = Procedure("/apache.rocketmq.v2.MessagingService/AckMessage");
const CHANGE_INVISIBLE: Procedure =
    Procedure("/apache.rocketmq.v2.MessagingService/ChangeInvisibleDuration");
const DEAD_LETTER: Procedure =
    Procedure("/apache.rocketmq.v2.MessagingService/ForwardMessageToDeadLetterQueue");

/// Most deliveries that are acknowledged in one call.
pub(crate) const ACKS_MAX: usize = 128;

/// The parameters of one receive.
pub(crate) struct Poll<'a> {
    pub(crate) filter: &'a Filter,
    pub(crate) messages_max: usize,
    /// Invisible duration of what is received; `None` if the server shall renew it automatically.
    pub(crate) invisible: Option<Duration>,
    /// Long-polling time.
    pub(crate) wait: Duration,
    pub(crate) attempt_id: Option<String>,
}

/// The result of one receive.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) messages: Vec<Received>,
    /// Deliveries that are not passed on. They are delivered again, and become dead letters after the last attempt.
    pub(crate) damaged: Vec<Damaged>,
}

impl Batch {
    fn add(&mut self, read: Result<Received, Box<Damaged>>) {
        match read {
            Ok(message) => self.messages.push(message),
            Err(damaged) => {
                let Damaged { delivery, error } = &*damaged;
                let (topic, message_id) = (&delivery.topic, &delivery.message_id);
                tracing::warn!(%error, topic, message_id, "read message");
                self.damaged.push(*damaged);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.damaged.is_empty()
    }
}

/// Receives messages; empty if none arrived in time.
pub(crate) async fn receive(
    session: &Session,
    queue: &Queue,
    poll: Poll<'_>,
) -> Result<Batch, Error> {
    let request = ReceiveMessageRequest {
        group: session.profile.group.clone(),
        message_queue: Some(queue.info.clone()),
        filter_expression: Some(poll.filter.expression()),
        batch_size: i32::try_from(poll.messages_max).unwrap_or(i32::MAX),
        invisible_duration: poll.invisible.map(timestamp::duration),
        auto_renew: poll.invisible.is_none(),
        long_polling_timeout: Some(timestamp::duration(poll.wait)),
        attempt_id: poll.attempt_id,
    };
    let responses: Vec<ReceiveMessageResponse> = queue
        .connection
        .call_many(RECEIVE, session.long_call_options(poll.wait), &request)
        .await?;
    let mut batch = Batch {
        messages: Vec::with_capacity(responses.len()),
        ..Batch::default()
    };
    let mut refused = None;
    let mut has_status = false;
    for response in responses {
        match response.content {
            Some(Content::Message(message)) => {
                batch.add(Received::read(message, &queue.connection));
            }
            Some(Content::Status(status)) => {
                has_status = true;
                refused = Some(status).filter(|status| status.code != i32::from(Code::Ok));
            }
            _ => {}
        }
    }
    match refused {
        Some(status) if status.code != i32::from(Code::MessageNotFound) && batch.is_empty() => {
            Err(Refused::from(status).into())
        }
        _ if !has_status && batch.is_empty() => {
            Err(Error::Malformed("there is no status".to_owned()))
        }
        _ => Ok(batch),
    }
}

/// Acknowledges deliveries and returns an outcome for each, in order.
pub(crate) async fn ack(session: &Session, deliveries: &[&Received]) -> Vec<Result<(), Error>> {
    let mut outcomes: Vec<Option<Result<(), Error>>> = vec![None; deliveries.len()];
    // Each round acknowledges one batch of those without an outcome.
    while let Some(first) = outcomes.iter().position(Option::is_none) {
        let Some(lead) = deliveries.get(first) else {
            break;
        };
        let belongs = |delivery: &Received| {
            Arc::ptr_eq(&delivery.receipt.connection, &lead.receipt.connection)
                && delivery.receipt.topic == lead.receipt.topic
        };
        let chosen: Vec<(usize, &Received)> = deliveries
            .iter()
            .zip(&outcomes)
            .enumerate()
            .skip(first)
            .filter(|(_, (delivery, outcome))| outcome.is_none() && belongs(delivery))
            .map(|(index, (delivery, _))| (index, *delivery))
            .take(ACKS_MAX)
            .collect();
        let results = ack_together(session, &chosen).await;
        for ((index, _), outcome) in chosen.into_iter().zip(results) {
            if let Some(slot) = outcomes.get_mut(index) {
                *slot = Some(outcome);
            }
        }
    }
    outcomes.into_iter().flatten().collect()
}

/// Acknowledges deliveries of one topic of one server in one call; returns an outcome for each.
async fn ack_together(session: &Session, chosen: &[(usize, &Received)]) -> Vec<Result<(), Error>> {
    let all = |error: Error| vec![Err(error); chosen.len()];
    let Some((_, lead)) = chosen.first() else {
        return Vec::new();
    };
    let entries = chosen.iter().map(|(_, delivery)| AckMessageEntry {
        message_id: delivery.message_id.clone(),
        receipt_handle: delivery.receipt.handle.clone(),
        ..AckMessageEntry::default()
    });
    let request = AckMessageRequest {
        group: session.profile.group.clone(),
        topic: Some(lead.receipt.topic.clone()),
        entries: entries.collect(),
    };
    let response: Result<AckMessageResponse, Error> = lead
        .receipt
        .connection
        .call(ACK, session.call_options(), &request)
        .await;
    match response {
        Ok(response) if response.entries.len() == chosen.len() => response
            .entries
            .into_iter()
            .map(|entry| check(entry.status))
            .collect(),
        Ok(response) => all(match check(response.status) {
            Err(error) => error,
            Ok(()) => {
                Error::Malformed("the number of entries differs from that of deliveries".to_owned())
            }
        }),
        Err(error) => all(error),
    }
}

/// Sets the invisible duration of a delivery, counted from now; returns its new receipt handle.
pub(crate) async fn change_invisible(
    session: &Session,
    delivery: &Received,
    invisible: Duration,
) -> Result<String, Error> {
    let receipt = &delivery.receipt;
    let request = ChangeInvisibleDurationRequest {
        group: session.profile.group.clone(),
        topic: Some(receipt.topic.clone()),
        receipt_handle: receipt.handle.clone(),
        invisible_duration: Some(timestamp::duration(invisible)),
        message_id: delivery.message_id.clone(),
        ..ChangeInvisibleDurationRequest::default()
    };
    let response: ChangeInvisibleDurationResponse = receipt
        .connection
        .call(CHANGE_INVISIBLE, session.call_options(), &request)
        .await?;
    check(response.status)?;
    Ok(if response.receipt_handle.is_empty() {
        receipt.handle.clone()
    } else {
        response.receipt_handle
    })
}

/// Moves a delivery to the dead-letter topic.
pub(crate) async fn dead_letter(session: &Session, delivery: &Received) -> Result<(), Error> {
    let receipt = &delivery.receipt;
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let request = ForwardMessageToDeadLetterQueueRequest {
        group: session.profile.group.clone(),
        topic: Some(receipt.topic.clone()),
        receipt_handle: receipt.handle.clone(),
        message_id: delivery.message_id.clone(),
        delivery_attempt: number(delivery.attempt),
        max_delivery_attempts: number(session.settings().attempts_max),
        ..ForwardMessageToDeadLetterQueueRequest::default()
    };
    let response: ForwardMessageToDeadLetterQueueResponse = receipt
        .connection
        .call(DEAD_LETTER, session.call_options(), &request)
        .await?;
    check(response.status)
}

/// What settings say of a consumer.
pub(crate) fn subscription(
    group: grpc_api::v2::Resource,
    subscriptions: &[(String, Filter)],
    wait: Option<Duration>,
) -> Subscription {
    let entry = |(topic, filter): &(String, Filter)| SubscriptionEntry {
        topic: Some(grpc_api::v2::Resource {
            resource_namespace: group.resource_namespace.clone(),
            name: topic.clone(),
        }),
        expression: Some(filter.expression()),
    };
    Subscription {
        subscriptions: subscriptions.iter().map(entry).collect(),
        long_polling_timeout: wait.map(timestamp::duration),
        group: Some(group),
        ..Subscription::default()
    }
}
