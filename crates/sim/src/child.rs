//! Runs the process that is killed: a broker on a real folder at full speed, which reports every operation at once.

use std::collections::VecDeque;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use broker::{Broker, BrokerConfig, Error};
use engine::{
    Delivered, Delivery, MessageHandle, NewMessage, Recall, ReceiveRequest, Reschedule, TagFilter,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;

use crate::operation::Operation;
use crate::plan::{GROUPS, Plan, TOPICS, groups};

/// The line a child writes when its broker is open.
pub(crate) const READY: &str = "ready";
/// Producers that send at the same time.
const PRODUCERS: u64 = 4;
/// Messages a producer has in flight.
const SENDS: u64 = 16;
/// How long a delivery is held, in ms: longer than a child lives.
const HIDE_MS: u64 = 60_000;
/// Handles kept for those who change their mind.
const HANDLES_MAX: usize = 256;

/// What a child is to do.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Everything random comes from it; numbers of messages begin with it.
    pub cycle: u64,
    /// Whether it only consumes what is left.
    pub drains: bool,
}

/// What the tasks of a child share.
struct Shared {
    broker: Broker,
    task: Task,
    /// A std mutex: held to push or pop, never across an await.
    handles: Mutex<VecDeque<(u64, MessageHandle)>>,
}

/// Writes a line where the parent reads it; a line is a single write, so it arrives whole or not at all.
pub(crate) fn report(line: impl std::fmt::Display) {
    let line = format!("{line}\n");
    let mut out = std::io::stdout().lock();
    // A parent that is gone wants to know nothing.
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
}

/// Opens the broker in a folder and uses it until the parent kills the process or closes its input.
pub async fn child(folder: &Path, task: Task) -> anyhow::Result<()> {
    let broker = Broker::open(folder, BrokerConfig::default())?;
    for spec in Plan::quiet(0).topics() {
        broker.create_topic(spec).await?;
    }
    for spec in groups() {
        broker.create_group(spec).await?;
    }
    report(READY);
    let shared = Arc::new(Shared {
        broker: broker.clone(),
        task,
        handles: Mutex::new(VecDeque::new()),
    });
    let mut tasks = JoinSet::new();
    for topic in 0..TOPICS.len() {
        for group in 0..GROUPS.len() {
            tasks.spawn(consume(Arc::clone(&shared), topic, group));
        }
    }
    for group in 0..GROUPS.len() {
        tasks.spawn(bury(Arc::clone(&shared), group));
    }
    if !task.drains {
        for producer in 0..PRODUCERS {
            tasks.spawn(produce(Arc::clone(&shared), producer));
        }
        tasks.spawn(change(Arc::clone(&shared)));
    }
    let input =
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    tokio::select! {
        _ = input => {}
        Some(ended) = tasks.join_next() => anyhow::bail!("a task ended: {ended:?}"),
    }
    tasks.shutdown().await;
    match broker.shutdown().await {
        broker::Health::Stopped => Ok(()),
        health => anyhow::bail!("the broker ended as {health:?}"),
    }
}

fn random(shared: &Shared, task: u64) -> StdRng {
    StdRng::seed_from_u64(shared.task.cycle << 16 | task)
}

fn some_delay_ms(rng: &mut StdRng) -> u64 {
    match rng.random_range(0..10) {
        0..3 => 0,
        3..8 => rng.random_range(0..300),
        _ => rng.random_range(0..4_000),
    }
}

async fn produce(shared: Arc<Shared>, producer: u64) -> Result<(), Error> {
    let mut rng = random(&shared, producer);
    let mut count = 0;
    loop {
        let mut open = Vec::new();
        for _ in 0..SENDS {
            count += 1;
            let number = shared.task.cycle << 32 | producer << 24 | count;
            let topic = rng.random_range(0..TOPICS.len());
            let message_group = (topic == 1).then(|| rng.random_range(0..20_u8));
            let delay_ms = some_delay_ms(&mut rng);
            let asked_ms = shared.broker.clock().now_ms() + delay_ms;
            report(Operation::Sending {
                number,
                topic,
                message_group,
                asked_ms,
            });
            let mut body = number.to_be_bytes().to_vec();
            body.resize(8 + rng.random_range(0..1_024_usize), b'.');
            let message = NewMessage {
                body: body.into(),
                message_group: message_group.map(|group| format!("line-{group}")),
                delivery: Delivery::After { delay_ms },
                ..NewMessage::default()
            };
            let name = TOPICS.get(topic).copied().unwrap_or_default();
            open.push((
                number,
                shared.broker.start_send(&Arc::from(name), message).await?,
            ));
        }
        for (number, sent) in open {
            let handle = sent.await?.handle;
            report(Operation::Sent { number, handle });
            keep(&shared, number, handle);
        }
    }
}

