//! Provides the producer: it sends messages, cancels them, and runs transactions.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use grpc_api::v2::settings::PubSub;
use grpc_api::v2::{
    self, ClientType, Code, MessageType, Publishing, RecallMessageRequest, RecallMessageResponse,
    Resource, SendMessageRequest, SendMessageResponse, SendResultEntry,
};
use tokio::sync::mpsc;

use crate::config::Config;
use crate::connection::{Line, Procedure};
use crate::error::{Error, check};
use crate::message::{Message, Outgoing, Received};
use crate::panic::unless_it_panics;
use crate::session::{Check, Core, Profile};
use crate::transaction::{self, Resolution, Transaction};

const SEND: Procedure = Procedure("/apache.rocketmq.v2.MessagingService/SendMessage");
const RECALL: Procedure = Procedure("/apache.rocketmq.v2.MessagingService/RecallMessage");

type CheckBack =
    Arc<dyn Fn(Received) -> Pin<Box<dyn Future<Output = Resolution> + Send>> + Send + Sync>;

/// What a producer shall be; made by [`Producer::builder`].
pub struct ProducerBuilder {
    config: Config,
    topics: Vec<String>,
    check_back: Option<CheckBack>,
}

impl fmt::Debug for ProducerBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ProducerBuilder")
            .field("config", &self.config)
            .field("topics", &self.topics)
            .finish_non_exhaustive()
    }
}

impl ProducerBuilder {
    /// Names a topic beforehand. Needed for topics of transactions, about which the server asks those who named
    /// them; with others it only makes the first send quicker.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topics.push(topic.into());
        self
    }

    /// Answers the server's questions what became of a transaction that was neither committed nor rolled back in
    /// time, because the process that began it has ended or the word was lost.
    #[must_use]
    pub fn check_back<F, Fut>(mut self, answer: F) -> Self
    where
        F: Fn(Received) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Resolution> + Send + 'static,
    {
        self.check_back = Some(Arc::new(move |message| Box::pin(answer(message))));
        self
    }

    /// Connects, and waits until the server has said its rules.
    ///
    /// # Errors
    ///
    /// Those of connecting, a refusal of the credentials, or [`Code::TopicNotFound`] of a topic named beforehand.
    pub async fn start(self) -> Result<Producer, Error> {
        let resource = |topic: &String| Resource {
            resource_namespace: self.config.namespace.clone(),
            name: topic.clone(),
        };
        let profile = Profile {
            kind: ClientType::Producer,
            group: None,
            pub_sub: PubSub::Publishing(Publishing {
                topics: self.topics.iter().map(resource).collect(),
                ..Publishing::default()
            }),
            topics: self.topics,
        };
        let (core, checks) = Core::start(self.config, profile).await?;
        if let Some(check_back) = self.check_back {
            core.spawn(answer_checks(Arc::clone(&core), checks, check_back));
        }
        Ok(Producer {
            held: Arc::new(Held(core)),
        })
    }
}

/// Answers one check after the other; each has a moment, for the server asks again.
async fn answer_checks(core: Arc<Core>, mut checks: mpsc::Receiver<Check>, check_back: CheckBack) {
    while let Some(check) = checks.recv().await {
        if let Err(error) = answer_check(&core, check, &check_back).await {
            tracing::warn!(%error, "answer check of transaction");
        }
    }
}

async fn answer_check(core: &Core, check: Check, check_back: &CheckBack) -> Result<(), Error> {
    let message = check.command.message.unwrap_or_default();
    let message = Received::read(message, &check.line)?;
    let ending = transaction::Ending {
        topic: message.receipt.topic.clone(),
        message_id: message.message_id.clone(),
        transaction_id: check.command.transaction_id,
        line: check.line,
    };
    // A handler that panics must not take the later checks with it.
    let resolution = unless_it_panics(async { check_back(message).await }).await;
    let resolution = resolution.unwrap_or(Resolution::Unknown);
    ending
        .tell(core, resolution, v2::TransactionSource::SourceServerCheck)
        .await
}

