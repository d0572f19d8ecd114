//! Follows the queues the server assigns, and asks each for messages as long as there is room.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use grpc_api::v2::{Code, QueryAssignmentRequest, QueryAssignmentResponse};
use tokio::sync::watch;

use super::{Worker, consume};
use crate::config::endpoints;
use crate::connection::Procedure;
use crate::delivery::{self, Poll};
use crate::error::{Error, check};
use crate::filter::Filter;
use crate::route::Queue;

const QUERY_ASSIGNMENT: Procedure =
    Procedure("/apache.rocketmq.v2.MessagingService/QueryAssignment");
/// How often the server is asked which queues to read.
const ASSIGNMENT_EVERY: Duration = Duration::from_secs(5);
/// Wait after a poll that failed.
const POLL_WAIT: Duration = Duration::from_secs(1);
/// Wait after a poll for which the server was too busy.
const BUSY_WAIT: Duration = Duration::from_millis(20);

/// What tells queues apart: their broker, and their number.
type Place = (String, i32);

/// Keeps one task for each queue of a topic that is assigned, until the consumer stops.
pub(super) async fn follow(worker: Arc<Worker>, topic: String, filter: Filter) {
    let mut assigned: HashMap<Place, watch::Sender<()>> = HashMap::new();
    let mut every = tokio::time::interval(ASSIGNMENT_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let queues = match assignments(&worker, &topic).await {
            Ok(queues) => queues,
            Err(error) => {
                tracing::debug!(%error, topic, "ask for assignment");
                continue;
            }
        };
        let place = |queue: &Queue| (queue.broker().to_owned(), queue.told.id);
        // A queue's task ends, once its poll has, when its sender is dropped.
        assigned.retain(|known, _| queues.iter().any(|queue| place(queue) == *known));
        for queue in queues {
            assigned.entry(place(&queue)).or_insert_with(|| {
                let (keep, kept) = watch::channel(());
                let task = read(Arc::clone(&worker), queue, filter.clone(), kept);
                worker.core.spawn(task);
                keep
            });
        }
    }
}

async fn assignments(worker: &Worker, topic: &str) -> Result<Vec<Queue>, Error> {
    let core = &worker.core;
    let access = core.access();
    let request = QueryAssignmentRequest {
        topic: Some(core.resource(topic)),
        group: core.profile.group.clone(),
        endpoints: Some(endpoints(access.addresses())),
    };
    let answer: QueryAssignmentResponse = access
        .call(QUERY_ASSIGNMENT, core.terms(), &request)
        .await?;
    check(answer.status)?;
    let told = answer.assignments.into_iter();
    Ok(told
        .filter_map(|assignment| assignment.message_queue)
        .map(|told| Queue {
            line: core.line_to(&told),
            told,
        })
        .collect())
}

/// Asks one queue for messages until it is not assigned any more, or the consumer closes.
async fn read(worker: Arc<Worker>, queue: Queue, filter: Filter, kept: watch::Receiver<()>) {
    let mut closing = worker.closing.subscribe();
    // The same for every repetition of a poll whose answer was lost, so that the server knows what it gave.
    let mut attempt_id = worker.core.identity.attempt_id();
    while kept.has_changed().is_ok() {
        let rules = worker.core.rules();
        let poll = async {
            let (reserved, messages_max) = worker.cache.reserve(rules.batch).await;
            let poll = Poll {
                filter: &filter,
                messages_max,
                invisible: None,
                wait: rules.poll,
                attempt_id: Some(attempt_id.clone()),
            };
            let received = delivery::receive(&worker.core, &queue, poll).await;
            (reserved, received)
        };
        let (reserved, received) = tokio::select! {
            _ = closing.wait_for(|closing| *closing) => return,
            polled = poll => polled,
        };
        match received {
            Ok(haul) => {
                attempt_id = worker.core.identity.attempt_id();
                consume::spread(&worker, reserved, haul).await;
            }
            Err(error) => {
                drop(reserved);
                let busy = error.code() == Some(Code::TooManyRequests);
                tracing::debug!(%error, "receive messages");
                tokio::time::sleep(if busy { BUSY_WAIT } else { POLL_WAIT }).await;
            }
        }
    }
}
