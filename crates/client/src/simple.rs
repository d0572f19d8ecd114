//! Provides the simple consumer: its user receives, acknowledges and postpones messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use grpc_api::v2::settings::PubSub;
use grpc_api::v2::{ClientType, Resource};

use crate::config::Config;
use crate::delivery::{self, Poll};
use crate::error::Error;
use crate::filter::Filter;
use crate::message::Received;
use crate::producer::SessionGuard;
use crate::session::{Profile, Session};

/// Default long-polling time.
const WAIT: Duration = Duration::from_secs(20);

/// The options of a simple consumer; made by [`SimpleConsumer::builder`].
#[derive(Debug)]
pub struct SimpleConsumerBuilder {
    config: Config,
    group: String,
    subscriptions: Vec<(String, Filter)>,
    wait: Duration,
}

impl SimpleConsumerBuilder {
    /// Subscribes to a topic.
    #[must_use]
    pub fn subscribe(mut self, topic: impl Into<String>, filter: Filter) -> Self {
        self.subscriptions.push((topic.into(), filter));
        self
    }

    /// Sets how long [`SimpleConsumer::receive`] waits if there is no message; 20 s by default, the most that servers
    /// grant.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Connects, and waits until the server has answered the settings.
    ///
    /// # Errors
    ///
    /// Those of connecting, a refusal of the credentials, or an unknown topic.
    pub async fn start(self) -> Result<SimpleConsumer, Error> {
        if self.subscriptions.is_empty() {
            return Err(Error::Invalid(
                "the consumer has no subscription".to_owned(),
            ));
        }
        let group = Resource {
            resource_namespace: self.config.namespace.clone(),
            name: self.group,
        };
        let subscription =
            delivery::subscription(group.clone(), &self.subscriptions, Some(self.wait));
        let topics = self.subscriptions.iter().map(|(topic, _)| topic.clone());
        let profile = Profile {
            kind: ClientType::SimpleConsumer,
            group: Some(group),
            pub_sub: PubSub::Subscription(subscription),
            topics: topics.collect(),
        };
        let (session, _) = Session::start(self.config, profile).await?;
        Ok(SimpleConsumer {
            reader: Arc::new(Reader {
                held: SessionGuard(session),
                subscriptions: self.subscriptions,
                wait: self.wait,
                turn: AtomicUsize::new(0),
            }),
        })
    }
}

/// Receives messages on request; a clone is another handle to the same consumer.
///
/// When the last handle is dropped its tasks end; [`SimpleConsumer::shutdown`] also notifies the server.
#[derive(Clone, Debug)]
pub struct SimpleConsumer {
    reader: Arc<Reader>,
}

#[derive(Debug)]
struct Reader {
    held: SessionGuard,
    subscriptions: Vec<(String, Filter)>,
    wait: Duration,
    turn: AtomicUsize,
}

impl SimpleConsumer {
    /// A member of a consumer group of the server the configuration names.
    pub fn builder(config: Config, group: impl Into<String>) -> SimpleConsumerBuilder {
        SimpleConsumerBuilder {
            config,
            group: group.into(),
            subscriptions: Vec::new(),
            wait: WAIT,
        }
    }

    fn session(&self) -> &Arc<Session> {
        &self.reader.held.0
    }

    /// Receives at most `messages_max` messages of one of the topics, which take turns. They are invisible to others for
    /// `invisible`; those that are not acknowledged by then are delivered again. Empty if none arrived in time.
    ///
    /// A message whose body does not match its digest is left out, with a warning in the log: it is delivered again like
    /// one that was not acknowledged, and becomes a dead letter after as many attempts as the group allows.
    ///
    /// # Errors
    ///
    /// The refusal of the server, or the failure to reach it.
    pub async fn receive(
        &self,
        messages_max: usize,
        invisible: Duration,
    ) -> Result<Vec<Received>, Error> {
        let session = self.session();
        let turn = self.reader.turn.fetch_add(1, Ordering::Relaxed);
        let index = turn % std::cmp::max(self.reader.subscriptions.len(), 1);
        let Some((topic, filter)) = self.reader.subscriptions.get(index) else {
            return Ok(Vec::new());
        };
        let route = session.route(topic).await?;
        let queue = route
            .to_read()
            .ok_or_else(|| Error::Invalid(format!("topic {topic:?} has no readable queue")))?;
        let poll = Poll {
            filter,
            messages_max,
            invisible: Some(invisible),
            wait: self.reader.wait,
            attempt_id: None,
        };
        let batch = delivery::receive(session, queue, poll).await;
        if batch.is_err() {
            session.forget_route(topic);
        }
        Ok(batch?.messages)
    }

    /// Acknowledges a delivery: the message is not delivered to its group again.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidReceiptHandle`](crate::Code::InvalidReceiptHandle) if it came too late, another refusal, or the
    /// failure to reach the server.
    pub async fn ack(&self, delivery: &Received) -> Result<(), Error> {
        let mut outcomes = delivery::ack(self.session(), &[delivery]).await;
        outcomes.pop().unwrap_or(Ok(()))
    }

    /// Acknowledges deliveries in as few calls as possible, and returns an outcome for each, in order.
    pub async fn ack_all(&self, deliveries: &[Received]) -> Vec<Result<(), Error>> {
        let deliveries: Vec<&Received> = deliveries.iter().collect();
        delivery::ack(self.session(), &deliveries).await
    }

    /// Sets the invisible duration of a delivery, counted from now.
    ///
    /// # Errors
    ///
    /// As [`SimpleConsumer::ack`].
    pub async fn change_invisible(
        &self,
        delivery: &mut Received,
        invisible: Duration,
    ) -> Result<(), Error> {
        delivery.receipt.handle =
            delivery::change_invisible(self.session(), delivery, invisible).await?;
        Ok(())
    }

    /// Notifies the server, which delivers what is not acknowledged to others, and ends.
    pub async fn shutdown(self) {
        self.session().shutdown().await;
    }
}
