//! Provides the producer: it sends messages, recalls delayed ones, and begins transactions.

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
use crate::connection::{Connection, Procedure};
use crate::error::{Error, check};
use crate::message::{Envelope, Message, Received};
use crate::panic::catch_panic;
use crate::session::{Profile, Session, TransactionCheck};
use crate::transaction::{self, Resolution, Transaction};

const SEND: Procedure = Procedure("/apache.rocketmq.v2.MessagingService/SendMessage");
const RECALL: Procedure = Procedure("/apache.rocketmq.v2.MessagingService/RecallMessage");

type CheckBack =
    Arc<dyn Fn(Received) -> Pin<Box<dyn Future<Output = Resolution> + Send>> + Send + Sync>;

/// The options of a producer; made by [`Producer::builder`].
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
    /// Declares a topic. Needed for topics of transactions, since the server asks the producers that declared them; for
    /// others it only makes the first send faster.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topics.push(topic.into());
        self
    }

    /// Sets the handler of transaction checks: the server asks for the outcome of a transaction that was neither
    /// committed nor rolled back in time, because the process that began it has ended or the request was lost.
    #[must_use]
    pub fn check_back<F, Fut>(mut self, handler: F) -> Self
    where
        F: Fn(Received) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Resolution> + Send + 'static,
    {
        self.check_back = Some(Arc::new(move |message| Box::pin(handler(message))));
        self
    }

    /// Connects, and waits until the server has answered the settings.
    ///
    /// # Errors
    ///
    /// Those of connecting, a refusal of the credentials, or [`Code::TopicNotFound`] for a declared topic.
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
        let (session, checks) = Session::start(self.config, profile).await?;
        if let Some(check_back) = self.check_back {
            session.spawn(answer_checks(Arc::clone(&session), checks, check_back));
        }
        Ok(Producer {
            held: Arc::new(SessionGuard(session)),
        })
    }
}

/// Answers one check after the other; a check that fails is not repeated, since the server asks again.
async fn answer_checks(
    session: Arc<Session>,
    mut checks: mpsc::Receiver<TransactionCheck>,
    check_back: CheckBack,
) {
    while let Some(check) = checks.recv().await {
        if let Err(error) = answer_check(&session, check, &check_back).await {
            tracing::warn!(%error, "answer transaction check");
        }
    }
}

async fn answer_check(
    session: &Session,
    check: TransactionCheck,
    check_back: &CheckBack,
) -> Result<(), Error> {
    let message = check.command.message.unwrap_or_default();
    let message = Received::read(message, &check.connection)?;
    let ending = transaction::TransactionEnd {
        topic: message.receipt.topic.clone(),
        message_id: message.message_id.clone(),
        transaction_id: check.command.transaction_id,
        connection: check.connection,
    };
    // A handler that panics must not take the later checks with it.
    let resolution = catch_panic(async { check_back(message).await }).await;
    let resolution = resolution.unwrap_or(Resolution::Unknown);
    ending
        .send(
            session,
            resolution,
            v2::TransactionSource::SourceServerCheck,
        )
        .await
}

/// The receipt of a stored message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// The id of the message, made by this client.
    pub message_id: String,
    /// The offset in its queue.
    pub offset: i64,
    /// Recalls the message, if it is a delayed one.
    pub recall: Option<RecallHandle>,
}

/// Identifies a delayed message to recall it; may be stored as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecallHandle {
    /// The topic of the message.
    pub topic: String,
    /// The server's handle of the message.
    pub handle: String,
}

/// Sends messages; a clone is another handle to the same producer.
///
/// When the last handle is dropped its tasks end; [`Producer::shutdown`] also notifies the server.
#[derive(Clone, Debug)]
pub struct Producer {
    held: Arc<SessionGuard>,
}

/// Stops the session when it is dropped.
#[derive(Debug)]
pub(crate) struct SessionGuard(pub(crate) Arc<Session>);

impl Drop for SessionGuard {
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

    fn session(&self) -> &Arc<Session> {
        &self.held.0
    }

    /// Sends a message, and returns once it is stored. If the outcome is uncertain or the server is busy it retries
    /// under the same message id, as often as the server's settings allow.
    ///
    /// # Errors
    ///
    /// The refusal of the server, or the last failure to reach it: then the message may have been stored.
    pub async fn send(&self, message: Message) -> Result<Sent, Error> {
        let topic = message.topic.clone();
        let kind = message.kind();
        let message_id = self.session().identity.message_id();
        let (entry, _) = self.store(message, kind, (message_id, None)).await?;
        Ok(sent(&topic, entry))
    }