fn keep(shared: &Shared, number: u64, handle: MessageHandle) {
    let mut handles = shared
        .handles
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    handles.push_back((number, handle));
    if handles.len() > HANDLES_MAX {
        handles.pop_front();
    }
}

/// Recalls and moves messages, one at a time.
async fn change(shared: Arc<Shared>) -> Result<(), Error> {
    let mut rng = random(&shared, 100);
    loop {
        let chosen = {
            let mut handles = shared
                .handles
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let count = handles.len();
            (count > 0)
                .then(|| handles.swap_remove_back(rng.random_range(0..count)))
                .flatten()
        };
        let Some((number, handle)) = chosen else {
            // Until something was sent there is nothing to change.
            shared.broker.clock().sleep(Duration::from_millis(1)).await;
            continue;
        };
        let clock = shared.broker.clock();
        if rng.random_bool(0.5) {
            report(Operation::Recalling { number });
            let verdict = shared.broker.recall(handle).await?;
            let now_ms = clock.now_ms();
            report(Operation::Recalled {
                number,
                verdict,
                now_ms,
            });
            continue;
        }
        let delay_ms = some_delay_ms(&mut rng);
        let asked_ms = clock.now_ms() + delay_ms;
        report(Operation::Moving { number, asked_ms });
        let answer = shared
            .broker
            .reschedule(handle, Delivery::After { delay_ms })
            .await?;
        let now_ms = clock.now_ms();
        match answer {
            Reschedule::Moved(sent) => {
                report(Operation::Moved {
                    number,
                    handle: sent.handle,
                });
                keep(&shared, number, sent.handle);
            }
            Reschedule::TooLate => report(Operation::NotMoved {
                number,
                verdict: Recall::TooLate,
                now_ms,
            }),
            Reschedule::Unknown => report(Operation::NotMoved {
                number,
                verdict: Recall::Unknown,
                now_ms,
            }),
        }
    }
}

fn request(topic: &str, group: &str, messages_max: usize) -> ReceiveRequest {
    ReceiveRequest {
        topic: topic.to_owned(),
        group: group.to_owned(),
        messages_max,
        invisible_ms: HIDE_MS,
        filter: TagFilter::All,
        run: true,
    }
}

fn number_of(delivered: &Delivered) -> u64 {
    let body = delivered.message.body.first_chunk::<8>();
    body.map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The one consumer of a group on a topic; most of what it gets it acknowledges.
async fn consume(shared: Arc<Shared>, topic: usize, group: usize) -> Result<(), Error> {
    let mut rng = random(&shared, 200 + (topic * GROUPS.len() + group) as u64);
    let names = TOPICS.get(topic).zip(GROUPS.get(group));
    let (topic, name) = names.map_or(("", ""), |(topic, group)| (*topic, *group));
    loop {
        let poll = shared
            .broker
            .receive(request(topic, name, 64), Duration::from_millis(200));
        let delivered = poll.await?;
        let now_ms = shared.broker.clock().now_ms();
        let mut acks = Vec::new();
        let answer = rng.random();
        for one in &delivered {
            let (number, handle) = (number_of(one), one.handle);
            // The lease began a little before, when the poll was answered.
            let until_ms = now_ms + HIDE_MS / 2;
            report(Operation::Delivered {
                number,
                group,
                handle,
                now_ms,
                until_ms,
                answer,
            });
        }
        for one in &delivered {
            let (number, handle) = (number_of(one), one.handle);
            match rng.random_range(0..100) {
                0..6 if !shared.task.drains => {
                    report(Operation::Ending { number, group });
                    let delay = rng.random_bool(0.5).then_some(Duration::ZERO);
                    shared.broker.retry_later(handle, delay).await?;
                    report(Operation::Ended { number, group });
                }
                // It stalls, until the process is killed.
                6..8 if !shared.task.drains => {}
                _ => {
                    report(Operation::Acking { number, group });
                    acks.push((number, handle));
                }
            }
        }
        if acks.is_empty() {
            continue;
        }
        let results = shared
            .broker
            .ack(acks.iter().map(|(_, handle)| *handle).collect())
            .await?;
        for ((number, _), result) in acks.into_iter().zip(results) {
            report(match result {
                Ok(()) => Operation::Acked { number, group },
                Err(_) => Operation::NotAcked { number, group },
            });
        }
    }
}

/// Reads the dead letters of a group.
async fn bury(shared: Arc<Shared>, group: usize) -> Result<(), Error> {
    let topic = format!("%DLQ%{}", GROUPS.get(group).copied().unwrap_or_default());
    loop {
        let poll = shared
            .broker
            .receive(request(&topic, "dead", 64), Duration::from_millis(200));
        let delivered = poll.await?;
        for one in &delivered {
            report(Operation::Dead {
                number: number_of(one),
                group,
            });
        }
        shared
            .broker
            .ack(delivered.iter().map(|one| one.handle).collect())
            .await?;
    }
}
