//! Provides the simple consumer: it asks for messages when its user does, and settles them when told so.

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
use crate::producer::Held;
use crate::session::{Core, Profile};

/// How long the server waits for messages, unless told otherwise.
const WAIT: Duration = Duration::from_secs(20);

/// What a simple consumer shall be; made by [`SimpleConsumer::builder`].
#[derive(Debug)]
pub struct SimpleConsumerBuilder {
    config: Config,
    group: String,
    subscriptions: Vec<(String, Filter)>,
    wait: Duration,
}

impl SimpleConsumerBuilder {
    /// Reads one more topic.
    #[must_use]
    pub fn subscribe(mut self, topic: impl Into<String>, filter: Filter) -> Self {
        self.subscriptions.push((topic.into(), filter));
        self
    }

    /// How long [`SimpleConsumer::receive`] waits if there is no message; 20 s by default, which is also the most
    /// that servers grant.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Connects, and waits until the server has said its rules.
    ///
    /// # Errors
    ///
    /// Those of connecting, a refusal of the credentials, or an unknown topic.
    pub async fn start(self) -> Result<SimpleConsumer, Error> {
        if self.subscriptions.is_empty() {
            return Err(Error::Invalid("the consumer reads no topic".to_owned()));
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
        let (core, _) = Core::start(self.config, profile).await?;
        Ok(SimpleConsumer {
            reader: Arc::new(Reader {
                held: Held(core),
                subscriptions: self.subscriptions,
                wait: self.wait,
                turn: AtomicUsize::new(0),
            }),
        })
    }
}

/// Receives messages on demand; a clone is another hand on the same consumer.
///
/// Once the last hand is dropped its tasks end; [`SimpleConsumer::shutdown`] says goodbye to the server too.
#[derive(Clone, Debug)]
pub struct SimpleConsumer {
    reader: Arc<Reader>,
}

#[derive(Debug)]
struct Reader {
    held: Held,
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

    fn core(&self) -> &Arc<Core> {
        &self.reader.held.0
    }

    /// Waits for messages of one of the topics, each in its turn, and takes at most `messages_max`. They stay
    /// hidden from others for `invisible`; those that are not acknowledged by then come again. Empty if none came.
    ///
    /// A message whose body does not fit the digest that came with it is left out, and a warning logged: it comes again
    /// as one that was not acknowledged, and is a dead letter once it has come as often as the group allows.
    ///
    /// # Errors
    ///
    /// The refusal of the server, or the failure to reach it.
    pub async fn receive(
        &self,
        messages_max: usize,
        invisible: Duration,
    ) -> Result<Vec<Received>, Error> {
        let core = self.core();
        let turn = self.reader.turn.fetch_add(1, Ordering::Relaxed);
        let index = turn % std::cmp::max(self.reader.subscriptions.len(), 1);
        let Some((topic, filter)) = self.reader.subscriptions.get(index) else {
            return Ok(Vec::new());
        };
        let route = core.route(topic).await?;
        let queue = route.to_read().ok_or_else(|| {
            Error::Invalid(format!("topic {topic:?} has no queue that may be read"))
        })?;
        let poll = Poll {
            filter,
            messages_max,
            invisible: Some(invisible),
            wait: self.reader.wait,
            attempt_id: None,
        };
        let haul = delivery::receive(core, queue, poll).await;
        if haul.is_err() {
            core.forget_route(topic);
        }
        Ok(haul?.messages)
    }

    /// Acknowledges a delivery: its group does not get the message again.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidReceiptHandle`](crate::Code::InvalidReceiptHandle) if it came too late, another refusal, or the
    /// failure to reach the server.
    pub async fn ack(&self, delivery: &Received) -> Result<(), Error> {
        let mut outcomes = delivery::ack(self.core(), &[delivery]).await;
        outcomes.pop().unwrap_or(Ok(()))
    }

    /// Acknowledges deliveries in as few calls as that takes, and tells of each, in their order, how it went.
    pub async fn ack_all(&self, deliveries: &[Received]) -> Vec<Result<(), Error>> {
        let deliveries: Vec<&Received> = deliveries.iter().collect();
        delivery::ack(self.core(), &deliveries).await
    }

    /// Keeps a delivery hidden for another while, counted from now.
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
            delivery::change_invisible(self.core(), delivery, invisible).await?;
        Ok(())
    }

    /// Says goodbye to the server, which gives what is not acknowledged to others, and ends.
    pub async fn shutdown(self) {
        self.core().end().await;
    }
}