/// A message that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// The message's id, made by this client.
    pub message_id: String,
    /// Its place in its queue.
    pub offset: i64,
    /// Cancels it, if it is a delayed message.
    pub recall: Option<RecallHandle>,
}

/// Names a delayed message, to cancel it; may be kept as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecallHandle {
    /// The topic of the message.
    pub topic: String,
    /// The server's name for the message.
    pub handle: String,
}

/// Sends messages; a clone is another hand on the same producer.
///
/// Once the last hand is dropped its tasks end; [`Producer::shutdown`] says goodbye to the server too.
#[derive(Clone, Debug)]
pub struct Producer {
    held: Arc<Held>,
}

/// Stops the core when the last hand lets it go.
#[derive(Debug)]
pub(crate) struct Held(pub(crate) Arc<Core>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Producer {
    /// A producer for the server the configuration names.
    pub fn builder(config: Config) -> ProducerBuilder {
        ProducerBuilder {
            config,
            topics: Vec::new(),
            check_back: None,
        }
    }

    fn core(&self) -> &Arc<Core> {
        &self.held.0
    }

    /// Sends a message, and returns once it is stored. Where the outcome is uncertain or the server is busy it
    /// tries again, as often as the server's rules say, under the same message id.
    ///
    /// # Errors
    ///
    /// The refusal of the server, or the last failure to reach it: then the message may have been stored.
    pub async fn send(&self, message: Message) -> Result<Sent, Error> {
        let topic = message.topic.clone();
        let kind = message.kind();
        let message_id = self.core().identity.message_id();
        let (entry, _) = self.store(message, kind, (message_id, None)).await?;
        Ok(sent(&topic, entry))
    }

    /// Sends messages of one topic in one request, and tells what became of each, in their order. Of these Apache
    /// RocketMQ takes only normal messages; Duetime takes all kinds but half messages. Not tried again.
    ///
    /// # Errors
    ///
    /// One that holds for all of them, as [`Producer::send`].
    pub async fn send_all(
        &self,
        messages: Vec<Message>,
    ) -> Result<Vec<Result<Sent, Error>>, Error> {
        let Some(first) = messages.first() else {
            return Ok(Vec::new());
        };
        let topic = first.topic.clone();
        if let Some(other) = messages.iter().find(|message| message.topic != topic) {
            return Err(Error::Invalid(format!(
                "messages of topics {topic:?} and {:?} cannot be sent in one request",
                other.topic
            )));
        }
        let core = self.core();
        let route = core.route(&topic).await?;
        let queue = route
            .to_write(first.order.as_deref())
            .ok_or_else(|| no_queue(&topic))?;
        let resource = core.resource(&topic);
        let count = messages.len();
        let outgoing = messages.into_iter().map(|message| {
            let around = Outgoing {
                topic: &resource,
                kind: message.kind(),
                message_id: core.identity.message_id(),
                host: &core.identity.host,
                queue_id: queue.told.id,
                check_after: None,
            };
            message.outgoing(around)
        });
        let request = SendMessageRequest {
            messages: outgoing.collect(),
        };
        let answer: SendMessageResponse = queue.line.call(SEND, core.terms(), &request).await?;
        if answer.entries.len() != count {
            check(answer.status)?;
            return Err(wrong_count());
        }
        let one = |mut entry: SendResultEntry| {
            check(entry.status.take())?;
            Ok(sent(&topic, entry))
        };
        Ok(answer.entries.into_iter().map(one).collect())
    }

    /// Stores a message that nobody gets to see before the transaction is committed. The server asks about
    /// transactions that were not ended: after its own time, or `check_after` if that is given.
    ///
    /// # Errors
    ///
    /// As [`Producer::send`].
    pub async fn begin(
        &self,
        message: Message,
        check_after: Option<Duration>,
    ) -> Result<Transaction, Error> {
        let topic = message.topic.clone();
        let message_id = self.core().identity.message_id();
        let (entry, line) = self
            .store(message, MessageType::Transaction, (message_id, check_after))
            .await?;
        let core = Arc::clone(self.core());
        let ending = transaction::Ending {
            topic: core.resource(&topic),
            message_id: entry.message_id,
            transaction_id: entry.transaction_id,
            line,
        };
        Ok(Transaction::new(core, ending))
    }

    /// Cancels a delayed message: afterwards nobody gets it. Duetime says the same when asked again; of Apache
    /// RocketMQ only the first recall of a message succeeds, so this is not tried again by itself.
    ///
    /// # Errors
    ///
    /// The refusal of the server: [`Code::InternalServerError`] if it is too late, [`Code::NotFound`] from Duetime
    /// if there is no such message.
    pub async fn recall(&self, handle: &RecallHandle) -> Result<(), Error> {
        let core = self.core();
        let request = RecallMessageRequest {
            topic: Some(core.resource(&handle.topic)),
            recall_handle: handle.handle.clone(),
        };
        let answer: RecallMessageResponse =
            core.access().call(RECALL, core.terms(), &request).await?;
        check(answer.status)
    }

    /// Says goodbye to the server, and ends. What other hands still try then fails.
    pub async fn shutdown(self) {
        self.core().end().await;
    }

    /// Sends one message as often as it takes.
    async fn store(
        &self,
        message: Message,
        kind: MessageType,
        (message_id, check_after): (String, Option<Duration>),
    ) -> Result<(SendResultEntry, Arc<Line>), Error> {
        let core = self.core();
        let rules = core.rules();
        let topic = message.topic.clone();
        let message_group = message.order.clone();
        let resource = core.resource(&topic);
        let mut outgoing = message.outgoing(Outgoing {
            topic: &resource,
            kind,
            message_id,
            host: &core.identity.host,
            queue_id: 0,
            check_after,
        });
        if let Some(bytes_max) = rules
            .body_bytes_max
            .filter(|max| outgoing.body.len() > *max)
        {
            return Err(Error::Invalid(format!(
                "the body has {} bytes; the server takes at most {bytes_max}",
                outgoing.body.len()
            )));
        }
        let mut attempt = 1;
        loop {
            let route = core.route(&topic).await?;
            let queue = route
                .to_write(message_group.as_deref())
                .ok_or_else(|| no_queue(&topic))?;
            if let Some(system) = &mut outgoing.system_properties {
                system.queue_id = queue.told.id;
            }
            let request = SendMessageRequest {
                messages: vec![outgoing],
            };
            let error = match send_once(core, &queue.line, &request).await {
                Ok(entry) => return Ok((entry, Arc::clone(&queue.line))),
                Err(error) => error,
            };
            if error.code() == Some(Code::TopicNotFound) {
                core.forget_route(&topic);
            }
            if !error.is_transient() || attempt >= rules.attempts_max {
                return Err(error);
            }
            tracing::debug!(%error, topic, attempt, "send message");
            tokio::time::sleep(rules.backoff.after(attempt)).await;
            attempt += 1;
            let Some(again) = request.messages.into_iter().next() else {
                return Err(error);
            };
            outgoing = again;
        }
    }
}

async fn send_once(
    core: &Core,
    line: &Arc<Line>,
    request: &SendMessageRequest,
) -> Result<SendResultEntry, Error> {
    let answer: SendMessageResponse = line.call(SEND, core.terms(), request).await?;
    check(answer.status)?;
    let mut entry = answer.entries.into_iter().next().ok_or_else(wrong_count)?;
    check(entry.status.take())?;
    Ok(entry)
}

fn sent(topic: &str, entry: SendResultEntry) -> Sent {
    let recall = (!entry.recall_handle.is_empty()).then(|| RecallHandle {
        topic: topic.to_owned(),
        handle: entry.recall_handle,
    });
    Sent {
        message_id: entry.message_id,
        offset: entry.offset,
        recall,
    }
}

fn no_queue(topic: &str) -> Error {
    Error::Invalid(format!("topic {topic:?} has no queue that takes messages"))
}

fn wrong_count() -> Error {
    Error::Malformed("it does not have one entry for each message".to_owned())
}