    /// Sends messages of one topic in one request, and returns an outcome for each, in order. Apache RocketMQ accepts
    /// only normal messages here; Duetime accepts all types but messages of transactions. Not retried.
    ///
    /// # Errors
    ///
    /// An error of the whole request, as [`Producer::send`].
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
        let session = self.session();
        let route = session.route(&topic).await?;
        let queue = route
            .to_write(first.group.as_deref())
            .ok_or_else(|| no_queue(&topic))?;
        let resource = session.resource(&topic);
        let count = messages.len();
        let outgoing = messages.into_iter().map(|message| {
            let envelope = Envelope {
                topic: &resource,
                kind: message.kind(),
                message_id: session.identity.message_id(),
                host: &session.identity.host,
                queue_id: queue.info.id,
                check_after: None,
            };
            message.into_protocol(envelope)
        });
        let request = SendMessageRequest {
            messages: outgoing.collect(),
        };
        let response: SendMessageResponse = queue
            .connection
            .call(SEND, session.call_options(), &request)
            .await?;
        if response.entries.len() != count {
            check(response.status)?;
            return Err(wrong_entry_count());
        }
        let one = |mut entry: SendResultEntry| {
            check(entry.status.take())?;
            Ok(sent(&topic, entry))
        };
        Ok(response.entries.into_iter().map(one).collect())
    }

    /// Begins a transaction: stores a message that is delivered only after [`Transaction::commit`]. The server asks for
    /// the outcome of a transaction that was not ended, after its own delay or after `check_after` if that is given.
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
        let message_id = self.session().identity.message_id();
        let (entry, connection) = self
            .store(message, MessageType::Transaction, (message_id, check_after))
            .await?;
        let session = Arc::clone(self.session());
        let ending = transaction::TransactionEnd {
            topic: session.resource(&topic),
            message_id: entry.message_id,
            transaction_id: entry.transaction_id,
            connection,
        };
        Ok(Transaction::new(session, ending))
    }

    /// Recalls a delayed message: it is not delivered. Duetime gives the same answer to a repeated recall; on Apache
    /// RocketMQ only the first one of a message succeeds, so this is not retried.
    ///
    /// # Errors
    ///
    /// The refusal of the server: [`Code::InternalServerError`] if it is too late, [`Code::NotFound`] from Duetime
    /// if there is no such message.
    pub async fn recall(&self, handle: &RecallHandle) -> Result<(), Error> {
        let session = self.session();
        let request = RecallMessageRequest {
            topic: Some(session.resource(&handle.topic)),
            recall_handle: handle.handle.clone(),
        };
        let response: RecallMessageResponse = session
            .access_point()
            .call(RECALL, session.call_options(), &request)
            .await?;
        check(response.status)
    }

    /// Notifies the server, and ends. Operations of other handles fail from then on.
    pub async fn shutdown(self) {
        self.session().shutdown().await;
    }

    /// Sends one message, with retries.
    async fn store(
        &self,
        message: Message,
        kind: MessageType,
        (message_id, check_after): (String, Option<Duration>),
    ) -> Result<(SendResultEntry, Arc<Connection>), Error> {
        let session = self.session();
        let settings = session.settings();
        let topic = message.topic.clone();
        let message_group = message.group.clone();
        let resource = session.resource(&topic);
        let mut outgoing = message.into_protocol(Envelope {
            topic: &resource,
            kind,
            message_id,
            host: &session.identity.host,
            queue_id: 0,
            check_after,
        });
        if let Some(bytes_max) = settings
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
            let route = session.route(&topic).await?;
            let queue = route
                .to_write(message_group.as_deref())
                .ok_or_else(|| no_queue(&topic))?;
            if let Some(system) = &mut outgoing.system_properties {
                system.queue_id = queue.info.id;
            }
            let request = SendMessageRequest {
                messages: vec![outgoing],
            };
            let error = match send_once(session, &queue.connection, &request).await {
                Ok(entry) => return Ok((entry, Arc::clone(&queue.connection))),
                Err(error) => error,
            };
            if error.code() == Some(Code::TopicNotFound) {
                session.forget_route(&topic);
            }
            if !error.is_transient() || attempt >= settings.attempts_max {
                return Err(error);
            }
            tracing::debug!(%error, topic, attempt, "send message");
            clock::monotonic::sleep(settings.backoff.after(attempt)).await;
            attempt += 1;
            let Some(next) = request.messages.into_iter().next() else {
                return Err(error);
            };
            outgoing = next;
        }
    }
}

async fn send_once(
    session: &Session,
    connection: &Arc<Connection>,
    request: &SendMessageRequest,
) -> Result<SendResultEntry, Error> {
    let response: SendMessageResponse = connection
        .call(SEND, session.call_options(), request)
        .await?;
    check(response.status)?;
    let mut entry = response
        .entries
        .into_iter()
        .next()
        .ok_or_else(wrong_entry_count)?;
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
    Error::Invalid(format!("topic {topic:?} has no writable queue"))
}

fn wrong_entry_count() -> Error {
    Error::Malformed("the number of entries differs from that of messages".to_owned())
}
