//! Passes messages to the listener: concurrently, or one after the other in a FIFO group.

use std::collections::HashMap;
use std::sync::Arc;

use super::cache::{Reserved, Room};
use super::settle::{self, Processed};
use super::{Verdict, Worker};
use crate::delivery::Batch;
use crate::message::{Damaged, Received};
use crate::panic::catch_panic;

/// Starts to process the result of one receive.
pub(super) async fn dispatch(worker: &Arc<Worker>, mut reserved: Reserved, batch: Batch) {
    let Batch { messages, damaged } = batch;
    for Damaged { delivery, .. } in damaged {
        let room = worker
            .cache
            .hold(&mut reserved, delivery.memory_bytes())
            .await;
        let session = Arc::clone(&worker.session);
        worker.session.spawn(async move {
            settle::return_damaged(&session, &delivery).await;
            drop(room);
        });
    }
    let fifo = worker.session.settings().fifo;
    let mut groups: HashMap<Option<String>, Vec<(Received, Room)>> = HashMap::new();
    for message in messages {
        let room = worker
            .cache
            .hold(&mut reserved, message.memory_bytes())
            .await;
        // If a server sends more than requested, the excess is delivered again when its lease expires.
        let Some(room) = room else { break };
        if fifo {
            let ordered = groups.entry(message.message_group.clone()).or_default();
            ordered.push((message, room));
        } else {
            let task = consume_one(Arc::clone(worker), message, room);
            worker.session.spawn(task);
        }
    }
    for (_, ordered) in groups {
        worker
            .session
            .spawn(consume_in_order(Arc::clone(worker), ordered));
    }
}

/// Processes a message that waits for no other.
async fn consume_one(worker: Arc<Worker>, message: Received, room: Room) {
    let verdict = call_listener(&worker, &message).await;
    let settings = worker.session.settings();
    let last = message.attempt >= settings.attempts_max;
    match verdict {
        Verdict::Done => {
            let done = Processed { message, room };
            // The receiver exists as long as this client.
            drop(worker.acks.send(done).await);
        }
        Verdict::DeadLetter => settle::dead_letter(&worker.session, &message).await,
        Verdict::Retry | Verdict::RetryAfter(_) if last => {
            settle::dead_letter(&worker.session, &message).await;
        }
        Verdict::Retry => {
            let wait = settings.backoff.after(message.attempt);
            settle::retry_after(&worker.session, &message, wait).await;
        }
        Verdict::RetryAfter(wait) => settle::retry_after(&worker.session, &message, wait).await,
    }
}

/// Processes the messages of one message group. One that fails keeps its place: it is retried here.
async fn consume_in_order(worker: Arc<Worker>, ordered: Vec<(Received, Room)>) {
    for (mut message, room) in ordered {
        let settled = loop {
            let settings = worker.session.settings();
            let wait = match call_listener(&worker, &message).await {
                Verdict::Done => break true,
                Verdict::DeadLetter => break false,
                _ if message.attempt >= settings.attempts_max => break false,
                Verdict::Retry => settings.backoff.after(message.attempt),
                Verdict::RetryAfter(wait) => wait,
            };
            clock::monotonic::sleep(wait).await;
            message.attempt += 1;
        };
        if settled {
            settle::ack(&worker.session, &message).await;
        } else {
            settle::dead_letter(&worker.session, &message).await;
        }
        drop(room);
    }
}

/// Calls the listener.
async fn call_listener(worker: &Worker, message: &Received) -> Verdict {
    let permit = worker.concurrency.acquire().await;
    let listener = Arc::clone(&worker.listener);
    let message = message.clone();
    let verdict = catch_panic(async move { listener(message).await }).await;
    drop(permit);
    verdict.unwrap_or(Verdict::Retry)
}
