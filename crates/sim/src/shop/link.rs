//! Provides the platform's way to the simulated broker: the same translation as the embedded one, over the step
//! function, with the world going on before and after every call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use broker::{
    Command, Delivered, Error, GroupSpec, Poll, ReceiptHandle, ReceiveRequest, Refusal, TagFilter,
    TopicKind, TopicSpec,
};
use orders::embedded;
use orders::messaging::{
    Handle, Incoming, Made, Messaging, MessagingError, Outgoing, Subscription, TopicKind as Kind,
};
use tokio::sync::oneshot;

use crate::oracle::Violation;
use crate::shop::machine::{Question, question};
use crate::shop::plan::ShopCanary;
use crate::shop::scene::Stage;

/// How long a delivery stays with one worker before another may have it, in ms.
pub(crate) const INVISIBLE_MS: u64 = 30_000;

/// What was published, and what has come of it.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// When each message may come, in ms.
    asked: BTreeMap<String, u64>,
    /// Messages that have to come: published, and not known to be acknowledged.
    waiting: BTreeSet<(u64, String)>,
    /// Messages that were acknowledged, or may have been.
    done: BTreeSet<String>,
    /// The messages of each message group, in the order in which they were first published.
    lines: BTreeMap<String, Vec<String>>,
    pub(crate) deliveries: u64,
}

impl Ledger {
    fn published(&mut self, outgoing: &Outgoing) {
        let at_ms = outgoing.deliver_at_ms.unwrap_or(0);
        if let Some(line) = &outgoing.message_group
            && !self.asked.contains_key(&outgoing.message_id)
        {
            let line = self.lines.entry(line.clone()).or_default();
            line.push(outgoing.message_id.clone());
        }
        let asked = self
            .asked
            .entry(outgoing.message_id.clone())
            .or_insert(at_ms);
        // Published again with the same id, it is stored once, and which one it was is not known.
        *asked = std::cmp::min(*asked, at_ms);
        if !self.done.contains(&outgoing.message_id) {
            self.waiting.insert((*asked, outgoing.message_id.clone()));
        }
    }

    fn acknowledged(&mut self, message_id: &str) {
        self.waiting.retain(|(_, id)| id != message_id);
        self.done.insert(message_id.to_owned());
    }

    /// The broker's disk is lost, and with it every message that has not come.
    pub(crate) fn lose_all(&mut self) {
        for (_, id) in std::mem::take(&mut self.waiting) {
            self.done.insert(id);
        }
    }

    /// The message of its group that has to be done with first, if there is one.
    fn overtaken(&self, message: &broker::Message) -> Option<&String> {
        let line = self.lines.get(message.message_group.as_ref()?)?;
        let before = line.iter().take_while(|id| **id != message.message_id);
        before.into_iter().find(|id| !self.done.contains(*id))
    }

    /// When the next message may come that has to come, in ms, and its id.
    pub(crate) fn next(&self) -> Option<&(u64, String)> {
        self.waiting.first()
    }

    /// When the next message may come after an instant, in ms.
    pub(crate) fn next_after_ms(&self, now_ms: u64) -> Option<u64> {
        let later = (now_ms.saturating_add(1), String::new());
        self.waiting.range(later..).next().map(|(at_ms, _)| *at_ms)
    }
}

/// The way to the broker. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Link {
    stage: Stage,
    ledger: Arc<Mutex<Ledger>>,
}

