//! Follows the queues the server assigns, and receives from each while the cache has room.

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
/// Interval at which the assignment is queried.
const ASSIGNMENT_EVERY: Duration = Duration::from_secs(5);
/// Wait after a failed receive.
const POLL_WAIT: Duration = Duration::from_secs(1);
/// Wait after a receive for which the server was too busy.
const BUSY_WAIT: Duration = Duration::from_millis(20);

/// Identifies a queue: its broker, and its id.
type QueueId = (String, i32);

/// Keeps one task for each assigned queue of a topic, until the consumer stops.
pub(super) async fn follow(worker: Arc<Worker>, topic: String, filter: Filter) {
    let mut assigned: HashMap<QueueId, watch::Sender<()>> = HashMap::new();
    let mut every = clock::monotonic::interval(ASSIGNMENT_EVERY);
    loop {
        every.tick().await;
        let queues = match assignments(&worker, &topic).await {
            Ok(queues) => queues,
            Err(error) => {
                tracing::debug!(%error, topic, "query assignment");
                continue;
            }
        };
        let place = |queue: &Queue| (queue.broker().to_owned(), queue.info.id);
        // Dropping the sender ends the task of a queue after its current receive.
        assigned.retain(|known, _| queues.iter().any(|queue| place(queue) == *known));
        for queue in queues {
            assigned.entry(place(&queue)).or_insert_with(|| {
                let (keep, kept) = watch::channel(());
                let task = read(Arc::clone(&worker), queue, filter.clone(), kept);
                worker.session.spawn(task);
                keep
            });
        }
    }
}

async fn assignments(worker: &Worker, topic: &str) -> Result<Vec<Queue>, Error> {
    let session = &worker.session;
    let access_point = session.access_point();
    let request = QueryAssignmentRequest {
        topic: Some(session.resource(topic)),
        group: session.profile.group.clone(),
        endpoints: Some(endpoints(access_point.addresses())),
    };
    let response: QueryAssignmentResponse = access_point
        .call(QUERY_ASSIGNMENT, session.call_options(), &request)
        .await?;
    check(response.status)?;
    let assignments = response.assignments.into_iter();
    Ok(assignments
        .filter_map(|assignment| assignment.message_queue)
        .map(|info| Queue {
            connection: session.connection_to(&info),
            info,
        })
        .collect())
}

/// Receives from one queue until it is no longer assigned, or the consumer shuts down.
async fn read(worker: Arc<Worker>, queue: Queue, filter: Filter, kept: watch::Receiver<()>) {
    let mut closing = worker.closing.subscribe();
    // Kept when a receive is repeated because its response was lost, so that the server can give the same messages.
    let mut attempt_id = worker.session.identity.attempt_id();
    while kept.has_changed().is_ok() {
        let settings = worker.session.settings();
        let poll = async {
            let (reserved, messages_max) = worker.cache.reserve(settings.receive_batch_size).await;
            let poll = Poll {
                filter: &filter,
                messages_max,
                invisible: None,
                wait: settings.long_polling_timeout,
                attempt_id: Some(attempt_id.clone()),
            };
            let received = delivery::receive(&worker.session, &queue, poll).await;
            (reserved, received)
        };
        let (reserved, received) = tokio::select! {
            _ = closing.wait_for(|closing| *closing) => return,
            polled = poll => polled,
        };
        match received {
            Ok(batch) => {
                attempt_id = worker.session.identity.attempt_id();
                consume::dispatch(&worker, reserved, batch).await;
            }
            Err(error) => {
                drop(reserved);
                let busy = error.code() == Some(Code::TooManyRequests);
                tracing::debug!(%error, "receive messages");
                clock::monotonic::sleep(if busy { BUSY_WAIT } else { POLL_WAIT }).await;
            }
        }
    }
}
