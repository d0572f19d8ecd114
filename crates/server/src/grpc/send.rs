//! Stores the messages of producers, and half messages of transactions.

use std::borrow::Cow;
use std::time::Duration;

use broker::Sent;
use grpc_api::v2::{
    Code, Message, MessageType, SendMessageRequest, SendMessageResponse, SendResultEntry,
};

use super::Shared;
use super::convert::{Incoming, incoming, offset};
use super::limits::BATCH_MAX;
use super::peer::{Dialect, Peer};
use super::recall::recall_handle;
use super::status::{Problem, ok, summary};
use edge::budget::Share;

/// A message of a request that is being stored.
enum Step<F> {
    Done(SendResultEntry),
    Waiting {
        message_id: String,
        delayed: bool,
        stored: F,
    },
}

impl Shared {
    /// Stores messages of one topic; each has its own entry in the answer.
    ///
    /// All are sent to the broker before the first is awaited, so that they share a sync.
    pub(crate) async fn send(
        &self,
        peer: &Peer,
        dialect: Dialect,
        request: SendMessageRequest,
        held: &Share,
    ) -> Result<SendMessageResponse, Problem> {
        let topic: std::sync::Arc<str> = one_topic(peer, &request.messages)?.into();
        peer.may_publish(&topic)?;
        if request.messages.len() > BATCH_MAX {
            let message = format!(
                "the request has {} messages; at most {BATCH_MAX} are allowed",
                request.messages.len()
            );
            return Err(Problem::new(Code::PayloadTooLarge, message));
        }
        let failed = |message_id: String, problem: Problem| SendResultEntry {
            status: Some(dialect.status(problem)),
            message_id,
            ..SendResultEntry::default()
        };
        let mut steps = Vec::with_capacity(request.messages.len());
        for message in request.messages {
            let message_id = id_of(&message);
            let bytes_max = self.config.body_bytes_max;
            let read = incoming(message, self.clock().as_ref(), bytes_max, held);
            let step = match read {
                Err(problem) => Step::Done(failed(message_id, problem)),
                Ok(half) if half.kind == MessageType::Transaction => {
                    let prepared = self.prepare(peer, &topic, half).await;
                    Step::Done(prepared.unwrap_or_else(|problem| failed(message_id, problem)))
                }
                Ok(incoming) => {
                    let delayed = incoming.message.delivery != broker::Delivery::Now;
                    match self.broker.start_send(&topic, incoming.message).await {
                        Ok(stored) => Step::Waiting {
                            message_id,
                            delayed,
                            stored,
                        },
                        Err(error) => Step::Done(failed(message_id, error.into())),
                    }
                }
            };
            steps.push(step);
        }
        let mut entries = Vec::with_capacity(steps.len());
        for step in steps {
            entries.push(match step {
                Step::Done(entry) => entry,
                Step::Waiting {
                    message_id,
                    delayed,
                    stored,
                } => match stored.await {
                    Ok(sent) => stored_entry(message_id, delayed, sent),
                    Err(error) => failed(message_id, error.into()),
                },
            });
        }
        let status = summary(entries.iter().filter_map(|entry| entry.status.as_ref()));
        Ok(SendMessageResponse {
            status: Some(status),
            entries,
        })
    }

    async fn prepare(
        &self,
        peer: &Peer,
        topic: &str,
        half: Incoming,
    ) -> Result<SendResultEntry, Problem> {
        let check_after = half.check_after_ms.map(Duration::from_millis);
        let prepared = self
            .broker
            .prepare(topic, half.message, check_after)
            .await?;
        if !peer.client.is_nameless() {
            self.halves.remember(prepared.transaction, &peer.client);
            self.sessions.note_half(&peer.client, topic);
        }
        Ok(SendResultEntry {
            status: Some(ok()),
            message_id: prepared.message_id,
            transaction_id: prepared.transaction.to_string(),
            ..SendResultEntry::default()
        })
    }
}

fn stored_entry(message_id: String, delayed: bool, sent: Sent) -> SendResultEntry {
    let recall_handle = if delayed {
        recall_handle(&sent.handle, &message_id)
    } else {
        String::new()
    };
    SendResultEntry {
        status: Some(ok()),
        offset: offset(sent.handle.identity),
        recall_handle,
        message_id,
        ..SendResultEntry::default()
    }
}

fn id_of(message: &Message) -> String {
    let system = message.system_properties.as_ref();
    system.map_or_else(String::new, |system| system.message_id.clone())
}

/// Returns the topic of all messages of a request.
fn one_topic<'a>(peer: &Peer, messages: &'a [Message]) -> Result<Cow<'a, str>, Problem> {
    let corrupted = |message| Err(Problem::new(Code::MessageCorrupted, message));
    let Some((first, rest)) = messages.split_first() else {
        return corrupted("the request has no message");
    };
    let topic = peer.topic_name(first.topic.as_ref())?;
    for message in rest {
        if message.topic != first.topic && peer.topic_name(message.topic.as_ref())? != topic {
            return corrupted("the messages of one request are of different topics");
        }
    }
    Ok(topic)
}
