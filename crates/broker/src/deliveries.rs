//! Provides the calls of consumers: they receive messages and settle their deliveries.

use std::sync::Arc;
use std::time::Duration;

use engine::{Delivered, Engine, ReceiptHandle, ReceiveRequest, Store};
use storage::FjallStore;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::broker::{Broker, lane};
use crate::command::{Answer, Command, Poll, Room};
use crate::error::Error;
use crate::limits::HANDLES_MAX;

/// The outcome of each of some deliveries, in their order.
type Outcomes = Vec<Result<(), Error>>;

impl Broker {
    /// Receives messages that are due; waits up to `wait` for the first one.
    pub async fn receive(
        &self,
        request: ReceiveRequest,
        wait: Duration,
    ) -> Result<Vec<Delivered>, Error> {
        self.receive_into(None, request, wait).await
    }

    /// Receives messages that are due, which are counted in `room` before they are handed out; waits up to `wait` for
    /// the first one.
    pub async fn receive_into(
        &self,
        room: Option<Arc<dyn Room>>,
        request: ReceiveRequest,
        wait: Duration,
    ) -> Result<Vec<Delivered>, Error> {
        let (reply, answer) = oneshot::channel();
        let wait_ms = ms_of(wait);
        let lane = lane(&request.topic);
        self.queue(Command::Receive(Poll {
            lane,
            request,
            wait_ms,
            room,
            reply,
        }))
        .await?;
        let mut awaited = Awaited {
            broker: self,
            answer,
        };
        let answered = (&mut awaited.answer).await;
        answered.unwrap_or_else(|_| Err(self.end()))
    }

    /// Acknowledges deliveries; each has its own outcome, in the same order.
    pub async fn ack(&self, handles: Vec<ReceiptHandle>) -> Result<Vec<Result<(), Error>>, Error> {
        let (reply, answer) = oneshot::channel();
        self.queue(Command::Ack { handles, reply }).await?;
        self.answer(answer).await
    }

    /// Hands a delivery back: it comes again after `delay`, or after the group's back-off.
    pub async fn retry_later(
        &self,
        handle: ReceiptHandle,
        delay: Option<Duration>,
    ) -> Result<(), Error> {
        let delay_ms = delay.map(ms_of);
        self.with(u64::from(handle.topic), move |engine, now_ms| {
            engine.retry_later(now_ms, &handle, delay_ms)
        })
        .await
    }

    /// Keeps a delivery hidden for `invisible` from now on.
    pub async fn change_invisible(
        &self,
        handle: ReceiptHandle,
        invisible: Duration,
    ) -> Result<(), Error> {
        let invisible_ms = ms_of(invisible);
        let work = move |engine: &mut Engine<FjallStore>, now_ms| {
            engine.change_invisible(now_ms, &handle, invisible_ms)
        };
        self.with(u64::from(handle.topic), work).await
    }

    /// Moves a delivery to the dead-letter topic of its group.
    pub async fn dead_letter(&self, handle: ReceiptHandle) -> Result<(), Error> {
        self.with(u64::from(handle.topic), move |engine, now_ms| {
            engine.dead_letter(now_ms, &handle)
        })
        .await
    }

    /// Keeps deliveries hidden for `invisible` from now on; each has its own outcome, in the same order.
    ///
    /// A lease is in memory first, so a crash in the next instants may end it as it was before.
    pub async fn renew(
        &self,
        handles: &[ReceiptHandle],
        invisible: Duration,
    ) -> Result<Outcomes, Error> {
        let invisible_ms = ms_of(invisible);
        self.each(handles, move |engine, now_ms, handle| {
            engine.change_invisible(now_ms, handle, invisible_ms)
        })
        .await
    }

    /// Hands back deliveries that their consumer did not work on: they come again and use up no delivery. Each has its
    /// own outcome, in the same order.
    pub async fn give_back(&self, handles: &[ReceiptHandle]) -> Result<Outcomes, Error> {
        self.each(handles, Engine::give_back).await
    }

    /// Lets the leases of deliveries end within `within` as if they were handed back unworked, unless they are renewed
    /// before; each has its own outcome, in the same order.
    pub async fn let_lapse(
        &self,
        handles: &[ReceiptHandle],
        within: Duration,
    ) -> Result<Outcomes, Error> {
        let within_ms = ms_of(within);
        self.each(handles, move |engine, now_ms, handle| {
            engine.let_lapse(now_ms, handle, within_ms)
        })
        .await
    }

    async fn each<A>(&self, handles: &[ReceiptHandle], act: A) -> Result<Outcomes, Error>
    where
        A: Fn(&mut Engine<FjallStore>, u64, &ReceiptHandle) -> Result<(), engine::Error>
            + Clone
            + Send
            + 'static,
    {
        let mut answers = Vec::with_capacity(handles.len().div_ceil(HANDLES_MAX));
        for part in handles.chunks(HANDLES_MAX) {
            let (command, answer) = on_each(part.to_vec(), act.clone());
            self.queue(command).await?;
            answers.push(answer);
        }
        let mut outcomes = Vec::with_capacity(handles.len());
        for answer in answers {
            outcomes.extend(self.answer(answer).await?);
        }
        Ok(outcomes)
    }
}