impl Link {
    pub(crate) fn new(stage: Stage) -> Self {
        let ledger = Arc::default();
        Self { stage, ledger }
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the broker while the world goes on. If both are one process and the broker dies, so does the platform.
    async fn ask<T>(&self, questions: Vec<Question<T>>) -> Vec<Result<T, Error>> {
        let asked = questions.len();
        self.stage.go_on().await;
        let answers = self.stage.host.machine().ask(questions);
        let answers = match answers {
            Ok(answers) => answers,
            Err(violation) => {
                self.stage.accuse(violation);
                (0..asked).map(|_| Err(Error::Stopped)).collect()
            }
        };
        if self.stage.embedded && self.stage.host.machine().is_down() {
            self.stage.die().await;
        }
        self.stage.go_on().await;
        answers
    }

    async fn ask_one<T>(&self, question: Question<T>) -> Result<T, MessagingError> {
        let answer = self.ask(vec![question]).await.pop();
        answer
            .unwrap_or(Err(Error::Stopped))
            .map_err(|error| embedded::to_error(&error))
    }

    /// Whether a deliberate fault swallows the message.
    fn swallows(&self, outgoing: &Outgoing) -> bool {
        self.stage.canary == Some(ShopCanary::TimerLost)
            && outgoing.topic.ends_with("order-deadlines")
    }
}

/// A number by which commands take turns.
fn lane(topic: &str) -> u64 {
    topic.len() as u64
}

/// What exists already is as good.
fn made<T>(result: Result<T, engine::Error>) -> Result<(), engine::Error> {
    match result {
        Ok(_) | Err(Refusal::Exists { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

#[async_trait]
impl Messaging for Link {
    async fn ensure_topic(
        &self,
        topic: &str,
        kind: Kind,
        queues: u16,
    ) -> Result<Made, MessagingError> {
        let kind = match kind {
            Kind::Delay => TopicKind::Delay,
            Kind::Fifo => TopicKind::Fifo,
        };
        let spec = TopicSpec::new(topic, kind).with_queues(queues);
        let asked = question(1, move |engine, now_ms| {
            let existed = engine.topic_stats(now_ms, &spec.name).is_ok();
            made(engine.create_topic(spec))
                .map(|()| if existed { Made::Existing } else { Made::New })
        });
        self.ask_one(asked).await
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<(), MessagingError>> {
        let mut questions = Vec::with_capacity(batch.len());
        let mut swallowed = Vec::with_capacity(batch.len());
        for outgoing in batch {
            let gone = self.swallows(&outgoing);
            swallowed.push(gone);
            if gone {
                continue;
            }
            self.ledger().published(&outgoing);
            let (reply, receiver) = oneshot::channel();
            let topic: Arc<str> = Arc::from(outgoing.topic.as_str());
            let command = Command::Send {
                lane: lane(&topic),
                topic,
                message: Box::new(embedded::message(outgoing)),
                reply,
            };
            questions.push((command, receiver));
        }
        let mut answers = self.ask(questions).await.into_iter();
        let answer = |gone: bool| {
            if gone {
                return Ok(());
            }
            let sent = answers.next().unwrap_or(Err(Error::Stopped));
            sent.map(drop).map_err(|error| embedded::to_error(&error))
        };
        swallowed.into_iter().map(answer).collect()
    }

    async fn subscribe(
        &self,
        topic: &str,
        group: &str,
    ) -> Result<Box<dyn Subscription>, MessagingError> {
        let spec = GroupSpec {
            fifo: topic.ends_with("events") && self.stage.canary != Some(ShopCanary::Unordered),
            ..GroupSpec::new(group)
        };
        let asked = question(2, move |engine, now_ms| {
            made(engine.create_group(now_ms, spec))
        });
        self.ask_one(asked).await?;
        Ok(Box::new(Member {
            link: self.clone(),
            topic: topic.to_owned(),
            group: group.to_owned(),
        }))
    }
}

/// One consumer of a group.
struct Member {
    link: Link,
    topic: String,
    group: String,
}

impl Member {
    /// A message came: never before its time.
    fn judge(&self, delivered: &Delivered) -> Result<(), Violation> {
        let now_ms = self.link.stage.host.machine().latest_ms();
        let message = &delivered.message;
        let mut ledger = self.link.ledger();
        ledger.deliveries += 1;
        if let Some(before) = ledger.overtaken(message) {
            let what = format!("message {} came before {before}", message.message_id);
            return Err(Violation { invariant: 5, what });
        }
        let asked_ms = ledger.asked.get(&message.message_id).copied();
        let invariant = match asked_ms {
            Some(asked_ms) if asked_ms <= now_ms => return Ok(()),
            Some(_) => 1,
            None => 3,
        };
        let id = &message.message_id;
        let what = format!("message {id} came at {now_ms}, asked for {asked_ms:?}");
        Err(Violation { invariant, what })
    }
}

#[async_trait]
impl Subscription for Member {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Incoming>, MessagingError> {
        let (reply, receiver) = oneshot::channel();
        let poll = Poll {
            lane: lane(&self.topic),
            request: ReceiveRequest {
                topic: self.topic.clone(),
                group: self.group.clone(),
                messages_max: max,
                invisible_ms: INVISIBLE_MS,
                filter: TagFilter::All,
                run: false,
            },
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            room: None,
            reply,
        };
        let delivered = self
            .link
            .ask_one((Command::Receive(poll), receiver))
            .await?;
        for one in &delivered {
            if let Err(violation) = self.judge(one) {
                self.link.stage.accuse(violation);
            }
        }
        Ok(delivered.into_iter().map(embedded::incoming).collect())
    }

    async fn ack(&self, handles: &[Handle]) -> Result<(), MessagingError> {
        let handles: Vec<ReceiptHandle> = handles
            .iter()
            .map(embedded::parse)
            .collect::<Result<_, _>>()?;
        let (reply, receiver) = oneshot::channel();
        let command = Command::Ack { handles, reply };
        for result in self.link.ask_one((command, receiver)).await? {
            match result {
                Ok(()) | Err(Error::Refused(Refusal::Expired)) => {}
                Err(error) => return Err(embedded::to_error(&error)),
            }
        }
        Ok(())
    }

    async fn retry_later(&self, handle: &Handle, delay: Duration) -> Result<(), MessagingError> {
        let handle = embedded::parse(handle)?;
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        let lane = u64::from(handle.topic);
        let asked = question(lane, move |engine, now_ms| {
            match engine.retry_later(now_ms, &handle, Some(delay_ms)) {
                Ok(()) | Err(Refusal::Expired) => Ok(()),
                Err(error) => Err(error),
            }
        });
        self.link.ask_one(asked).await
    }
}

impl Link {
    /// The consumer has done with these messages, as far as it knows.
    pub(crate) fn acknowledged(&self, done: &[Incoming]) {
        let mut ledger = self.ledger();
        for incoming in done {
            ledger.acknowledged(&incoming.message_id);
        }
    }
}
