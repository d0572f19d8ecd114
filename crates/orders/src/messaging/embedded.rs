//! Implements the platform's `Messaging` on a broker in this process.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use broker::{
    Broker, Delivered, Delivery, Error, GroupSpec, Limits, NewMessage, ReceiptHandle,
    ReceiveRequest, Refusal, TagFilter, TopicKind, TopicSpec,
};

use crate::messaging::{
    Handle, Incoming, Made, Messaging, MessagingError, Outgoing, Subscription, TopicKind as Kind,
};

/// How long a delivery stays with one worker before another may have it, in ms.
const INVISIBLE_MS: u64 = 30_000;

/// The broker of this process, seen from the order platform.
#[derive(Clone, Debug)]
pub struct Embedded {
    broker: Broker,
    longest_delay: Duration,
}

impl Embedded {
    /// Uses this broker.
    pub fn new(broker: Broker) -> Self {
        let longest_delay = Duration::from_millis(Limits::default().delay_ms_max);
        Self {
            broker,
            longest_delay,
        }
    }

    /// Sets the longest delay that the broker was opened with.
    #[must_use]
    pub fn with_longest_delay(mut self, longest_delay: Duration) -> Self {
        self.longest_delay = longest_delay;
        self
    }
}

#[async_trait]
impl Messaging for Embedded {
    fn longest_delay(&self) -> Duration {
        self.longest_delay
    }

    async fn ensure_topic(
        &self,
        topic: &str,
        kind: Kind,
        queues: u16,
    ) -> Result<Made, MessagingError> {
        match self.broker.topic_stats(topic).await {
            // One that an operator has created with other settings will do.
            Ok(_) => return Ok(Made::Existing),
            Err(Error::Refused(Refusal::TopicNotFound { .. })) => {}
            Err(error) => return Err(to_error(&error)),
        }
        let kind = match kind {
            Kind::Delay => TopicKind::Delay,
            Kind::Fifo => TopicKind::Fifo,
        };
        let spec = TopicSpec::new(topic, kind).with_queues(queues);
        match self.broker.create_topic(spec).await {
            Ok(()) => Ok(Made::New),
            Err(Error::Refused(Refusal::Exists { .. })) => Ok(Made::Existing),
            Err(error) => Err(to_error(&error)),
        }
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<(), MessagingError>> {
        let mut topics = HashMap::<String, Arc<str>>::new();
        let mut started = Vec::with_capacity(batch.len());
        for outgoing in batch {
            let topic = topics
                .entry(outgoing.topic.clone())
                .or_insert_with(|| Arc::from(outgoing.topic.as_str()));
            started.push(self.broker.start_send(topic, message(outgoing)).await);
        }
        let mut results = Vec::with_capacity(started.len());
        for sent in started {
            let result = match sent {
                Ok(sent) => sent.await,
                Err(error) => Err(error),
            };
            results.push(result.map(drop).map_err(|error| to_error(&error)));
        }
        results
    }

    async fn subscribe(
        &self,
        topic: &str,
        group: &str,
    ) -> Result<Box<dyn Subscription>, MessagingError> {
        let stats = self
            .broker
            .topic_stats(topic)
            .await
            .map_err(|error| to_error(&error))?;
        // Events of an order reach their consumers in the order in which they happened; timers need none.
        let fifo = stats.spec.kind == TopicKind::Fifo;
        match self
            .broker
            .create_group(GroupSpec {
                fifo,
                ..GroupSpec::new(group)
            })
            .await
        {
            Ok(()) | Err(Error::Refused(Refusal::Exists { .. })) => {}
            Err(error) => return Err(to_error(&error)),
        }
        Ok(Box::new(Member {
            broker: self.broker.clone(),
            topic: topic.to_owned(),
            group: group.to_owned(),
        }))
    }
}

/// What the platform publishes, as this broker stores it.
pub fn message(outgoing: Outgoing) -> NewMessage {
    NewMessage {
        body: outgoing.body.into(),
        message_id: Some(outgoing.message_id),
        tag: outgoing.tag,
        keys: outgoing.key.into_iter().collect(),
        message_group: outgoing.message_group,
        delivery: outgoing
            .deliver_at_ms
            .map_or(Delivery::Now, |due_ms| Delivery::At { due_ms }),
        ..NewMessage::default()
    }
}

/// One consumer of a group on the broker of this process.
struct Member {
    broker: Broker,
    topic: String,
    group: String,
}

#[async_trait]
impl Subscription for Member {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Incoming>, MessagingError> {
        let request = ReceiveRequest {
            topic: self.topic.clone(),
            group: self.group.clone(),
            messages_max: max,
            invisible_ms: INVISIBLE_MS,
            filter: TagFilter::All,
            run: false,
        };
        let delivered = self
            .broker
            .receive(request, wait)
            .await
            .map_err(|error| to_error(&error))?;
        Ok(delivered.into_iter().map(incoming).collect())
    }

