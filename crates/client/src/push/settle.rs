//! Settles deliveries with the server: repeats until the server has answered or the receipt handle has expired.

use std::sync::Arc;
use std::time::Duration;

use grpc_api::v2::Code;
use tokio::sync::{Semaphore, mpsc};

use super::cache::Room;
use crate::delivery::{self, ACKS_MAX};
use crate::error::Error;
use crate::message::Received;
use crate::session::Session;

/// Wait between two attempts.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// Concurrent calls that acknowledge.
const CALLS_MAX: usize = 8;

/// A processed delivery, and the room it takes until it is acknowledged.
#[derive(Debug)]
pub(super) struct Processed {
    pub(super) message: Received,
    pub(super) room: Room,
}

/// Acknowledges processed deliveries; those that accumulate during a call share the next one.
pub(super) async fn acknowledge(session: Arc<Session>, mut done: mpsc::Receiver<Processed>) {
    let calls = Arc::new(Semaphore::new(CALLS_MAX));
    loop {
        let call = Arc::clone(&calls).acquire_owned().await;
        let mut batch = Vec::with_capacity(ACKS_MAX);
        if done.recv_many(&mut batch, ACKS_MAX).await == 0 {
            return;
        }
        let session_of_call = Arc::clone(&session);
        session.spawn(async move {
            acknowledge_all(&session_of_call, batch).await;
            drop(call);
        });
    }
}

async fn acknowledge_all(session: &Session, mut batch: Vec<Processed>) {
    loop {
        let deliveries: Vec<&Received> = batch.iter().map(|done| &done.message).collect();
        let outcomes = delivery::ack(session, &deliveries).await;
        let mut failed = Vec::new();
        for (done, outcome) in batch.into_iter().zip(outcomes) {
            match outcome {
                Ok(()) => drop(done.room),
                Err(error) if is_final(&error) => {
                    tracing::debug!(%error, "acknowledge");
                    drop(done.room);
                }
                Err(_) => failed.push(done),
            }
        }
        if failed.is_empty() {
            return;
        }
        batch = failed;
        clock::monotonic::sleep(RETRY_WAIT).await;
    }
}

pub(super) async fn ack(session: &Session, message: &Received) {
    while let Some(Err(error)) = delivery::ack(session, &[message]).await.pop() {
        if is_final_or_wait(&error).await {
            return;
        }
    }
}

pub(super) async fn dead_letter(session: &Session, message: &Received) {
    while let Err(error) = delivery::dead_letter(session, message).await {
        if is_final_or_wait(&error).await {
            return;
        }
    }
}

pub(super) async fn retry_after(session: &Session, message: &Received, wait: Duration) {
    while let Err(error) = delivery::change_invisible(session, message, wait).await {
        if is_final_or_wait(&error).await {
            return;
        }
    }
}

/// Returns a damaged delivery, as the official clients do: the next delivery may be intact. In a FIFO group others wait
/// for it, so there it becomes a dead letter at once.
pub(super) async fn return_damaged(session: &Session, message: &Received) {
    let settings = session.settings();
    if settings.fifo || message.attempt >= settings.attempts_max {
        dead_letter(session, message).await;
    } else {
        retry_after(session, message, settings.backoff.after(message.attempt)).await;
    }
}

/// Whether an error is final; if not, waits before the next attempt.
async fn is_final_or_wait(error: &Error) -> bool {
    tracing::debug!(%error, "settle delivery");
    let last = is_final(error);
    if !last {
        clock::monotonic::sleep(RETRY_WAIT).await;
    }
    last
}

/// Whether repeating is pointless: the receipt handle has expired, or the server refuses.
fn is_final(error: &Error) -> bool {
    error.code() == Some(Code::InvalidReceiptHandle) || !error.is_transient()
}