/// The answer to a receive that is waited for. If its consumer leaves just when it comes, the messages are handed back.
struct Awaited<'a> {
    broker: &'a Broker,
    answer: oneshot::Receiver<Result<Vec<Delivered>, Error>>,
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        let Ok(Ok(delivered)) = self.answer.try_recv() else {
            return;
        };
        let handles: Vec<_> = delivered.iter().map(|one| one.handle).collect();
        let broker = self.broker.clone();
        // Without a runtime, at its end, their leases end by themselves.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { drop(broker.give_back(&handles).await) });
        }
    }
}

fn ms_of(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Makes one command of what is to be done with some deliveries.
fn on_each<S: Store, A>(
    handles: Vec<ReceiptHandle>,
    act: A,
) -> (Command<S>, oneshot::Receiver<Result<Outcomes, Error>>)
where
    A: Fn(&mut Engine<S>, u64, &ReceiptHandle) -> Result<(), engine::Error> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let lane = handles.first().map_or(0, |handle| u64::from(handle.topic));
    let weight = handles.len();
    let work = move |engine: &mut Engine<S>, now_ms: u64| {
        let handles = handles.iter();
        let outcomes = handles.map(|handle| act(engine, now_ms, handle).map_err(Error::Refused));
        let outcomes: Outcomes = outcomes.collect();
        Answer::Now(Box::new(move || drop(reply.send(Ok(outcomes)))))
    };
    let command = Command::Other {
        lane,
        weight,
        work: Box::new(work),
    };
    (command, answer)
}

#[cfg(test)]
mod tests {
    use engine::{
        Config, Delivered, MemoryStore, NewMessage, ReceiveRequest, TagFilter, TopicKind, TopicSpec,
    };

    use super::*;
    use crate::core::Core;

    const COUNT: usize = 5_000;
    const LEASE_MS: u64 = 60_000;
    /// How long the disk takes to sync.
    const SYNC_MS: u64 = 10;

    fn filled() -> Core<MemoryStore> {
        let mut engine = Engine::open(MemoryStore::default(), Config::default()).unwrap();
        let spec = TopicSpec::new("t", TopicKind::Normal).with_queues(4);
        engine.create_topic(spec).unwrap();
        for _ in 0..COUNT {
            engine.send(1_000, "t", &NewMessage::default()).unwrap();
        }
        let mut core = Core::new(engine);
        let epoch = core.apply(1_100).unwrap().unwrap();
        core.durable(epoch);
        core
    }

    fn received(core: &mut Core<MemoryStore>, now_ms: u64) -> Vec<Delivered> {
        let request = ReceiveRequest {
            topic: "t".into(),
            group: "g".into(),
            messages_max: 256,
            invisible_ms: LEASE_MS,
            filter: TagFilter::All,
            run: false,
        };
        let mut all = Vec::new();
        let mut empty = 0;
        while empty < 8 {
            let some = core.engine_mut().receive(now_ms, &request).unwrap();
            empty = if some.is_empty() { empty + 1 } else { 0 };
            all.extend(some);
        }
        all
    }

    #[test]
    fn renewals_do_not_wait_for_the_disk() {
        let mut core = filled();
        let delivered = received(&mut core, 1_100);
        let handles: Vec<_> = delivered.iter().map(|delivery| delivery.handle).collect();
        assert_eq!(handles.len(), COUNT);
        // A busy writer: there is always a group of changes that is not on the disk yet.
        let mut now_ms = 1_100;
        for _ in 0..5 {
            now_ms += 40_000;
            core.engine_mut()
                .send(now_ms, "t", &NewMessage::default())
                .unwrap();
            let epoch = core.apply(now_ms).unwrap().unwrap();
            let renew = move |engine: &mut Engine<MemoryStore>, at_ms, handle: &ReceiptHandle| {
                engine.change_invisible(at_ms, handle, LEASE_MS)
            };
            let mut answers = Vec::new();
            for part in handles.chunks(HANDLES_MAX) {
                let (command, answer) = on_each(part.to_vec(), renew);
                core.push(command);
                answers.push(answer);
            }
            while core.has_commands() {
                core.step(now_ms).unwrap();
            }
            for answer in &mut answers {
                let outcomes = answer.try_recv().unwrap().unwrap();
                assert!(outcomes.iter().all(Result::is_ok));
            }
            now_ms += SYNC_MS;
            core.durable(epoch);
        }
        let again = received(&mut core, now_ms);
        assert_eq!(again.len(), 5, "only what was sent meanwhile");
    }

    #[test]
    fn an_unworked_delivery_is_handed_back_without_a_wait() {
        let mut core = filled();
        let delivered = received(&mut core, 1_100);
        let handles = delivered.iter().map(|delivery| delivery.handle).collect();
        let epoch = core.apply(1_100).unwrap();
        let (command, mut answer) = on_each(handles, Engine::give_back);
        core.push(command);
        core.step(1_100).unwrap();
        assert_eq!(answer.try_recv().unwrap().unwrap().len(), COUNT);
        core.durable(epoch.unwrap_or_default());
        let epoch = core.apply(1_101).unwrap().unwrap();
        core.durable(epoch);
        let again = received(&mut core, 1_200);
        assert_eq!(again.len(), COUNT);
        assert!(again.iter().all(|delivery| delivery.attempt == 1));
    }
}