    async fn ack(&self, handles: &[Handle]) -> Result<(), MessagingError> {
        let handles = handles.iter().map(parse).collect::<Result<_, _>>()?;
        for result in self
            .broker
            .ack(handles)
            .await
            .map_err(|error| to_error(&error))?
        {
            match result {
                Ok(()) | Err(Error::Refused(Refusal::Expired)) => {}
                Err(error) => return Err(to_error(&error)),
            }
        }
        Ok(())
    }

    async fn retry_later(&self, handle: &Handle, delay: Duration) -> Result<(), MessagingError> {
        match self.broker.retry_later(parse(handle)?, Some(delay)).await {
            Ok(()) | Err(Error::Refused(Refusal::Expired)) => Ok(()),
            Err(error) => Err(to_error(&error)),
        }
    }
}

/// What this broker delivers, as the platform sees it.
pub fn incoming(delivered: Delivered) -> Incoming {
    let handle = Handle(delivered.handle.to_string());
    let message = Arc::unwrap_or_clone(delivered.message);
    Incoming {
        message_id: message.message_id,
        tag: message.tag,
        body: message.body.into(),
        attempt: u32::from(delivered.attempt),
        handle,
    }
}

/// The delivery that a handle names.
///
/// # Errors
/// The handle was not made by this broker.
pub fn parse(handle: &Handle) -> Result<ReceiptHandle, MessagingError> {
    handle
        .0
        .parse()
        .map_err(|error| MessagingError::Rejected(format!("{error}")))
}

/// Sorts errors into those of calls that may work later, and those that never will.
pub fn to_error(error: &Error) -> MessagingError {
    match error {
        Error::Refused(Refusal::DiskReserve { .. } | Refusal::QuotaReached { .. })
        | Error::TooManyPollers { .. }
        | Error::Failed
        | Error::Stopped => MessagingError::Unavailable(error.to_string()),
        Error::Refused(Refusal::TopicNotFound { .. } | Refusal::GroupNotFound { .. }) => {
            MessagingError::Missing(error.to_string())
        }
        _ => MessagingError::Rejected(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker::BrokerConfig;
    use broker::clock::{Clock, ManualClock};

    fn outgoing(id: &str, deliver_at_ms: Option<u64>) -> Outgoing {
        Outgoing {
            topic: "timers".into(),
            message_id: id.into(),
            key: Some("ord_1".into()),
            tag: Some("order".into()),
            message_group: None,
            deliver_at_ms,
            body: id.as_bytes().to_vec(),
        }
    }

    #[tokio::test]
    async fn messages_come_when_due_once_each_and_again_after_a_retry() {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::new(1_795_000_000_000);
        let broker = Broker::open_with_clock(
            folder.path(),
            BrokerConfig::default(),
            Arc::new(clock.clone()),
        )
        .unwrap();
        let messaging = Embedded::new(broker.clone());
        assert!(
            messaging.subscribe("timers", "closer").await.is_err(),
            "no such topic yet"
        );
        for made in [Made::New, Made::Existing] {
            let ensured = messaging.ensure_topic("timers", Kind::Delay, 2).await;
            assert_eq!(ensured.unwrap(), made);
        }
        let due_ms = clock.now_ms() + 30;
        let batch = vec![
            outgoing("a", Some(due_ms)),
            outgoing("b", None),
            outgoing("a", Some(due_ms)),
        ];
        for result in messaging.publish(batch).await {
            result.unwrap();
        }
        let member = messaging.subscribe("timers", "closer").await.unwrap();
        clock.advance(5);
        let first = member.receive(10, Duration::from_secs(10)).await.unwrap();
        assert_eq!(
            first
                .iter()
                .map(|one| one.message_id.as_str())
                .collect::<Vec<_>>(),
            ["b"]
        );
        member.ack(&[first[0].handle.clone()]).await.unwrap();
        assert!(
            member.receive(10, Duration::ZERO).await.unwrap().is_empty(),
            "not due yet"
        );
        clock.advance_to(due_ms);
        let second = member.receive(10, Duration::from_secs(10)).await.unwrap();
        assert_eq!(
            (second.len(), second[0].body.as_slice(), second[0].attempt),
            (1, b"a".as_slice(), 1)
        );
        member
            .retry_later(&second[0].handle, Duration::from_millis(5))
            .await
            .unwrap();
        clock.advance(5);
        let third = member.receive(10, Duration::from_secs(10)).await.unwrap();
        assert_eq!((third[0].message_id.as_str(), third[0].attempt), ("a", 2));
        member
            .ack(&[third[0].handle.clone(), second[0].handle.clone()])
            .await
            .unwrap();
        assert!(member.ack(&[Handle("nonsense".into())]).await.is_err());
        broker.shutdown().await;
    }
}
