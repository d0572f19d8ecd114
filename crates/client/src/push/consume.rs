//! Hands messages to the listener: as many at a time as allowed, or one after the other.

use std::collections::HashMap;
use std::sync::Arc;

use super::cache::{Reserved, Room};
use super::settle::{self, Done};
use super::{Verdict, Worker};
use crate::delivery::Haul;
use crate::message::{Damaged, Received};
use crate::panic::unless_it_panics;

/// Begins to work on what one poll brought.
pub(super) async fn spread(worker: &Arc<Worker>, mut reserved: Reserved, haul: Haul) {
    let Haul { messages, damaged } = haul;
    for Damaged { delivery, .. } in damaged {
        let room = worker.cache.hold(&mut reserved, delivery.weight()).await;
        let core = Arc::clone(&worker.core);
        worker.core.spawn(async move {
            settle::refuse(&core, &delivery).await;
            drop(room);
        });
    }
    let fifo = worker.core.rules().fifo;
    let mut rows: HashMap<Option<String>, Vec<(Received, Room)>> = HashMap::new();
    for message in messages {
        let room = worker.cache.hold(&mut reserved, message.weight()).await;
        // A server that gives more than it was asked for gets them back when their lease ends.
        let Some(room) = room else { break };
        if fifo {
            let row = rows.entry(message.message_group.clone()).or_default();
            row.push((message, room));
        } else {
            let at_once = one(Arc::clone(worker), message, room);
            worker.core.spawn(at_once);
        }
    }
    for (_, row) in rows {
        worker.core.spawn(in_a_row(Arc::clone(worker), row));
    }
}

/// Works on a message that waits for no other.
async fn one(worker: Arc<Worker>, message: Received, room: Room) {
    let verdict = listen(&worker, &message).await;
    let rules = worker.core.rules();
    let last = message.attempt >= rules.attempts_max;
    match verdict {
        Verdict::Done => {
            let done = Done { message, room };
            // The receiver lives as long as this client.
            drop(worker.acks.send(done).await);
        }
        Verdict::DeadLetter => settle::dead_letter(&worker.core, &message).await,
        Verdict::Retry | Verdict::RetryAfter(_) if last => {
            settle::dead_letter(&worker.core, &message).await;
        }
        Verdict::Retry => {
            let wait = rules.backoff.after(message.attempt);
            settle::come_again(&worker.core, &message, wait).await;
        }
        Verdict::RetryAfter(wait) => settle::come_again(&worker.core, &message, wait).await,
    }
}

/// Works on the messages of one message group. One that fails keeps its place: it is tried again here.
async fn in_a_row(worker: Arc<Worker>, row: Vec<(Received, Room)>) {
    for (mut message, room) in row {
        let settled = loop {
            let rules = worker.core.rules();
            let wait = match listen(&worker, &message).await {
                Verdict::Done => break true,
                Verdict::DeadLetter => break false,
                _ if message.attempt >= rules.attempts_max => break false,
                Verdict::Retry => rules.backoff.after(message.attempt),
                Verdict::RetryAfter(wait) => wait,
            };
            tokio::time::sleep(wait).await;
            message.attempt += 1;
        };
        if settled {
            settle::ack(&worker.core, &message).await;
        } else {
            settle::dead_letter(&worker.core, &message).await;
        }
        drop(room);
    }
}

/// Asks the listener for its verdict.
async fn listen(worker: &Worker, message: &Received) -> Verdict {
    let permit = worker.concurrency.acquire().await;
    let listener = Arc::clone(&worker.listener);
    let message = message.clone();
    let verdict = unless_it_panics(async move { listener(message).await }).await;
    drop(permit);
    verdict.unwrap_or(Verdict::Retry)
}
