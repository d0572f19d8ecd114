//! Tells the server what became of deliveries, until it knows or the delivery does not hold any more.

use std::sync::Arc;
use std::time::Duration;

use grpc_api::v2::Code;
use tokio::sync::{Semaphore, mpsc};

use super::cache::Room;
use crate::delivery::{self, ACKS_MAX};
use crate::error::Error;
use crate::message::Received;
use crate::session::Core;

/// Wait between two tries.
const WAIT: Duration = Duration::from_secs(1);
/// Calls that acknowledge at the same time.
const CALLS_MAX: usize = 8;

/// A delivery that is done with, and the room it takes until the server knows.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) message: Received,
    pub(super) room: Room,
}

/// Acknowledges what the listener is done with; what gathers during a call goes together.
pub(super) async fn acknowledge(core: Arc<Core>, mut done: mpsc::Receiver<Done>) {
    let calls = Arc::new(Semaphore::new(CALLS_MAX));
    loop {
        let call = Arc::clone(&calls).acquire_owned().await;
        let mut batch = Vec::with_capacity(ACKS_MAX);
        if done.recv_many(&mut batch, ACKS_MAX).await == 0 {
            return;
        }
        let core_of_call = Arc::clone(&core);
        core.spawn(async move {
            acknowledge_all(&core_of_call, batch).await;
            drop(call);
        });
    }
}

async fn acknowledge_all(core: &Core, mut batch: Vec<Done>) {
    loop {
        let deliveries: Vec<&Received> = batch.iter().map(|done| &done.message).collect();
        let outcomes = delivery::ack(core, &deliveries).await;
        let mut left = Vec::new();
        for (done, outcome) in batch.into_iter().zip(outcomes) {
            match outcome {
                Ok(()) => drop(done.room),
                Err(error) if is_final(&error) => {
                    tracing::debug!(%error, "acknowledge");
                    drop(done.room);
                }
                Err(_) => left.push(done),
            }
        }
        if left.is_empty() {
            return;
        }
        batch = left;
        tokio::time::sleep(WAIT).await;
    }
}

pub(super) async fn ack(core: &Core, message: &Received) {
    while let Some(Err(error)) = delivery::ack(core, &[message]).await.pop() {
        if is_over(&error).await {
            return;
        }
    }
}

pub(super) async fn dead_letter(core: &Core, message: &Received) {
    while let Err(error) = delivery::dead_letter(core, message).await {
        if is_over(&error).await {
            return;
        }
    }
}

pub(super) async fn come_again(core: &Core, message: &Received, wait: Duration) {
    while let Err(error) = delivery::change_invisible(core, message, wait).await {
        if is_over(&error).await {
            return;
        }
    }
}

/// Gives a damaged delivery back, as the official clients do. Its like may be sound the next time; in a FIFO group the
/// others wait behind it, so there it becomes a dead letter at once.
pub(super) async fn refuse(core: &Core, message: &Received) {
    let rules = core.rules();
    if rules.fifo || message.attempt >= rules.attempts_max {
        dead_letter(core, message).await;
    } else {
        come_again(core, message, rules.backoff.after(message.attempt)).await;
    }
}

/// Whether a failure is the last word; if not, waits for the next try.
async fn is_over(error: &Error) -> bool {
    tracing::debug!(%error, "settle delivery");
    let last = is_final(error);
    if !last {
        tokio::time::sleep(WAIT).await;
    }
    last
}

/// Whether telling it again is of no use: the delivery holds no more, or this client may not settle it.
fn is_final(error: &Error) -> bool {
    error.code() == Some(Code::InvalidReceiptHandle) || !error.is_transient()
}
