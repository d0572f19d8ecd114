//! Asks for deliveries and settles them: the calls both kinds of consumers make.

use std::sync::Arc;
use std::time::Duration;

use grpc_api::v2::receive_message_response::Content;
use grpc_api::v2::{
    AckMessageEntry, AckMessageRequest, AckMessageResponse, ChangeInvisibleDurationRequest,
    ChangeInvisibleDurationResponse, Code, ForwardMessageToDeadLetterQueueRequest,
    ForwardMessageToDeadLetterQueueResponse, ReceiveMessageRequest, ReceiveMessageResponse,
    Subscription, SubscriptionEntry,
};

use crate::clock;
use crate::connection::Procedure;
use crate::error::{Error, Refused, check};
use crate::filter::Filter;
use crate::message::{Damaged, Received};
use crate::route::Queue;
use crate::session::Core;

const RECEIVE: Procedure = Procedure("/apache.rocketmq.v2.MessagingService/ReceiveMessage");
const ACK: Procedure = Procedure("/apache.rocketmq.v2.MessagingService/AckMessage");
const CHANGE_INVISIBLE: Procedure =
    Procedure("/apache.rocketmq.v2.MessagingService/ChangeInvisibleDuration");
const DEAD_LETTER: Procedure =
    Procedure("/apache.rocketmq.v2.MessagingService/ForwardMessageToDeadLetterQueue");

/// Most deliveries that are acknowledged in one call.
pub(crate) const ACKS_MAX: usize = 128;

/// How one poll is made.
pub(crate) struct Poll<'a> {
    pub(crate) filter: &'a Filter,
    pub(crate) messages_max: usize,
    /// How long what is received stays hidden; `None` if the server shall see to it for as long as it takes.
    pub(crate) invisible: Option<Duration>,
    /// How long the server may wait for messages.
    pub(crate) wait: Duration,
    pub(crate) attempt_id: Option<String>,
}

/// What one poll brought.
#[derive(Debug, Default)]
pub(crate) struct Haul {
    pub(crate) messages: Vec<Received>,
    /// Deliveries that are not to be handed out. They come again, and become dead letters in the end.
    pub(crate) damaged: Vec<Damaged>,
}

impl Haul {
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

/// Waits for messages and takes them; none if none came in time.
pub(crate) async fn receive(core: &Core, queue: &Queue, poll: Poll<'_>) -> Result<Haul, Error> {
    let request = ReceiveMessageRequest {
        group: core.profile.group.clone(),
        message_queue: Some(queue.told.clone()),
        filter_expression: Some(poll.filter.expression()),
        batch_size: i32::try_from(poll.messages_max).unwrap_or(i32::MAX),
        invisible_duration: poll.invisible.map(clock::duration),
        auto_renew: poll.invisible.is_none(),
        long_polling_timeout: Some(clock::duration(poll.wait)),
        attempt_id: poll.attempt_id,
    };
    let answers: Vec<ReceiveMessageResponse> = queue
        .line
        .call_many(RECEIVE, core.terms_of_waiting(poll.wait), &request)
        .await?;
    let mut haul = Haul {
        messages: Vec::with_capacity(answers.len()),
        ..Haul::default()
    };
    let mut refused = None;
    let mut said = false;
    for answer in answers {
        match answer.content {
            Some(Content::Message(message)) => haul.add(Received::read(message, &queue.line)),
            Some(Content::Status(status)) => {
                said = true;
                refused = Some(status).filter(|status| status.code != i32::from(Code::Ok));
            }
            _ => {}
        }
    }
    match refused {
        Some(status) if status.code != i32::from(Code::MessageNotFound) && haul.is_empty() => {
            Err(Refused::from(status).into())
        }
        _ if !said && haul.is_empty() => Err(Error::Malformed("it has no status".to_owned())),
        _ => Ok(haul),
    }
}

/// Acknowledges deliveries, and tells of each, in their order, how that went.
pub(crate) async fn ack(core: &Core, deliveries: &[&Received]) -> Vec<Result<(), Error>> {
    let mut outcomes: Vec<Option<Result<(), Error>>> = vec![None; deliveries.len()];
    // Those that still have no outcome, one call's worth at a time.
    while let Some(first) = outcomes.iter().position(Option::is_none) {
        let Some(lead) = deliveries.get(first) else {
            break;
        };
        let belongs = |delivery: &Received| {
            Arc::ptr_eq(&delivery.receipt.line, &lead.receipt.line)
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
        let told = ack_together(core, &chosen).await;
        for ((index, _), outcome) in chosen.into_iter().zip(told) {
            if let Some(slot) = outcomes.get_mut(index) {
                *slot = Some(outcome);
            }
        }
    }
    outcomes.into_iter().flatten().collect()
}

/// Acknowledges deliveries of one topic of one server; there is an outcome for each.
async fn ack_together(core: &Core, chosen: &[(usize, &Received)]) -> Vec<Result<(), Error>> {
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
        group: core.profile.group.clone(),
        topic: Some(lead.receipt.topic.clone()),
        entries: entries.collect(),
    };
    let answer: Result<AckMessageResponse, Error> =
        lead.receipt.line.call(ACK, core.terms(), &request).await;
    match answer {
        Ok(answer) if answer.entries.len() == chosen.len() => answer
            .entries
            .into_iter()
            .map(|entry| check(entry.status))
            .collect(),
        Ok(answer) => all(match check(answer.status) {
            Err(error) => error,
            Ok(()) => Error::Malformed("it does not have one entry for each delivery".to_owned()),
        }),
        Err(error) => all(error),
    }
}

/// Hides a delivery for another while from now on; returns the handle it has from then on.
pub(crate) async fn change_invisible(
    core: &Core,
    delivery: &Received,
    invisible: Duration,
) -> Result<String, Error> {
    let receipt = &delivery.receipt;
    let request = ChangeInvisibleDurationRequest {
        group: core.profile.group.clone(),
        topic: Some(receipt.topic.clone()),
        receipt_handle: receipt.handle.clone(),
        invisible_duration: Some(clock::duration(invisible)),
        message_id: delivery.message_id.clone(),
        ..ChangeInvisibleDurationRequest::default()
    };
    let answer: ChangeInvisibleDurationResponse = receipt
        .line
        .call(CHANGE_INVISIBLE, core.terms(), &request)
        .await?;
    check(answer.status)?;
    Ok(if answer.receipt_handle.is_empty() {
        receipt.handle.clone()
    } else {
        answer.receipt_handle
    })
}

/// Makes a delivery a dead letter.
pub(crate) async fn dead_letter(core: &Core, delivery: &Received) -> Result<(), Error> {
    let receipt = &delivery.receipt;
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let request = ForwardMessageToDeadLetterQueueRequest {
        group: core.profile.group.clone(),
        topic: Some(receipt.topic.clone()),
        receipt_handle: receipt.handle.clone(),
        message_id: delivery.message_id.clone(),
        delivery_attempt: number(delivery.attempt),
        max_delivery_attempts: number(core.rules().attempts_max),
        ..ForwardMessageToDeadLetterQueueRequest::default()
    };
    let answer: ForwardMessageToDeadLetterQueueResponse = receipt
        .line
        .call(DEAD_LETTER, core.terms(), &request)
        .await?;
    check(answer.status)
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
        long_polling_timeout: wait.map(clock::duration),
        group: Some(group),
        ..Subscription::default()
    }
}
